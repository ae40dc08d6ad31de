#include "server/service_sync.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"
#include "server/master.h"
#include "server/metrics.h"
#include "server/reply.h"
#include "server/scan_batch.h"

#define REQUEST_MAX 65536 /* bytes of an unpacked request: a path and some names */

/*
 * One call. Its event thread owns all fields, except that whoever is asked for a listing or a view writes `error`, `listing` and
 * `view` before it sets `answered`. It is freed when neither the call nor a question it has asked needs it any more.
 */
struct scan_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct worker *worker;
        bool many; /* SyncFiles: the next request may follow */

        /* The request. */
        bool own;
        char *spider, *path; /* owned */
        bool has_known;
        uint8_t known[HASH_BYTES];

        struct versions_request versions_request;
        struct stock_request stock_request;
        atomic_bool answered;
        bool waiting;   /* for a pass or a view; and then parked, if the worker understands heartbeats */
        bool heartbeat; /* one is on its way: nothing else can be sent until it is taken */
        struct parked_call parked;
        int error;
        struct listing *listing; /* referenced */

        /* Sending. */
        struct stock_view *view; /* referenced; stock workers only */
        char *folder;            /* owned; absolute path; stock workers only */
        struct listing_cursor cursor;
        size_t item;        /* of the view: the cursor's next */
        size_t sent, total; /* entries */
        bool complete;      /* the last chunk of this request is on its way */
};

static void forget_request(struct scan_call *s)
{
        listing_cursor_release(&s->cursor);
        stock_view_put(s->master->stock, TAKE_PTR(s->view));
        listing_unref(TAKE_PTR(s->listing));
        free(TAKE_PTR(s->spider));
        free(TAKE_PTR(s->path));
        free(TAKE_PTR(s->folder));
        s->complete = s->has_known = false;
        s->error = 0;
        s->item = s->sent = s->total = 0;
}

