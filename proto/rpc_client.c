#include "proto/rpc_internal.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "base/clock.h"
#include "base/lock.h"
#include "proto/rpc_tls_internal.h"

#define RECEIVE_MAX_BYTES (4u << 20)
#define MEMORY_BYTES                                                                                         \
        (256u << 20) /* from a fifth of it on gRPC narrows the windows of streams that nobody reads */
#define CONNECT_TIMEOUT_MS 3000 /* one attempt: the handshakes of TCP, TLS and HTTP/2 over a slow link */
#define RENEW_PAUSE_MS     1000 /* between two connections, whatever is said about the first */

struct rpc_channel {
        char *target;
        struct rpc_tls *tls; /* borrowed; NULL: none */
        size_t receive_max_bytes;
        grpc_slice token;
        bool has_token;

        grpc_completion_queue *watched; /* NULL: there is no thread */
        pthread_t thread;
        struct mutex lock;
        grpc_channel *channel TSA_GUARDED(lock); /* owned: the present connection, or what makes it */
        int64_t renewed_ns TSA_GUARDED(lock);    /* when an earlier one was given up; 0: never */
        bool stopping TSA_GUARDED(lock);
};

/*
 * One call on a completion queue of its own, so that whoever waits for it works the connection meanwhile. Each kind of operation
 * has its own tag: one thread may send while another receives.
 */
struct rpc_stream {
        grpc_call *call;
        const grpc_channel *over;  /* the call keeps it: no other one has this address meanwhile */
        grpc_completion_queue *cq; /* for pluck: a thread takes the event it waits for and no other */
        int64_t idle_ns;           /* how long may pass without a message; INT64_MAX: forever */
        int64_t send_ns;           /* the same while one is sent */
        _Atomic int64_t heard_ns;  /* when the last message came, or it was opened; any thread */
        _Atomic int ended_by; /* 0 or negative errno: why we ended it; the first reason stays; any thread */

        /* owned by the sending thread; read by rpc_stream_finish when that is done */
        bool send_failed;

        /* owned by the receiving thread */
        struct rpc_message message;
        bool at_end;
        int end; /* what receive says at the end: RPC_END or ended_by as it was then */
        bool finished;

        /* written by gRPC until the tags have returned */
        grpc_metadata metadata;
        grpc_metadata_array initial, trailing;
        grpc_status_code code;
        grpc_slice details;

        char tag_start, tag_status, tag_send, tag_close_send, tag_receive; /* only their addresses count */
};

/* ---- channels ---- */

static grpc_channel *create_channel(const struct rpc_channel *ours)
{
        grpc_channel_credentials *credentials =
                ours->tls ? rpc_tls_channel_credentials(ours->tls) : grpc_insecure_credentials_create();
        grpc_resource_quota *quota = grpc_resource_quota_create("rpc-channel");
        grpc_channel *channel;
        grpc_arg list[] = {
                rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                            (int)MIN(ours->receive_max_bytes, INT32_MAX)),
                /*
                 * Pings find a peer that is gone without a word. At most two in a row without data, and none while idle (both
                 * gRPC's defaults): a stock master has the default policy of Go's gRPC and closes the connection on the
                 * third. Beyond that the streams' idle time-outs and TCP_USER_TIMEOUT (gRPC sets it from the ping's
                 * time-out) bound every wait.
                 */
                rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, 10000),
                rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000),
                /* Back within a second of the master's return. The minimum is also the limit of one attempt. */
                rpc_arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200),
                rpc_arg_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS),
                rpc_arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
                rpc_arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* each channel its own connection */
                rpc_arg_int(GRPC_ARG_ENABLE_RETRIES, 0),            /* who asks knows what may be repeated */
                rpc_arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0), /* a mount must not depend on its environment */
                rpc_arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION,
                            0), /* a small message must not become a huge one */
                rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
                rpc_arg_quota(quota),
        };
        grpc_channel_args args = { .num_args = ARRAY_SIZE(list), .args = list };

        grpc_resource_quota_resize(quota, MEMORY_BYTES);
        channel = grpc_channel_create(ours->target, credentials, &args);
        grpc_resource_quota_unref(quota);
        grpc_channel_credentials_release(credentials);
        return channel;
}

