#include "server/tree.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/pieces.h"
#include "server/stamp.h"
#include "server/tree_private.h"

#define IDLE_MAX            16 /* views kept for the next that asks */
#define JOURNAL_MAX_DEFAULT 200000

#define TICK_MARGIN_NS   (20 * NSEC_PER_MSEC)   /* more than a kernel tick (at most 10 ms) */
#define COARSE_MARGIN_NS (2100 * NSEC_PER_MSEC) /* file systems that keep whole or even seconds */

/* ---- opening ---- */

static int file_path(const struct tree *tree, const char *name, char **ret)
{
        if (asprintf(ret, "%s/%s", tree->dir, name) >= 0)
                return 0;
        *ret = NULL;
        return -ENOMEM;
}

/* T6: it could be looked through at once, but a million rows take longer than the start of a server may. */
void tree_suspect(struct tree *tree)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        atomic_store(&tree->suspect, true);
        if (file_path(tree, "tree.suspect", &path) == 0)
                fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        log_limited(LOG_LEVEL_WARNING, "tree", "index of '%s' in '%s' is damaged%s", tree->label, tree->dir,
                    fd < 0 ? "" : ": it will be moved aside and begun anew when it is opened next");
}

bool tree_is_suspect(struct tree *tree)
{
        return atomic_load(&tree->suspect);
}

static bool is_suspect(const struct tree *tree)
{
        _cleanup_free_ char *path = NULL;

        return file_path(tree, "tree.suspect", &path) == 0 && access(path, F_OK) == 0;
}

/* The database last: as long as it is there, an attempt that was broken off is made again. */
static int move_aside(const struct tree *tree)
{
        static const char *const names[] = { "tree.db-wal", "tree.db-shm", "tree.db" };
        static const char *const aside[] = { "tree.damaged.db-wal", "tree.damaged.db-shm",
                                             "tree.damaged.db" };
        _cleanup_free_ char *suspect = NULL;
        int r = file_path(tree, "tree.suspect", &suspect);

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
                _cleanup_free_ char *from = NULL, *to = NULL;
                r = file_path(tree, names[i], &from);
                if (r == 0)
                        r = file_path(tree, aside[i], &to);
                if (r == 0 && rename(from, to) < 0 && errno != ENOENT)
                        r = -errno;
        }
        if (r == 0 && unlink(suspect) < 0 && errno != ENOENT)
                r = -errno;
        return r;
}

/* The look at the version and at the root is the check of the structure. */
static int open_writer(struct tree *tree) TSA_REQUIRES(tree->write_lock)
{
        struct tree_db *db;
        struct tree_meta meta;
        struct tree_row root;
        int r = tree_db_open_writer(tree->path, tree->hash, &db);

        if (r < 0)
                return r;
        r = tree_db_read_meta(db, &meta);
        if (r == 0 && meta.version.valid)
                r = tree_db_lookup(db, 0, "", 0, &root);
        if (r == TREE_NONE || (r == 0 && meta.next_id <= TREE_ROOT_ID))
                r = -EBADMSG;
        if (r < 0) {
                tree_db_close(db);
                return r;
        }
        tree->writer = db;
        tree->version = meta.version; /* nobody else has the tree yet */
        return 0;
}

static int open_or_begin(struct tree *tree) TSA_REQUIRES(tree->write_lock)
{
        int r = is_suspect(tree) ? -EBADMSG : open_writer(tree);

        if (r != -EBADMSG && r != -EPROTONOSUPPORT)
                return r;
        log_warning("index of '%s' in '%s' is %s: moved aside, all files will be hashed anew", tree->label,
                    tree->dir,
                    r == -EBADMSG ? "damaged" : "of another version of this program, or of another --hash");
        r = move_aside(tree);
        return r < 0 ? r : open_writer(tree);
}

int tree_open(const struct tree_options *options, struct tree **ret)
{
        struct tree *tree = calloc(1, sizeof(*tree));
        int r = -ENOMEM;

        if (!tree)
                return -ENOMEM;
        mutex_init(&tree->write_lock);
        mutex_init(&tree->lock);
        tree->hash = options->hash == HASH_NONE ? HASH_XXH3 : options->hash;
        tree->journal_max = options->journal_max ? options->journal_max : JOURNAL_MAX_DEFAULT;
        tree->dir = strdup(options->dir);
        tree->label = strdup(options->label);
        if (tree->dir && tree->label)
                r = file_path(tree, "tree.db", &tree->path);
        if (r == 0)
                r = io_mkdir_parents(tree->dir, 0700);
        mutex_lock(&tree->write_lock);
        if (r == 0)
                r = open_or_begin(tree);
        mutex_unlock(&tree->write_lock);
        if (r < 0) {
                tree_close(tree);
                return r;
        }
        *ret = tree;
        return 0;
}

