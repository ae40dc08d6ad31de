#include "sync/session.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include <utlist.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"

#define SLICE_MS 1000
#define STOCK_SCAN_FACTOR                                                                                    \
        10 /* a stock master hashes all before its first word, and cannot say that it is at it */
#define WATCH_IDLE_MS     75000 /* the master says every 20 s that it is there */
#define RECEIVE_MAX_BYTES (8u << 20)

/* A stream under way, so that session_interrupt can reach it. */
struct live_stream {
        struct rpc_stream *stream; /* borrowed: belongs to who opened it */
        struct live_stream *prev, *next;
};

/* The two connections to a master: on a slow link a listing of a million entries must not be what a task's read waits for. */
enum lane {
        LANE_TREE,  /* listings, pushes */
        LANE_TASKS, /* what tasks wait for: contents, folders out of turn */
        LANE_COUNT,
};

struct master {
        struct rpc_channel *channels[LANE_COUNT]; /* owned; NULL until the master is tried */
        const char *address;                      /* borrowed from source */
};

struct session {
        const struct source *source; /* borrowed */
        int timeout_ms;
        char *token; /* owned; NULL: none */
        char node[256];
        struct mutex connecting; /* held while connecting: others wait for the outcome rather than connect as
                                    well */
        struct master masters[SOURCE_MASTERS_MAX] TSA_GUARDED(connecting);
        _Atomic(struct master *)
                current; /* one of masters; NULL: never connected. Written under connecting; what it holds then stays. */
        _Atomic enum session_dialect dialect;          /* written under connecting */
        _Atomic bool learns;                           /* as session_learns; written under connecting */
        _Atomic bool online;                           /* the outcome of the last exchange; any thread */
        struct mutex lock;                             /* innermost */
        struct live_stream *streams TSA_GUARDED(lock); /* owned */
        bool interrupted TSA_GUARDED(lock);
};

static int read_token(const char *file, char **ret, struct failure *failure)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        int r = io_read_first_line(file, &text);

        if (r == -EINVAL)
                return failure_set(failure, r,
                                   "token file '%s' is empty: expected the token on its first line", file);
        if (r < 0)
                return failure_set(failure, r, "cannot read token file '%s': %s", file, strerror(-r));
        *ret = strdup(text.data);
        return *ret ? 0 : -ENOMEM;
}

int session_new(const struct session_options *options, struct session **ret, struct failure *failure)
{
        struct session *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        mutex_init(&s->connecting);
        mutex_init(&s->lock);
        s->source = options->source;
        s->timeout_ms = options->timeout_ms;
        if (gethostname(s->node, sizeof(s->node) - 1) < 0)
                strcpy(s->node, "worker");
        if (options->token_file) {
                r = read_token(options->token_file, &s->token, failure);
                if (r < 0) {
                        session_free(s);
                        return r;
                }
        }
        *ret = s;
        return 0;
}

void session_free(struct session *session) TSA_NONE
{
        if (!session)
                return;
        for (size_t i = 0; i < SOURCE_MASTERS_MAX; i++)
                for (int lane = 0; lane < LANE_COUNT; lane++)
                        rpc_channel_free(session->masters[i].channels[lane]);
        mutex_release(&session->connecting);
        mutex_release(&session->lock);
        free(session->token);
        free(session);
}

/* One line for people out of a status. */
static int explain(struct session *s, const char *master, const struct rpc_status *status,
                   struct failure *failure)
{
        int error = rpc_status_errno(status);

        switch (status->code) {
        case RPC_OK:
                return 0;
        case RPC_UNAUTHENTICATED:
                return failure_set(failure, error, "master %s refused our token: %s", master,
                                   s->token ? "it is not the one this master expects; check token_file="
                                            : "it wants one; give it with token_file=FILE");
        case RPC_DEADLINE_EXCEEDED:
                return failure_set(failure, error, "no answer from master %s within %d s", master,
                                   s->timeout_ms / 1000);
        case RPC_UNAVAILABLE:
                return failure_set(failure, error, "lost master %s: %s", master, status->message);
        default:
                return failure_set(failure, error, "master %s: %s", master,
                                   status->message[0] ? status->message : rpc_code_name(status->code));
        }
}

static int explain_unready(const char *master, int error, int timeout_ms, struct failure *failure)
{
        switch (error) {
        case -ECONNREFUSED:
                return failure_set(failure, error,
                                   "cannot connect to master %s: is fsyncfs-server running there, are host "
                                   "and port right?",
                                   master);
        case -ETIMEDOUT:
                return failure_set(
                        failure, error,
                        "no gRPC answer from master %s within %d s: wrong port, or a dead network?", master,
                        timeout_ms / 1000);
        case -EPROTO:
                return failure_set(failure, error, "%s answers, but does not speak gRPC: wrong port?",
                                   master);
        default:
                return failure_set(failure, error, "cannot connect to master %s: %s", master,
                                   strerror(-error));
        }
}

