/*
 * Report and Learned: what workers' tasks read first, taken from them and given to them. Both look at a file, so a thread of the readers' pool
 * does the work; the call is answered when it is woken.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "server/learned.h"
#include "server/master.h"
#include "server/reply.h"
#include "server/service_workspace.h"

#define REQUEST_MAX  ((size_t)1 << 20)
#define UNPACKED_MAX ((size_t)4 << 20)

/* Owned by its event thread until `work` is queued, then by the job until `done`. Freed when neither needs it. */
struct report_call {
        struct pool_job work; /* first: `run` gets its address */
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct wire_arena arena;
        char *spider, *folder;      /* owned */
        struct learned_path *paths; /* in the arena */
        size_t n;
        atomic_bool done; /* and only then may the event thread look at the next three */
        int error;
        uint8_t *reply; /* owned */
        size_t reply_len;
};

static void report_unref(struct report_call *c)
{
        if (atomic_fetch_sub(&c->refs, 1) != 1)
                return;
        wire_arena_release(&c->arena);
        free(c->reply);
        free(c->spider);
        free(c->folder);
        rpc_call_unref(c->call);
        free(c);
}

static int report_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct report_call *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->refs = 1;
        c->call = rpc_call_ref(call);
        c->master = service;
        wire_arena_init(&c->arena, UNPACKED_MAX);
        rpc_call_receive(call);
        *ret_state = c;
        return 0;
}

/* ---- on a thread of the pool ---- */

static void finish_work(struct report_call *c, int error)
{
        c->error = error;
        atomic_store(&c->done, true);
        rpc_call_wake(c->call);
        report_unref(c);
}

static void merge_report(struct pool_job *job)
{
        struct report_call *c = (struct report_call *)job;
        const struct learned_report report = { .folder = c->folder, .paths = c->paths, .n = c->n };

        finish_work(c, learned_merge(c->master->learned, c->spider, &report));
}

static int pack_list(struct report_call *c, const struct learned_list *list)
{
        Fsyncfs__V1__LearnedReply reply = FSYNCFS__V1__LEARNED_REPLY__INIT;
        _cleanup_free_ ProtobufCBinaryData *paths = calloc(list->n + 1, sizeof(*paths));

        if (!paths)
                return -ENOMEM;
        for (size_t i = 0; i < list->n; i++) {
                const char *path = learned_entry_below(list->entries[i], c->folder);
                if (path)
                        paths[reply.n_paths++] = (ProtobufCBinaryData){ strlen(path), (uint8_t *)path };
        }
        reply.paths = paths;
        c->reply_len = fsyncfs__v1__learned_reply__get_packed_size(&reply);
        c->reply = malloc(MAX(c->reply_len, (size_t)1));
        if (!c->reply)
                return -ENOMEM;
        fsyncfs__v1__learned_reply__pack(&reply, c->reply);
        return 0;
}

static void read_list(struct pool_job *job)
{
        struct report_call *c = (struct report_call *)job;
        _cleanup_(learned_list_release) struct learned_list list = { 0 };
        int r = learned_get(c->master->learned, c->spider, &list);

        finish_work(c, r < 0 ? r : pack_list(c, &list));
}

/* ---- the requests ---- */

static void fail(struct report_call *c, int error)
{
        char text[REPLY_MAX];

        if (error == -EBADMSG) {
                rpc_call_finish(c->call, RPC_INVALID_ARGUMENT, "not a valid request");
                return;
        }
        if (error == -EBUSY) {
                rpc_call_finish(c->call, RPC_RESOURCE_EXHAUSTED, "another report was merged just now");
                return;
        }
        reply_explain(c->master->root, c->spider ? c->spider : "", c->folder ? c->folder : "", error, text);
        log_limited(reply_level(error), "report", "report for %s failed: %s", rpc_call_peer(c->call), text);
        rpc_call_finish(c->call, reply_code(error), text);
}

