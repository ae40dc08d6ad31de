#include "server/scanner.h"

#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "server/metrics.h"
#include "server/scan_folder.h"

#define SLICE_ENTRIES 256 /* names that one job looks at: parallel also within one large folder */

/* ---- the pass ---- */

bool scan_stopped(struct scan *scan)
{
        if (pool_cancelled(scan->pass.pool))
                scan_fail(scan, -ECANCELED);
        return atomic_load_explicit(&scan->error, memory_order_relaxed) != 0;
}

void scan_fail(struct scan *scan, int error)
{
        int none = 0;

        atomic_compare_exchange_strong(&scan->error, &none, error);
}

static void lane_free(struct scan_lane *lane)
{
        if (!lane)
                return;
        tree_view_put(lane->view);
        file_hasher_free(lane->hasher);
        buffer_release(&lane->path);
        free(lane);
}

static int lane_new(struct scan *scan, struct scan_lane **ret)
{
        struct scan_lane *lane = malloc(sizeof(*lane)); /* large: what need not be zeroed is not touched */
        int r;

        if (!lane)
                return -ENOMEM;
        lane->view = NULL;
        lane->hasher = NULL;
        lane->n_changes = 0;
        lane->path = (struct buffer){ 0 };
        r = tree_view_take(scan->pass.tree, &lane->view);
        if (r >= 0)
                r = file_hasher_new(HASH_XXH3, scan->pass.pool, &lane->hasher);
        if (r < 0) {
                lane_free(lane);
                return r;
        }
        *ret = lane;
        return 0;
}

/* As nobody else writes to the tree before the pass commits, all lanes' views show the same version. NULL: the pass has failed. */
static struct scan_lane *lane_take(struct scan *scan)
{
        struct scan_lane *lane;
        int r;

        mutex_lock(&scan->lock);
        lane = scan->lanes;
        if (lane)
                scan->lanes = lane->next;
        mutex_unlock(&scan->lock);
        if (lane)
                return lane;
        r = lane_new(scan, &lane);
        if (r >= 0)
                return lane;
        scan_fail(scan, r);
        return NULL;
}

static void lane_put(struct scan *scan, struct scan_lane *lane)
{
        if (!lane)
                return;
        scan_flush(lane, scan);
        mutex_lock(&scan->lock);
        lane->next = scan->lanes;
        scan->lanes = lane;
        mutex_unlock(&scan->lock);
}

static void free_lanes(struct scan *scan)
{
        while (scan->lanes) {
                struct scan_lane *lane = scan->lanes;
                scan->lanes = lane->next;
                lane_free(lane);
        }
}

static void scan_finish(struct scan *scan)
{
        struct scanner_result result = { .left_out = scan->left_out };
        int error = atomic_load(&scan->error);

        free_lanes(scan);
        if (error == 0)
                error = tree_update_commit(scan->update, &result.version);
        else
                tree_update_abort(scan->update);
        if (error == 0) {
                result.changed = result.version.revision != scan->revision;
                metrics_add(METRIC_UNKNOWN, scan->unknown);
                metrics_add(METRIC_LEFT_OUT, scan->left_out);
        }
        scan->done(scan->arg, error, error == 0 ? &result : NULL);
        mutex_release(&scan->lock);
        free(scan);
}

static int prepend(struct buffer *path, const struct scan_folder *f)
{
        int r = f->parent ? prepend(path, f->parent) : 0;

        if (r >= 0 && f->name_len > 0)
                r = buffer_printf(path, "%s%s", path->len > 0 ? "/" : "", f->name);
        return r;
}

const char *scan_path(struct scan_lane *lane, const struct scan_folder *f, const char *name)
{
        struct buffer *path = &lane->path;
        int r;

        buffer_truncate(path, 0);
        r = prepend(path, f);
        if (r >= 0 && name)
                r = buffer_printf(path, "%s%s", path->len > 0 ? "/" : "", name);
        return r >= 0 && path->data ? path->data : "";
}

/* ---- folders ---- */

static void close_fd(struct scan_folder *f)
{
        if (f->fd >= 0)
                close(f->fd);
        f->fd = -1;
}

static void drop_fd(struct scan_folder *f)
{
        if (atomic_fetch_sub(&f->fd_users, 1) == 1)
                close_fd(f);
}

