#include "server/scanner.h"

#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "server/metrics.h"
#include "server/scan_folder.h"

/* Names that one job looks at: parallel also within one large folder, but where little is to be read only within a very large one, since the
 * kernel's locks on a folder cost more than that gains. */
#define SLICE_NEW   256
#define SLICE_KNOWN 4096

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
        lane->n_changes = lane->details_len = 0;
        lane->path = (struct buffer){ 0 };
        r = tree_view_take(scan->pass.tree, &lane->view);
        if (r >= 0)
                r = file_hasher_new(tree_get_hash(scan->pass.tree), scan->pass.pool, &lane->hasher);
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
        mutex_lock(&scan->lock);
        lane->next = scan->lanes;
        scan->lanes = lane;
        mutex_unlock(&scan->lock);
}

static void flush_lanes(struct scan *scan)
{
        for (struct scan_lane *lane = scan->lanes; lane; lane = lane->next)
                scan_flush(lane, scan);
}

void scan_free_lanes(struct scan *scan)
{
        while (scan->lanes) {
                struct scan_lane *lane = scan->lanes;
                scan->lanes = lane->next;
                lane_free(lane);
        }
}

static void scan_free(struct scan *scan)
{
        if (!scan)
                return;
        tree_update_abort(scan->update);
        scan_free_lanes(scan);
        spots_clear(&scan->links);
        if (scan->top >= 0)
                close(scan->top);
        mutex_release(&scan->lock);
        free(scan);
}

static void scan_finish(struct scan *scan)
{
        struct scanner_result result = { 0 };
        int error;

        flush_lanes(scan);
        if (scan_look_again(scan))
                return;
        result.left_out = scan->left_out;
        scan_free_lanes(scan);
        error = atomic_load(&scan->error);
        if (error == 0)
                error = tree_update_commit(TAKE_PTR(scan->update), &result.version);
        else
                tree_update_abort(TAKE_PTR(scan->update));
        if (error == 0) {
                result.changed = result.version.revision != scan->revision;
                metrics_add(METRIC_UNKNOWN, scan->unknown);
                metrics_add(METRIC_LEFT_OUT, scan->left_out);
        }
        scan->done(scan->arg, error, error == 0 ? &result : NULL);
        scan_free(scan);
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

static void drop_fd(struct scan_folder *f)
{
        if (atomic_fetch_sub(&f->fd_users, 1) == 1 && f->fd >= 0)
                close(f->fd);
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

static void slice_look(struct scan_lane *lane, const struct scan_slice *slice)
{
        struct scan_folder *f = slice->folder;

        for (size_t i = 0; lane && i < slice->count && !scan_stopped(f->scan); i++)
                scan_entry(lane, f, &f->names.nodes[slice->first + i], 0);
        drop_fd(f);
        if (atomic_fetch_sub(&f->looking, 1) == 1)
                scan_names_release(&f->names);
}

static void slice_run(struct pool_job *job)
{
        struct scan_slice *slice = (struct scan_slice *)((char *)job - offsetof(struct scan_slice, job));
        struct scan_folder *f = slice->folder;
        struct scan_lane *lane = lane_take(f->scan);

        slice_look(lane, slice);
        lane_put(f->scan, lane);
        if (atomic_fetch_sub(&f->pending, 1) == 1)
                folder_finish(f);
}

/* Has all names of the folder looked at, the first slice here and now. */
static int look_at_names(struct scan_lane *lane, struct scan_folder *f)
{
        size_t count = f->names.count, size = f->base ? SLICE_KNOWN : SLICE_NEW;
        size_t n = (count + size - 1) / size;

        f->slices = calloc(n, sizeof(*f->slices));
        if (!f->slices)
                return -ENOMEM;
        atomic_fetch_add(&f->pending, n - 1);
        atomic_store(&f->looking, n);
        atomic_fetch_add(&f->fd_users, n);
        for (size_t i = n; i-- > 0;) { /* the second goes on top */
                f->slices[i] = (struct scan_slice){
                        .job.run = slice_run,
                        .folder = f,
                        .first = i * size,
                        .count = MIN(size, count - i * size),
                };
                if (i > 0)
                        pool_push(f->scan->pass.pool, &f->scan->walk, &f->slices[i].job);
        }
        slice_look(lane, &f->slices[0]);
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
                r = look_at_names(lane, f);
        if (r < 0 && lane)
                folder_fail(lane, f, r);
        lane_put(f->scan, lane);
        drop_fd(f);
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
        f->pending = f->fd_users = 1;
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
        pool_push(f->scan->pass.pool, &f->scan->walk, &child->job);
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
        scan->top = -1;
        mutex_init(&scan->lock);
        return scan;
}

int scan_lookup(struct scan_lane *lane, struct scan *scan, uint64_t parent, const struct spot *spot,
                struct tree_row *ret)
{
        const char *name = spot ? spot->name : "";
        size_t len = spot ? spot->name_len : 0;

        /* The views do not show what the first round found. */
        return scan->second ? tree_update_lookup(scan->update, parent, name, len, ret)
                            : tree_view_lookup(lane->view, parent, name, len, ret);
}

/* The root's own row, as far as there is one. */
static int take_root_row(struct scan_folder *root)
{
        struct scan_lane *lane = lane_take(root->scan);
        struct tree_row row;
        int r;

        if (!lane)
                return atomic_load(&root->scan->error);
        r = scan_lookup(lane, root->scan, 0, NULL, &row);
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

int scan_begin_round(struct scan *scan, int fd, const struct spots *spots)
{
        struct scan_folder *root = folder_new(scan, "", 0);
        int r = root ? take_root_row(root) : -ENOMEM;

        if (r < 0) {
                free(root);
                close(fd);
                return r;
        }
        root->fd = fd;
        root->full = scan->pass.full;
        root->spot = spots ? spots->root : NULL;
        pool_push(scan->pass.pool, &scan->walk, &root->job);
        return 0;
}

int scanner_start(const struct scanner_pass *pass, int fd, scanner_done_fn done, void *arg)
{
        struct scan *scan = scan_new(pass, done, arg);
        struct tree_version before;
        int r = scan ? tree_update_begin(pass->tree, &scan->update) : -ENOMEM;

        if (r >= 0 && !pass->full) {
                scan->top = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                r = scan->top < 0 ? -errno : 0;
        }
        if (r < 0) {
                scan_free(scan);
                close(fd);
                return r;
        }
        tree_get_version(pass->tree, &before);
        scan->revision = before.revision;
        r = scan_begin_round(scan, fd, pass->spots);
        if (r < 0)
                scan_free(scan);
        return r;
}
