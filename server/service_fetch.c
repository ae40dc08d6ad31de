/*
 * Fetch: contents as they are wanted, over one stream for as long as a worker has a workspace mounted. While one message is on its way the next is filled by a
 * job of the readers' pool, and no other is begun before that: nothing is read that cannot be sent soon, and a call costs two blocks.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "server/fetch_source.h"
#include "server/parked.h"
#include "server/reply.h"
#include "server/service_workspace.h"

/* Owned by its event thread; the job, while `filling`, writes `error` and `message` before it sets `filled`. Freed when neither needs it any more. */
struct fetch_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct worker *worker;
        struct watches_call entry;   /* it would go on for ever, as a Watch does */
        struct fetch_source *source; /* a reference; NULL until the spider was named */
        struct fetch_queue *queue;   /* the source's */
        bool checked;                /* a job has looked whether there is such a spider, or is about to */
        bool half_closed, sending;

        bool parked; /* all that is wanted waits: woken now and then, to tell the worker that there is somebody */
        int64_t spoke_ns; /* when it last said anything, or began to wait */
        struct parked_call parked_call;

        struct pool_job job;
        bool filling;
        atomic_bool filled;
        int error;
        struct fetch_message message; /* without a body while there is none to be sent */
};

static void fetch_unref(struct fetch_call *f)
{
        if (atomic_fetch_sub(&f->refs, 1) != 1)
                return;
        fetch_message_release(&f->message);
        fetch_source_unref(f->source);
        workers_leave(f->master->workers, f->worker);
        rpc_call_unref(f->call);
        free(f);
}

static int fetch_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct fetch_call *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        f->refs = 1;
        f->call = f->entry.call = f->parked_call.call = rpc_call_ref(call);
        f->master = service;
        watches_add(f->master->watches, &f->entry);
        rpc_call_receive(call);
        *ret_state = f;
        return 0;
}

/* ---- what goes out ---- */

static void fill_run(struct pool_job *job)
{
        struct fetch_call *f = (struct fetch_call *)((char *)job - offsetof(struct fetch_call, job));

        f->error = fetch_source_fill(f->source, &f->message);
        atomic_store(&f->filled, true);
        rpc_call_wake(f->call);
        fetch_unref(f);
}

static void begin_filling(struct fetch_call *f)
{
        f->filling = f->checked = true;
        atomic_fetch_add(&f->refs, 1);
        f->job.run = fill_run;
        pool_submit(f->master->readers, &f->job);
}

static void send_message(struct fetch_call *f)
{
        struct fetch_message message = f->message;

        f->message = (struct fetch_message){ 0 };
        f->sending = true;
        f->spoke_ns = clock_monotonic_ns();
        rpc_call_send(f->call, &(struct rpc_frame){
                                       .head = message.head,
                                       .head_len = message.head_len,
                                       .body = message.body,
                                       .body_len = message.len,
                                       .release = message.run ? content_cache_unref : blocks_put,
                                       .release_arg = message.run ? (void *)message.run : message.block,
                               });
}

/* Has the call woken twice a second while nothing is under way for it but files being hashed, or there is no room for what it wants. */
static void park(struct fetch_call *f, bool waiting)
{
        if (waiting == f->parked)
                return;
        f->parked = waiting;
        if (!waiting) {
                parked_remove(f->master->parked, &f->parked_call);
                return;
        }
        f->spoke_ns = clock_monotonic_ns();
        parked_add(f->master->parked, &f->parked_call);
}

static void send_heartbeat(struct fetch_call *f)
{
        if (!f->parked || clock_monotonic_ns() - f->spoke_ns < PARKED_QUIET_NS)
                return;
        park(f, false);
        f->spoke_ns = clock_monotonic_ns();
        f->sending = true;
        rpc_call_send(f->call, &(struct rpc_frame){ 0 });
        fetch_source_try_again(f->source); /* with the next step, when this is sent */
}

static bool is_waiting(const struct fetch_call *f)
{
        return f->source && !f->filling && !f->sending && !f->message.body && fetch_queue_count(f->queue) > 0;
}

static void fail(struct fetch_call *f, int error)
{
        char text[REPLY_MAX];

        reply_explain(f->master->root, fetch_source_spider(f->source), "", error, text);
        log_limited(reply_level(error), "fetch-call", "fetching for %s ended: %s", rpc_call_peer(f->call),
                    text);
        rpc_call_finish(f->call, reply_code(error), text);
}

static bool may_fill(const struct fetch_call *f)
{
        return f->source && !f->filling && !f->message.body &&
               (!f->checked || fetch_queue_is_ready(f->queue));
}

/* What is in memory goes into messages here and now; all else is for a job, and so is the first look at whether there is such a spider. */
static void send_and_fill(struct fetch_call *f)
{
        while (may_fill(f) || (f->message.body && !f->sending)) {
                if (f->message.body) {
                        send_message(f);
                } else if (!f->checked || fetch_source_fill_from_memory(f->source, &f->message)) {
                        begin_filling(f);
                        return; /* the message is the job's now */
                } else if (!f->message.body) {
                        return; /* there was nothing to it */
                }
        }
}