/*
 * gRPC works a connection only while somebody waits on a queue that has to do with it, and otherwise looks at it every five seconds. A handshake takes
 * several steps: without this thread a call that comes while there is no connection would find one by luck, and with TLS never.
 */
static void *work_connection(void *arg)
{
        struct rpc_channel *channel = arg;

        thread_name("rpc-connect");
        for (;;) {
                mutex_lock(&channel->lock);
                if (!channel->stopping) {
                        grpc_connectivity_state state =
                                grpc_channel_check_connectivity_state(channel->channel, 0);
                        grpc_channel_watch_connectivity_state(channel->channel, state,
                                                              gpr_inf_future(GPR_CLOCK_MONOTONIC),
                                                              channel->watched, channel);
                }
                mutex_unlock(&channel->lock);
                if (grpc_completion_queue_next(channel->watched, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
                            .type == GRPC_QUEUE_SHUTDOWN)
                        return NULL;
        }
}

static int start_working(struct rpc_channel *channel)
{
        int r;

        channel->watched = grpc_completion_queue_create_for_next(NULL);
        r = pthread_create(&channel->thread, NULL, work_connection, channel);
        if (r != 0) {
                grpc_completion_queue_shutdown(channel->watched);
                grpc_completion_queue_destroy(TAKE_PTR(channel->watched));
        }
        return -r;
}

static int set_token(struct rpc_channel *channel, const char *token)
{
        channel->token = grpc_slice_from_copied_string(token);
        channel->has_token = true;
        return grpc_header_nonbin_value_is_legal(channel->token) ? 0 : -EINVAL;
}

static void cleanup_channel(struct rpc_channel **channel)
{
        rpc_channel_free(*channel);
}

int rpc_channel_new(const char *target, const struct rpc_channel_options *options, struct rpc_channel **ret)
{
        _cleanup_(cleanup_channel) struct rpc_channel *channel = NULL;
        struct rpc_address address;
        int r = rpc_address_parse(target, &address);

        if (r < 0)
                return r;
        channel = calloc(1, sizeof(*channel));
        if (!channel)
                return -ENOMEM;
        mutex_init(&channel->lock);
        channel->target = strdup(target);
        if (!channel->target)
                return -ENOMEM;
        if (options->token) {
                r = set_token(channel, options->token);
                if (r < 0)
                        return r;
        }
        channel->tls = address.is_unix ? NULL : options->tls;
        channel->receive_max_bytes = options->receive_max_bytes ?: RECEIVE_MAX_BYTES;
        mutex_lock(&channel->lock);
        channel->channel = create_channel(channel);
        mutex_unlock(&channel->lock);
        r = start_working(channel);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(channel);
        return 0;
}

void rpc_channel_free(struct rpc_channel *channel)
{
        grpc_channel *last;

        if (!channel)
                return;
        mutex_lock(&channel->lock);
        channel->stopping = true;
        last = channel->channel;
        mutex_unlock(&channel->lock);
        if (last)
                grpc_channel_destroy(last); /* ends the watch */
        if (channel->watched) {
                grpc_completion_queue_shutdown(channel->watched);
                pthread_join(channel->thread, NULL);
                grpc_completion_queue_destroy(channel->watched);
        }
        mutex_release(&channel->lock);
        if (channel->has_token)
                grpc_slice_unref(channel->token);
        free(channel->target);
        free(channel);
}

/* How CHANNEL's connection is; CONNECT: it is made if there is none. */
static grpc_connectivity_state channel_state(struct rpc_channel *channel, bool connect)
{
        grpc_connectivity_state state;

        mutex_lock(&channel->lock);
        state = grpc_channel_check_connectivity_state(channel->channel, connect);
        mutex_unlock(&channel->lock);
        return state;
}

bool rpc_channel_renew(struct rpc_channel *channel, const struct rpc_stream *stream)
{
        int64_t now = clock_monotonic_ns();
        grpc_channel *fresh, *old = NULL;

        if (channel_state(channel, false) != GRPC_CHANNEL_READY)
                return false; /* gRPC is at it */
        fresh = create_channel(channel);
        mutex_lock(&channel->lock);
        if ((!stream || stream->over == channel->channel) &&
            now - channel->renewed_ns >= RENEW_PAUSE_MS * NSEC_PER_MSEC) {
                old = channel->channel;
                channel->channel = fresh;
                channel->renewed_ns = now;
        }
        mutex_unlock(&channel->lock);
        grpc_channel_destroy(
                old ?: fresh); /* what waits for its state is told, what is called over it goes on */
        return old != NULL;
}

/* Waits until the state is no longer STATE; false if DEADLINE_NS came first. */
static bool wait_state_change(struct rpc_channel *channel, grpc_connectivity_state state, int64_t deadline_ns)
{
        grpc_completion_queue *cq = grpc_completion_queue_create_for_next(NULL);
        int64_t left_ns = MAX(deadline_ns - clock_monotonic_ns(), 0);
        grpc_event event;

        mutex_lock(&channel->lock);
        grpc_channel_watch_connectivity_state(channel->channel, state, rpc_deadline(left_ns), cq, channel);
        mutex_unlock(&channel->lock);
        event = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        grpc_completion_queue_shutdown(cq);
        grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        grpc_completion_queue_destroy(cq);
        return event.success;
}

void rpc_channel_connect(struct rpc_channel *channel)
{
        channel_state(channel, true);
}

int rpc_channel_wait_ready(struct rpc_channel *channel, int timeout_ms, struct failure *why)
{
        int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;

        for (;;) {
                grpc_connectivity_state state = channel_state(channel, true);

                if (state == GRPC_CHANNEL_READY)
                        return 0;
                if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
                        int r = rpc_diagnose(channel->target, channel->tls, deadline_ns, why);

                        if (r < 0)
                                return r;
                        /* The peer has come up since: no need to sit out the back-off. */
                        mutex_lock(&channel->lock);
                        grpc_channel_reset_connect_backoff(channel->channel);
                        mutex_unlock(&channel->lock);
                }
                if (!wait_state_change(channel, state, deadline_ns))
                        return -ETIMEDOUT;
        }
}

