/*
 * gRPC as the rest of fsyncfs sees it: channels and blocking streams for the worker, an event loop of calls for the
 * master. The only room that includes <grpc/...>; nothing of gRPC core's shows through this header.
 *
 * Life cycle: rpc_init() in a process that will not fork any more (gRPC core does not survive a fork), then channels or a
 * server, then rpc_shutdown().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "proto/rpc_tls.h"
#include "proto/rpc_limits.h"

#define RPC_DEFAULT_PORT 9666

/** Starts and ends gRPC core; counted, so that calls may nest. Call after the last fork. */
void rpc_init(void);
void rpc_shutdown(void);

/** gRPC's status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), the numbers of the wire. */
enum rpc_code {
        RPC_OK = 0,
        RPC_CANCELLED = 1,
        RPC_UNKNOWN = 2,
        RPC_INVALID_ARGUMENT = 3,
        RPC_DEADLINE_EXCEEDED = 4,
        RPC_NOT_FOUND = 5,
        RPC_ALREADY_EXISTS = 6,
        RPC_PERMISSION_DENIED = 7,
        RPC_RESOURCE_EXHAUSTED = 8,
        RPC_FAILED_PRECONDITION = 9,
        RPC_ABORTED = 10,
        RPC_OUT_OF_RANGE = 11,
        RPC_UNIMPLEMENTED = 12,
        RPC_INTERNAL = 13,
        RPC_UNAVAILABLE = 14,
        RPC_DATA_LOSS = 15,
        RPC_UNAUTHENTICATED = 16,
};

struct rpc_status {
        enum rpc_code code;
        char message[256]; /* for people; cut if longer, control characters replaced */
};

/** "NOT_FOUND" and so on; "UNKNOWN" for a number outside the table. */
const char *rpc_code_name(enum rpc_code code);

/**
 * The errno for a status: OK 0, CANCELLED -ECANCELED, INVALID_ARGUMENT -EINVAL, DEADLINE_EXCEEDED -ETIMEDOUT,
 * NOT_FOUND -ENOENT, ALREADY_EXISTS -EEXIST, PERMISSION_DENIED and UNAUTHENTICATED -EACCES, RESOURCE_EXHAUSTED -EBUSY,
 * FAILED_PRECONDITION -ESTALE (a content that no longer matches), ABORTED -EAGAIN, OUT_OF_RANGE -ERANGE,
 * UNIMPLEMENTED -EOPNOTSUPP, UNAVAILABLE -EHOSTUNREACH, DATA_LOSS -EBADMSG, the rest -EIO.
 */
int rpc_status_errno(const struct rpc_status *status);

/* ---- the worker's side: blocking, one thread per stream at a time unless said otherwise ---- */

struct rpc_channel;
struct rpc_stream;

struct rpc_channel_options {
        const char *token;        /* sent as metadata "authorization"; borrowed during the call; NULL: none */
        size_t receive_max_bytes; /* the largest message accepted; 0: 4 MiB */
        struct rpc_tls *
                tls; /* borrowed for the channel's life; NULL: none. A unix socket goes without in any case */
};

/**
 * A channel to TARGET ("host:port", "[v6]:port" or "unix:/path"), with a thread of its own. Connects lazily, reconnects by itself. -ENOMEM, -EAGAIN; -EINVAL for a
 * target of another form or a token that HTTP cannot carry; -ENAMETOOLONG for a unix path that no socket can have.
 */
int rpc_channel_new(const char *target, const struct rpc_channel_options *options, struct rpc_channel **ret);

/** NULL is fine. All streams of the channel must have been freed. */
void rpc_channel_free(struct rpc_channel *channel);

/**
 * Waits until the channel is connected. 0; -ETIMEDOUT after TIMEOUT_MS (also if somebody accepts and stays silent); or, as soon
 * as the first attempt failed: -ECONNREFUSED (nobody listens there), -EPROTO (something answers that is not gRPC, or hangs up),
 * -EHOSTUNREACH (also a host whose name is not known, or no network), -EKEYREJECTED (a certificate is not accepted, theirs or ours), or what else
 * connect(2) says. If it is TLS or the name that stands in the way, WHY gets what they do, without their name ("shows a certificate that …"). Retrying goes on in
 * the background, a later call can succeed. A name server that does not answer may take longer than TIMEOUT_MS. Thread-safe.
 */
int rpc_channel_wait_ready(struct rpc_channel *channel, int timeout_ms, struct failure *why);

/** Has CHANNEL connect now rather than when it is first used. Does not wait. Thread-safe. */
void rpc_channel_connect(struct rpc_channel *channel);

/**
 * Gives up CHANNEL's connection, which is up and yet of no use: what is opened from now on goes over a new one, what is under way stays. True if so; not if
 * STREAM (NULL: any) went over an earlier one, within a second of the last time, or without a connection. Does not wait. Thread-safe.
 */
bool rpc_channel_renew(struct rpc_channel *channel, const struct rpc_stream *stream);