/* A folder has nothing pending: it is freed, and so is every one above that waited for nothing else. */
static void folder_finish(struct scan_folder *f)
{
        for (;;) {
                struct scan_folder *parent = f->parent;
                struct scan *scan = f->scan;

                scan_names_release(&f->names);
                free(f->slices);
                free(f);
                if (!parent) {
                        scan_finish(scan);
                        return;
                }
                if (atomic_fetch_sub(&parent->pending, 1) != 1)
                        return;
                f = parent;
        }
}

static void slice_run(struct pool_job *job)
{
        struct scan_slice *slice = (struct scan_slice *)((char *)job - offsetof(struct scan_slice, job));
        struct scan_folder *f = slice->folder;
        struct scan_lane *lane = lane_take(f->scan);

        for (size_t i = 0; lane && i < slice->count && !scan_stopped(f->scan); i++)
                scan_entry(lane, f, &f->names.nodes[slice->first + i], 0);
        lane_put(f->scan, lane);
        drop_fd(f);
        if (atomic_fetch_sub(&f->looking, 1) == 1)
                scan_names_release(&f->names);
        if (atomic_fetch_sub(&f->pending, 1) == 1)
                folder_finish(f);
}

static int push_slices(struct scan_folder *f)
{
        size_t count = f->names.count, n = (count + SLICE_ENTRIES - 1) / SLICE_ENTRIES;

        f->slices = calloc(n, sizeof(*f->slices));
        if (!f->slices) {
                close_fd(f);
                return -ENOMEM;
        }
        atomic_fetch_add(&f->pending, n);
        atomic_store(&f->looking, n);
        atomic_store(&f->fd_users, n);
        for (size_t i = n; i-- > 0;) { /* the first goes on top */
                f->slices[i] = (struct scan_slice){
                        .job.run = slice_run,
                        .folder = f,
                        .first = i * SLICE_ENTRIES,
                        .count = MIN((size_t)SLICE_ENTRIES, count - i * SLICE_ENTRIES),
                };
                pool_push(f->scan->pass.pool, &f->slices[i].job);
        }
        return 0;
}

/* Sets whose rows the folder's are, and how much of it is looked at. */
static int identify(struct scan_lane *lane, struct scan_folder *f, const struct stat *st, int64_t born_ns)
{
        bool same = f->has_old && scan_same_folder(&f->old, st, born_ns);
        int r;

        if (!f->parent) { /* always the same row, whatever folder it is now */
                f->id = TREE_ROOT_ID;
                f->base = f->has_old ? TREE_ROOT_ID : 0;
                f->is_new = !f->has_old;
                f->full = f->full || !same;
                return 0;
        }
        /* Without a time of birth, one that was told could be another with the same inode. */
        f->full = f->full || !same || f->old.unknown || (born_ns == 0 && f->spot && f->spot->told);
        f->is_new = !same || f->parent->is_new;
        if (!f->is_new) {
                f->id = f->base = f->old.id;
                return 0;
        }
        f->id = tree_update_new_id(f->scan->update);
        r = tree_view_find_folder(lane->view, st->st_dev, st->st_ino, &f->base);
        if (r != TREE_OK)
                f->base = 0;
        if (r < 0)
                scan_fail(f->scan, r);
        return r < 0 ? -ECANCELED : 0;
}

static void watch(struct scan_lane *lane, struct scan_folder *f)
{
        const struct scanner_pass *pass = &f->scan->pass;

        if (pass->watcher)
                watcher_add(pass->watcher, pass->spider, scan_path(lane, f, NULL), f->fd);
}

