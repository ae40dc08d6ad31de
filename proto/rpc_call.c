/*
 * One call on the master: a state machine on one event thread.
 *
 * A call lives from rpc_call_begin until gRPC has given back every operation posted for it. RECV_CLOSE_ON_SERVER is among them
 * from the start and returns when the call is over, however it ended; `closed` comes when it and all others are back.
 */
#include "proto/rpc_internal.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "base/clock.h"
#include "base/lock.h"
#include "proto/rpc_guard.h"

struct rpc_call {
        _Atomic unsigned refs;

        /* Never changes. */
        struct rpc_server *server;
        const struct rpc_method *method; /* NULL: unknown */
        char *peer;                      /* gpr_malloc'ed */
        struct rpc_peer *origin;         /* a reference; NULL: no memory for one, and refused for that */
        void *pass;                      /* of the server's guard; NULL: none */
        int64_t began_ns;

        /* Owned by the event thread. */
        grpc_call *call;
        void *state;
        bool started;      /* the handler has a state, and a closed to come */
        bool initial_sent; /* the initial metadata went with the first send or the status */
        bool wants_gzip;   /* the peer asks for it */
        bool use_gzip;     /* to be said in the initial metadata */
        bool receiving, sending, finishing;
        bool over;        /* the peer is gone or has the status: nothing is posted any more */
        unsigned pending; /* operations with gRPC, the wake apart */
        enum rpc_code code;

        /* With gRPC while an operation is pending. */
        struct rpc_message received;
        grpc_byte_buffer *outgoing;
        grpc_slice details;
        int cancelled;
        struct rpc_event on_close, on_receive, on_send, on_status, on_wake;

        struct mutex mutex;
        bool wake_posted TSA_GUARDED(&mutex);
        bool gone TSA_GUARDED(&mutex); /* grpc_call is no more */
};

#define CALL_OF(event_, member) ((struct rpc_call *)((char *)(event_)-offsetof(struct rpc_call, member)))

static void call_post(struct rpc_call *call, const grpc_op *ops, size_t n_ops, struct rpc_event *event)
{
        call->pending++;
        rpc_batch(call->call, ops, n_ops, event);
}

/* False if a wake is on its way, which must come back first; otherwise no other will be posted. */
static bool call_bar_wakes(struct rpc_call *call)
{
        mutex_lock(&call->mutex);
        call->gone = !call->wake_posted;
        bool barred = call->gone;
        mutex_unlock(&call->mutex);
        return barred;
}

/* Ends every event: closes the call if that was the last one. */
static void call_settle(struct rpc_call *call)
{
        if (!call->over || call->pending > 0 || !call_bar_wakes(call))
                return;
        if (call->started)
                call->method->ops->closed(call, call->state);
        gpr_free(TAKE_PTR(call->peer));
        if (call->origin)
                atomic_fetch_sub(&call->origin->calls, 1);
        rpc_server_release_pass(call->server, TAKE_PTR(call->pass));
        grpc_call_unref(TAKE_PTR(call->call));
        rpc_server_call_ended(call->server, call->method, call->code, clock_monotonic_ns() - call->began_ns);
        rpc_call_unref(call);
}

/* True if the handler still wants to hear of anything but `closed`. */
static bool call_is_live(const struct rpc_call *call)
{
        return call->started && !call->over && !call->finishing;
}

static void close_done(struct rpc_event *event, bool ok)
{
        struct rpc_call *call = CALL_OF(event, on_close);

        call->pending--;
        call->over = true;
        if (!call->finishing)
                call->code = RPC_CANCELLED;
        call_settle(call);
}

static const char *refusal_text(enum rpc_code verdict)
{
        switch (verdict) {
        case RPC_UNIMPLEMENTED:
                return "no such method";
        case RPC_UNAUTHENTICATED:
                return "the token is missing or wrong";
        case RPC_PERMISSION_DENIED:
                return "the token gives no right to this spider";
        case RPC_INVALID_ARGUMENT:
                return "the message is not valid protobuf";
        default:
                return NULL;
        }
}

static enum rpc_code ask_guard(struct rpc_call *call, const uint8_t *data, size_t len)
{
        if (call->method->ops->open)
                return RPC_OK;
        return rpc_server_allow(call->server, call->pass, call->peer, data, len);
}

/* Hands a message to the method, unless the guard objects. */
static void deliver_plain(struct rpc_call *call, const uint8_t *data, size_t len)
{
        enum rpc_code code = ask_guard(call, data, len);

        if (code == RPC_OK)
                call->method->ops->message(call, call->state, data, len);
        else
                rpc_call_finish(call, code, refusal_text(code));
}

