#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "server/filehash.h"
#include "server/md5_batch.h"
#include "server/stock_private.h"

#define WRITE_BYTES ((size_t)256 * 1024)

struct build {
        struct stock_view *view;
        int top;                    /* the folder that is listed */
        int spider;                 /* the spider's folder, which links may lead about in */
        struct file_hasher *hasher; /* owned */
        struct md5_batch found;     /* not yet kept with the tree */
        struct buffer out;          /* not yet written */
        struct buffer path;         /* of the present entry, beneath the spider's folder */
};

static void build_release(struct build *b)
{
        if (b->top >= 0)
                close(b->top);
        if (b->spider >= 0)
                close(b->spider);
        file_hasher_free(b->hasher);
        md5_batch_release(&b->found);
        buffer_release(&b->out);
        buffer_release(&b->path);
}

static int write_out(struct build *b)
{
        int r = io_write_all(b->view->fd, b->out.data, b->out.len);

        buffer_truncate(&b->out, 0);
        return r;
}

static int add_record(struct build *b, const struct entry *entry, struct stock_record *record)
{
        int r;

        record->path_len = (uint16_t)entry->path_len;
        r = buffer_append(&b->out, record, sizeof(*record));
        if (r >= 0)
                r = buffer_append(&b->out, entry->path, entry->path_len + 1);
        if (r >= 0)
                b->view->count++;
        return r >= 0 && b->out.len >= WRITE_BYTES ? write_out(b) : r;
}

static void set_record(struct stock_record *record, const struct stat *st, const uint8_t md5[HASH_MD5_BYTES])
{
        record->size = (uint64_t)st->st_size;
        record->mtime_sec = st->st_mtim.tv_sec;
        record->go_mode = entry_go_mode(ENTRY_FILE, st->st_mode & 07777);
        memcpy(record->md5, md5, HASH_MD5_BYTES);
}

static bool is_md5_of(const struct tree_row *row, const struct stat *st)
{
        struct tree_stamp stamp = tree_stamp_of(st);

        return row->kind == ENTRY_FILE && row->has_md5 && !row->unknown && !row->racy &&
               tree_stamp_equal(&row->stamp, &stamp);
}

/* The path beneath the spider's folder of what FD is, if it is there. */
static bool find_path(const struct build *b, int fd, char path[PATH_BYTES_MAX + 1])
{
        char link[32], top[PATH_BYTES_MAX + 1], *end;
        ssize_t top_len, len;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", b->spider);
        top_len = readlink(link, top, sizeof(top));
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        len = readlink(link, path, PATH_BYTES_MAX + 1);
        if (top_len <= 0 || len <= top_len + 1 || len > PATH_BYTES_MAX ||
            memcmp(path, top, (size_t)top_len) != 0 || path[top_len] != '/')
                return false;
        end = path + len;
        memmove(path, path + top_len + 1, (size_t)(end - path - top_len - 1));
        path[len - top_len - 1] = '\0';
        return true;
}

/* Hashes the open file, and has the hash kept with the row at PATH (NULL: none). */
static int hash_file(struct build *b, int fd, const char *path, struct stock_record *record)
{
        struct file_state state;
        struct tree_stamp stamp;
        int r = file_hasher_run(b->hasher, fd, &state);

        if (r < 0)
                return r;
        set_record(record, &state.st, state.id.bytes);
        if (!path || state.racy)
                return 0;
        stamp = tree_stamp_of(&state.st);
        return md5_batch_add(&b->found, path, &stamp, state.id.bytes);
}

/* A file whose row has no MD5 yet. */
static int fill_from_file(struct build *b, const struct entry *entry, struct stock_record *record)
{
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r = workspace_open_file(b->top, entry->path, &fd, &st);

        if (r < 0)
                return r;
        buffer_truncate(&b->path, 0);
        r = buffer_printf(&b->path, "%s%s%s", b->view->path, b->view->path[0] ? "/" : "", entry->path);
        return r < 0 ? r : hash_file(b, fd, b->path.data, record);
}

