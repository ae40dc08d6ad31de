#include "proto/rpc_internal.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "base/clock.h"
#include "base/lock.h"
#include "proto/rpc_guard.h"
#include "proto/rpc_tls_internal.h"

#define LINGER_MS       200 /* for connections without a call, when stopping */
#define DEFAULT_THREADS 4
#define PEER_CALLS_MAX  4096
#define PEERS_WORTH     4 /* as many addresses may have all that one may have */
#define PEER_BYTES_MAX  ((size_t)256 << 20)
#define MEMORY_BYTES    ((size_t)512 << 20)
#define HANDSHAKE_MS    15000 /* for TLS and the first word of HTTP/2: who connects and is silent is gone then */
#define METADATA_BYTES  8192  /* of one request */
#define UNREAD_BYTES    32768 /* of a request that nobody has asked for yet */
#define STREAMS_MAX     1024  /* calls at a time on one connection; further ones wait at the client */
#define TURN_MS         1000  /* an event thread comes round at least so often */
#define ACCEPTORS       8     /* calls that one queue can take in while its thread is at work */

/* A place where gRPC puts the next call. */
struct acceptor {
        struct rpc_event event;
        struct server_queue *queue;
        grpc_call *call;
        grpc_call_details details;
        grpc_metadata_array metadata;
};

struct server_queue {
        struct rpc_server *server;
        grpc_completion_queue *cq;
        pthread_t thread;
        _Atomic int64_t turned_ns; /* when it last came for an event */
        bool running;              /* owned by whoever starts and stops the server */
        struct acceptor acceptors[ACCEPTORS];
};

struct rpc_server {
        struct rpc_server_options options;
        grpc_server *server;
        grpc_completion_queue *stop_cq;
        struct server_queue *queues; /* options.threads of them */
        int *locks;                  /* descriptors of the unix paths' lock files */
        size_t n_locks;
        bool stopped;
        struct rpc_peers *peers; /* owned */

        struct mutex mutex;
        struct condition idle;            /* neither calls nor bodies are left */
        bool closing TSA_GUARDED(&mutex); /* the queues are about to shut down: nothing may be posted */
        unsigned bodies TSA_GUARDED(&mutex);
        _Atomic unsigned calls; /* changed under mutex, read anywhere */
};

/* ---- calls coming in ---- */

static void acceptor_arm(struct acceptor *acceptor)
{
        struct server_queue *queue = acceptor->queue;

        grpc_call_details_init(&acceptor->details);
        acceptor->metadata.count = 0;
        /* Refused only while the server stops, and then there is nothing to accept. */
        grpc_server_request_call(queue->server->server, &acceptor->call, &acceptor->details,
                                 &acceptor->metadata, queue->cq, queue->cq, &acceptor->event);
}

static const struct rpc_method *find_method(const struct rpc_server *server, grpc_slice name)
{
        for (size_t i = 0; i < server->options.n_methods; i++)
                if (grpc_slice_str_cmp(name, server->options.methods[i].name) == 0)
                        return &server->options.methods[i];
        return NULL;
}

/* The authorization as a string for free(3), or NULL if there is none. */
static int copy_authorization(const grpc_metadata_array *metadata, char **ret)
{
        for (size_t i = 0; i < metadata->count; i++) {
                const grpc_metadata *m = &metadata->metadata[i];

                if (grpc_slice_str_cmp(m->key, "authorization") != 0)
                        continue;
                *ret = strndup((const char *)GRPC_SLICE_START_PTR(m->value), GRPC_SLICE_LENGTH(m->value));
                return *ret ? 0 : -ENOMEM;
        }
        *ret = NULL;
        return 0;
}

/* gRPC does not say how a request's message would have been compressed had it been worth it: whoever wants to be sure says it so. */
static bool wants_gzip(const grpc_metadata_array *metadata)
{
        for (size_t i = 0; i < metadata->count; i++)
                if (grpc_slice_str_cmp(metadata->metadata[i].key, "fsyncfs-compress") == 0)
                        return grpc_slice_str_cmp(metadata->metadata[i].value, "gzip") == 0;
        return false;
}

