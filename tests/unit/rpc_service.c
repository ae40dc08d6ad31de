#include "tests/unit/rpc_service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

enum kind {
        KIND_ECHO,
        KIND_COUNT,
        KIND_FLOOD,
        KIND_WAIT,
        KIND_STATUS,
};

struct call_state {
        struct service *service;
        enum kind kind;
        unsigned left;
        size_t size;
        bool finished;
};

struct body {
        struct service *service;
        size_t len;
        uint8_t bytes[];
};

void service_init(struct service *service)
{
        *service = (struct service){ 0 };
        mutex_init(&service->mutex);
        condition_init(&service->changed);
}

void service_release(struct service *service)
{
        mutex_release(&service->mutex);
        condition_release(&service->changed);
}

static void bump(struct service *service, unsigned *counter)
{
        mutex_lock(&service->mutex);
        (*counter)++;
        condition_broadcast(&service->changed);
        mutex_unlock(&service->mutex);
}

void service_await(struct service *service, const unsigned *counter, unsigned value)
{
        int64_t deadline_ns = clock_monotonic_ns() + 20 * NSEC_PER_SEC;
        unsigned last;

        mutex_lock(&service->mutex);
        while (*counter < value)
                if (condition_wait_until(&service->changed, &service->mutex, deadline_ns) == -ETIMEDOUT)
                        break;
        last = *counter;
        mutex_unlock(&service->mutex);
        assert_true(last >= value);
}

unsigned service_read(struct service *service, const unsigned *counter)
{
        unsigned value;

        mutex_lock(&service->mutex);
        value = *counter;
        mutex_unlock(&service->mutex);
        return value;
}

void service_wake_all(struct service *service)
{
        struct rpc_call *calls[ARRAY_SIZE(service->waiting)];
        unsigned n;

        mutex_lock(&service->mutex);
        n = service->n_waiting;
        memcpy(calls, service->waiting, sizeof(calls));
        service->n_waiting = 0;
        mutex_unlock(&service->mutex);
        for (unsigned i = 0; i < n; i++) {
                rpc_call_wake(calls[i]);
                rpc_call_wake(calls[i]);
                rpc_call_unref(calls[i]);
        }
}

/* The pass is the service, so that a test sees that each comes back. */
static enum rpc_code guard_admit(void *context, const char *method, const struct rpc_caller *caller,
                                 void **ret_pass)
{
        const char *token = caller->authorization;

        if (!token || strcmp(token, "secret") != 0 || !caller->peer[0])
                return RPC_UNAUTHENTICATED;
        bump(context, &((struct service *)context)->passes);
        *ret_pass = context;
        return RPC_OK;
}

static enum rpc_code guard_allow(void *context, void *pass, const char *peer, const uint8_t *data, size_t len)
{
        struct service *service = context;

        if (pass != context)
                return RPC_INTERNAL;
        if (data)
                return len == 6 && memcmp(data, "forbid", 6) == 0 ? RPC_PERMISSION_DENIED : RPC_OK;
        return service_read(service, &service->revoked) ? RPC_UNAUTHENTICATED : RPC_OK;
}

static void guard_release(void *pass)
{
        struct service *service = pass;

        bump(service, &service->passes_released);
}

const struct rpc_guard_ops service_guard = {
        .admit = guard_admit,
        .allow = guard_allow,
        .release = guard_release,
};

void service_observe(void *arg, const char *method, enum rpc_code code, int64_t duration_ns)
{
        struct service *service = arg;

        mutex_lock(&service->mutex);
        service->last_code = code;
        snprintf(service->last_method, sizeof(service->last_method), "%s", method);
        service->ended += duration_ns >= 0;
        condition_broadcast(&service->changed);
        mutex_unlock(&service->mutex);
}

static void release_body(void *arg)
{
        struct body *body = arg;
        struct service *service = body->service;

        free(body);
        bump(service, &service->released);
}

/* Half as a copied head, the rest as a body. */
static void send_bytes(struct rpc_call *call, struct call_state *s, const void *data, size_t len)
{
        size_t head_len = MIN(len, 10);
        struct body *body = malloc(sizeof(*body) + len - head_len);

        body->service = s->service;
        body->len = len - head_len;
        memcpy(body->bytes, (const char *)data + head_len, body->len);
        bump(s->service, &s->service->sent);
        rpc_call_send(call, &(struct rpc_frame){ .head = data,
                                                 .head_len = head_len,
                                                 .body = body->bytes,
                                                 .body_len = body->len,
                                                 .release = release_body,
                                                 .release_arg = body });
}

