#include "server/service_sync.h"

#include <string.h>

#include "base/log.h"
#include "server/reply.h"
#include "server/sync_call.h"

static void forget_request(struct sync_call *s)
{
        sync_own_clear(s);
        sync_stock_clear(s);
        asking_put_view(&s->asking);
        sync_request_clear(&s->request);
        s->active = s->complete = false;
}

void sync_call_ref(struct sync_call *s)
{
        atomic_fetch_add(&s->refs, 1);
}

void sync_call_unref(struct sync_call *s)
{
        if (atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        forget_request(s);
        workers_leave(s->master->workers, s->worker);
        rpc_call_unref(s->call);
        free(s);
}

static void question_let_go(struct asking *asking)
{
        sync_call_unref((struct sync_call *)((char *)asking - offsetof(struct sync_call, asking)));
}

static int call_new(struct rpc_call *call, struct master *master, bool many, void **ret)
{
        struct sync_call *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->refs = 1;
        s->call = rpc_call_ref(call);
        s->master = master;
        s->many = many;
        s->asking.call = call;
        s->asking.let_go = question_let_go;
        s->parked_call.call = call;
        rpc_call_receive(call);
        *ret = s;
        return 0;
}

static int scan_start(struct rpc_call *call, void *service, void **ret_state)
{
        return call_new(call, service, false, ret_state);
}

static int sync_start(struct rpc_call *call, void *service, void **ret_state)
{
        return call_new(call, service, true, ret_state);
}

/* ---- for the dialects ---- */

void sync_call_park(struct sync_call *s)
{
        if (s->parked)
                return;
        s->parked = true;
        s->spoke_ns = clock_monotonic_ns();
        parked_add(s->master->parked, &s->parked_call);
}

void sync_call_unpark(struct sync_call *s)
{
        if (s->parked)
                parked_remove(s->master->parked, &s->parked_call);
        s->parked = false;
}

void sync_call_send(struct sync_call *s, uint8_t *data, size_t len, bool last)
{
        s->sending = true;
        s->complete = last;
        rpc_call_send(s->call, &(struct rpc_frame){
                                       .body = data,
                                       .body_len = len,
                                       .release = free,
                                       .release_arg = data,
                               });
}

void sync_call_fail(struct sync_call *s, int error)
{
        const struct sync_request *request = &s->request;
        char text[REPLY_MAX];

        sync_call_unpark(s);
        reply_explain(s->master->root, request->spider, request->path, error, text);
        log_limited(reply_level(error), "listing", "listing for %s failed: %s", rpc_call_peer(s->call), text);
        if (request->own)
                rpc_call_finish(s->call, reply_code(error), text);
        else
                sync_stock_fail(s, text);
}

void sync_call_ask(struct sync_call *s, enum versions_freshness freshness, int64_t max_age_ms)
{
        int r;

        sync_call_ref(s);
        r = asking_start(&s->asking, s->master->versions, s->request.spider, freshness, max_age_ms);
        if (r >= 0)
                return;
        sync_call_unref(s);
        sync_call_fail(s, r);
}

/* ---- events ---- */

static void step(struct sync_call *s, bool woken)
{
        if (!s->active || s->sending)
                return;
        if (!s->request.own) {
                if (asking_take(&s->asking))
                        sync_stock_answered(s);
                else
                        sync_stock_step(s);
        } else if (asking_take(&s->asking)) {
                sync_own_answered(s);
        } else {
                sync_own_step(s, woken);
        }
}

static void call_wake(struct rpc_call *call, void *state)
{
        step(state, true);
}

static void call_writable(struct rpc_call *call, void *state)
{
        struct sync_call *s = state;

        s->sending = false;
        if (!s->complete) {
                step(s, false);
                return;
        }
        if (s->request.own)
                sync_own_end(s);
        forget_request(s);
        if (s->many)
                rpc_call_receive(call);
        else
                rpc_call_finish(call, RPC_OK, NULL);
}

static void call_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct sync_call *s = state;
        int r = sync_request_read(&s->request, data, len);

        if (r < 0) {
                rpc_call_finish(call, r == -EBADMSG ? RPC_INVALID_ARGUMENT : RPC_RESOURCE_EXHAUSTED,
                                r == -EBADMSG ? "not a valid FileSyncRequest" : "no memory");
                return;
        }
        s->active = true;
        if (!s->worker)
                s->worker = workers_enter(s->master->workers, s->request.node_key);
        /* Before a pass is begun or a name is kept: most of what a hostile peer sends ends here. */
        r = sync_request_check(&s->request);
        if (r < 0)
                sync_call_fail(s, r);
        else if (s->request.own)
                sync_own_begin(s);
        else {
                workers_note_stock(s->master->workers, s->worker, s->request.spider, rpc_call_peer(call));
                sync_stock_begin(s);
        }
}

static void call_half_close(struct rpc_call *call, void *state)
{
        struct sync_call *s = state;

        if (s->many)
                rpc_call_finish(call, RPC_OK, NULL);
        else
                rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void call_closed(struct rpc_call *call, void *state)
{
        struct sync_call *s = state;

        sync_call_unpark(s);
        sync_own_clear(s);
        sync_call_unref(s);
}

const struct rpc_call_ops service_scan_ops = {
        .start = scan_start,
        .message = call_message,
        .half_close = call_half_close,
        .writable = call_writable,
        .wake = call_wake,
        .closed = call_closed,
};

const struct rpc_call_ops service_sync_ops = {
        .start = sync_start,
        .message = call_message,
        .half_close = call_half_close,
        .writable = call_writable,
        .wake = call_wake,
        .closed = call_closed,
};