/* The common name in the certificate that TLS verified, for free(3); NULL: there is none. */
static char *copy_certificate_name(grpc_call *call)
{
        grpc_auth_context *context = grpc_call_auth_context(call);
        grpc_auth_property_iterator found;
        const grpc_auth_property *name = NULL;
        char *copy = NULL;

        if (context && grpc_auth_context_peer_is_authenticated(context)) {
                found = grpc_auth_context_find_properties_by_name(context, GRPC_X509_CN_PROPERTY_NAME);
                name = grpc_auth_property_iterator_next(&found);
        }
        /* A name with a NUL in it is meant to be taken for another. */
        if (name && !memchr(name->value, '\0', name->value_length))
                copy = strndup(name->value, name->value_length);
        grpc_auth_context_release(context);
        return copy;
}

static enum rpc_code ask_guard(const struct rpc_server *server, const struct acceptor *acceptor,
                               const char *method, void **ret_pass)
{
        const struct rpc_guard_ops *guard = server->options.guard;
        _cleanup_free_ char *authorization = NULL, *certificate = NULL;
        struct rpc_caller caller = { 0 };
        char *peer;
        enum rpc_code code;

        if (!guard)
                return RPC_OK;
        if (copy_authorization(&acceptor->metadata, &authorization) < 0)
                return RPC_RESOURCE_EXHAUSTED;
        certificate = copy_certificate_name(acceptor->call);
        peer = grpc_call_get_peer(acceptor->call);
        caller.authorization = authorization;
        caller.certificate = certificate;
        caller.peer = peer;
        code = guard->admit(server->options.guard_context, method, &caller, ret_pass);
        gpr_free(peer);
        return code;
}

/* Before anybody looks at what it wants: a flood is to cost as little as can be. */
static bool is_too_much(const struct rpc_server *server, const struct rpc_peer *peer)
{
        const struct rpc_limits *limits = &server->options.limits;

        return atomic_load(&server->calls) > limits->calls ||
               atomic_load(&peer->calls) > limits->peer_calls ||
               atomic_load(&peer->bytes) > limits->peer_bytes;
}

static struct rpc_peer *find_peer(const struct rpc_server *server, grpc_call *call)
{
        char *address = grpc_call_get_peer(call);
        struct rpc_peer *peer = rpc_peer_get(server->peers, address);

        gpr_free(address);
        if (peer)
                atomic_fetch_add(&peer->calls, 1);
        return peer;
}

static void judge(const struct rpc_server *server, const struct acceptor *acceptor, struct rpc_admission *ret)
{
        const struct rpc_method *method = find_method(server, acceptor->details.method);

        *ret = (struct rpc_admission){ .method = method, .wants_gzip = wants_gzip(&acceptor->metadata) };
        ret->peer = find_peer(server, acceptor->call);
        if (!ret->peer || is_too_much(server, ret->peer)) {
                ret->verdict = RPC_RESOURCE_EXHAUSTED;
                ret->why = "too many calls are under way, in all or from this address";
                return;
        }
        if (!method || !method->ops->open)
                ret->verdict = ask_guard(server, acceptor, method ? method->name : "other", &ret->pass);
        if (ret->verdict == RPC_OK && !method)
                ret->verdict = RPC_UNIMPLEMENTED;
}

enum rpc_code rpc_server_allow(const struct rpc_server *server, void *pass, const char *peer,
                               const uint8_t *data, size_t len)
{
        const struct rpc_guard_ops *guard = server->options.guard;

        return guard ? guard->allow(server->options.guard_context, pass, peer, data, len) : RPC_OK;
}

void rpc_server_release_pass(const struct rpc_server *server, void *pass)
{
        if (pass)
                server->options.guard->release(pass);
}

