/*
 * Watch: a worker hears of each new version as soon as there is one. A small difference is sent at once, of a large one only that it is there.
 *
 * A call goes round: it is told that something changed, asks for the present version, sends what is new in it since what it told last, and
 * rests, without a view. Whatever changes meanwhile makes one more round: a slow worker's next difference spans several versions.
 */
#include <string.h>

#include "base/log.h"
#include "proto/wire.h"
#include "server/asking.h"
#include "server/master.h"
#include "server/metrics.h"
#include "server/reply.h"
#include "server/service_workspace.h"
#include "server/sync_request.h"

#define INLINE_BYTES_MAX ((uint64_t)64 << 10) /* of a difference that is sent without being asked for */

struct watch_version {
        uint64_t revision; /* 0: not known */
        uint8_t digest[HASH_BYTES];
        size_t digest_len;
};

/* Owned by its event thread, but for `changed` and what `asking` says. Freed when neither the call nor a question it asked needs it. */
struct watch_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct worker *worker;
        struct watches_call entry;
        struct sync_request request;
        bool started; /* the request has come */

        struct versions_subscriber subscriber;
        bool subscribed;
        atomic_bool changed; /* since the last question */

        struct asking asking;
        bool answered;              /* the first answer has been given */
        struct watch_version told;  /* what the worker knows of */
        struct watch_version next;  /* what is being told */
        struct transfer difference; /* from `told` to `next`; has a spool while it is awaited or sent */
        bool settled;               /* it is small, and being sent */
        bool sending;               /* a message is on its way … */
        bool last;                  /* … after which the worker knows of `next` */
        bool ended;                 /* the call has its status */
        bool parked;                /* until the first answer is there */
        int64_t spoke_ns;           /* meanwhile: when it last said anything */
        struct parked_call parked_call;
};

static void watch_unref(struct watch_call *w)
{
        if (atomic_fetch_sub(&w->refs, 1) != 1)
                return;
        asking_put_view(&w->asking);
        sync_request_clear(&w->request);
        workers_leave(w->master->workers, w->worker);
        rpc_call_unref(w->call);
        free(w);
}

static void question_let_go(struct asking *asking)
{
        watch_unref((struct watch_call *)((char *)asking - offsetof(struct watch_call, asking)));
}

static void version_changed(struct versions_subscriber *subscriber)
{
        struct watch_call *w =
                (struct watch_call *)((char *)subscriber - offsetof(struct watch_call, subscriber));

        atomic_store(&w->changed, true);
        rpc_call_wake(w->call);
}

static int watch_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct watch_call *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        w->refs = 1;
        w->call = w->entry.call = w->asking.call = w->parked_call.call = rpc_call_ref(call);
        w->master = service;
        w->asking.let_go = question_let_go;
        w->subscriber.changed = version_changed;
        watches_add(w->master->watches, &w->entry);
        rpc_call_receive(call);
        *ret_state = w;
        return 0;
}

static void unpark(struct watch_call *w)
{
        if (w->parked)
                parked_remove(w->master->parked, &w->parked_call);
        w->parked = false;
}

static void fail(struct watch_call *w, int error)
{
        char text[REPLY_MAX];

        reply_explain(w->master->root, w->request.spider, w->request.path, error, text);
        log_limited(reply_level(error), "watch", "watch for %s failed: %s", rpc_call_peer(w->call), text);
        rpc_call_finish(w->call, reply_code(error), text);
        w->ended = true;
}

/* ---- a round ---- */

static void ask(struct watch_call *w)
{
        enum versions_freshness freshness = w->answered ? VERSIONS_RECENT : VERSIONS_FRESH;
        int r;

        atomic_store(&w->changed, false);
        atomic_fetch_add(&w->refs, 1);
        r = asking_start(&w->asking, w->master->versions, w->request.spider, freshness, ASKING_ANY_AGE);
        if (r >= 0)
                return;
        watch_unref(w);
        fail(w, r);
}

/* From now on it is told of changes. What changed before that, but after the view was made, shows in one more round. */
static int subscribe(struct watch_call *w)
{
        int r;

        if (w->subscribed)
                return 0;
        r = versions_subscribe(w->master->versions, w->request.spider, &w->subscriber);
        if (r < 0)
                return r;
        w->subscribed = true;
        atomic_store(&w->changed, true);
        return 0;
}

static void send_head(struct watch_call *w, const struct wire_scan_head *chunk)
{
        uint8_t head[WIRE_SCAN_HEAD_MAX];
        size_t len = chunk ? wire_scan_head(head, chunk) : 0;

        w->sending = true;
        metrics_add(METRIC_METADATA_BYTES_SENT, len);
        rpc_call_send(w->call, &(struct rpc_frame){ .head = head, .head_len = len });
}

/* One message that tells of `next` without saying what is in it. */
static void send_word(struct watch_call *w, bool unchanged)
{
        w->last = true;
        send_head(w, &(struct wire_scan_head){
                             .is_complete = true,
                             .unchanged = unchanged,
                             .notice = !unchanged,
                             .root_digest = w->next.digest,
                             .root_digest_len = w->next.digest_len,
                             .revision = w->next.revision,
                     });
}

static int look_up(struct watch_call *w, struct tree_view *view)
{
        const char *path = w->request.path;
        struct tree_row row;
        int r = tree_view_find(view, path, strlen(path), &row);

        if (r < 0)
                return r;
        if (r != TREE_OK || row.kind != ENTRY_DIRECTORY)
                return -ENOENT;
        tree_row_root_digest(&row, w->next.digest);
        w->next.digest_len = hash_len(row.hash);
        w->next.revision = tree_view_version(view)->revision;
        return 0;
}