static bool has_capability(const Fsyncfs__V1__HandshakeReply *message, const char *name)
{
        for (size_t i = 0; i < message->n_capabilities; i++)
                if (strcmp(message->capabilities[i], name) == 0)
                        return true;
        return false;
}

static int parse_handshake(struct session *s, const char *master, const uint8_t *reply, size_t len,
                           struct failure *failure)
{
        Fsyncfs__V1__HandshakeReply *message = fsyncfs__v1__handshake_reply__unpack(NULL, len, reply);
        uint32_t protocol = message ? message->protocol : 0;

        atomic_store(&s->learns, message && has_capability(message, "learned"));
        if (message)
                fsyncfs__v1__handshake_reply__free_unpacked(message, NULL);
        if (protocol != WIRE_PROTOCOL)
                return failure_set(failure, -EPROTO,
                                   "master %s speaks protocol %u, this worker speaks %d: update one of them",
                                   master, protocol, WIRE_PROTOCOL);
        return SESSION_OWN;
}

/* What the master speaks: enum session_dialect or negative errno. */
static int handshake(struct session *s, struct rpc_channel *channel, const char *master,
                     struct failure *failure)
{
        Fsyncfs__V1__HandshakeRequest request = FSYNCFS__V1__HANDSHAKE_REQUEST__INIT;
        struct rpc_stream_options options = { .idle_timeout_ms = s->timeout_ms };
        struct rpc_status status;
        _cleanup_free_ uint8_t *packed = NULL, *reply = NULL;
        size_t len, reply_len = 0;
        int r;

        request.protocol = WIRE_PROTOCOL;
        request.node_key = s->node;
        request.node_name = s->node;
        len = fsyncfs__v1__handshake_request__get_packed_size(&request);
        packed = malloc(len);
        if (!packed)
                return -ENOMEM;
        fsyncfs__v1__handshake_request__pack(&request, packed);
        r = rpc_unary(channel, WIRE_METHOD_HANDSHAKE, &options, packed, len, &status, &reply, &reply_len);
        if (r < 0)
                return r;
        if (status.code == RPC_UNIMPLEMENTED)
                return SESSION_STOCK;
        if (status.code != RPC_OK)
                return explain(s, master, &status, failure);
        return parse_handshake(s, master, reply, reply_len, failure);
}

static bool is_interrupted(struct session *s)
{
        bool interrupted;

        mutex_lock(&s->lock);
        interrupted = s->interrupted;
        mutex_unlock(&s->lock);
        return interrupted;
}

/* In slices, so that session_interrupt need not wait for an absent master. */
static int wait_ready(struct session *s, struct rpc_channel *channel)
{
        int64_t deadline_ns = clock_monotonic_ns() + s->timeout_ms * NSEC_PER_MSEC;

        for (;;) {
                int64_t left_ms = MAX((deadline_ns - clock_monotonic_ns()) / NSEC_PER_MSEC, 0);
                int r = rpc_channel_wait_ready(channel, (int)MIN(left_ms, SLICE_MS));
                if (is_interrupted(s))
                        return -ECANCELED;
                if (r != -ETIMEDOUT || left_ms <= SLICE_MS)
                        return r;
        }
}

/* A channel connects when it is first used. */
static int open_channels(struct session *s, struct master *m, struct failure *failure)
        TSA_REQUIRES(s->connecting)
{
        struct rpc_channel_options options = { .token = s->token, .receive_max_bytes = RECEIVE_MAX_BYTES };

        for (int lane = 0; lane < LANE_COUNT; lane++) {
                int r = m->channels[lane] ? 0 : rpc_channel_new(m->address, &options, &m->channels[lane]);
                if (r < 0)
                        return failure_set(failure, r, "cannot use master address '%s': %s", m->address,
                                           strerror(-r));
        }
        return 0;
}

static int try_master(struct session *s, size_t i, struct failure *failure) TSA_REQUIRES(s->connecting)
{
        struct master *m = &s->masters[i];
        struct rpc_channel *channel;
        int r;

        m->address = s->source->masters[i];
        r = open_channels(s, m, failure);
        if (r < 0)
                return r;
        channel = m->channels[LANE_TREE];
        r = wait_ready(s, channel);
        if (r < 0)
                return explain_unready(m->address, r, s->timeout_ms, failure);
        r = handshake(s, channel, m->address, failure);
        if (r < 0)
                return r;
        atomic_store(&s->dialect, r);
        atomic_store(&s->current, m);
        return 0;
}

