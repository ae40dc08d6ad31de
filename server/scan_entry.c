#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "server/metrics.h"
#include "server/scan_folder.h"
#include "server/stamp.h"

/* ---- changes ---- */

void scan_flush(struct scan_lane *lane, struct scan *scan)
{
        if (lane->n_changes > 0 && !scan_stopped(scan)) {
                int r = tree_update_apply(scan->update, lane->changes, lane->n_changes);
                if (r < 0)
                        scan_fail(scan, r);
        }
        for (size_t i = 0; i < lane->n_changes; i++)
                free((char *)lane->changes[i].row.target);
        lane->n_changes = lane->details_len = 0;
}

/* A row for NAME in the folder PARENT; the caller fills in what is not zero. Good until the next flush. */
static struct tree_row *begin_change(struct scan_lane *lane, struct scan *scan, uint64_t parent,
                                     const struct scan_node *node)
{
        struct tree_change *change;
        struct tree_row *row;

        if (lane->n_changes == SCAN_CHANGES)
                scan_flush(lane, scan);
        change = &lane->changes[lane->n_changes++];
        change->op = TREE_PUT;
        change->detail = NULL;
        row = &change->row;
        memset(row, 0, offsetof(struct tree_row, name));
        row->parent = parent;
        row->name_len = node->name_len;
        memcpy(row->name, node->name, node->name_len + 1u);
        return row;
}

static void drop_change(struct scan_lane *lane)
{
        free((char *)lane->changes[--lane->n_changes].row.target);
}

static void set_op(struct scan_lane *lane, enum tree_op op)
{
        lane->changes[lane->n_changes - 1].op = op;
}

static bool same_to_workers(const struct tree_row *row, const struct scan_old *old)
{
        return old->kind == row->kind && !old->unknown && old->mode == row->mode &&
               old->stamp.mtime_ns == row->stamp.mtime_ns && old->stamp.size == row->stamp.size &&
               memcmp(old->digest, row->digest, HASH_BYTES) == 0;
}

/* The folder that NODE was is gone. */
static void forget_watch(struct scan_lane *lane, const struct scan_folder *f, const struct scan_node *node)
{
        const struct scanner_pass *pass = &f->scan->pass;

        if (pass->watcher && !f->is_new)
                watcher_forget(pass->watcher, pass->spider, scan_path(lane, f, node->name));
}

/* The last change begun is the present state of NODE, which is no folder: keeps of it what is news. False: nothing is. */
static bool end_change(struct scan_lane *lane, const struct scan_folder *f, const struct scan_node *node,
                       struct tree_row *row)
{
        const struct scan_old *old = node->old;

        if (old && old->kind == ENTRY_FILE && row->kind == ENTRY_FILE && old->has_md5 &&
            memcmp(old->digest, row->digest, HASH_BYTES) == 0) {
                row->has_md5 = true;
                memcpy(row->md5, old->md5, HASH_MD5_BYTES);
        }
        if (old && old->kind == ENTRY_DIRECTORY)
                forget_watch(lane, f, node);
        if (!old || f->is_new || !same_to_workers(row, old))
                return true;
        if (old->racy == row->racy && old->linked == row->linked &&
            tree_stamp_equal(&old->stamp, &row->stamp)) {
                drop_change(lane);
                return false;
        }
        set_op(lane, TREE_RESTAMP);
        return true;
}

static void put_gone(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node)
{
        if (!node->old || f->is_new)
                return;
        begin_change(lane, f->scan, f->id, node);
        set_op(lane, TREE_REMOVE);
        if (node->old->kind == ENTRY_DIRECTORY)
                forget_watch(lane, f, node);
}

/* ---- what cannot be read ---- */

static void set_from_stat(struct tree_row *row, const struct stat *st)
{
        row->kind = S_ISREG(st->st_mode)   ? ENTRY_FILE
                    : S_ISDIR(st->st_mode) ? ENTRY_DIRECTORY
                    : S_ISLNK(st->st_mode) ? ENTRY_SYMLINK
                                           : ENTRY_UNKNOWN;
        row->mode = st->st_mode & 07777;
        row->stamp = tree_stamp_of(st);
        if (row->kind == ENTRY_DIRECTORY)
                row->stamp.size = 0;
        row->linked = row->kind == ENTRY_FILE && st->st_nlink > 1;
}