/* What the link leads to. */
static int fill_from_link(struct build *b, const struct entry *entry, struct stock_record *record)
{
        char path[PATH_BYTES_MAX + 1];
        _cleanup_close_ int fd = -1;
        struct tree_row row;
        struct stat st;
        bool found;
        int r = workspace_open_file_following(b->top, entry->path, &fd, &st);

        if (r < 0)
                return r;
        found = find_path(b, fd, path);
        if (found &&
            versions_find(b->view->owner->options.versions, b->view->spider, path, &row) == TREE_OK &&
            is_md5_of(&row, &st)) {
                set_record(record, &st, row.md5);
                return 0;
        }
        return hash_file(b, fd, found ? path : NULL, record);
}

static int fill(struct build *b, const struct entry *entry, const struct tree_row *row,
                struct stock_record *record)
{
        if (row->kind == ENTRY_DIRECTORY) {
                record->is_dir = true;
                record->mtime_sec = clock_timespec(entry->mtime_ns).tv_sec;
                record->go_mode = entry_go_mode(ENTRY_DIRECTORY, entry->mode);
                return 0;
        }
        if (row->kind == ENTRY_SYMLINK)
                return fill_from_link(b, entry, record);
        if (row->unknown)
                return -EIO;
        if (!row->has_md5 || row->racy)
                return fill_from_file(b, entry, record);
        record->size = entry->size;
        record->mtime_sec = clock_timespec(entry->mtime_ns).tv_sec;
        record->go_mode = entry_go_mode(ENTRY_FILE, entry->mode);
        memcpy(record->md5, row->md5, HASH_MD5_BYTES);
        return 0;
}

static int add_entry(struct build *b, const struct entry *entry, const struct tree_row *row)
{
        const char *spider = b->view->spider;
        struct stock_record record;
        int r;

        memset(&record, 0, sizeof(record)); /* the gaps as well: it is written as it is */
        if (!path_is_utf8(entry->path, entry->path_len)) {
                log_limited(LOG_LEVEL_INFO, "stock",
                            "%s: '%s' left out for stock workers: its name is not UTF-8", spider,
                            entry->path);
                return 0;
        }
        r = fill(b, entry, row, &record);
        if (r >= 0)
                return add_record(b, entry, &record);
        if (r == -ENOMEM || r == -ECANCELED)
                return r;
        if (row->kind == ENTRY_SYMLINK)
                log_limited(LOG_LEVEL_INFO, "stock",
                            "%s: link '%s' left out for stock workers: no file within the workspace", spider,
                            entry->path);
        else
                log_limited(LOG_LEVEL_WARNING, "stock", "%s: '%s' left out for stock workers: %s", spider,
                            entry->path, strerror(-r));
        return 0;
}

static int walk(struct build *b, const struct tree_row *top)
{
        struct stock_view *view = b->view;
        struct tree_cursor *cursor;
        int r = tree_cursor_new(view->tree, top, &cursor);

        if (r < 0)
                return r;
        for (;;) {
                const struct tree_row *row;
                const struct entry *entry;
                r = pool_cancelled(view->owner->options.pool) ? -ECANCELED
                                                              : tree_cursor_next(cursor, &entry, &row);
                if (r < 0 || !entry)
                        break;
                r = add_entry(b, entry, row);
                if (r < 0)
                        break;
        }
        tree_cursor_free(cursor);
        return r;
}

static int find_top(const struct stock_view *view, struct tree_row *ret)
{
        int r = tree_view_find(view->tree, view->path, strlen(view->path), ret);

        if (r == TREE_NONE)
                return -ENOENT;
        return r >= 0 && ret->kind != ENTRY_DIRECTORY ? -ENOTDIR : r;
}

int stock_build(struct stock_view *view)
{
        _cleanup_(build_release) struct build b = { .view = view, .top = -1, .spider = -1 };
        const struct stock_views_options *options = &view->owner->options;
        struct tree_row top;
        int r = find_top(view, &top);

        if (r >= 0)
                r = workspace_open_folder(options->root, view->spider, view->path, &b.top);
        if (r >= 0)
                r = workspace_open_folder(options->root, view->spider, "", &b.spider);
        if (r >= 0)
                r = file_hasher_new(HASH_MD5, options->pool, &b.hasher);
        if (r < 0)
                return r;
        r = io_open_nameless(view->owner->dir);
        if (r < 0)
                return r;
        view->fd = r;
        b.found.versions = options->versions;
        b.found.spider = view->spider;
        r = walk(&b, &top);
        md5_batch_store(&b.found); /* also of a walk that broke off */
        return r < 0 ? r : write_out(&b);
}