struct rpc_stream_options {
        int idle_timeout_ms; /* no message for so long: the call is cancelled, -ETIMEDOUT; 0: forever */
        int send_timeout_ms; /* the same while one is sent that the transport does not take; 0: idle_timeout_ms */
        bool wait_for_ready; /* wait (within idle_timeout_ms) for a connection instead of failing at once */
};

/**
 * Opens a call of METHOD ("/package.Service/Method") and sends nothing yet. Does not wait for the peer.
 * -ENOMEM. Free with rpc_stream_free.
 */
int rpc_stream_open(struct rpc_channel *channel, const char *method, const struct rpc_stream_options *options,
                    struct rpc_stream **ret);

/**
 * Sends one message (copied); waits until the transport has taken it. -EPIPE: the call has ended, also by idling, see
 * rpc_stream_finish. One thread may send while another receives.
 */
int rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len);

/** Says that no more messages follow. Errors as rpc_stream_send. */
int rpc_stream_close_send(struct rpc_stream *stream);

enum rpc_receive {
        RPC_END = 0, /* no more messages: rpc_stream_finish tells why */
        RPC_MESSAGE = 1,
};

/**
 * Waits for the next message: RPC_MESSAGE with RET_DATA (contiguous, borrowed until the next call on this stream), RPC_END,
 * -ETIMEDOUT (idle; the call is cancelled), -ECANCELED (rpc_stream_cancel) or -EHOSTUNREACH (rpc_stream_lose).
 */
int rpc_stream_receive(struct rpc_stream *stream, const uint8_t **ret_data, size_t *ret_len);

/** A received message apart from its stream. */
struct rpc_message;

/** Takes over the message that was received last: its bytes stay where they are until rpc_message_free. Once a message. NULL: out of memory. */
struct rpc_message *rpc_stream_keep(struct rpc_stream *stream);

/** From any thread; the stream may be gone. NULL is fine. */
void rpc_message_free(struct rpc_message *message);

/**
 * Waits for the status, once no other thread uses the stream. Cancels first if neither receive has come to its end nor a send has
 * failed. An idle time-out reads as DEADLINE_EXCEEDED; CANCELLED is only what rpc_stream_cancel did: a server that shuts down reads
 * as UNAVAILABLE. Again: the same.
 */
void rpc_stream_finish(struct rpc_stream *stream, struct rpc_status *ret_status);

/** Ends the call as soon as possible: a blocked send or receive returns. Thread-safe; any number of times. */
void rpc_stream_cancel(struct rpc_stream *stream);

/** As rpc_stream_cancel, but reads as an idle time-out: for who knows better than the stream when silence is too long. */
void rpc_stream_expire(struct rpc_stream *stream);

/** As rpc_stream_cancel, but reads as UNAVAILABLE, and -EHOSTUNREACH in rpc_stream_receive: for who knows that the peer is gone. */
void rpc_stream_lose(struct rpc_stream *stream);

/** When the last message came, on the monotonic clock; before that, when the stream was opened. Thread-safe. */
int64_t rpc_stream_heard_ns(const struct rpc_stream *stream);

/** Cancels if need be, waits for gRPC to let go of everything, frees. NULL is fine. */
void rpc_stream_free(struct rpc_stream *stream);

/**
 * One request, one reply: RET_REPLY is malloc'ed and the caller's if the status is OK. Returns 0 if the exchange took place
 * (look at RET_STATUS), -ENOMEM otherwise.
 */
int rpc_unary(struct rpc_channel *channel, const char *method, const struct rpc_stream_options *options,
              const void *request, size_t request_len, struct rpc_status *ret_status, uint8_t **ret_reply,
              size_t *ret_reply_len);

/* ---- the master's side: calls as state machines on a few event threads ---- */

struct rpc_server;
struct rpc_call;
struct rpc_peer;

/**
 * What a method does. All callbacks of one call run on one and the same event thread, one at a time; they must not block for
 * long. A callback may call any rpc_call_* function. `closed` is the last, comes exactly once after a successful `start`, and
 * frees the state.
 */
struct rpc_call_ops {
        bool open; /* the guard is not asked: whoever reaches the server may call it */
        /* Mandatory. A call has come in (and was let in). Makes the call's state, and usually asks for the first message
         * with rpc_call_receive. Negative errno: the call fails with INTERNAL, no further callback. */
        int (*start)(struct rpc_call *call, void *service, void **ret_state);
        /* Mandatory. A whole request message, borrowed for the callback, after rpc_call_receive. */
        void (*message)(struct rpc_call *call, void *state, const uint8_t *data, size_t len);
        /* Optional. The peer has ended its side properly and sends no more, after rpc_call_receive. */
        void (*half_close)(struct rpc_call *call, void *state);
        /* Mandatory for methods that send more than one message: what rpc_call_send took is on its way; send the next. */
        void (*writable)(struct rpc_call *call, void *state);
        /* Optional. Somebody called rpc_call_wake. */
        void (*wake)(struct rpc_call *call, void *state);
        /* Mandatory. Over: finished, cancelled or the peer is gone. Free the state. No rpc_call_* afterwards but rpc_call_wake and
         * rpc_call_unref by those who hold a reference. Between rpc_call_finish and this there is no other callback. */
        void (*closed)(struct rpc_call *call, void *state);
};

