#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "proto/wire.h"
#include "sync/handshake.h"
#include "sync/session_private.h"

/*
 * How a master comes to be used: connected to, greeted, chosen; by who needs one, or by the thread that asks how they are.
 */

#define SLICE_MS          1000
#define TRY_MS            3000 /* one of several masters gets, before the next one is tried */
#define RECEIVE_MAX_BYTES (8u << 20)

int session_explain(struct session *s, const char *master, const struct rpc_status *status,
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

static int explain_unready(const char *master, int error, int timeout_ms, const struct failure *why,
                           struct failure *failure)
{
        if (why->text[0])
                return failure_set(failure, error, "master %s %s", master, why->text);
        switch (error) {
        case -ECONNREFUSED:
                return failure_set(failure, error,
                                   "cannot connect to master %s: is fsyncfs-server running there, are host "
                                   "and port right?",
                                   master);
        case -ETIMEDOUT:
                return failure_set(failure, error,
                                   "no gRPC answer from master %s within %d s: wrong port, a dead network, "
                                   "or a name server that does not answer?",
                                   master, timeout_ms / 1000);
        case -EPROTO:
                return failure_set(failure, error, "%s answers, but does not speak gRPC: wrong port?",
                                   master);
        default:
                return failure_set(failure, error, "cannot connect to master %s: %s", master,
                                   strerror(-error));
        }
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
static int wait_ready(struct session *s, struct rpc_channel *channel, int timeout_ms, struct failure *why)
{
        int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;

        for (;;) {
                int64_t left_ms = MAX((deadline_ns - clock_monotonic_ns()) / NSEC_PER_MSEC, 0);
                int r = rpc_channel_wait_ready(channel, (int)MIN(left_ms, SLICE_MS), why);
                if (is_interrupted(s))
                        return -ECANCELED;
                if (r != -ETIMEDOUT || left_ms <= SLICE_MS)
                        return r;
        }
}

/* A channel connects when it is first used. */
static int open_channels(struct session *s, size_t i, struct failure *failure) TSA_REQUIRES(s->connecting)
{
        const char *address = s->source->masters[i];
        struct master *m = &s->masters[i];
        struct rpc_channel_options options = { .token = s->token,
                                               .receive_max_bytes = RECEIVE_MAX_BYTES,
                                               .tls = s->tls };

        for (int lane = 0; lane < LANE_COUNT; lane++) {
                int r = m->channels[lane] ? 0 : rpc_channel_new(address, &options, &m->channels[lane]);
                if (r < 0)
                        return failure_set(failure, r, "cannot use master address '%s': %s", address,
                                           strerror(-r));
        }
        return 0;
}

bool session_suspects(enum rpc_code code)
{
        switch (code) {
        case RPC_UNKNOWN:
        case RPC_INVALID_ARGUMENT:
        case RPC_DEADLINE_EXCEEDED:
        case RPC_UNIMPLEMENTED:
        case RPC_INTERNAL:
        case RPC_DATA_LOSS:
        case RPC_UNAUTHENTICATED:
                return true;
        default:
                return false;
        }
}

/* What only waits would wait for ever over a connection that nobody asks any more. */
static void renew_tree(struct session *s, size_t master, const struct rpc_stream *stream)
{
        if (rpc_channel_renew(s->masters[master].channels[LANE_TREE], stream))
                session_end_waiting_streams(s, master);
}

void session_judge_connection(struct session *s, size_t master, const struct rpc_stream *stream,
                              enum rpc_code code)
{
        if (!session_suspects(code))
                return;
        renew_tree(s, master, stream);
        rpc_channel_renew(s->masters[master].channels[LANE_TASKS], stream);
}

/* Talks on STREAM, just opened for a handshake, until it has ended. */
static int talk(struct session *s, struct rpc_stream *stream, struct handshake *ret,
                struct rpc_status *ret_status)
{
        int r = session_keep_stream(s, stream, MASTERS_NONE, false);

        if (r < 0)
                return r;
        r = handshake_run(stream, s->node, s->node_name, ret);
        rpc_stream_finish(stream, ret_status);
        session_forget_stream(s, stream);
        return r;
}

/* What master I speaks: enum session_dialect, or negative errno with a line in FAILURE. */
static int greet(struct session *s, size_t i, int timeout_ms, struct handshake *ret, struct failure *failure)
{
        struct rpc_stream_options options = { .idle_timeout_ms = timeout_ms };
        const char *name = s->source->masters[i];
        struct rpc_status status = { 0 };
        struct rpc_stream *stream;
        int r = rpc_stream_open(s->masters[i].channels[LANE_TREE], WIRE_METHOD_HANDSHAKE, &options, &stream);

        if (r < 0)
                return r;
        r = talk(s, stream, ret, &status);
        /* That this method is not there is what a stock master says, and is expected until we know one that has it. */
        if (status.code != RPC_UNIMPLEMENTED || session_get_dialect(s) == SESSION_OWN)
                session_judge_connection(s, i, stream, status.code);
        rpc_stream_free(stream);
        if (r == -ENOMEM || r == -ECANCELED)
                return r;
        if (status.code == RPC_UNIMPLEMENTED)
                return SESSION_STOCK;
        if (status.code != RPC_OK)
                return session_explain(s, name, &status, failure);
        if (r < 0 || ret->protocol != WIRE_PROTOCOL)
                return failure_set(failure, -EPROTO,
                                   "master %s speaks protocol %u, this worker speaks %d: update one of them",
                                   name, r < 0 ? 0 : ret->protocol, WIRE_PROTOCOL);
        return SESSION_OWN;
}

static void note_why(struct session *s, size_t i, const struct failure *why)
{
        mutex_lock(&s->lock);
        s->why[i] = *why;
        mutex_unlock(&s->lock);
}

/* Connects to master I and greets it, each within TIMEOUT_MS. As greet. */
static int reach(struct session *s, size_t i, int timeout_ms, struct handshake *ret, struct failure *failure)
{
        enum session_dialect known = atomic_load(&s->dialect);
        struct failure why = { 0 };
        int r = wait_ready(s, s->masters[i].channels[LANE_TREE], timeout_ms, &why);

        note_why(s, i, &why);
        if (r < 0)
                return explain_unready(s->source->masters[i], r, s->timeout_ms, &why, failure);
        r = greet(s, i, timeout_ms, ret, failure);
        /* Contents would be named by other hashes: a tree of one kind cannot go on with the other. */
        if (r >= 0 && known != SESSION_UNKNOWN && r != (int)known)
                return failure_set(failure, -EPROTO, "master %s is %s, those before it are not",
                                   s->source->masters[i],
                                   r == SESSION_STOCK ? "a stock one" : "an fsyncfs-server");
        return r;
}

/* Master I, which is of DIALECT and has greeted us, is in use from now on. */
static void use_master(struct session *s, size_t i, enum session_dialect dialect, const struct handshake *h)
        TSA_REQUIRES(s->connecting)
{
        struct master_health health;
        size_t before;

        atomic_store(&s->dialect, dialect);
        atomic_store(&s->learns, h->learns);
        atomic_store(&s->fetches, h->fetches);
        atomic_store(&s->ahead_ms, h->ahead_ms);
        before = masters_use(s->health, i);
        atomic_store(&s->online, true);
        if (before == MASTERS_NONE || before == i)
                return;
        masters_get(s->health, before, &health);
        if (health.state == MASTER_AWAY)
                session_lose_streams(s, before);
        else
                session_end_waiting_streams(s, before);
        log_info("%s: using master %s, %s is %s", s->source->text, s->source->masters[i],
                 s->source->masters[before], health.state == MASTER_AWAY ? "away" : "well but not the first");
}

static int try_master(struct session *s, size_t i, int timeout_ms, struct failure *failure)
        TSA_REQUIRES(s->connecting)
{
        struct handshake h = { .ahead_ms = HANDSHAKE_NO_CLOCK };
        int r;

        r = open_channels(s, i, failure);
        if (r >= 0 && s->tasks_early)
                rpc_channel_connect(s->masters[i].channels[LANE_TASKS]);
        if (r >= 0)
                r = reach(s, i, timeout_ms, &h, failure);
        if (r >= 0)
                use_master(s, i, (enum session_dialect)r, &h);
        else if (r != -ECANCELED)
                masters_note(s->health, i, r);
        return MIN(r, 0);
}

/* Each master once, until one can be used; what is said is about the first of SOURCE's. *RET_SILENT: one was. */
static int try_all(struct session *s, struct failure *failure, bool *ret_silent) TSA_REQUIRES(s->connecting)
{
        int timeout_ms = s->source->n_masters > 1 ? MIN(s->timeout_ms, TRY_MS) : s->timeout_ms, first = 0;
        size_t order[MASTERS_MAX], n = masters_order(s->health, order);

        for (size_t k = 0; k < n; k++) {
                struct failure why = { 0 };
                int r = try_master(s, order[k], timeout_ms, &why);

                if (r == 0 || r == -ECANCELED)
                        return r;
                *ret_silent = *ret_silent || r == -ETIMEDOUT;
                if (first == 0 || order[k] == 0) {
                        failure_set(failure, r, "%s", why.text);
                        first = r;
                }
                if (!masters_is_away(r) && n > 1)
                        log_limited(LOG_LEVEL_WARNING, "masters", "%s", failure_text(&why, r));
        }
        return first;
}

/* The first time that may take as long as a mount waits for its master. */
static int connect_first(struct session *s, struct failure *failure) TSA_REQUIRES(s->connecting)
{
        int64_t until_ns = clock_monotonic_ns() + s->timeout_ms * NSEC_PER_MSEC;
        bool silent;
        int r;

        do {
                silent = false;
                r = try_all(s, failure, &silent);
        } while (r < 0 && r != -ECANCELED && silent && clock_monotonic_ns() < until_ns);
        return r;
}

/* None that can be used was found: what there was before may be well again at any moment, and no read is to fail for that before its time. */
static int reconnect_any(struct session *s, struct failure *failure) TSA_REQUIRES(s->connecting)
{
        bool silent = false;
        int r = try_all(s, failure, &silent);

        return r == 0 || r == -ECANCELED || r == -EACCES ? r : -EHOSTUNREACH;
}

int session_connect(struct session *session, struct failure *failure)
{
        bool known;
        int r = 0;

        mutex_lock(&session->connecting);
        known = masters_current(session->health) != MASTERS_NONE;
        if (!known)
                r = connect_first(session, failure);
        else if (session->source->n_masters > 1 && !masters_is_sure(session->health))
                r = reconnect_any(session, failure);
        if (!known)
                atomic_store(&session->online, r == 0);
        mutex_unlock(&session->connecting);
        if (!known && r == 0 && session->connected)
                session->connected(session->connected_arg);
        return r;
}

int session_reconnect(struct session *session, struct failure *failure)
{
        size_t i = masters_current(session->health);
        struct failure why = { 0 };
        int r;

        if (session->source->n_masters > 1)
                return session_connect(session, failure);
        r = wait_ready(session, session->masters[i].channels[LANE_TREE], session->timeout_ms, &why);
        if (r < 0)
                explain_unready(session->source->masters[i], r, session->timeout_ms, &why, failure);
        /* A certificate that is not accepted may be replaced at any moment, and nobody who reads asked for one. */
        return r < 0 && why.text[0] ? -EHOSTUNREACH : r;
}

/* ---- how the masters are ---- */

/* struct masters_options.ask: with connecting held only for a moment, for tasks may be waiting for it. */
static int ask_master(size_t i, int timeout_ms, void *arg)
{
        struct session *s = arg;
        struct handshake h;
        int r;

        mutex_lock(&s->connecting);
        r = open_channels(s, i, NULL);
        mutex_unlock(&s->connecting);
        if (r >= 0)
                r = reach(s, i, timeout_ms, &h, NULL);
        if (r >= 0 && i == masters_current(s->health))
                session_note_heard(s);
        return MIN(r, 0);
}

static void note_silent(size_t i, void *arg)
{
        struct session *s = arg;

        session_lose_streams(s, i);
        for (int lane = 0; lane < LANE_COUNT; lane++)
                rpc_channel_renew(s->masters[i].channels[lane], NULL);
        if (atomic_exchange(&s->online, false))
                log_info("master %s is away: it is silent", s->source->masters[i]);
}

static void move_to(size_t i, void *arg)
{
        struct session *s = arg;
        struct failure failure = { 0 };

        mutex_lock(&s->connecting);
        try_master(s, i, MIN(s->timeout_ms, TRY_MS), &failure);
        mutex_unlock(&s->connecting);
}

int session_start_asking(struct session *s)
{
        const struct masters_options options = {
                .n = s->source->n_masters,
                .timeout_ms = s->timeout_ms,
                .ask = ask_master,
                .heard_ns = session_heard_ns,
                .lost = note_silent,
                .move = move_to,
                .arg = s,
        };

        return masters_new(&options, &s->health);
}