/* ---- streams ---- */

static void stream_end(struct rpc_stream *stream, int reason)
{
        int none = 0;

        if (!atomic_compare_exchange_strong(&stream->ended_by, &none, reason))
                return;
        if (reason == -ETIMEDOUT)
                grpc_call_cancel_with_status(stream->call, GRPC_STATUS_DEADLINE_EXCEEDED,
                                             "the peer was silent for too long", NULL);
        else if (reason == -EHOSTUNREACH)
                grpc_call_cancel_with_status(stream->call, GRPC_STATUS_UNAVAILABLE,
                                             "it does not answer any more", NULL);
        else
                grpc_call_cancel_with_status(stream->call, GRPC_STATUS_CANCELLED, "cancelled by the caller",
                                             NULL);
}

/* What is left of LIMIT_NS, counted from the last message or from when the wait began. */
static int64_t idle_left_ns(struct rpc_stream *stream, int64_t limit_ns, int64_t wait_began_ns)
{
        if (limit_ns == INT64_MAX || atomic_load(&stream->ended_by) != 0)
                return INT64_MAX;
        return MAX(wait_began_ns, atomic_load(&stream->heard_ns)) + limit_ns - clock_monotonic_ns();
}

/* Waits for the operation that was posted with TAG, ending the call if it idles for LIMIT_NS. True if the operation succeeded. */
static bool stream_wait(struct rpc_stream *stream, void *tag, int64_t limit_ns)
{
        int64_t began_ns = clock_monotonic_ns();

        for (;;) {
                int64_t left_ns = idle_left_ns(stream, limit_ns, began_ns);
                grpc_event event;

                if (left_ns <= 0) {
                        stream_end(stream, -ETIMEDOUT);
                        left_ns = INT64_MAX; /* a cancelled operation returns at once */
                }
                event = grpc_completion_queue_pluck(stream->cq, tag, rpc_deadline(left_ns), NULL);
                if (event.type == GRPC_OP_COMPLETE)
                        return event.success;
        }
}