/* Does what can be done now. */
static void step(struct fetch_call *f)
{
        if (watches_stopping(f->master->watches)) {
                park(f, false);
                rpc_call_finish(f->call, RPC_UNAVAILABLE, "this master is shutting down");
                return;
        }
        if (f->filling && atomic_exchange(&f->filled, false)) {
                f->filling = false;
                if (f->error < 0) {
                        fail(f, f->error);
                        return;
                }
        }
        if (!f->filling)
                send_and_fill(f);
        park(f, is_waiting(f));
        if (f->half_closed && !f->filling && !f->sending && (!f->source || fetch_queue_count(f->queue) == 0))
                rpc_call_finish(f->call, RPC_OK, NULL);
}

static void fetch_writable(struct rpc_call *call, void *state)
{
        struct fetch_call *f = state;

        f->sending = false;
        step(f);
}

static void fetch_wake(struct rpc_call *call, void *state)
{
        step(state);
        send_heartbeat(state);
}

/* ---- what comes in ---- */

struct names {
        const uint8_t *spider, *node;
        size_t spider_len, node_len;
};

/* The names in the first message, wherever in it they are. */
static int read_names(const uint8_t *data, size_t len, struct names *ret)
{
        struct fetch_request_reader reader = fetch_request_open(data, len);
        struct fetch_request_item item;
        int r;

        while ((r = fetch_request_next(&reader, &item)) > 0)
                if (r == FETCH_SPIDER) {
                        ret->spider = item.text;
                        ret->spider_len = item.text_len;
                } else if (r == FETCH_NODE) {
                        ret->node = item.text;
                        ret->node_len = item.text_len;
                }
        return r;
}

static int take_names(struct fetch_call *f, const uint8_t *data, size_t len)
{
        struct names names = { 0 };
        _cleanup_free_ char *spider = NULL, *node = NULL;
        int r = read_names(data, len, &names);

        if (r < 0 || names.spider_len == 0)
                return r;
        if (memchr(names.spider, '\0', names.spider_len) ||
            (names.node_len > 0 && memchr(names.node, '\0', names.node_len)))
                return -EBADMSG;
        spider = strndup((const char *)names.spider, names.spider_len);
        node = strndup(names.node ? (const char *)names.node : "", names.node_len);
        if (!spider || !node)
                return -ENOMEM;
        r = fetch_source_new(f->master, f->call, spider, &f->source);
        if (r < 0)
                return r;
        f->queue = fetch_source_queue(f->source);
        f->worker = workers_enter(f->master->workers, node);
        return 0;
}

/* A stream is about one spider. */
static int check_spider(const struct fetch_call *f, const struct fetch_request_item *item)
{
        const char *spider = fetch_source_spider(f->source);

        return strlen(spider) == item->text_len && memcmp(spider, item->text, item->text_len) == 0 ? 0
                                                                                                   : -EBADMSG;
}

static int take_items(struct fetch_call *f, const uint8_t *data, size_t len)
{
        struct fetch_request_reader reader = fetch_request_open(data, len);
        struct fetch_request_item item;
        int kind, r = 0;

        while (r >= 0 && (kind = fetch_request_next(&reader, &item)) != FETCH_END)
                if (kind < 0)
                        r = kind;
                else if (kind == FETCH_SPIDER)
                        r = check_spider(f, &item);
                else if (kind == FETCH_WANT)
                        r = fetch_queue_add(f->queue, &item.want);
                else if (kind == FETCH_CANCEL)
                        fetch_queue_cancel(f->queue, item.id);
                else if (kind == FETCH_HURRY)
                        fetch_queue_hurry(f->queue, item.id);
        return r;
}

static int take_message(struct fetch_call *f, const uint8_t *data, size_t len)
{
        int r = f->source ? 0 : take_names(f, data, len);

        if (r < 0)
                return r;
        return f->source ? take_items(f, data, len) : -EDESTADDRREQ;
}

static void fetch_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct fetch_call *f = state;
        int r = take_message(f, data, len);

        switch (-r) {
        case 0:
                rpc_call_receive(call);
                step(f);
                return;
        case EBUSY:
                rpc_call_finish(
                        f->call, RPC_RESOURCE_EXHAUSTED,
                        "more is wanted at a time than there may be, by this call or from this address");
                return;
        case ENOMEM:
                rpc_call_finish(f->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        case EDESTADDRREQ:
                rpc_call_finish(f->call, RPC_INVALID_ARGUMENT, "the first message must name the spider");
                return;
        default:
                rpc_call_finish(f->call, RPC_INVALID_ARGUMENT, "not a valid FetchRequest");
        }
}

static void fetch_half_close(struct rpc_call *call, void *state)
{
        struct fetch_call *f = state;

        f->half_closed = true;
        step(f);
}

static void fetch_closed(struct rpc_call *call, void *state)
{
        struct fetch_call *f = state;

        watches_remove(f->master->watches, &f->entry);
        park(f, false);
        if (f->source)
                fetch_source_close(f->source);
        fetch_unref(f);
}

const struct rpc_call_ops service_fetch_ops = {
        .start = fetch_start,
        .message = fetch_message,
        .half_close = fetch_half_close,
        .writable = fetch_writable,
        .wake = fetch_wake,
        .closed = fetch_closed,
};