static void scan_call_unref(struct scan_call *s)
{
        if (atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        forget_request(s);
        workers_leave(s->master->workers, s->worker);
        rpc_call_unref(s->call);
        free(s);
}

static int scan_call_new(struct rpc_call *call, struct master *master, bool many, void **ret)
{
        struct scan_call *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->refs = 1;
        s->call = rpc_call_ref(call);
        s->master = master;
        s->many = many;
        rpc_call_receive(call);
        *ret = s;
        return 0;
}

static int scan_start(struct rpc_call *call, void *service, void **ret_state)
{
        return scan_call_new(call, service, false, ret_state);
}

static int sync_start(struct rpc_call *call, void *service, void **ret_state)
{
        return scan_call_new(call, service, true, ret_state);
}

/* ---- sending ---- */

static void send_chunk(struct scan_call *s, struct scan_batch *batch, const struct scan_batch_tail *tail)
{
        size_t count = scan_batch_count(batch), len;
        uint8_t *data;

        if (scan_batch_pack(batch, tail, &data, &len) < 0) {
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        s->complete = tail->is_complete;
        metrics_add(METRIC_ENTRIES_SENT, count);
        rpc_call_send(s->call, &(struct rpc_frame){
                                       .body = data,
                                       .body_len = len,
                                       .release = free,
                                       .release_arg = data,
                               });
}

/* Fills BATCH from the cursor. -ENOMEM. */
static int fill_batch(struct scan_call *s, struct scan_batch *batch)
{
        while (!scan_batch_full(batch) && s->sent < s->total) {
                const struct listing_node *node;
                int r = listing_cursor_next(&s->cursor, &node);
                if (r < 0)
                        return r;
                if (!node)
                        return -EIO; /* the listing holds less than it says: cannot be */
                if (s->own) {
                        scan_batch_add(batch, node, s->cursor.path, s->cursor.path_len);
                } else {
                        const struct stock_item *item = &s->view->items[s->item++];
                        if (!item->shown)
                                continue;
                        scan_batch_add_stock(batch, item, s->cursor.path, s->folder);
                }
                s->sent++;
        }
        return 0;
}

static void send_entries(struct scan_call *s)
{
        struct scan_batch *batch;
        int r = scan_batch_new(s->own, &batch);

        if (r < 0) {
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        r = fill_batch(s, batch);
        if (r < 0)
                rpc_call_finish(s->call, reply_code(r), strerror(-r));
        else
                send_chunk(s, batch,
                           &(struct scan_batch_tail){
                                   .is_complete = s->sent == s->total,
                                   .total = s->total,
                                   .version = s->own ? s->listing : NULL,
                           });
        scan_batch_free(batch);
}

/* A chunk without entries: the last of its request, or a heartbeat. */
static void send_empty(struct scan_call *s, const struct scan_batch_tail *tail)
{
        struct scan_batch *batch;

        if (scan_batch_new(s->own, &batch) < 0) {
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        send_chunk(s, batch, tail);
        scan_batch_free(batch);
}

static void send_error(struct scan_call *s, int error)
{
        char text[REPLY_MAX];

        reply_explain(s->master->root, s->spider, s->path, error, text);
        log_limited(reply_level(error), "listing", "listing for %s failed: %s", rpc_call_peer(s->call), text);
        if (s->own)
                rpc_call_finish(s->call, reply_code(error), text);
        else
                send_empty(s, &(struct scan_batch_tail){ .is_complete = true, .error = text });
}

/* ---- waiting ---- */

static void begin_waiting(struct scan_call *s)
{
        s->waiting = true;
        s->parked.call = s->call;
        if (s->own)
                parked_add(s->master->parked, &s->parked);
}

static void end_waiting(struct scan_call *s)
{
        if (s->waiting && s->own)
                parked_remove(s->master->parked, &s->parked);
        s->waiting = false;
}

/* An empty chunk: the master is alive, and hashing. */
static void send_heartbeat(struct scan_call *s)
{
        s->heartbeat = true;
        send_empty(s, &(struct scan_batch_tail){ .is_complete = false });
}

/* ---- what was asked for has come ---- */

static void listing_done(struct versions_request *request, int error, struct listing *listing)
{
        struct scan_call *s =
                (struct scan_call *)((char *)request - offsetof(struct scan_call, versions_request));

        s->error = error;
        s->listing = listing;
        atomic_store(&s->answered, true);
        rpc_call_wake(s->call);
        scan_call_unref(s);
}

static void view_done(struct stock_request *request, int error, struct stock_view *view)
{
        struct scan_call *s =
                (struct scan_call *)((char *)request - offsetof(struct scan_call, stock_request));

        s->error = error;
        s->view = view;
        atomic_store(&s->answered, true);
        rpc_call_wake(s->call);
        scan_call_unref(s);
}

static void ask_for_listing(struct scan_call *s)
{
        int r;

        begin_waiting(s);
        atomic_fetch_add(&s->refs, 1);
        s->versions_request.done = listing_done;
        r = versions_get(s->master->versions, s->spider, s->path, s->own ? 0 : s->master->scan_ttl_ms,
                         &s->versions_request);
        if (r < 0) {
                scan_call_unref(s);
                end_waiting(s);
                send_error(s, r);
        }
}

static int begin_stock(struct scan_call *s)
{
        const char *root = workspace_root_path(s->master->root);
        bool all = s->path[0] == '\0';
        int r;

        if (asprintf(&s->folder, "%s/%s%s%s", strcmp(root, "/") == 0 ? "" : root, s->spider, all ? "" : "/",
                     s->path) < 0) {
                s->folder = NULL;
                return -ENOMEM;
        }
        /* full_path is for people: where it would not fit, the listing is refused rather than cut. */
        if (strlen(s->folder) > 2 * (size_t)PATH_BYTES_MAX || !path_is_utf8(s->folder, strlen(s->folder)))
                return -ENAMETOOLONG;
        atomic_fetch_add(&s->refs, 1);
        s->stock_request.done = view_done;
        r = stock_views_get(s->master->stock, s->listing, s->spider, s->path, &s->stock_request);
        if (r < 0)
                scan_call_unref(s);
        return r;
}

static void begin_sending(struct scan_call *s)
{
        const struct listing *listing = s->listing;

        s->total = s->own ? listing->entries : s->view->n_shown;
        if (s->has_known && memcmp(s->known, listing->root_digest, HASH_BYTES) == 0) {
                send_empty(s, &(struct scan_batch_tail){
                                      .is_complete = true,
                                      .unchanged = true,
                                      .version = listing,
                              });
                return;
        }
        listing_cursor_init(&s->cursor, s->listing);
        send_entries(s);
}

static void take_answer(struct scan_call *s)
{
        int r = s->error;

        if (r >= 0 && !s->own && !s->view) {
                r = begin_stock(s);
                if (r >= 0)
                        return;
        }
        end_waiting(s);
        if (r < 0)
                send_error(s, r);
        else
                begin_sending(s);
}

static void scan_wake(struct rpc_call *call, void *state)
{
        struct scan_call *s = state;

        if (s->heartbeat || !s->waiting)
                return;
        if (atomic_exchange(&s->answered, false))
                take_answer(s);
        else if (s->own)
                send_heartbeat(s);
}

static void scan_writable(struct rpc_call *call, void *state)
{
        struct scan_call *s = state;

        if (s->heartbeat) {
                s->heartbeat = false;
                if (atomic_exchange(&s->answered, false))
                        take_answer(s);
        } else if (!s->complete) {
                send_entries(s);
        } else if (s->many) {
                forget_request(s);
                rpc_call_receive(call);
        } else {
                rpc_call_finish(call, RPC_OK, NULL);
        }
}

/* ---- the request ---- */

static int take_request(struct scan_call *s, const Grpc__FileSyncRequest *request)
{
        const char *path = request->path;

        s->own = request->fsyncfs_protocol != 0;
        if (!s->own && strcmp(path, ".") == 0)
                path = ""; /* what stock listings call the root */
        s->spider = strdup(request->spider_id);
        s->path = strdup(path);
        if (!s->spider || !s->path)
                return -ENOMEM;
        if (s->own && request->known_digest.len == HASH_BYTES) {
                s->has_known = true;
                memcpy(s->known, request->known_digest.data, HASH_BYTES);
        }
        if (!s->worker)
                s->worker = workers_enter(s->master->workers, request->node_key);
        return 0;
}

static void scan_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct scan_call *s = state;
        Grpc__FileSyncRequest *request;
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (Grpc__FileSyncRequest *)wire_unpack(&grpc__file_sync_request__descriptor, &arena.allocator,
                                                       data, len);
        r = request ? take_request(s, request) : -EBADMSG;
        wire_arena_release(&arena);
        if (r < 0) {
                rpc_call_finish(call, r == -EBADMSG ? RPC_INVALID_ARGUMENT : RPC_RESOURCE_EXHAUSTED,
                                r == -EBADMSG ? "not a valid FileSyncRequest" : "no memory");
                return;
        }
        /* Before a pass is begun or a name is kept: most of what a hostile peer sends ends here. */
        r = path_check_name(s->spider, strlen(s->spider));
        if (r >= 0)
                r = path_check(s->path, strlen(s->path));
        if (r < 0)
                send_error(s, r);
        else
                ask_for_listing(s);
}

static void scan_half_close(struct rpc_call *call, void *state)
{
        struct scan_call *s = state;

        if (s->many)
                rpc_call_finish(call, RPC_OK, NULL);
        else
                rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void scan_closed(struct rpc_call *call, void *state)
{
        end_waiting(state);
        scan_call_unref(state);
}

const struct rpc_call_ops service_scan_ops = {
        .start = scan_start,
        .message = scan_message,
        .half_close = scan_half_close,
        .writable = scan_writable,
        .wake = scan_wake,
        .closed = scan_closed,
};

const struct rpc_call_ops service_sync_ops = {
        .start = sync_start,
        .message = scan_message,
        .half_close = scan_half_close,
        .writable = scan_writable,
        .wake = scan_wake,
        .closed = scan_closed,
};
