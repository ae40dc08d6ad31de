#include "server/stock.h"

#include <stddef.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "server/filehash.h"

/* One view, from the first request for it until the last user has put it back. */
struct shared_view {
        struct stock_view view; /* written by the building job, immutable once `ready` */
        struct pool_job job;
        struct stock_views *owner;
        char *spider, *path; /* owned */
        int fd;              /* of the folder, while building */
        /* Guarded by owner->lock. */
        struct shared_view *next;
        struct stock_request *waiting; /* while it is built */
        unsigned users;
        bool ready;
};

struct stock_views {
        struct stock_views_options options;
        struct mutex lock;
        struct shared_view *
                list TSA_GUARDED(&lock); /* short: one for each listing that stock workers get right now */
};

int stock_views_new(const struct stock_views_options *options, struct stock_views **ret)
{
        struct stock_views *views = calloc(1, sizeof(*views));

        if (!views)
                return -ENOMEM;
        views->options = *options;
        mutex_init(&views->lock);
        *ret = views;
        return 0;
}

void stock_views_free(struct stock_views *views)
{
        if (!views)
                return;
        mutex_release(&views->lock);
        free(views);
}

static void shared_free(struct shared_view *shared)
{
        listing_unref(shared->view.listing);
        free(shared->view.items);
        free(shared->spider);
        free(shared->path);
        free(shared);
}

static void unlink_locked(struct stock_views *views, struct shared_view *shared) TSA_REQUIRES(views->lock)
{
        struct shared_view **link = &views->list;

        while (*link != shared)
                link = &(*link)->next;
        *link = shared->next;
}

/* ---- building ---- */

static void set_item(struct stock_item *item, const struct stat *st, const uint8_t md5[HASH_BYTES])
{
        item->size = (uint64_t)st->st_size;
        item->mtime_sec = st->st_mtim.tv_sec;
        item->go_mode = entry_go_mode(ENTRY_FILE, st->st_mode & 07777);
        item->shown = true;
        memcpy(item->md5, md5, HASH_BYTES);
}

/* Hashes a file, or what a link leads to, unless the index knows it. */
static int fill_from_file(struct shared_view *shared, const char *path, bool follow, struct stock_item *item)
{
        struct index_query query = { .algorithm = HASH_MD5 };
        _cleanup_close_ int fd = -1;
        struct file_state state;
        int r = follow ? workspace_open_file_following(shared->fd, path, &fd, &state.st)
                       : workspace_open_file(shared->fd, path, &fd, &state.st);

        if (r < 0)
                return r;
        query.stamp = index_stamp_of(&state.st);
        index_lookup(shared->owner->options.index, &query, 1);
        if (query.known) {
                set_item(item, &state.st, query.digest);
                return 0;
        }
        r = file_hash(fd, HASH_MD5, shared->owner->options.index, shared->owner->options.pool, &state);
        if (r >= 0)
                set_item(item, &state.st, state.id.bytes);
        return r;
}

static void fill_item(struct shared_view *shared, const struct listing_node *node, const char *path,
                      struct stock_item *item)
{
        const char *name = shared->spider;
        int r = 0;

        if (node->kind == ENTRY_DIRECTORY) {
                item->is_dir = item->shown = true;
                item->mtime_sec = clock_timespec(node->mtime_ns).tv_sec;
                item->go_mode = entry_go_mode(ENTRY_DIRECTORY, node->mode);
        } else if (node->unknown) {
                r = -EIO;
        } else {
                r = fill_from_file(shared, path, node->kind == ENTRY_SYMLINK, item);
        }
        if (r < 0 && node->kind == ENTRY_SYMLINK)
                log_limited(LOG_LEVEL_INFO, "stock",
                            "%s: link '%s' left out for stock workers: no file within the workspace", name,
                            path);
        else if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "stock", "%s: '%s' left out for stock workers: %s", name, path,
                            strerror(-r));
}