/* Opens the folder and reads its names; its own stat is taken before, so that a later change makes the next pass differ. */
static int folder_read(struct scan_lane *lane, struct scan_folder *f)
{
        struct stat st;
        int64_t born_ns;
        int r;

        if (f->parent)
                f->fd = openat(f->parent->fd, f->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (f->fd < 0)
                return -errno;
        r = scan_stat_folder(f->fd, "", &st, &born_ns);
        if (r >= 0)
                r = identify(lane, f, &st, born_ns);
        if (r < 0)
                return r;
        if (scan_reads_all(f))
                watch(lane, f);
        r = scan_names_collect(lane, f);
        if (r >= 0)
                scan_put_folder(lane, f, &st, born_ns);
        scan_flush(lane, f->scan);
        return r;
}

/* The folder could not be read: no worker may take that for "empty". */
static void folder_fail(struct scan_lane *lane, struct scan_folder *f, int error)
{
        const struct scan_node node = {
                .name = f->name,
                .name_len = f->name_len,
                .old = f->has_old ? &f->old : NULL,
                .spot = f->spot,
        };

        if (!f->parent || scan_is_fatal(error))
                scan_fail(f->scan, error);
        else if (scan_has_vanished(error))
                scan_entry(lane, f->parent, &node, f->tries + 1);
        else
                scan_put_unknown(lane, f->parent, &node, error);
}

static void folder_run(struct pool_job *job)
{
        struct scan_folder *f = (struct scan_folder *)((char *)job - offsetof(struct scan_folder, job));
        struct scan_lane *lane = scan_stopped(f->scan) ? NULL : lane_take(f->scan);
        int r = lane ? folder_read(lane, f) : -ECANCELED;

        if (r >= 0 && f->names.count > 0)
                r = push_slices(f);
        else
                close_fd(f);
        if (r < 0 && lane)
                folder_fail(lane, f, r);
        lane_put(f->scan, lane);
        if (f->parent)
                drop_fd(f->parent);
        if (atomic_fetch_sub(&f->pending, 1) == 1)
                folder_finish(f);
}

static struct scan_folder *folder_new(struct scan *scan, const char *name, size_t len)
{
        struct scan_folder *f = calloc(1, sizeof(*f) + len + 1);

        if (!f)
                return NULL;
        f->job.run = folder_run;
        f->scan = scan;
        f->pending = 1;
        f->fd = -1;
        f->name_len = (uint8_t)len;
        memcpy(f->name, name, len);
        return f;
}

int scan_push_folder(struct scan_folder *f, const struct scan_node *node, bool full, unsigned tries)
{
        struct scan_folder *child = folder_new(f->scan, node->name, node->name_len);

        if (!child)
                return -ENOMEM;
        child->parent = f;
        child->spot = node->spot;
        child->full = full;
        child->tries = tries;
        child->has_old = node->old != NULL;
        if (node->old)
                child->old = *node->old;
        child->path_len = f->path_len + (f->path_len > 0) + node->name_len;
        atomic_fetch_add(&f->pending, 1);
        atomic_fetch_add(&f->fd_users, 1);
        pool_push(f->scan->pass.pool, &child->job);
        return 0;
}

/* ---- beginning ---- */

static struct scan *scan_new(const struct scanner_pass *pass, scanner_done_fn done, void *arg)
{
        struct scan *scan = calloc(1, sizeof(*scan));

        if (!scan)
                return NULL;
        scan->pass = *pass;
        scan->done = done;
        scan->arg = arg;
        mutex_init(&scan->lock);
        return scan;
}

static void scan_free(struct scan *scan)
{
        if (!scan)
                return;
        tree_update_abort(scan->update);
        free_lanes(scan);
        mutex_release(&scan->lock);
        free(scan);
}

/* The root's own row, as far as there is one. */
static int take_root_row(struct scan_folder *root)
{
        struct scan_lane *lane;
        struct tree_row row;
        int r = lane_new(root->scan, &lane);

        if (r < 0)
                return r;
        r = tree_view_lookup(lane->view, 0, "", 0, &row);
        if (r == TREE_OK) {
                root->has_old = true;
                root->old = (struct scan_old){
                        .id = row.id,
                        .stamp = row.stamp,
                        .mode = row.mode,
                        .kind = row.kind,
                        .unknown = row.unknown,
                };
        }
        lane_put(root->scan, lane);
        return r;
}

int scanner_start(const struct scanner_pass *pass, int fd, scanner_done_fn done, void *arg)
{
        struct scan *scan = scan_new(pass, done, arg);
        struct scan_folder *root = scan ? folder_new(scan, "", 0) : NULL;
        struct tree_version before;
        int r = root ? tree_update_begin(pass->tree, &scan->update) : -ENOMEM;

        if (r >= 0)
                r = take_root_row(root);
        if (r < 0) {
                scan_free(scan);
                free(root);
                close(fd);
                return r;
        }
        tree_get_version(pass->tree, &before);
        scan->revision = before.revision;
        root->fd = fd;
        root->full = pass->full;
        root->spot = pass->spots ? pass->spots->root : NULL;
        pool_push(pass->pool, &root->job);
        return 0;
}