/* Counts a call in, unless the queues are closing. */
static bool server_admit(struct rpc_server *server)
{
        mutex_lock(&server->mutex);
        bool admitted = !server->closing;
        if (admitted)
                server->calls++;
        mutex_unlock(&server->mutex);
        return admitted;
}

static void server_discharge(struct rpc_server *server)
{
        mutex_lock(&server->mutex);
        if (--server->calls == 0)
                condition_broadcast(&server->idle);
        mutex_unlock(&server->mutex);
}

static void drop_call(grpc_call *call)
{
        grpc_call_cancel_with_status(call, GRPC_STATUS_UNAVAILABLE, "the server cannot take the call", NULL);
        grpc_call_unref(call);
}

static void accept_done(struct rpc_event *event, bool ok)
{
        struct acceptor *acceptor = (struct acceptor *)event;
        struct rpc_server *server = acceptor->queue->server;
        struct rpc_admission admission;

        if (!ok)
                return; /* the server stops */
        if (!server_admit(server)) {
                drop_call(acceptor->call);
        } else {
                judge(server, acceptor, &admission);
                if (rpc_call_begin(server, &admission, acceptor->call) < 0) {
                        rpc_server_release_pass(server, admission.pass);
                        if (admission.peer)
                                atomic_fetch_sub(&admission.peer->calls, 1);
                        rpc_peer_unref(admission.peer);
                        drop_call(acceptor->call);
                        server_discharge(server);
                }
        }
        grpc_call_details_destroy(&acceptor->details);
        acceptor_arm(acceptor);
}

void *rpc_server_service(const struct rpc_server *server)
{
        return server->options.service;
}

void rpc_server_call_ended(struct rpc_server *server, const struct rpc_method *method, enum rpc_code code,
                           int64_t duration_ns)
{
        if (server->options.observe)
                server->options.observe(server->options.service, method ? method->name : "other", code,
                                        duration_ns);
        server_discharge(server);
}

void rpc_server_body_taken(struct rpc_server *server)
{
        mutex_lock(&server->mutex);
        server->bodies++;
        mutex_unlock(&server->mutex);
}

void rpc_server_body_released(struct rpc_server *server)
{
        mutex_lock(&server->mutex);
        if (--server->bodies == 0)
                condition_broadcast(&server->idle);
        mutex_unlock(&server->mutex);
}

int64_t rpc_server_stall_ns(const struct rpc_server *server)
{
        int64_t now = clock_monotonic_ns(), worst = 0;

        for (unsigned i = 0; i < server->options.threads; i++)
                worst = MAX(worst, now - atomic_load(&server->queues[i].turned_ns));
        return worst;
}

unsigned rpc_server_calls(const struct rpc_server *server)
{
        return atomic_load(&server->calls);
}

/* ---- the event threads ---- */

/* Serves a queue until it has been shut down and is empty. */
static void queue_run(struct server_queue *queue)
{
        for (;;) {
                grpc_event event;

                atomic_store_explicit(&queue->turned_ns, clock_monotonic_ns(), memory_order_relaxed);
                event = grpc_completion_queue_next(queue->cq, rpc_deadline(TURN_MS * NSEC_PER_MSEC), NULL);
                if (event.type == GRPC_QUEUE_SHUTDOWN)
                        return;
                if (event.type == GRPC_OP_COMPLETE)
                        ((struct rpc_event *)event.tag)->done(event.tag, event.success);
        }
}

static void *queue_thread(void *arg)
{
        struct server_queue *queue = arg;
        char name[16];

        snprintf(name, sizeof(name), "rpc-%u", (unsigned)(queue - queue->server->queues) % 1000);
        thread_name(name);
        queue_run(queue);
        return NULL;
}

static void queue_init(struct server_queue *queue, struct rpc_server *server)
{
        queue->server = server;
        queue->cq = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->server, queue->cq, NULL);
        for (size_t i = 0; i < ACCEPTORS; i++) {
                queue->acceptors[i].event.done = accept_done;
                queue->acceptors[i].queue = queue;
                grpc_metadata_array_init(&queue->acceptors[i].metadata);
        }
}