/* The same for one that may have to be inflated first. */
static void deliver(struct rpc_call *call, struct rpc_message *message)
{
        bool zipped = message->buffer->data.raw.compression != GRPC_COMPRESS_NONE;
        _cleanup_free_ uint8_t *inflated = NULL;
        size_t len;
        const uint8_t *data = rpc_message_open(message, &len);
        int r = zipped ? rpc_gunzip(data, len, RPC_REQUEST_MAX, &inflated, &len) : 0;

        call->wants_gzip |= zipped;
        if (r == -ENOMEM || r == -EFBIG)
                rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the message is too large");
        else if (r < 0)
                rpc_call_finish(call, RPC_INVALID_ARGUMENT, "the message is not valid gzip");
        else
                deliver_plain(call, inflated ?: data, len);
}

static void receive_done(struct rpc_event *event, bool ok)
{
        struct rpc_call *call = CALL_OF(event, on_receive);

        call->pending--;
        call->receiving = false;
        if (call_is_live(call)) {
                const struct rpc_call_ops *ops = call->method->ops;

                if (call->received.buffer) {
                        /* The handler may ask for the next message meanwhile, so this one moves out of its way. */
                        struct rpc_message message = call->received;

                        call->received = (struct rpc_message){ 0 };
                        deliver(call, &message);
                        rpc_message_clear(&message);
                } else if (!ok || grpc_call_failed_before_recv_message(call->call)) {
                        grpc_call_cancel(call->call, NULL); /* broken off, not ended: close_done follows */
                } else if (ops->half_close) {
                        ops->half_close(call, call->state);
                }
        }
        if (!call->receiving)
                rpc_message_clear(&call->received);
        call_settle(call);
}

static void call_post_status(struct rpc_call *call)
{
        grpc_op ops[2] = { { .op = GRPC_OP_SEND_STATUS_FROM_SERVER },
                           { .op = GRPC_OP_SEND_INITIAL_METADATA } };

        ops[0].data.send_status_from_server.status = (grpc_status_code)call->code;
        ops[0].data.send_status_from_server.status_details = &call->details;
        call_post(call, ops, call->initial_sent ? 1 : 2, &call->on_status);
}

static void send_done(struct rpc_event *event, bool ok)
{
        struct rpc_call *call = CALL_OF(event, on_send);

        call->pending--;
        call->sending = false;
        grpc_byte_buffer_destroy(TAKE_PTR(call->outgoing));
        if (!ok)
                grpc_call_cancel(call->call,
                                 NULL); /* gRPC has most often done so itself; close_done follows */
        else if (call->finishing && !call->over)
                call_post_status(call);
        else if (call_is_live(call))
                call->method->ops->writable(call, call->state);
        call_settle(call);
}

static void status_done(struct rpc_event *event, bool ok)
{
        struct rpc_call *call = CALL_OF(event, on_status);

        call->pending--;
        call_settle(call);
}

static void wake_done(struct rpc_event *event, bool ok)
{
        struct rpc_call *call = CALL_OF(event, on_wake);

        mutex_lock(&call->mutex);
        call->wake_posted = false;
        mutex_unlock(&call->mutex);
        if (call_is_live(call) && call->method->ops->wake)
                call->method->ops->wake(call, call->state);
        call_settle(call);
}

static struct rpc_call *call_new(struct rpc_server *server, const struct rpc_method *method, grpc_call *grpc)
{
        struct rpc_call *call = calloc(1, sizeof(*call));

        if (!call)
                return NULL;
        call->refs = 1;
        call->server = server;
        call->method = method;
        call->peer = grpc_call_get_peer(grpc);
        call->began_ns = clock_monotonic_ns();
        call->call = grpc;
        call->details = grpc_empty_slice();
        call->on_close.done = close_done;
        call->on_receive.done = receive_done;
        call->on_send.done = send_done;
        call->on_status.done = status_done;
        call->on_wake.done = wake_done;
        mutex_init(&call->mutex);
        return call;
}

int rpc_call_begin(struct rpc_server *server, const struct rpc_admission *admission, grpc_call *grpc)
{
        struct rpc_call *call = call_new(server, admission->method, grpc);
        grpc_op op = { .op = GRPC_OP_RECV_CLOSE_ON_SERVER };

        if (!call)
                return -ENOMEM;
        call->wants_gzip = admission->wants_gzip;
        call->pass = admission->pass;
        call->origin = admission->peer;
        op.data.recv_close_on_server.cancelled = &call->cancelled;
        call_post(call, &op, 1, &call->on_close);
        if (admission->verdict != RPC_OK) {
                rpc_call_finish(call, admission->verdict, admission->why ?: refusal_text(admission->verdict));
        } else if (call->method->ops->start(call, rpc_server_service(server), &call->state) < 0) {
                if (!call->finishing)
                        rpc_call_finish(call, RPC_INTERNAL, "the call could not be started");
        } else {
                call->started = true;
        }
        return 0;
}

void rpc_call_receive(struct rpc_call *call)
{
        grpc_op op = { .op = GRPC_OP_RECV_MESSAGE };

        if (call->over || call->finishing)
                return;
        assert(!call->receiving);
        call->receiving = true;
        op.data.recv_message.recv_message = &call->received.buffer;
        call_post(call, &op, 1, &call->on_receive);
}