/* Of what was never read, the row as far as it can be told. What there is stays: ENTRY_UNKNOWN (zero) says no more than that. */
static void fill_unknown(struct scan_folder *f, const struct scan_node *node, struct tree_row *row)
{
        struct stat st;

        if (node->old && !f->is_new)
                return;
        if (fstatat(f->fd, node->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                set_from_stat(row, &st);
        if (row->kind == ENTRY_SYMLINK)
                row->kind = ENTRY_UNKNOWN; /* there is no link without a target */
        if (row->kind == ENTRY_DIRECTORY)
                row->id = tree_update_new_id(f->scan->update);
}

void scan_put_unknown(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node, int error)
{
        struct tree_row *row;

        if (!node->old || f->is_new || !node->old->unknown) {
                row = begin_change(lane, f->scan, f->id, node);
                row->unknown = true;
                fill_unknown(f, node, row);
        }
        atomic_fetch_add(&f->scan->unknown, 1);
        log_limited(LOG_LEVEL_WARNING, "scan",
                    "%s: '%s' cannot be read: %s; workers keep what they know of it", f->scan->pass.spider,
                    scan_path(lane, f, node->name),
                    error == -EAGAIN ? "it keeps changing" : strerror(-error));
}

/* ---- files and links ---- */

static bool is_known(const struct scan_node *node, const struct stat *st)
{
        const struct scan_old *old = node->old;
        struct tree_stamp stamp;

        if (!old || old->kind != ENTRY_FILE || old->unknown || old->racy ||
            (node->spot && node->spot->suspect))
                return false;
        stamp = tree_stamp_of(st);
        return tree_stamp_equal(&old->stamp, &stamp) && old->mode == (st->st_mode & 07777);
}

/* Makes room for the detail of a change that comes next. */
static void reserve_detail(struct scan_lane *lane, struct scan *scan, size_t len)
{
        if (len > sizeof(lane->details) - lane->details_len)
                scan_flush(lane, scan);
}

/* The last change begun is of a file with DETAIL, which is kept until it is told; one that is too large to be kept is told at once. */
static void give_detail(struct scan_lane *lane, struct scan *scan, const uint8_t *detail, size_t len)
{
        struct tree_change *change = &lane->changes[lane->n_changes - 1];

        if (len > sizeof(lane->details)) {
                change->detail = detail;
                scan_flush(lane, scan);
                return;
        }
        change->detail = memcpy(lane->details + lane->details_len, detail, len);
        lane->details_len += len;
}

/* NODE was read. */
static void put_file(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node,
                     const struct file_state *state)
{
        struct tree_row *row;

        reserve_detail(lane, f->scan, state->detail_len);
        row = begin_change(lane, f->scan, f->id, node);
        set_from_stat(row, &state->st);
        memcpy(row->digest, state->id.bytes, HASH_BYTES);
        row->racy = state->racy;
        if (end_change(lane, f, node, row) && state->detail)
                give_detail(lane, f->scan, state->detail, state->detail_len);
}

static int read_file(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node)
{
        _cleanup_close_ int fd =
                openat(f->fd, node->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        struct file_state state;
        int r;

        if (fd < 0)
                return -errno;
        r = file_hasher_run(lane->hasher, fd, &state);
        if (r < 0)
                return r;
        put_file(lane, f, node, &state);
        return 0;
}

/* Who tells of a change does so under one name of the file; what came of it may have been seen under this one before, but not under the others. */
static void note_told_link(const struct scan_folder *f, const struct scan_node *node, const struct stat *st)
{
        bool told = (node->spot && node->spot->told) || (f->spot && f->spot->all);
        struct tree_stamp stamp = tree_stamp_of(st);

        if (st->st_nlink > 1 && told && !f->scan->pass.full && !f->scan->second)
                tree_update_note_link(f->scan->update, &stamp);
}

static int look_at_file(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node,
                        const struct stat *st)
{
        struct tree_row *row;

        note_told_link(f, node, st);
        if (!is_known(node, st))
                return read_file(lane, f, node);
        if (!f->is_new)
                return 0;
        /* It was in this folder when that was elsewhere. */
        row = begin_change(lane, f->scan, f->id, node);
        set_from_stat(row, st);
        memcpy(row->digest, node->old->digest, HASH_BYTES);
        end_change(lane, f, node, row);
        return 0;
}

static int look_at_link(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node,
                        const struct stat *st)
{
        struct tree_stamp stamp = tree_stamp_of(st);
        char target[ENTRY_TARGET_MAX + 1];
        struct tree_row *row;
        ssize_t n;

        if (node->old && node->old->kind == ENTRY_SYMLINK && !node->old->unknown && !f->is_new &&
            tree_stamp_equal(&node->old->stamp, &stamp))
                return 0; /* a link is never written to: another target is another inode, or a later time */
        n = readlinkat(f->fd, node->name, target, sizeof(target));
        if (n < 0)
                return errno == EINVAL ? -ELOOP : -errno;
        if (n == 0 || n > ENTRY_TARGET_MAX)
                return -ENAMETOOLONG;
        target[n] = '\0';
        row = begin_change(lane, f->scan, f->id, node);
        set_from_stat(row, st);
        row->stamp.size = (uint64_t)n;
        row->target = strdup(target);
        row->target_len = (size_t)n;
        if (!row->target) {
                drop_change(lane);
                return -ENOMEM;
        }
        hash_bytes(tree_get_hash(f->scan->pass.tree), target, (size_t)n, row->digest);
        end_change(lane, f, node, row);
        return 0;
}

/* ---- folders ---- */

static struct timespec from_statx(const struct statx_timestamp *time)
{
        return (struct timespec){ .tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec };
}

int scan_stat_folder(int fd, const char *name, struct stat *ret_st, int64_t *ret_born_ns)
{
        struct timespec born;
        struct statx stx;

        if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
                return -errno;
        *ret_st = (struct stat){
                .st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
                .st_ino = stx.stx_ino,
                .st_mode = stx.stx_mode,
                .st_size = (off_t)stx.stx_size,
                .st_mtim = from_statx(&stx.stx_mtime),
                .st_ctim = from_statx(&stx.stx_ctime),
        };
        born = from_statx(&stx.stx_btime);
        *ret_born_ns = stx.stx_mask & STATX_BTIME ? stamp_ns(&born) : 0;
        return 0;
}

bool scan_same_folder(const struct scan_old *old, const struct stat *st, int64_t born_ns)
{
        return old->kind == ENTRY_DIRECTORY && old->stamp.device == st->st_dev &&
               old->stamp.inode == st->st_ino && old->stamp.ctime_ns == born_ns;
}

void scan_put_folder(struct scan_lane *lane, struct scan_folder *f, const struct stat *st, int64_t born_ns)
{
        const struct scan_node self = { .name = f->name, .name_len = f->name_len };
        struct tree_row *row = begin_change(lane, f->scan, f->parent ? f->parent->id : 0, &self);
        const struct scan_old *old = f->has_old ? &f->old : NULL;

        set_from_stat(row, st);
        row->stamp.ctime_ns = born_ns;
        row->id = f->id;
        if (!old || f->is_new || old->unknown || old->mode != row->mode ||
            old->stamp.mtime_ns != row->stamp.mtime_ns)
                return;
        if (scan_same_folder(old, st, born_ns))
                drop_change(lane);
        else
                set_op(lane, TREE_RESTAMP); /* another root folder, with the same face */
}

/* A folder whose own name was told, and nothing in it: only its attributes are looked at, if it is the one that is known. 1: it is not. */
static int look_at_known_folder(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node)
{
        const struct scan_old *old = node->old;
        struct tree_row *row;
        struct stat st;
        int64_t born_ns;
        int r = scan_stat_folder(f->fd, node->name, &st, &born_ns);

        if (r < 0)
                return r;
        if (!S_ISDIR(st.st_mode))
                return -ELOOP;
        /* Without a time of birth this could be another one with the inode of one that was removed. */
        if (!scan_same_folder(old, &st, born_ns) || born_ns == 0)
                return 1;
        if (old->mode == (st.st_mode & 07777) && old->stamp.mtime_ns == stamp_ns(&st.st_mtim))
                return 0;
        row = begin_change(lane, f->scan, f->id, node);
        set_from_stat(row, &st);
        row->stamp.ctime_ns = born_ns;
        row->id = old->id;
        return 0;
}

static int look_at_folder(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node,
                          unsigned tries)
{
        const struct spot *spot = node->spot;
        bool below = f->full || (spot && (spot->all || spot->children));

        if (!below && node->old && node->old->kind == ENTRY_DIRECTORY && !node->old->unknown) {
                int r = look_at_known_folder(lane, f, node);
                if (r <= 0)
                        return r;
        }
        return scan_push_folder(f, node, f->full || !below, tries);
}

/* ---- one entry ---- */

static int look_once(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node,
                     unsigned tries)
{
        struct stat st;

        if (!node->old && node->type == DT_REG && tries == 0)
                return read_file(lane, f, node);
        if (fstatat(f->fd, node->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (S_ISREG(st.st_mode))
                return look_at_file(lane, f, node, &st);
        if (S_ISDIR(st.st_mode))
                return look_at_folder(lane, f, node, tries);
        if (S_ISLNK(st.st_mode))
                return look_at_link(lane, f, node, &st);
        atomic_fetch_add(&f->scan->left_out, 1);
        return -ENOENT;
}

void scan_entry(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node, unsigned tries)
{
        int r = -ELOOP;

        /* Another kind of entry took its place since it was looked at: once more. */
        for (; (r == -ELOOP || r == -ENOTDIR) && tries < SCAN_TRIES; tries++)
                r = look_once(lane, f, node, tries);
        if (r >= 0)
                return;
        if (scan_is_fatal(r))
                scan_fail(f->scan, r);
        else if (scan_has_vanished(r))
                put_gone(lane, f, node);
        else
                scan_put_unknown(lane, f, node, r);
}