/* Which folder of which spider it is about. */
static int take_place(struct report_call *c, const char *spider, const char *path,
                      const ProtobufCBinaryData *raw)
{
        if (raw->len > 0 && (path[0] || memchr(raw->data, '\0', raw->len)))
                return -EBADMSG;
        c->spider = strdup(spider);
        c->folder = raw->len > 0 ? strndup((const char *)raw->data, raw->len) : strdup(path);
        if (!c->spider || !c->folder)
                return -ENOMEM;
        if (path_check_name(c->spider, strlen(c->spider)) < 0)
                return -EINVAL;
        return path_check(c->folder, strlen(c->folder));
}

static int take_paths(struct report_call *c, const ProtobufCBinaryData *paths, size_t n)
{
        if (n > WIRE_LEARNED_PATHS_MAX)
                return -EBADMSG;
        c->paths = c->arena.allocator.alloc(c->arena.allocator.allocator_data, (n + 1) * sizeof(*c->paths));
        if (!c->paths)
                return -ENOMEM;
        for (c->n = 0; c->n < n; c->n++) {
                const ProtobufCBinaryData *path = &paths[c->n];
                if (path->len == 0 || path_check((const char *)path->data, path->len) < 0)
                        return -EBADMSG;
                c->paths[c->n] = (struct learned_path){ (const char *)path->data, path->len };
        }
        return 0;
}

static void note_worker(const struct report_call *c, const char *node_key)
{
        workers_leave(c->master->workers, workers_enter(c->master->workers, node_key));
}

static int take_report(struct report_call *c, const uint8_t *data, size_t len)
{
        Fsyncfs__V1__AccessReport *m = (Fsyncfs__V1__AccessReport *)wire_unpack(
                &fsyncfs__v1__access_report__descriptor, &c->arena.allocator, data, len);
        int r;

        if (!m)
                return -EBADMSG;
        note_worker(c, m->node_key);
        r = take_place(c, m->spider_id, m->path, &m->raw_path);
        return r < 0 ? r : take_paths(c, m->paths, m->n_paths);
}

static int take_learned(struct report_call *c, const uint8_t *data, size_t len)
{
        Fsyncfs__V1__LearnedRequest *m = (Fsyncfs__V1__LearnedRequest *)wire_unpack(
                &fsyncfs__v1__learned_request__descriptor, &c->arena.allocator, data, len);

        if (!m)
                return -EBADMSG;
        note_worker(c, m->node_key);
        return take_place(c, m->spider_id, m->path, &m->raw_path);
}

static void begin(struct report_call *c, int error, void (*run)(struct pool_job *job))
{
        if (error < 0) {
                fail(c, error);
                return;
        }
        atomic_fetch_add(&c->refs, 1);
        c->work.run = run;
        pool_submit(c->master->readers, &c->work);
}

static void report_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        begin(state, len > REQUEST_MAX ? -EBADMSG : take_report(state, data, len), merge_report);
}

static void learned_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        begin(state, len > REQUEST_MAX ? -EBADMSG : take_learned(state, data, len), read_list);
}

/* ---- the answer ---- */

static void report_wake(struct rpc_call *call, void *state)
{
        struct report_call *c = state;
        uint8_t *reply;

        if (!atomic_exchange(&c->done, false))
                return;
        if (c->error < 0) {
                fail(c, c->error);
                return;
        }
        reply = TAKE_PTR(c->reply); /* none: an empty message */
        rpc_call_send(call, &(struct rpc_frame){ .body = reply,
                                                 .body_len = reply ? c->reply_len : 0,
                                                 .release = reply ? free : NULL,
                                                 .release_arg = reply });
}

static void report_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void report_writable(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_OK, NULL);
}

static void report_closed(struct rpc_call *call, void *state)
{
        report_unref(state);
}

const struct rpc_call_ops service_report_ops = {
        .start = report_start,
        .message = report_message,
        .half_close = report_half_close,
        .writable = report_writable,
        .wake = report_wake,
        .closed = report_closed,
};

const struct rpc_call_ops service_learned_ops = {
        .start = report_start,
        .message = learned_message,
        .half_close = report_half_close,
        .writable = report_writable,
        .wake = report_wake,
        .closed = report_closed,
};