/* Takes over the question's view. Fails if too many are at it, and then the worker's own question may find fewer. */
static int ask_for_difference(struct watch_call *w)
{
        struct spool_key key = {
                .spider = w->request.spider,
                .path = w->request.path,
                .base_digest = w->request.path[0] == '\0' ? w->told.digest : NULL,
                .base = w->told.revision,
                .revision = w->next.revision,
                .peer = rpc_call_account(w->call),
        };
        struct spool *spool;
        int r = spools_get(w->master->spools, &key, TAKE_PTR(w->asking.view), &spool);

        if (r >= 0)
                transfer_begin(&w->difference, w->call, spool, 0, STRATEGY_AUTO);
        return r;
}

/* The present version has come. */
static void take_view(struct watch_call *w)
{
        int r = w->asking.error;

        if (r >= 0)
                r = look_up(w, w->asking.view);
        if (r >= 0)
                r = subscribe(w);
        if (r < 0) {
                fail(w, r);
                return;
        }
        if (memcmp(w->next.digest, w->told.digest, HASH_BYTES) == 0) {
                asking_put_view(&w->asking);
                if (!w->answered)
                        send_word(w, true);
                return; /* `told` stays: the worker does not hear of revisions that change nothing for it */
        }
        if (w->told.revision > 0 && w->told.revision < w->next.revision && ask_for_difference(w) >= 0)
                return;
        asking_put_view(&w->asking);
        send_word(w, false);
}

/* Whether the difference is known, and small enough to be sent. 1: it will be known. */
static int settle(struct watch_call *w)
{
        struct transfer *t = &w->difference;
        struct spool_state state;

        if (spool_wait_settled(t->spool, &t->waiter) == 1)
                return 1;
        spool_get_state(t->spool, &state);
        if (state.error == 0 && state.plain && state.bytes <= INLINE_BYTES_MAX)
                w->settled = true;
        else
                transfer_release(t); /* the worker asks for it as soon as it suits it */
        return 0;
}

/* The difference is awaited or being sent. */
static void step_difference(struct watch_call *w)
{
        int r = 0;

        if (!w->settled) {
                if (settle(w) == 1)
                        return;
                if (!w->settled) {
                        send_word(w, false);
                        return;
                }
        }
        r = transfer_send(&w->difference);
        if (r < 0) {
                fail(w, r);
        } else if (r != TRANSFER_WAIT) {
                w->sending = true;
                w->last = r == TRANSFER_LAST;
        }
}

static void send_heartbeat(struct watch_call *w)
{
        int64_t now = clock_monotonic_ns();

        if (now - w->spoke_ns < PARKED_QUIET_NS)
                return;
        w->spoke_ns = now;
        send_head(w, NULL);
}

static void step(struct watch_call *w, bool woken)
{
        if (!w->started || w->sending || w->ended)
                return;
        if (watches_stopping(w->master->watches)) {
                rpc_call_finish(w->call, RPC_UNAVAILABLE, "this master is shutting down");
                w->ended = true;
                return;
        }
        if (asking_take(&w->asking))
                take_view(w);
        if (w->sending || w->ended)
                return;
        if (w->difference.spool)
                step_difference(w);
        else if (!w->asking.pending && atomic_load(&w->changed))
                ask(w);
        if (!w->answered && !w->sending && !w->ended && woken)
                send_heartbeat(w);
}

/* ---- events ---- */

static void watch_wake(struct rpc_call *call, void *state)
{
        step(state, true);
}

static void watch_writable(struct rpc_call *call, void *state)
{
        struct watch_call *w = state;

        w->sending = false;
        if (w->last) {
                if (w->settled)
                        metrics_add(METRIC_DELTAS, 1);
                log_debug("%s: %s: told of revision %llu%s", rpc_call_peer(call), w->request.spider,
                          (unsigned long long)w->next.revision, w->settled ? " and what is in it" : "");
                transfer_release(&w->difference);
                w->told = w->next;
                w->last = w->settled = false;
                w->answered = true;
                unpark(w);
        }
        step(w, false);
}

static void watch_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct watch_call *w = state;
        struct sync_request *request = &w->request;
        int r = sync_request_read(request, data, len);

        if (r < 0 || !request->own) {
                rpc_call_finish(call, r == -ENOMEM ? RPC_RESOURCE_EXHAUSTED : RPC_INVALID_ARGUMENT,
                                r == -ENOMEM ? "no memory" : "not a valid FileSyncRequest of ours");
                return;
        }
        w->worker = workers_enter(w->master->workers, request->node_key);
        r = sync_request_check(request);
        if (r < 0) {
                fail(w, r);
                return;
        }
        w->started = true;
        if (request->has_known) {
                w->told.revision = request->known_revision;
                memcpy(w->told.digest, request->known, HASH_BYTES);
        }
        w->parked = true;
        w->spoke_ns = clock_monotonic_ns();
        parked_add(w->master->parked, &w->parked_call);
        ask(w);
}

static void watch_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void watch_closed(struct rpc_call *call, void *state)
{
        struct watch_call *w = state;

        if (w->subscribed)
                versions_unsubscribe(w->master->versions, w->request.spider, &w->subscriber);
        unpark(w);
        watches_remove(w->master->watches, &w->entry);
        transfer_release(&w->difference);
        watch_unref(w);
}

const struct rpc_call_ops service_watch_ops = {
        .start = watch_start,
        .message = watch_message,
        .half_close = watch_half_close,
        .writable = watch_writable,
        .wake = watch_wake,
        .closed = watch_closed,
};
