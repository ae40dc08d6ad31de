#include "server/service_health.h"

#include <string.h>

#include "base/util.h"
#include "proto/health.pb-c.h"
#include "proto/wire.h"
#include "server/master.h"

#define REQUEST_MAX 4096 /* unpacked */

enum {
        SERVING = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING,
        NOT_SERVING = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING,
        SERVICE_UNKNOWN = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN,
};

/* Owned by its event thread. */
struct health_call {
        struct rpc_call *call; /* referenced, for `entry` */
        struct master *master;
        struct watches_call entry;
        bool watches; /* goes on: Watch */
        bool known;   /* the service that is asked for is one of ours */
        bool asked, sending, ended;
        int told; /* a status; 0: none yet */
};

static int call_new(struct rpc_call *call, struct master *master, bool watches, void **ret)
{
        struct health_call *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        h->call = h->entry.call = rpc_call_ref(call);
        h->master = master;
        h->watches = watches;
        watches_add(master->watches, &h->entry);
        rpc_call_receive(call);
        *ret = h;
        return 0;
}

static int check_start(struct rpc_call *call, void *service, void **ret_state)
{
        return call_new(call, service, false, ret_state);
}

static int watch_start(struct rpc_call *call, void *service, void **ret_state)
{
        return call_new(call, service, true, ret_state);
}

static int status_of(const struct health_call *h)
{
        char reason[HEALTH_REASON_MAX];

        if (!h->known)
                return SERVICE_UNKNOWN;
        return health_get(h->master->health, reason) ? SERVING : NOT_SERVING;
}

static void end(struct health_call *h, enum rpc_code code, const char *text)
{
        h->ended = true;
        rpc_call_finish(h->call, code, text);
}

/* Says what is news, or that there will be none. */
static void step(struct health_call *h)
{
        uint8_t reply[] = { 1 << 3, (uint8_t)status_of(h) }; /* a HealthCheckResponse */

        if (!h->asked || h->sending || h->ended)
                return;
        if (reply[1] != h->told) {
                h->told = reply[1];
                h->sending = true;
                rpc_call_send(h->call, &(struct rpc_frame){ .head = reply, .head_len = sizeof(reply) });
        } else if (!h->watches) {
                end(h, RPC_OK, NULL);
        } else if (watches_stopping(h->master->watches)) {
                end(h, RPC_UNAVAILABLE, "this master is shutting down");
        }
}

static bool is_known(const char *service)
{
        static const char *const services[] = { "", "grpc.SyncService", "fsyncfs.v1.Workspace" };

        for (size_t i = 0; i < ARRAY_SIZE(services); i++)
                if (strcmp(service, services[i]) == 0)
                        return true;
        return false;
}

static void health_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct health_call *h = state;
        const Grpc__Health__V1__HealthCheckRequest *request;
        struct wire_arena arena;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (const Grpc__Health__V1__HealthCheckRequest *)wire_unpack(
                &grpc__health__v1__health_check_request__descriptor, &arena.allocator, data, len);
        h->asked = request != NULL;
        h->known = request && is_known(request->service);
        wire_arena_release(&arena);
        if (!h->asked)
                end(h, RPC_INVALID_ARGUMENT, "not a HealthCheckRequest");
        else if (!h->known && !h->watches)
                end(h, RPC_NOT_FOUND, "no such service");
        else
                step(h);
}

static void health_half_close(struct rpc_call *call, void *state)
{
        end(state, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void health_writable(struct rpc_call *call, void *state)
{
        struct health_call *h = state;

        h->sending = false;
        if (h->watches)
                step(h);
        else
                end(h, RPC_OK, NULL);
}

static void health_wake(struct rpc_call *call, void *state)
{
        step(state);
}

static void health_closed(struct rpc_call *call, void *state)
{
        struct health_call *h = state;

        watches_remove(h->master->watches, &h->entry);
        rpc_call_unref(h->call);
        free(h);
}

const struct rpc_call_ops service_health_check_ops = {
        .open = true,
        .start = check_start,
        .message = health_message,
        .half_close = health_half_close,
        .writable = health_writable,
        .wake = health_wake,
        .closed = health_closed,
};

const struct rpc_call_ops service_health_watch_ops = {
        .open = true,
        .start = watch_start,
        .message = health_message,
        .half_close = health_half_close,
        .writable = health_writable,
        .wake = health_wake,
        .closed = health_closed,
};