/* A frame's body while gRPC holds it, which may be longer than the call lasts. */
struct body {
        struct rpc_server *server;
        struct rpc_peer *peer; /* a reference; its bytes count LEN */
        size_t len;
        void (*release)(void *arg);
        void *arg;
};

static void body_release(void *arg)
{
        struct body *body = arg;

        body->release(body->arg);
        atomic_fetch_sub(&body->peer->bytes, body->len);
        rpc_peer_unref(body->peer);
        rpc_server_body_released(body->server);
        free(body);
}

/* The frame as a byte buffer, which from now on owes the release; NULL if there is no memory. */
static grpc_byte_buffer *frame_buffer(struct rpc_call *call, const struct rpc_frame *frame)
{
        grpc_slice slices[2];
        size_t n = 1;
        grpc_byte_buffer *buffer;

        if (frame->body) {
                struct body *body = malloc(sizeof(*body));

                if (!body)
                        return NULL;
                *body = (struct body){ .server = call->server,
                                       .peer = rpc_peer_ref(call->origin),
                                       .len = frame->body_len,
                                       .release = frame->release,
                                       .arg = frame->release_arg };
                atomic_fetch_add(&body->peer->bytes, body->len);
                rpc_server_body_taken(call->server);
                slices[n++] = grpc_slice_new_with_user_data((void *)frame->body, frame->body_len,
                                                            body_release, body);
        }
        slices[0] = grpc_slice_from_copied_buffer(frame->head, frame->head_len);
        buffer = grpc_raw_byte_buffer_create(slices, n);
        for (size_t i = 0; i < n; i++)
                grpc_slice_unref(slices[i]);
        return buffer;
}

/* What was granted when the call began may have been taken away since. */
static bool may_send(struct rpc_call *call)
{
        enum rpc_code code = ask_guard(call, NULL, 0);

        if (code != RPC_OK) /* close_done follows */
                grpc_call_cancel_with_status(call->call, (grpc_status_code)code, refusal_text(code), NULL);
        return code == RPC_OK;
}

void rpc_call_send(struct rpc_call *call, const struct rpc_frame *frame)
{
        grpc_op ops[2] = { { .op = GRPC_OP_SEND_MESSAGE }, { .op = GRPC_OP_SEND_INITIAL_METADATA } };
        grpc_metadata gzip = {
                .key = grpc_slice_from_static_string(GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY),
                .value = grpc_slice_from_static_string("gzip"),
        };

        if (!call->over && !call->finishing && may_send(call)) {
                assert(!call->sending);
                call->outgoing = frame_buffer(call, frame);
                if (!call->outgoing)
                        grpc_call_cancel(call->call, NULL); /* close_done follows */
        }
        if (!call->outgoing) {
                if (frame->body)
                        frame->release(frame->release_arg);
                return;
        }
        call->sending = true;
        ops[0].data.send_message.send_message = call->outgoing;
        if (call->use_gzip) {
                ops[1].data.send_initial_metadata.count = 1;
                ops[1].data.send_initial_metadata.metadata = &gzip;
        }
        call_post(call, ops, call->initial_sent ? 1 : 2, &call->on_send);
        call->initial_sent = true;
}

void rpc_call_finish(struct rpc_call *call, enum rpc_code code, const char *message)
{
        assert(!call->finishing);
        if (call->over)
                return;
        call->finishing = true;
        call->code = code;
        if (message)
                call->details = grpc_slice_from_copied_string(message);
        if (!call->sending)
                call_post_status(call); /* otherwise send_done does */
}

void rpc_call_wake(struct rpc_call *call)
{
        mutex_lock(&call->mutex);
        if (!call->gone && !call->wake_posted) {
                call->wake_posted = true;
                rpc_batch(call->call, NULL, 0,
                          &call->on_wake); /* an empty batch comes back at once, on the call's queue */
        }
        mutex_unlock(&call->mutex);
}

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
        atomic_fetch_add(&call->refs, 1);
        return call;
}

void rpc_call_unref(struct rpc_call *call)
{
        if (atomic_fetch_sub(&call->refs, 1) > 1)
                return;
        grpc_slice_unref(call->details);
        rpc_peer_unref(call->origin);
        mutex_release(&call->mutex);
        free(call);
}

bool rpc_call_wants_gzip(const struct rpc_call *call)
{
        return call->wants_gzip;
}

void rpc_call_use_gzip(struct rpc_call *call)
{
        call->use_gzip = true;
}

struct rpc_peer *rpc_call_account(const struct rpc_call *call)
{
        return call->origin;
}

void *rpc_call_pass(const struct rpc_call *call)
{
        return call->pass;
}

const char *rpc_call_peer(const struct rpc_call *call)
{
        return call->peer;
}