static void queue_release(struct server_queue *queue)
{
        for (size_t i = 0; i < ACCEPTORS; i++)
                grpc_metadata_array_destroy(&queue->acceptors[i].metadata);
        grpc_completion_queue_destroy(queue->cq);
}

/* ---- the server's life ---- */

static grpc_server *create_server(size_t memory_bytes)
{
        grpc_resource_quota *quota = grpc_resource_quota_create("rpc-server");
        grpc_server *server;
        grpc_arg list[] = {
                rpc_arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0), /* a second server must fail, not share the port */
                rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_REQUEST_MAX),
                rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
                rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES),
                rpc_arg_int(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
                /* Workers may ping as often as they like to know whether we are there, and we find those that are gone. */
                rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, 10000),
                rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000),
                rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
                rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
                rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500),
                /* Requests are small: a fixed window bounds what a peer can make us hold of a stream that is not being read. */
                rpc_arg_int(GRPC_ARG_HTTP2_BDP_PROBE, 0),
                rpc_arg_int(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, UNREAD_BYTES),
                rpc_arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION,
                            0), /* a small message must not become a huge one: rpc_gunzip has a limit */
                rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                            1 << GRPC_COMPRESS_NONE | 1 << GRPC_COMPRESS_GZIP),
                rpc_arg_quota(quota),
        };
        grpc_channel_args args = { .num_args = ARRAY_SIZE(list), .args = list };

        grpc_resource_quota_resize(quota, memory_bytes);
        server = grpc_server_create(&args, NULL);
        grpc_resource_quota_unref(quota);
        return server;
}

static void set_default_limits(struct rpc_limits *limits)
{
        limits->peer_calls = limits->peer_calls ?: PEER_CALLS_MAX;
        limits->calls = limits->calls ?: PEERS_WORTH * limits->peer_calls;
        limits->peer_bytes = limits->peer_bytes ?: PEER_BYTES_MAX;
        limits->memory_bytes = limits->memory_bytes ?: MEMORY_BYTES;
}

int rpc_server_new(const struct rpc_server_options *options, struct rpc_server **ret)
{
        _cleanup_free_ struct rpc_server *server = calloc(1, sizeof(*server));

        if (!server)
                return -ENOMEM;
        server->options = *options;
        set_default_limits(&server->options.limits);
        if (server->options.threads == 0)
                server->options.threads = DEFAULT_THREADS;
        server->queues = calloc(server->options.threads, sizeof(*server->queues));
        server->peers = rpc_peers_new(server->options.limits.shares);
        if (!server->queues || !server->peers) {
                free(server->queues);
                rpc_peers_free(server->peers);
                return -ENOMEM;
        }
        mutex_init(&server->mutex);
        condition_init(&server->idle);
        server->server = create_server(server->options.limits.memory_bytes);
        for (unsigned i = 0; i < server->options.threads; i++)
                queue_init(&server->queues[i], server);
        server->stop_cq = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->server, server->stop_cq, NULL);
        *ret = TAKE_PTR(server);
        return 0;
}

static int add_port(struct rpc_server *server, const char *address, struct rpc_tls *tls)
{
        grpc_server_credentials *credentials =
                tls ? rpc_tls_server_credentials(tls) : grpc_insecure_server_credentials_create();
        int port = credentials ? grpc_server_add_http2_port(server->server, address, credentials) : 0;

        grpc_server_credentials_release(credentials);
        return port;
}

static int listen_unix(struct rpc_server *server, const char *text, const struct rpc_address *address)
{
        int *locks = reallocarray(server->locks, server->n_locks + 1, sizeof(*locks));
        _cleanup_close_ int lock = -1;

        if (!locks)
                return -ENOMEM;
        server->locks = locks;
        lock = rpc_address_lock_unix(address);
        if (lock < 0)
                return lock;
        if (add_port(server, text, NULL) == 0)
                return access(address->path, F_OK) < 0 ? -errno : -EIO;
        server->locks[server->n_locks++] = take_fd(&lock);
        return 0;
}