int session_connect(struct session *session, struct failure *failure)
{
        int r = -EHOSTUNREACH;

        mutex_lock(&session->connecting);
        if (atomic_load(&session->current)) {
                mutex_unlock(&session->connecting);
                return 0;
        }
        for (size_t i = 0; i < session->source->n_masters; i++) {
                r = try_master(session, i, failure);
                if (r == 0)
                        break;
        }
        atomic_store(&session->online, r == 0);
        mutex_unlock(&session->connecting);
        return r;
}

int session_reconnect(struct session *session, struct failure *failure)
{
        const struct master *m = atomic_load(&session->current);
        int r = wait_ready(session, m->channels[LANE_TREE]);

        return r < 0 ? explain_unready(m->address, r, session->timeout_ms, failure) : 0;
}

/* -ECANCELED: too late, STREAM is not kept. */
static int keep_stream(struct session *s, struct rpc_stream *stream)
{
        struct live_stream *live = calloc(1, sizeof(*live));
        int r = live ? 0 : -ENOMEM;

        mutex_lock(&s->lock);
        if (r == 0 && s->interrupted)
                r = -ECANCELED;
        if (r == 0) {
                live->stream = stream;
                DL_APPEND(s->streams, live);
                live = NULL;
        }
        mutex_unlock(&s->lock);
        free(live);
        return r;
}

static void forget_stream(struct session *s, const struct rpc_stream *stream)
{
        struct live_stream *live;

        mutex_lock(&s->lock);
        DL_SEARCH_SCALAR(s->streams, live, stream, stream);
        DL_DELETE(s->streams, live);
        mutex_unlock(&s->lock);
        free(live);
}

/* How long a call of METHOD may be silent, and over which connection it goes. */
static int method_idle_ms(const struct session *s, const char *method)
{
        if (strcmp(method, WIRE_METHOD_WATCH) == 0)
                return WATCH_IDLE_MS;
        if (strcmp(method, WIRE_METHOD_FETCH) == 0)
                return 0; /* silent for as long as nothing is wanted; its user knows */
        if (strcmp(method, WIRE_METHOD_SCAN) == 0 && session_get_dialect(s) == SESSION_STOCK)
                return s->timeout_ms * STOCK_SCAN_FACTOR;
        return s->timeout_ms;
}

static enum lane method_lane(const char *method)
{
        static const char *const tasks[] = { WIRE_METHOD_FETCH, WIRE_METHOD_DOWNLOAD, WIRE_METHOD_LIST_FOLDER,
                                             WIRE_METHOD_LEARNED };

        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
                if (strcmp(method, tasks[i]) == 0)
                        return LANE_TASKS;
        return LANE_TREE;
}

int session_stream(struct session *session, const char *method, struct rpc_stream **ret,
                   struct failure *failure)
{
        struct rpc_stream_options options = { 0 };
        struct rpc_stream *stream;
        int r = session_connect(session, failure);

        if (r < 0)
                return r;
        options.idle_timeout_ms = method_idle_ms(session, method);
        r = rpc_stream_open(atomic_load(&session->current)->channels[method_lane(method)], method, &options,
                            &stream);
        if (r < 0)
                return r;
        r = keep_stream(session, stream);
        if (r < 0) {
                rpc_stream_free(stream);
                return r;
        }
        *ret = stream;
        return 0;
}

void session_interrupt(struct session *session)
{
        struct live_stream *live;

        mutex_lock(&session->lock);
        session->interrupted = true;
        DL_FOREACH (session->streams, live)
                rpc_stream_cancel(live->stream);
        mutex_unlock(&session->lock);
}

int session_finish(struct session *session, struct rpc_stream *stream, struct failure *failure)
{
        const char *master = atomic_load(&session->current)->address;
        struct rpc_status status;
        bool gone;

        rpc_stream_finish(stream, &status);
        forget_stream(session, stream);
        rpc_stream_free(stream);
        gone = status.code == RPC_UNAVAILABLE || status.code == RPC_DEADLINE_EXCEEDED;
        if (atomic_exchange(&session->online, !gone) == gone)
                log_info("master %s is %s", master, gone ? "away" : "there again");
        return explain(session, master, &status, failure);
}

enum session_dialect session_get_dialect(const struct session *session)
{
        return atomic_load(&session->dialect);
}

bool session_learns(const struct session *session)
{
        return session_get_dialect(session) == SESSION_OWN && atomic_load(&session->learns);
}

void session_note_heard(struct session *session)
{
        if (!atomic_load(&session->online) && !atomic_exchange(&session->online, true))
                log_info("master %s is there again", atomic_load(&session->current)->address);
}

bool session_is_online(const struct session *session)
{
        return atomic_load(&session->online);
}

const struct source *session_get_source(const struct session *session)
{
        return session->source;
}

const char *session_get_node(const struct session *session)
{
        return session->node;
}
