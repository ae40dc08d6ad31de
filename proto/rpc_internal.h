/*
 * What the files of the rpc runtime share, and nobody else sees: gRPC core's types may appear here.
 */
#pragma once

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/support/time.h>

#include "base/util.h"
#include "proto/rpc.h"
#include "proto/rpc_peer.h"

/* ---- rpc_status.c ---- */

/** Fills RET; TEXT is LEN hostile bytes. A code outside the table becomes UNKNOWN. */
void rpc_status_set(struct rpc_status *ret, int code, const void *text, size_t len);

/** A received message; all zero is an empty one. BUFFER is filled by GRPC_OP_RECV_MESSAGE and owned from then on. */
struct rpc_message {
        grpc_byte_buffer *buffer;
        grpc_slice whole; /* the parts joined, if there was more than one */
        bool joined;
};

/** The message's bytes in one piece, borrowed until rpc_message_clear; copied only if they came in several. Never NULL. */
const uint8_t *rpc_message_open(struct rpc_message *message, size_t *ret_len);

void rpc_message_clear(struct rpc_message *message);

/**
 * Inflates LEN bytes of gzip to at most LIMIT: RET_DATA is malloc'ed and the caller's. -EBADMSG: they are none; -EFBIG; -ENOMEM. In rpc_gzip.c, so
 * that gRPC need not: it would inflate without a limit.
 */
int rpc_gunzip(const uint8_t *data, size_t len, size_t limit, uint8_t **ret_data, size_t *ret_len);

#define RPC_REQUEST_MAX (1 << 20) /* bytes of one message to a server, compressed or not */

/** Posts a batch. It can only be refused for a mistake of ours. */
void rpc_batch(grpc_call *call, const grpc_op *ops, size_t n_ops, void *tag);

/** gRPC's form of "in TIMEOUT_NS from now"; INT64_MAX is never, the past is now. */
gpr_timespec rpc_deadline(int64_t timeout_ns);

static inline grpc_arg rpc_arg_int(const char *key, int value)
{
        return (grpc_arg){ .type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value };
}

static inline grpc_arg rpc_arg_quota(grpc_resource_quota *quota)
{
        return (grpc_arg){ .type = GRPC_ARG_POINTER,
                           .key = (char *)GRPC_ARG_RESOURCE_QUOTA,
                           .value.pointer = { .p = quota, .vtable = grpc_resource_quota_arg_vtable() } };
}

/* ---- rpc_address.c ---- */

struct rpc_address {
        bool is_unix;
        char path[108]; /* is_unix: fits sockaddr_un */
        char host[256];
        char port[6];
};

/** Reads "host:port", "[v6]:port" or "unix:PATH"; -EINVAL, or -ENAMETOOLONG for a unix path. */
int rpc_address_parse(const char *text, struct rpc_address *ret);

/** Waits for EVENTS of poll(2) on FD until DEADLINE_NS: 0, -ETIMEDOUT or an errno. */
int rpc_address_poll(int fd, short events, int64_t deadline_ns);

/**
 * A connected, non-blocking socket to the first of ADDRESS's that takes one until DEADLINE_NS; or the errno of the first, as those to which there is a way come
 * before the others. -EADDRNOTAVAIL, and WHY is set: its host's name is not known.
 */
int rpc_address_connect(const struct rpc_address *address, int64_t deadline_ns, struct failure *why);

/** 0 if nobody listens on the TCP address; -EADDRINUSE, -EADDRNOTAVAIL (also an unknown host), -EACCES and so on. */
int rpc_address_check_free(const struct rpc_address *address);

/**
 * Takes the lock file that guards a unix path. Returns its descriptor, to be held while listening; -EADDRINUSE if a live
 * server has the lock or answers on the socket; -EEXIST if something that is no socket is in the way.
 */
int rpc_address_lock_unix(const struct rpc_address *address);

/* ---- rpc_diagnose.c ---- */

/**
 * Why a connection cannot be had: connects by itself, says hello in HTTP/2, within TLS if TLS is not NULL, and waits for the answer until
 * DEADLINE_NS. 0: somebody there does speak it; -EPROTO: something else answers; -ETIMEDOUT: nothing does; otherwise, and what WHY gets, as
 * rpc_channel_wait_ready.
 */
int rpc_diagnose(const char *target, struct rpc_tls *tls, int64_t deadline_ns, struct failure *why);

/* ---- rpc_call.c, used by rpc_server.c and the other way round ---- */

/** What a tag on a server's completion queue points to. DONE runs on the queue's thread. */
struct rpc_event {
        void (*done)(struct rpc_event *event, bool ok);
};

/** What is to become of a call that has come in. */
struct rpc_admission {
        const struct rpc_method *method; /* NULL: there is none of that name */
        struct rpc_peer *peer; /* a reference, and counted in its calls; the call's from rpc_call_begin on */
        enum rpc_code verdict; /* RPC_OK: METHOD's callbacks run; otherwise this is the answer */
        const char *why;       /* beside the verdict, static; NULL: what there is to say of it in general */
        void *pass;            /* of the guard, if it let the call in; the call's from rpc_call_begin on */
        bool wants_gzip;       /* the metadata say so */
};

/** Runs a call that has come in. Takes CALL over. -ENOMEM leaves it to the caller. rpc_server_call_ended follows, once, on success. */
int rpc_call_begin(struct rpc_server *server, const struct rpc_admission *admission, grpc_call *call);

/** The guard's opinion of a message that has come (DATA not NULL) or is about to go; RPC_OK without a guard. */
enum rpc_code rpc_server_allow(const struct rpc_server *server, void *pass, const char *peer,
                               const uint8_t *data, size_t len);
void rpc_server_release_pass(const struct rpc_server *server, void *pass);

void *rpc_server_service(const struct rpc_server *server);

/** Between these two gRPC holds a frame's body; the server does not stop while there is one. */
void rpc_server_body_taken(struct rpc_server *server);
void rpc_server_body_released(struct rpc_server *server);

/** The last a call does with its server. METHOD may be NULL. */
void rpc_server_call_ended(struct rpc_server *server, const struct rpc_method *method, enum rpc_code code,
                           int64_t duration_ns);