static void stream_start(struct rpc_stream *stream, struct rpc_channel *channel, bool wait_for_ready)
{
        grpc_op start[2] = { { .op = GRPC_OP_SEND_INITIAL_METADATA },
                             { .op = GRPC_OP_RECV_INITIAL_METADATA } };
        grpc_op status = { .op = GRPC_OP_RECV_STATUS_ON_CLIENT };

        if (channel->has_token) {
                stream->metadata.key = grpc_slice_from_static_string("authorization");
                stream->metadata.value = channel->token;
                start[0].data.send_initial_metadata.metadata = &stream->metadata;
                start[0].data.send_initial_metadata.count = 1;
        }
        start[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET |
                         (wait_for_ready ? GRPC_INITIAL_METADATA_WAIT_FOR_READY : 0);
        start[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
        status.data.recv_status_on_client.trailing_metadata = &stream->trailing;
        status.data.recv_status_on_client.status = &stream->code;
        status.data.recv_status_on_client.status_details = &stream->details;
        rpc_batch(stream->call, &status, 1, &stream->tag_status);
        rpc_batch(stream->call, start, ARRAY_SIZE(start), &stream->tag_start);
}

static int64_t limit_ns(int timeout_ms)
{
        return timeout_ms > 0 ? timeout_ms * NSEC_PER_MSEC : INT64_MAX;
}

int rpc_stream_open(struct rpc_channel *channel, const char *method, const struct rpc_stream_options *options,
                    struct rpc_stream **ret)
{
        struct rpc_stream *stream = calloc(1, sizeof(*stream));
        grpc_slice method_slice;

        if (!stream)
                return -ENOMEM;
        stream->idle_ns = limit_ns(options->idle_timeout_ms);
        stream->send_ns = limit_ns(options->send_timeout_ms ?: options->idle_timeout_ms);
        atomic_store(&stream->heard_ns, clock_monotonic_ns());
        stream->details = grpc_empty_slice();
        grpc_metadata_array_init(&stream->initial);
        grpc_metadata_array_init(&stream->trailing);
        stream->cq = grpc_completion_queue_create_for_pluck(NULL);
        method_slice = grpc_slice_from_copied_string(method);
        mutex_lock(&channel->lock);
        stream->over = channel->channel;
        stream->call =
                grpc_channel_create_call(channel->channel, NULL, GRPC_PROPAGATE_DEFAULTS, stream->cq,
                                         method_slice, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        mutex_unlock(&channel->lock);
        grpc_slice_unref(method_slice);
        stream_start(stream, channel, options->wait_for_ready);
        *ret = stream;
        return 0;
}

int rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len)
{
        grpc_slice slice = grpc_slice_from_copied_buffer(data, len);
        grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
        grpc_op op = { .op = GRPC_OP_SEND_MESSAGE };

        op.data.send_message.send_message = buffer;
        rpc_batch(stream->call, &op, 1, &stream->tag_send);
        if (!stream_wait(stream, &stream->tag_send, stream->send_ns))
                stream->send_failed = true;
        grpc_byte_buffer_destroy(buffer);
        grpc_slice_unref(slice);
        return stream->send_failed ? -EPIPE : 0;
}

int rpc_stream_close_send(struct rpc_stream *stream)
{
        grpc_op op = { .op = GRPC_OP_SEND_CLOSE_FROM_CLIENT };

        rpc_batch(stream->call, &op, 1, &stream->tag_close_send);
        if (!stream_wait(stream, &stream->tag_close_send, stream->send_ns))
                stream->send_failed = true;
        return stream->send_failed ? -EPIPE : 0;
}

int rpc_stream_receive(struct rpc_stream *stream, const uint8_t **ret_data, size_t *ret_len)
{
        grpc_op op = { .op = GRPC_OP_RECV_MESSAGE };

        rpc_message_clear(&stream->message);
        if (stream->at_end)
                return stream->end;
        op.data.recv_message.recv_message = &stream->message.buffer;
        rpc_batch(stream->call, &op, 1, &stream->tag_receive);
        stream_wait(stream, &stream->tag_receive, stream->idle_ns);
        if (!stream->message.buffer) {
                stream->at_end = true;
                stream->end = atomic_load(&stream->ended_by) ?: RPC_END;
                return stream->end;
        }
        atomic_store(&stream->heard_ns, clock_monotonic_ns());
        *ret_data = rpc_message_open(&stream->message, ret_len);
        return RPC_MESSAGE;
}

struct rpc_message *rpc_stream_keep(struct rpc_stream *stream)
{
        struct rpc_message *message = malloc(sizeof(*message));

        if (!message)
                return NULL;
        *message = stream->message;
        stream->message = (struct rpc_message){ 0 };
        if (message->joined) /* what it came in is not needed any more */
                grpc_byte_buffer_destroy(TAKE_PTR(message->buffer));
        return message;
}

void rpc_message_free(struct rpc_message *message)
{
        if (!message)
                return;
        rpc_message_clear(message);
        free(message);
}

void rpc_stream_finish(struct rpc_stream *stream, struct rpc_status *ret_status)
{
        const uint8_t *data;
        size_t len;

        if (!stream->finished) {
                /* A send that failed says that the peer has ended the call: its status comes after what it sent before. */
                while (stream->send_failed && rpc_stream_receive(stream, &data, &len) == RPC_MESSAGE)
                        ;
                if (!stream->at_end)
                        rpc_stream_cancel(stream);
                stream_wait(stream, &stream->tag_status, stream->idle_ns);
                stream_wait(stream, &stream->tag_start, stream->idle_ns);
                stream->finished = true;
        }
        rpc_status_set(ret_status, (int)stream->code, GRPC_SLICE_START_PTR(stream->details),
                       GRPC_SLICE_LENGTH(stream->details));
        /* A server that shuts down cancels what it can no longer take: not our doing, and worth another try. */
        if (ret_status->code == RPC_CANCELLED && atomic_load(&stream->ended_by) != -ECANCELED)
                ret_status->code = RPC_UNAVAILABLE;
}

void rpc_stream_cancel(struct rpc_stream *stream)
{
        stream_end(stream, -ECANCELED);
}

void rpc_stream_expire(struct rpc_stream *stream)
{
        stream_end(stream, -ETIMEDOUT);
}

void rpc_stream_lose(struct rpc_stream *stream)
{
        stream_end(stream, -EHOSTUNREACH);
}

int64_t rpc_stream_heard_ns(const struct rpc_stream *stream)
{
        return atomic_load(&stream->heard_ns);
}

void rpc_stream_free(struct rpc_stream *stream)
{
        struct rpc_status status;

        if (!stream)
                return;
        rpc_stream_cancel(stream);
        rpc_stream_finish(stream, &status);
        rpc_message_clear(&stream->message);
        grpc_call_unref(stream->call);
        grpc_metadata_array_destroy(&stream->initial);
        grpc_metadata_array_destroy(&stream->trailing);
        grpc_slice_unref(stream->details);
        grpc_completion_queue_shutdown(stream->cq);
        grpc_completion_queue_destroy(stream->cq);
        free(stream);
}

/* ---- one request, one reply ---- */

/* Takes the single reply; a missing or second one leaves *RET NULL or gives -EBADMSG. */
static int receive_reply(struct rpc_stream *stream, uint8_t **ret, size_t *ret_len)
{
        const uint8_t *data;
        size_t len;
        int r = rpc_stream_receive(stream, &data, &len);

        if (r != RPC_MESSAGE)
                return 0;
        *ret = malloc(len ?: 1);
        if (!*ret)
                return -ENOMEM;
        memcpy(*ret, data, len);
        *ret_len = len;
        return rpc_stream_receive(stream, &data, &len) == RPC_MESSAGE ? -EBADMSG : 0;
}

static void cleanup_stream(struct rpc_stream **stream)
{
        rpc_stream_free(*stream);
}

int rpc_unary(struct rpc_channel *channel, const char *method, const struct rpc_stream_options *options,
              const void *request, size_t request_len, struct rpc_status *ret_status, uint8_t **ret_reply,
              size_t *ret_reply_len)
{
        static const char not_unary[] = "the peer did not send exactly one reply";
        _cleanup_(cleanup_stream) struct rpc_stream *stream = NULL;
        _cleanup_free_ uint8_t *reply = NULL;
        size_t reply_len = 0;
        int r = rpc_stream_open(channel, method, options, &stream);

        if (r < 0)
                return r;
        /* Should a send fail, the status says why. */
        if (rpc_stream_send(stream, request, request_len) == 0)
                rpc_stream_close_send(stream);
        r = receive_reply(stream, &reply, &reply_len);
        if (r == -ENOMEM)
                return r;
        rpc_stream_finish(stream, ret_status);
        if (r == -EBADMSG || (ret_status->code == RPC_OK && !reply))
                rpc_status_set(ret_status, RPC_INTERNAL, not_unary, sizeof(not_unary) - 1);
        if (ret_status->code == RPC_OK) {
                *ret_reply = TAKE_PTR(reply);
                *ret_reply_len = reply_len;
        }
        return 0;
}