static void view_free(struct tree_view *view)
{
        tree_db_close(view->db);
        free(view);
}

void tree_close(struct tree *tree)
{
        if (!tree)
                return;
        assert(tree->n_taken == 0 && !tree->updating);
        while (tree->idle) {
                struct tree_view *view = tree->idle;
                tree->idle = view->next;
                view_free(view);
        }
        tree_db_close(tree->writer);
        mutex_release(&tree->write_lock);
        mutex_release(&tree->lock);
        free(tree->dir);
        free(tree->label);
        free(tree->path);
        free(tree);
}

enum hash_algorithm tree_get_hash(const struct tree *tree)
{
        return tree->hash;
}

bool tree_has_views(struct tree *tree)
{
        bool taken;

        mutex_lock(&tree->lock);
        taken = tree->n_taken > 0;
        mutex_unlock(&tree->lock);
        return taken;
}

void tree_get_version(struct tree *tree, struct tree_version *ret)
{
        mutex_lock(&tree->lock);
        *ret = tree->version;
        mutex_unlock(&tree->lock);
}

/* ---- stamps ---- */

struct tree_stamp tree_stamp_of(const struct stat *st)
{
        return (struct tree_stamp){
                .device = st->st_dev,
                .inode = st->st_ino,
                .size = (uint64_t)st->st_size,
                .mtime_ns = stamp_ns(&st->st_mtim),
                .ctime_ns = stamp_ns(&st->st_ctim),
        };
}

