#include "sync/session.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include <utlist.h>

#include "base/io.h"
#include "base/log.h"
#include "proto/wire.h"
#include "sync/handshake.h"
#include "sync/session_private.h"

#define STOCK_SCAN_FACTOR                                                                                    \
        10 /* a stock master hashes all before its first word, and cannot say that it is at it */

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

static int read_credentials(struct session *s, const struct session_options *options, struct failure *failure)
{
        int r = options->token_file ? read_token(options->token_file, &s->token, failure) : 0;

        if (r >= 0 && options->tls)
                r = rpc_tls_load(&options->tls_files, true, &s->tls, failure);
        return r;
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
        s->hash = options->hash;
        s->timeout_ms = options->timeout_ms;
        s->tasks_early = options->tasks_early;
        s->connected = options->connected;
        s->connected_arg = options->connected_arg;
        if (gethostname(s->node, sizeof(s->node) - 1) < 0)
                strcpy(s->node, "worker");
        snprintf(s->node_name, sizeof(s->node_name), "%s", options->node_name ?: s->node);
        r = read_credentials(s, options, failure);
        if (r < 0) {
                session_free(s);
                return r;
        }
        r = session_start_asking(s);
        if (r < 0) {
                session_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void session_free(struct session *session) TSA_NONE
{
        if (!session)
                return;
        masters_free(session->health);
        for (size_t i = 0; i < SOURCE_MASTERS_MAX; i++)
                for (int lane = 0; lane < LANE_COUNT; lane++)
                        rpc_channel_free(session->masters[i].channels[lane]);
        mutex_release(&session->connecting);
        mutex_release(&session->lock);
        rpc_tls_free(session->tls);
        free(session->token);
        free(session);
}

size_t session_get_masters(struct session *session, struct session_master ret[SOURCE_MASTERS_MAX])
{
        for (size_t i = 0; i < session->source->n_masters; i++) {
                ret[i].address = session->source->masters[i];
                masters_get(session->health, i, &ret[i].health);
                mutex_lock(&session->lock);
                ret[i].why = session->why[i];
                mutex_unlock(&session->lock);
        }
        return session->source->n_masters;
}

const char *session_get_address(struct session *session, const struct rpc_stream *stream)
{
        return session->source->masters[session_stream_master(session, stream)];
}

bool session_is_outdated(struct session *session, const struct rpc_stream *stream)
{
        return session_stream_master(session, stream) != masters_current(session->health);
}

bool session_is_stand_in(const struct session *session, const char *address)
{
        return address != session->source->masters[0];
}

/* ---- exchanges ---- */

/* Its stream says what happens, for as long as it is open. */
static bool waits_for_news(const char *method)
{
        return strcmp(method, WIRE_METHOD_WATCH) == 0 || strcmp(method, WIRE_METHOD_ATTEND) == 0;
}

/* How long a call of METHOD may be silent, and over which connection it goes. */
static int method_idle_ms(const struct session *s, const char *method)
{
        if (waits_for_news(method) || strcmp(method, WIRE_METHOD_FETCH) == 0)
                return 0; /* silent for as long as nothing happens; whether the master is there is asked */
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
        size_t master;
        int r = session_connect(session, failure);

        if (r < 0)
                return r;
        master = masters_current(session->health);
        options.idle_timeout_ms = method_idle_ms(session, method);
        options.send_timeout_ms = session->timeout_ms;
        r = rpc_stream_open(session->masters[master].channels[method_lane(method)], method, &options,
                            &stream);
        if (r < 0)
                return r;
        r = session_keep_stream(session, stream, master, waits_for_news(method));
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

/* What an exchange that has ended with CODE says about MASTER. */
static void judge(struct session *s, size_t master, enum rpc_code code)
{
        bool gone = code == RPC_UNAVAILABLE || code == RPC_DEADLINE_EXCEEDED;

        if (gone)
                masters_doubt(s->health, master);
        else if (code != RPC_CANCELLED)
                masters_note_heard(s->health, master);
        if (code != RPC_CANCELLED && master == masters_current(s->health) &&
            atomic_exchange(&s->online, !gone) == gone)
                log_info("master %s is %s", s->source->masters[master], gone ? "away" : "there again");
}

int session_finish(struct session *session, struct rpc_stream *stream, struct failure *failure)
{
        size_t master = session_stream_master(session, stream);
        struct rpc_status status;

        rpc_stream_finish(stream, &status);
        session_forget_stream(session, stream);
        session_judge_connection(session, master, stream, status.code);
        rpc_stream_free(stream);
        judge(session, master, status.code);
        return session_explain(session, session->source->masters[master], &status, failure);
}

void session_listen_anew(struct session *session)
{
        session_end_waiting_streams(session, masters_current(session->health));
}

enum session_dialect session_get_dialect(const struct session *session)
{
        return atomic_load(&session->dialect);
}

bool session_learns(const struct session *session)
{
        return session_get_dialect(session) == SESSION_OWN && atomic_load(&session->learns);
}

bool session_fetches(const struct session *session)
{
        return session_get_dialect(session) == SESSION_OWN && atomic_load(&session->fetches);
}

bool session_get_clock(const struct session *session, int64_t *ret_ahead_ms)
{
        *ret_ahead_ms = atomic_load(&session->ahead_ms);
        return session_get_dialect(session) == SESSION_OWN && *ret_ahead_ms != HANDSHAKE_NO_CLOCK;
}

void session_note_heard(struct session *session)
{
        if (!atomic_load(&session->online) && !atomic_exchange(&session->online, true)) {
                size_t master = masters_current(session->health);

                masters_note_heard(session->health, master);
                log_info("master %s is there again", session->source->masters[master]);
        }
}

bool session_is_online(const struct session *session)
{
        return atomic_load(&session->online);
}

const struct source *session_get_source(const struct session *session)
{
        return session->source;
}

enum hash_algorithm session_get_hash(const struct session *session)
{
        return session->hash;
}

const char *session_get_node(const struct session *session)
{
        return session->node;
}

const char *session_get_node_name(const struct session *session)
{
        return session->node_name;
}
