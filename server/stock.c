#include "server/stock.h"

#include <string.h>

#include "base/io.h"
#include "server/listings.h"
#include "server/stock_private.h"

#define READ_BYTES ((size_t)64 * 1024)

int stock_views_new(const struct stock_views_options *options, struct stock_views **ret)
{
        struct stock_views *views = calloc(1, sizeof(*views));

        if (!views)
                return -ENOMEM;
        views->options = *options;
        views->dir = strdup(options->dir);
        if (!views->dir) {
                free(views);
                return -ENOMEM;
        }
        mutex_init(&views->lock);
        *ret = views;
        return 0;
}

void stock_views_free(struct stock_views *views)
{
        if (!views)
                return;
        mutex_release(&views->lock);
        free(views->dir);
        free(views);
}

static void view_free(struct stock_view *view)
{
        tree_view_put(view->tree);
        if (view->fd >= 0)
                close(view->fd);
        if (view->asker)
                rpc_peer_discharge(view->asker, RPC_LISTINGS, 1);
        rpc_peer_unref(view->asker);
        free(view->spider);
        free(view->path);
        free(view);
}

static void unlink_locked(struct stock_views *views, struct stock_view *view) TSA_REQUIRES(views->lock)
{
        struct stock_view **link = &views->list;

        while (*link != view)
                link = &(*link)->next;
        *link = view->next;
        views->count--;
}

/* ---- making ---- */

static void build_run(struct pool_job *job)
{
        struct stock_view *view = (struct stock_view *)((char *)job - offsetof(struct stock_view, job.job));
        struct stock_views *views = view->owner;
        struct stock_request *waiting;
        int r = stock_build(view);

        tree_view_put(TAKE_PTR(view->tree));
        turns_end(views->options.hashings, &view->job);
        mutex_lock(&views->lock);
        waiting = TAKE_PTR(view->waiting);
        view->ready = true;
        if (r < 0)
                unlink_locked(views, view);
        mutex_unlock(&views->lock);
        while (waiting) {
                struct stock_request *request = waiting;
                waiting = request->next; /* `done` may free it, and with the last user the view */
                request->done(request, r, r < 0 ? NULL : view);
        }
        if (r < 0)
                view_free(view);
}

/* ---- requests ---- */

/* Takes TREE over if it succeeds. */
static struct stock_view *view_new(struct stock_views *views, const char *spider, const char *path,
                                   struct tree_view *tree)
{
        struct stock_view *view = calloc(1, sizeof(*view));

        if (!view)
                return NULL;
        view->job.job.run = build_run;
        view->owner = views;
        view->fd = -1;
        view->revision = tree_view_version(tree)->revision;
        view->spider = strdup(spider);
        view->path = strdup(path);
        if (!view->spider || !view->path) {
                view_free(view);
                return NULL;
        }
        view->tree = tree;
        return view;
}

static struct stock_view *find_locked(struct stock_views *views, const char *spider, const char *path,
                                      uint64_t revision) TSA_REQUIRES(views->lock)
{
        struct stock_view *view = views->list;

        while (view && (view->revision != revision || strcmp(view->spider, spider) != 0 ||
                        strcmp(view->path, path) != 0))
                view = view->next;
        return view;
}

/* VIEW is charged to PEER, and made when it is his turn. */
static void enlist_locked(struct stock_views *views, struct stock_view *view, struct rpc_peer *peer)
        TSA_REQUIRES(views->lock)
{
        view->asker = rpc_peer_ref(peer);
        rpc_peer_charge(peer, RPC_LISTINGS, 1); /* there is no limit but listings_have_room's */
        view->next = views->list;
        views->list = view;
        views->count++;
        turns_submit(views->options.hashings, &view->job, peer);
}

int stock_views_get(struct stock_views *views, const char *spider, const char *path, struct tree_view *tree,
                    struct stock_request *request)
{
        struct stock_view *view;
        bool ready;
        int r = 0;

        mutex_lock(&views->lock);
        view = find_locked(views, spider, path, tree_view_version(tree)->revision);
        if (view) {
                turns_share(views->options.hashings, &view->job, request->peer);
        } else if (!listings_have_room(views->count, request->peer)) {
                r = -EMFILE;
        } else {
                view = view_new(views, spider, path, tree);
                r = view ? 0 : -ENOMEM;
                if (view) {
                        tree = NULL;
                        enlist_locked(views, view, request->peer);
                }
        }
        ready = view && view->ready;
        if (view)
                view->users++;
        if (view && !ready) {
                request->next = view->waiting;
                view->waiting = request;
        }
        mutex_unlock(&views->lock);
        tree_view_put(tree);
        if (ready)
                request->done(request, 0, view);
        return r;
}

void stock_view_put(struct stock_view *view)
{
        struct stock_views *views;
        bool last;

        if (!view)
                return;
        views = view->owner;
        mutex_lock(&views->lock);
        last = --view->users == 0;
        if (last)
                unlink_locked(views, view);
        mutex_unlock(&views->lock);
        if (last)
                view_free(view);
}

size_t stock_view_count(const struct stock_view *view)
{
        return view->count;
}

/* ---- reading ---- */

struct stock_reader {
        const struct stock_view *view;
        size_t left;    /* items */
        off_t offset;   /* in the file, of what comes after the block */
        size_t at, len; /* of the block: what was not given yet */
        struct stock_item item;
        char block[READ_BYTES];
};

int stock_reader_new(const struct stock_view *view, struct stock_reader **ret)
{
        struct stock_reader *reader = malloc(sizeof(*reader));

        if (!reader)
                return -ENOMEM;
        reader->view = view;
        reader->left = view->count;
        reader->offset = 0;
        reader->at = reader->len = 0;
        *ret = reader;
        return 0;
}

void stock_reader_free(struct stock_reader *reader)
{
        free(reader);
}

/* Has the next LEN bytes in the block. */
static int need(struct stock_reader *reader, size_t len)
{
        size_t rest = reader->len - reader->at;
        ssize_t n;

        if (rest >= len)
                return 0;
        memmove(reader->block, reader->block + reader->at, rest);
        reader->at = 0;
        reader->len = rest;
        n = io_pread_all(reader->view->fd, reader->block + rest, sizeof(reader->block) - rest,
                         reader->offset);
        if (n < 0)
                return (int)n;
        reader->len += (size_t)n;
        reader->offset += n;
        return reader->len < len ? -EIO : 0;
}

int stock_reader_next(struct stock_reader *reader, const struct stock_item **ret)
{
        struct stock_record record;
        int r;

        if (reader->left == 0) {
                *ret = NULL;
                return 0;
        }
        r = need(reader, sizeof(record));
        if (r < 0)
                return r;
        memcpy(&record, reader->block + reader->at, sizeof(record));
        r = need(reader, sizeof(record) + record.path_len + 1);
        if (r < 0)
                return r;
        reader->item = (struct stock_item){
                .path = reader->block + reader->at + sizeof(record),
                .path_len = record.path_len,
                .size = record.size,
                .mtime_sec = record.mtime_sec,
                .go_mode = record.go_mode,
                .is_dir = record.is_dir,
        };
        memcpy(reader->item.md5, record.md5, HASH_MD5_BYTES);
        reader->at += sizeof(record) + record.path_len + 1;
        reader->left--;
        *ret = &reader->item;
        return 0;
}