static int listen_tcp(struct rpc_server *server, const char *text, const struct rpc_address *address)
{
        int port, r = rpc_address_check_free(address);

        if (r < 0)
                return r;
        port = add_port(server, text, server->options.tls);
        if (port == 0) {
                /* Somebody was faster, or gRPC has a reason that it does not tell. */
                r = rpc_address_check_free(address);
                return r < 0 ? r : -EIO;
        }
        return port;
}

int rpc_server_listen(struct rpc_server *server, const char *address, int *ret_port)
{
        struct rpc_address parsed;
        int r = rpc_address_parse(address, &parsed);

        if (r < 0)
                return r;
        r = parsed.is_unix ? listen_unix(server, address, &parsed) : listen_tcp(server, address, &parsed);
        if (r < 0)
                return r;
        if (ret_port)
                *ret_port = r;
        return 0;
}

int rpc_server_start(struct rpc_server *server)
{
        grpc_server_start(server->server);
        for (unsigned i = 0; i < server->options.threads; i++) {
                struct server_queue *queue = &server->queues[i];
                int r;

                atomic_store(&queue->turned_ns, clock_monotonic_ns());
                r = pthread_create(&queue->thread, NULL, queue_thread, queue);

                if (r != 0)
                        return -r;
                queue->running = true;
                for (size_t j = 0; j < ACCEPTORS; j++)
                        acceptor_arm(&queue->acceptors[j]);
        }
        return 0;
}

static void wait_until_idle(struct rpc_server *server, int64_t deadline_ns)
{
        mutex_lock(&server->mutex);
        while (server->calls > 0 || server->bodies > 0)
                if (condition_wait_until(&server->idle, &server->mutex, deadline_ns) == -ETIMEDOUT)
                        break;
        mutex_unlock(&server->mutex);
}

void rpc_server_stop(struct rpc_server *server, int grace_ms)
{
        gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);
        grpc_event event;

        if (server->stopped)
                return;
        server->stopped = true;
        grpc_server_shutdown_and_notify(server->server, server->stop_cq, server);
        wait_until_idle(server, clock_monotonic_ns() + grace_ms * NSEC_PER_MSEC);
        /* gRPC would go on waiting for idle peers to hang up; they get a moment to read the end of their answers. */
        event = grpc_completion_queue_next(server->stop_cq,
                                           rpc_deadline(MIN(grace_ms, LINGER_MS) * NSEC_PER_MSEC), NULL);
        if (event.type == GRPC_QUEUE_TIMEOUT) {
                grpc_server_cancel_all_calls(server->server);
                grpc_completion_queue_next(server->stop_cq, forever, NULL);
        }
        /* gRPC is done with all connections; the last events of their calls may still be in the queues. */
        wait_until_idle(server, INT64_MAX);
        mutex_lock(&server->mutex);
        server->closing = true;
        mutex_unlock(&server->mutex);
        for (unsigned i = 0; i < server->options.threads; i++)
                grpc_completion_queue_shutdown(server->queues[i].cq);
        for (unsigned i = 0; i < server->options.threads; i++)
                if (server->queues[i].running)
                        pthread_join(server->queues[i].thread, NULL);
                else
                        queue_run(&server->queues[i]);
        grpc_completion_queue_shutdown(server->stop_cq);
        grpc_completion_queue_next(server->stop_cq, forever, NULL);
}

void rpc_server_free(struct rpc_server *server)
{
        if (!server)
                return;
        rpc_server_stop(server, 0);
        grpc_server_destroy(server->server);
        for (unsigned i = 0; i < server->options.threads; i++)
                queue_release(&server->queues[i]);
        grpc_completion_queue_destroy(server->stop_cq);
        for (size_t i = 0; i < server->n_locks; i++)
                close(server->locks[i]);
        condition_release(&server->idle);
        mutex_release(&server->mutex);
        rpc_peers_free(server->peers);
        free(server->locks);
        free(server->queues);
        free(server);
}