bool tree_stamp_equal(const struct tree_stamp *a, const struct tree_stamp *b)
{
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static bool time_racy(int64_t time_ns, int64_t taken_ns)
{
        int64_t margin = time_ns % NSEC_PER_SEC == 0 ? COARSE_MARGIN_NS : TICK_MARGIN_NS;

        return time_ns > taken_ns - margin;
}

bool tree_stamp_racy(const struct tree_stamp *stamp, int64_t taken_ns)
{
        return time_racy(stamp->mtime_ns, taken_ns) || time_racy(stamp->ctime_ns, taken_ns);
}

/* ---- views ---- */

static int view_new(struct tree *tree, struct tree_view **ret)
{
        struct tree_view *view = calloc(1, sizeof(*view));
        int r;

        if (!view)
                return -ENOMEM;
        view->tree = tree;
        r = tree_db_open_reader(tree->path, view->tree->hash, &view->db);
        if (r < 0) {
                view_free(view);
                return r;
        }
        *ret = view;
        return 0;
}

static struct tree_view *take_idle(struct tree *tree)
{
        struct tree_view *view;

        mutex_lock(&tree->lock);
        view = tree->idle;
        if (view) {
                tree->idle = view->next;
                tree->n_idle--;
        }
        mutex_unlock(&tree->lock);
        return view;
}

static int begin_view(struct tree_view *view)
{
        struct tree_meta meta;
        int r = tree_db_begin(view->db);

        /* The first query fixes what the view shows (T1). */
        if (r == 0)
                r = tree_db_read_meta(view->db, &meta);
        if (r == 0)
                view->version = meta.version;
        return r;
}

int tree_view_take(struct tree *tree, struct tree_view **ret)
{
        struct tree_view *view = take_idle(tree);
        int r = view ? 0 : view_new(tree, &view);

        if (r == 0)
                r = begin_view(view);
        if (r < 0) {
                if (r == -EBADMSG)
                        tree_suspect(tree);
                if (view)
                        view_free(view);
                return r;
        }
        mutex_lock(&tree->lock);
        tree->n_taken++;
        mutex_unlock(&tree->lock);
        *ret = view;
        return 0;
}

void tree_view_put(struct tree_view *view)
{
        struct tree *tree;
        bool keep;

        if (!view)
                return;
        tree = view->tree;
        tree_db_end(view->db);
        if (tree_db_is_damaged(view->db))
                tree_suspect(tree);
        mutex_lock(&tree->lock);
        tree->n_taken--;
        keep = tree->n_idle < IDLE_MAX && !tree_db_is_damaged(view->db);
        if (keep) {
                view->next = tree->idle;
                tree->idle = view;
                tree->n_idle++;
        }
        mutex_unlock(&tree->lock);
        if (!keep)
                view_free(view);
}

const struct tree_version *tree_view_version(const struct tree_view *view)
{
        return &view->version;
}

int tree_view_lookup(struct tree_view *view, uint64_t parent, const char *name, size_t name_len,
                     struct tree_row *ret)
{
        return tree_db_lookup(view->db, parent, name, name_len, ret);
}

int tree_view_find(struct tree_view *view, const char *path, size_t len, struct tree_row *ret)
{
        const char *name;
        size_t name_len;
        int r = tree_db_lookup(view->db, 0, "", 0, ret);

        while (r == TREE_OK && path_next(&path, &len, &name, &name_len))
                r = ret->kind == ENTRY_DIRECTORY ? tree_db_lookup(view->db, ret->id, name, name_len, ret)
                                                 : TREE_NONE;
        return r;
}

int tree_view_find_folder(struct tree_view *view, uint64_t device, uint64_t inode, uint64_t *ret_id)
{
        return tree_db_find_folder(view->db, device, inode, ret_id);
}

int tree_path(struct tree_db *db, uint64_t id, struct buffer *ret)
{
        struct tree_folders way = { 0 };
        size_t before = ret->len;
        uint32_t node, chain[PATH_BYTES_MAX + 1];
        size_t n = 0;
        int r = tree_folders_add(&way, id, &node);

        if (r == 0)
                r = tree_folders_climb(&way, db);
        if (r == 0 && way.items[node].lost)
                r = TREE_NONE;
        for (; r == 0 && node != TREE_FOLDER_NONE && way.items[node].id != TREE_ROOT_ID;
             node = way.items[node].above)
                chain[n++] = node;
        while (r == 0 && n > 0) {
                const struct tree_folder *folder = &way.items[chain[--n]];
                if (ret->len > before)
                        r = buffer_append(ret, "/", 1);
                if (r == 0)
                        r = buffer_append(ret, tree_folders_name(&way, folder), folder->name_len);
        }
        if (r != 0)
                buffer_truncate(ret, before);
        tree_folders_release(&way);
        return r;
}

int tree_view_path(struct tree_view *view, uint64_t id, struct buffer *ret)
{
        return tree_path(view->db, id, ret);
}

int tree_view_list(struct tree_view *view, uint64_t parent,
                   int (*each)(const struct tree_row *row, void *arg), void *arg)
{
        struct tree_row row;
        int r = tree_db_list_begin(view->db, TREE_DB_LIST, parent);

        while (r == 0) {
                r = tree_db_list_next(view->db, TREE_DB_LIST, &row);
                if (r == TREE_NONE)
                        return 0;
                if (r == 0)
                        r = each(&row, arg);
        }
        tree_db_list_end(view->db, TREE_DB_LIST);
        return r;
}

int tree_view_racy(struct tree_view *view,
                   int (*each)(uint64_t parent, const char *name, size_t name_len, void *arg), void *arg)
{
        return tree_db_each_racy(view->db, each, arg);
}

struct content_id tree_row_content(const struct tree_row *row)
{
        struct content_id id = { .algorithm = row->hash };

        if (row->kind == ENTRY_FILE)
                id.algorithm = content_algorithm(row->hash, row->stamp.size);
        memcpy(id.bytes, row->digest, HASH_BYTES);
        return id;
}

void tree_row_root_digest(const struct tree_row *row, uint8_t ret[HASH_BYTES])
{
        entry_root_digest(row->hash, row->mode, row->stamp.mtime_ns, row->digest, ret);
}

struct entry tree_row_entry(const struct tree_row *row, const char *path, size_t path_len)
{
        struct entry entry = {
                .path = path,
                .path_len = path_len,
                .kind = row->kind,
                .mode = row->mode,
                .mtime_ns = row->stamp.mtime_ns,
                .size = row->kind == ENTRY_DIRECTORY ? 0 : row->stamp.size,
                .target = row->target,
                .target_len = row->target_len,
                .unknown = row->unknown,
        };

        if (!row->unknown && (row->kind == ENTRY_FILE || row->kind == ENTRY_DIRECTORY))
                entry.content = tree_row_content(row);
        return entry;
}