static int build(struct shared_view *shared)
{
        struct stock_view *view = &shared->view;
        _cleanup_(listing_cursor_release) struct listing_cursor cursor;
        const struct listing_node *node;
        int r;

        listing_cursor_init(&cursor, view->listing);
        view->items = calloc(view->listing->entries, sizeof(*view->items));
        if (!view->items)
                return -ENOMEM;
        while (!pool_cancelled(shared->owner->options.pool)) {
                struct stock_item *item = &view->items[view->n_items];
                r = listing_cursor_next(&cursor, &node);
                if (r < 0 || !node)
                        return r;
                if (path_is_utf8(cursor.path, cursor.path_len))
                        fill_item(shared, node, cursor.path, item);
                else
                        log_limited(LOG_LEVEL_INFO, "stock",
                                    "%s: '%s' left out for stock workers: its name is not UTF-8",
                                    shared->spider, cursor.path);
                view->n_items++;
                view->n_shown += item->shown;
        }
        return -ECANCELED;
}

static void build_run(struct pool_job *job)
{
        struct shared_view *shared = (struct shared_view *)((char *)job - offsetof(struct shared_view, job));
        struct stock_views *views = shared->owner;
        struct stock_request *waiting;
        int r = workspace_open_folder(views->options.root, shared->spider, shared->path, &shared->fd);

        if (r >= 0) {
                r = build(shared);
                close(shared->fd);
                if (index_flush(views->options.index) < 0)
                        log_limited(LOG_LEVEL_WARNING, "index",
                                    "hashes could not be kept; files will be hashed again");
        }
        mutex_lock(&views->lock);
        waiting = TAKE_PTR(shared->waiting);
        shared->ready = true;
        if (r < 0)
                unlink_locked(views, shared);
        mutex_unlock(&views->lock);
        while (waiting) {
                struct stock_request *request = waiting;
                waiting = request->next; /* `done` may free it, and with the last user the view */
                request->done(request, r, r < 0 ? NULL : &shared->view);
        }
        if (r < 0)
                shared_free(shared);
}

/* ---- requests ---- */

static struct shared_view *shared_new(struct stock_views *views, struct listing *listing, const char *spider,
                                      const char *path)
{
        struct shared_view *shared = calloc(1, sizeof(*shared));

        if (!shared)
                return NULL;
        shared->job.run = build_run;
        shared->owner = views;
        shared->view.listing = listing_ref(listing);
        shared->spider = strdup(spider);
        shared->path = strdup(path);
        if (!shared->spider || !shared->path) {
                shared_free(shared);
                return NULL;
        }
        return shared;
}

static struct shared_view *find_locked(struct stock_views *views, const struct listing *listing)
        TSA_REQUIRES(views->lock)
{
        struct shared_view *shared = views->list;

        while (shared && shared->view.listing != listing)
                shared = shared->next;
        return shared;
}

int stock_views_get(struct stock_views *views, struct listing *listing, const char *spider, const char *path,
                    struct stock_request *request)
{
        struct shared_view *shared;
        bool ready;

        mutex_lock(&views->lock);
        shared = find_locked(views, listing);
        if (!shared) {
                shared = shared_new(views, listing, spider, path);
                if (!shared) {
                        mutex_unlock(&views->lock);
                        return -ENOMEM;
                }
                shared->next = views->list;
                views->list = shared;
                pool_submit(views->options.pool, &shared->job);
        }
        shared->users++;
        ready = shared->ready;
        if (!ready) {
                request->next = shared->waiting;
                shared->waiting = request;
        }
        mutex_unlock(&views->lock);
        if (ready)
                request->done(request, 0, &shared->view);
        return 0;
}

void stock_view_put(struct stock_views *views, struct stock_view *view)
{
        struct shared_view *shared =
                (struct shared_view *)((char *)view - offsetof(struct shared_view, view));
        bool last;

        if (!view)
                return;
        mutex_lock(&views->lock);
        last = --shared->users == 0;
        if (last)
                unlink_locked(views, shared);
        mutex_unlock(&views->lock);
        if (last)
                shared_free(shared);
}