struct rpc_method {
        const char *name; /* "/grpc.SyncService/StreamFileScan" */
        const struct rpc_call_ops *ops;
};

struct rpc_guard_ops; /* proto/rpc_guard.h */

struct rpc_server_options {
        const struct rpc_method
                *methods; /* borrowed for the server's life; any other name is answered UNIMPLEMENTED */
        size_t n_methods;
        void *service;    /* handed to start and observe */
        unsigned threads; /* event threads; 0: 4 */
        struct rpc_limits limits;
        struct rpc_tls *
                tls; /* borrowed for the server's life, with a certificate; NULL: none. A unix socket goes without in any case */
        const struct rpc_guard_ops *guard; /* NULL: everybody may do everything */
        void *guard_context;
        /* Optional. After a call's end, for metrics. METHOD is the known name or "other". Any thread. */
        void (*observe)(void *service, const char *method, enum rpc_code code, int64_t duration_ns);
};

/** A server that listens nowhere yet. -ENOMEM. */
int rpc_server_new(const struct rpc_server_options *options, struct rpc_server **ret);

/**
 * Listens on ADDRESS: "host:port", "[v6]:port" (port 0: any free one) or "unix:/path". Before rpc_server_start, any number of
 * times. RET_PORT (may be NULL) gets the port. -EADDRINUSE: somebody listens there (a second server of ours included: ports
 * are not shared, and a unix path is guarded by a lock file beside it, a stale socket is replaced); -EEXIST: something else than a
 * socket is at the unix path; -EADDRNOTAVAIL: not an address of this machine, or an unknown name; -EINVAL; -EACCES and so on; -EIO
 * if gRPC fails for a reason of its own.
 */
int rpc_server_listen(struct rpc_server *server, const char *address, int *ret_port);

/** Starts the event threads. */
int rpc_server_start(struct rpc_server *server);

/**
 * Takes no new calls, lets those under way go on for up to GRACE_MS, cancels the rest, ends the threads. When it returns, every
 * call is closed and every body released. Only the first time does anything; not from a callback. A peer that has not yet read
 * the end of its answer may lose it with the connection, and sees UNAVAILABLE.
 */
void rpc_server_stop(struct rpc_server *server, int grace_ms);

/** Stops if need be (no grace) and frees. NULL is fine. */
void rpc_server_free(struct rpc_server *server);

/** Calls under way now. Thread-safe. */
unsigned rpc_server_calls(const struct rpc_server *server);

/**
 * For how long the event thread that is worst off has not come back for its next event: about a second at most while all is well, as they turn also
 * when there is nothing to do. Thread-safe, after rpc_server_start.
 */
int64_t rpc_server_stall_ns(const struct rpc_server *server);

/** Asks for the next request message (or half-close); one at a time. */
void rpc_call_receive(struct rpc_call *call);

/** One outgoing message: HEAD is copied (at most 64 bytes are cheap), BODY goes out uncopied and is released afterwards. */
struct rpc_frame {
        const void *head;
        size_t head_len;
        const void *body; /* NULL: no body */
        size_t body_len;
        void (*release)(
                void *arg); /* mandatory with a body: called once, from any thread, when gRPC needs the body no more */
        void *release_arg;
};

/**
 * Sends one message; `writable` follows when it is taken. At most one at a time: not again before `writable`. On a call that is
 * over the body is released at once and nothing follows but `closed`.
 */
void rpc_call_send(struct rpc_call *call, const struct rpc_frame *frame);

/** Ends the call with a status (MESSAGE NULL: none), after what was sent. Once; `closed` follows. */
void rpc_call_finish(struct rpc_call *call, enum rpc_code code, const char *message);

/** Has `wake` called on the call's own thread, soon. Thread-safe; several may fold into one; needs a reference. */
void rpc_call_wake(struct rpc_call *call);

/** Keeps the memory of a call valid beyond `closed` for whoever may still wake it (a wake after the end is nothing). Thread-safe. */
struct rpc_call *rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);

/**
 * True if the peer wants gRPC's gzip: a request of its came compressed with it, or it sent the metadata "fsyncfs-compress: gzip". Valid from the
 * first `message` on.
 */
bool rpc_call_wants_gzip(const struct rpc_call *call);

/** Has everything that is sent from now on compressed with gRPC's gzip. Before the first send; later it does nothing. */
void rpc_call_use_gzip(struct rpc_call *call);

/** The account of the call's peer; borrowed, as long as CALL is referenced. Thread-safe. */
struct rpc_peer *rpc_call_account(const struct rpc_call *call);

/** The peer's address, for the log; borrowed, valid until `closed`. */
const char *rpc_call_peer(const struct rpc_call *call);