static int start_kind(struct rpc_call *call, struct service *service, enum kind kind, void **ret)
{
        struct call_state *s = calloc(1, sizeof(*s));

        *s = (struct call_state){ .service = service, .kind = kind };
        mutex_lock(&service->mutex);
        snprintf(service->peer, sizeof(service->peer), "%s", rpc_call_peer(call));
        if (kind == KIND_WAIT && service->n_waiting < ARRAY_SIZE(service->waiting))
                service->waiting[service->n_waiting++] = rpc_call_ref(call);
        mutex_unlock(&service->mutex);
        bump(service, &service->started);
        rpc_call_receive(call);
        *ret = s;
        return 0;
}

static int start_echo(struct rpc_call *call, void *service, void **ret)
{
        return start_kind(call, service, KIND_ECHO, ret);
}

static int start_count(struct rpc_call *call, void *service, void **ret)
{
        return start_kind(call, service, KIND_COUNT, ret);
}

static int start_flood(struct rpc_call *call, void *service, void **ret)
{
        return start_kind(call, service, KIND_FLOOD, ret);
}

static int start_wait(struct rpc_call *call, void *service, void **ret)
{
        return start_kind(call, service, KIND_WAIT, ret);
}

static int start_status(struct rpc_call *call, void *service, void **ret)
{
        return start_kind(call, service, KIND_STATUS, ret);
}

static int start_fail(struct rpc_call *call, void *service, void **ret)
{
        rpc_call_receive(call);
        return -EINVAL;
}

static void send_next(struct rpc_call *call, struct call_state *s)
{
        _cleanup_free_ char *data = NULL;

        if (s->kind == KIND_COUNT && s->left == 0) {
                rpc_call_finish(call, RPC_OK, NULL);
                return;
        }
        data = calloc(1, MAX(s->size, 16));
        snprintf(data, 16, "%u", s->left--);
        send_bytes(call, s, data, s->size);
}

static void on_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct call_state *s = state;
        char text[600] = "";
        int code = 0, at = 0;

        memcpy(text, data, MIN(len, sizeof(text) - 1));
        switch (s->kind) {
        case KIND_ECHO:
                send_bytes(call, s, data, len); /* the next is asked for when this one is out */
                break;
        case KIND_COUNT:
                if (sscanf(text, "%u %zu", &s->left, &s->size) == 2)
                        send_next(call, s);
                else
                        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "two numbers, please");
                break;
        case KIND_FLOOD:
                s->size = FLOOD_BYTES;
                send_next(call, s);
                break;
        case KIND_WAIT:
                break;
        case KIND_STATUS:
                sscanf(text, "%d %n", &code, &at);
                rpc_call_finish(call, (enum rpc_code)code, text + at);
                break;
        }
}

static void on_half_close(struct rpc_call *call, void *state)
{
        struct call_state *s = state;

        bump(s->service, &s->service->half_closed);
        rpc_call_finish(call, RPC_OK, NULL);
}

static void on_writable(struct rpc_call *call, void *state)
{
        struct call_state *s = state;

        switch (s->kind) {
        case KIND_ECHO:
                rpc_call_receive(call);
                break;
        case KIND_COUNT:
        case KIND_FLOOD:
                send_next(call, s);
                break;
        default:
                break;
        }
}

static void on_wake(struct rpc_call *call, void *state)
{
        struct call_state *s = state;

        bump(s->service, &s->service->woken);
        if (s->finished)
                return;
        s->finished = true;
        send_bytes(call, s, "awake after a while", 19);
        rpc_call_finish(call, RPC_OK, NULL); /* with the message still on its way */
}

static void on_closed(struct rpc_call *call, void *state)
{
        struct call_state *s = state;
        struct service *service = s->service;

        free(s);
        bump(service, &service->closed);
}

#define OPS(start_)                                                                                          \
        &(const struct rpc_call_ops)                                                                         \
        {                                                                                                    \
                .start = (start_), .message = on_message, .half_close = on_half_close,                       \
                .writable = on_writable, .wake = on_wake, .closed = on_closed                                \
        }

const struct rpc_method service_methods[] = {
        { METHOD_ECHO, OPS(start_echo) },   { METHOD_COUNT, OPS(start_count) },
        { METHOD_FLOOD, OPS(start_flood) }, { METHOD_WAIT, OPS(start_wait) },
        { METHOD_FAIL, OPS(start_fail) },   { METHOD_STATUS, OPS(start_status) },
};

const size_t service_n_methods = ARRAY_SIZE(service_methods);
