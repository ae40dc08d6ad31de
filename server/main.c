/*
 * fsyncfs-server: opens what it serves, starts the threads, waits for signals, stops in order. `fsyncfs-server fence` is a client of it.
 *
 * Signals are blocked in all threads and taken by sigtimedwait in this one, so that no handler ever interrupts anything.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/log.h"
#include "proto/rpc_gate.h"
#include "server/control.h"
#include "server/credentials.h"
#include "server/fence.h"
#include "server/http.h"
#include "server/index_folder.h"
#include "server/listeners.h"
#include "server/master.h"
#include "server/options.h"
#include "server/recent.h"
#include "server/status.h"
#include "server/supervisor.h"

#define GRACE_MS 10000 /* streams get so long to end after SIGTERM */
#define IDLE_MS                                                                                              \
        (60 * 60 * 1000) /* a workspace that nobody asks for is given up after this, its watches included */
#define TICK_SEC 10

#define PEER_CONNECTIONS                                                                                     \
        4096 /* of one address, unless told otherwise: idle ones cost 16 KiB each, 80 with TLS */

#define CONTENT_BYTES   ((size_t)64 << 20) /* of contents that many want at once, in memory */
#define CONTENT_IDLE_MS 60000

#define SPOOL_BYTES   (UINT64_C(1) << 30) /* of transfers that nobody is at */
#define SPOOL_IDLE_MS (10 * 60 * 1000)

/* All that runs. Filled step by step; server_release copes with any part of it. */
struct server {
        struct options options;
        struct options_source source; /* of the options */
        unsigned descriptors;         /* the limit of open files */
        struct credentials credentials;
        struct master master;
        struct rpc_server *rpc;
        struct rpc_server *control; /* NULL: there is no place for its socket */
        struct http *http;
        struct buffer address; /* master.address */
        struct supervisor supervisor;
        struct index_folder index;
        char name[HOST_NAME_MAX + 1];
};

static void block_signals(sigset_t *ret)
{
        sigemptyset(ret);
        sigaddset(ret, SIGTERM);
        sigaddset(ret, SIGINT);
        sigaddset(ret, SIGHUP);
        pthread_sigmask(SIG_BLOCK, ret, NULL);
        signal(SIGPIPE, SIG_IGN);
}

/* ---- opening ---- */

static const char *watcher_name(enum watcher_kind kind)
{
        return kind == WATCHER_FANOTIFY ? "fanotify" : kind == WATCHER_INOTIFY ? "inotify" : "off";
}

static int open_versions(struct server *s)
{
        struct master *m = &s->master;
        const struct versions_options versions = {
                .root = m->root,
                .pool = m->pool,
                .dir = s->index.path.data,
                .watch = s->options.watch,
                .watch_drop_percent = s->options.watch_drop_percent,
                .stat_pass_ms = s->options.stat_pass_sec * INT64_C(1000),
                .hash = s->options.hash,
                .journal_max = s->options.journal_max,
        };
        int r = versions_new(&versions, &m->versions);

        if (r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP)
                return complain("cannot watch with", watcher_name(s->options.watch), r, "try --watch auto");
        if (r >= 0)
                r = stock_views_new(&(struct stock_views_options){ .root = m->root,
                                                                   .pool = m->pool,
                                                                   .hashings = m->hashings,
                                                                   .versions = m->versions,
                                                                   .dir = s->index.path.data },
                                    &m->stock);
        if (r >= 0)
                r = spools_new(&(struct spools_options){ .pool = m->pool,
                                                         .gatherings = m->gatherings,
                                                         .dir = s->index.path.data,
                                                         .bytes_max = SPOOL_BYTES,
                                                         .idle_ms = SPOOL_IDLE_MS },
                               &m->spools);
        if (r >= 0)
                r = watches_new(&m->watches);
        if (r >= 0)
                r = learned_new(m->versions, &m->learned);
        return r;
}

static int open_master(struct server *s)
{
        struct master *m = &s->master;
        int r = workspace_root_open(s->options.workspace, &m->root);

        if (r < 0)
                return complain("cannot open the workspace folder", s->options.workspace, r,
                                "check --workspace");
        r = credentials_load(&s->options, &s->credentials);
        if (r >= 0)
                r = index_folder_open(s->options.index, &s->index);
        if (r < 0)
                return r;
        r = health_new(&m->health);
        if (r < 0)
                return complain("cannot start", "memory", r, "");
        m->tokens = s->credentials.tokens;
        m->scan_ttl_ms = s->options.scan_ttl_sec * INT64_C(1000);
        r = pool_new(0, &m->pool);
        if (r >= 0)
                r = pool_new(0, &m->readers);
        if (r >= 0)
                r = turns_new(m->pool, RPC_HASHINGS, &m->hashings);
        if (r >= 0)
                r = turns_new(m->pool, RPC_GATHERINGS, &m->gatherings);
        if (r >= 0)
                r = parked_new(&m->parked);
        if (r >= 0)
                r = open_versions(s);
        if (r >= 0)
                r = blocks_new(&m->blocks);
        if (r >= 0)
                r = content_cache_new(CONTENT_BYTES, &m->contents);
        if (r >= 0)
                r = workers_new(&m->workers);
        if (r >= 0)
                r = fleet_new(&m->fleet);
        return r < 0 ? complain("cannot start", "threads", r, "is there enough memory?") : 0;
}

/* ---- listening ---- */

/* A part of the descriptors is kept from connections: for files, databases and watches. */
static int open_gate(const struct options *o, unsigned descriptors)
{
        const unsigned all = descriptors - descriptors / 4;
        struct rpc_gate_limits limits = {
                .descriptors = descriptors,
                .connections = all,
                .peer_connections = o->peer_connections ?: MIN(all / 4, PEER_CONNECTIONS),
        };
        int r = rpc_gate_open(&limits);

        return r < 0 ? complain("cannot start", "connections", r, "") : 0;
}

static int start_http(struct server *s)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        const char *address = s->options.metrics;
        int port, r;

        if (!address)
                return 0;
        r = http_start(address, &s->master, s->rpc, &s->http, &port);
        if (r < 0)
                return complain("cannot serve metrics on", address, r, "check --metrics: ADDR:PORT");
        r = listeners_set_port(address, port, &text);
        if (r >= 0)
                log_info("metrics on %s", text.data);
        return r;
}

/* Not needed to serve: without it `fsyncfs-server fence` cannot ask. */
static void start_control(struct server *s)
{
        int r = control_start(&s->master, s->index.path.data, &s->control);

        if (r < 0)
                log_warning("no control socket in '%s': %s; fsyncfs-server fence will not work",
                            s->index.path.data, strerror(-r));
}

/* What can be lost while the server runs. */
static void check_health(struct server *s)
{
        char reason[HEALTH_REASON_MAX];
        int error = access(s->index.path.data, R_OK | W_OK | X_OK) < 0 ? errno : 0;

        snprintf(reason, sizeof(reason), "the index '%s' cannot be used: %s", s->index.path.data,
                 strerror(error));
        if (!health_set(s->master.health, error ? reason : NULL))
                return;
        log_write(error ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "%s", error ? reason : "ready");
        watches_wake(s->master.watches);
}

static int server_start(struct server *s)
{
        struct rpc_server_options rpc_options;
        int r = open_master(s);

        if (r < 0)
                return r;
        if (gethostname(s->name, sizeof(s->name)) < 0)
                strcpy(s->name, "localhost");
        s->name[sizeof(s->name) - 1] = '\0';
        s->master.name = s->name;
        s->master.address = "";
        s->master.started_sec = (int64_t)time(NULL);
        master_rpc_options(&s->master, s->descriptors, &rpc_options);
        rpc_options.tls = s->credentials.tls;
        rpc_options.limits.peer_calls = s->options.peer_calls;
        r = rpc_server_new(&rpc_options, &s->rpc);
        if (r < 0)
                return complain("cannot start", "gRPC", r, "");
        r = listeners_open(&s->options, s->rpc, s->name, &s->address);
        s->master.address = s->address.data ? s->address.data : "";
        if (r >= 0)
                r = start_http(s);
        if (r < 0)
                return r;
        r = rpc_server_start(s->rpc);
        if (r < 0)
                return complain("cannot start", "gRPC", r, "");
        start_control(s);
        return 0;
}

/* ---- running and stopping ---- */

static void tell_supervisor(struct server *s)
{
        char line[STATUS_LINE_MAX];
        bool ready = status_line(&s->master, line);

        supervisor_tell(&s->supervisor, ready, line);
        supervisor_watch(&s->supervisor, (struct rpc_server *[]){ s->rpc, s->control }, 2);
}

static void reload(struct server *s)
{
        supervisor_reloading(&s->supervisor);
        credentials_reload(&s->options, &s->credentials);
        supervisor_reloaded(&s->supervisor);
}

/* What has to be looked at now and then. */
static void look_after(struct server *s)
{
        versions_expire(s->master.versions, MAX(IDLE_MS, s->master.scan_ttl_ms));
        spools_expire(s->master.spools);
        content_cache_expire(s->master.contents, CONTENT_IDLE_MS);
        status_sample();
        check_health(s);
        fleet_wake(s->master.fleet); /* stock workers are forgotten as time goes by */
}

/* Until a signal says stop. */
static void server_run(struct server *s, const sigset_t *signals)
{
        const int64_t tick_ns = TICK_SEC * NSEC_PER_SEC;
        const struct timespec wait = clock_timespec(supervisor_tick_ns(&s->supervisor, tick_ns));
        int64_t due_ns = clock_monotonic_ns() + tick_ns;

        for (;;) {
                int signo;

                tell_supervisor(s);
                signo = sigtimedwait(signals, NULL, &wait);
                if (signo == SIGTERM || signo == SIGINT) {
                        log_info("%s: stopping, %u calls under way", strsignal(signo),
                                 rpc_server_calls(s->rpc));
                        return;
                }
                if (signo == SIGHUP)
                        reload(s);
                if (signo < 0 && clock_monotonic_ns() < due_ns)
                        continue;
                look_after(s);
                due_ns = clock_monotonic_ns() + tick_ns;
        }
}

static void server_release(struct server *s)
{
        struct master *m = &s->master;

        http_stop(s->http);
        rpc_server_free(s->control);
        rpc_server_free(s->rpc);
        if (m->versions)
                versions_stop(m->versions);
        if (m->pool)
                pool_cancel(m->pool);
        parked_free(m->parked);
        pool_free(m->readers);
        pool_free(m->pool);
        turns_free(m->hashings);
        turns_free(m->gatherings);
        watches_free(m->watches);
        learned_free(m->learned);
        spools_free(m->spools);
        stock_views_free(m->stock);
        versions_free(m->versions);
        workers_free(m->workers);
        fleet_free(m->fleet);
        health_free(m->health);
        blocks_free(m->blocks);
        content_cache_free(m->contents);
        credentials_release(&s->credentials);
        workspace_root_free(m->root);
        index_folder_release(&s->index);
        buffer_release(&s->address);
        options_source_release(&s->source);
}

int main(int argc, char **argv)
{
        struct server s = { .index = INDEX_FOLDER_NONE };
        enum options_result result;
        sigset_t signals;
        int r;

        io_reserve_standard_fds();
        log_setup("fsyncfs-server", LOG_LEVEL_INFO);
        if (argc > 1 && strcmp(argv[1], "fence") == 0)
                return fence_main(argc - 1, argv + 1);
        if (argc > 3 && strcmp(argv[1], "--complete") == 0 && strcmp(argv[2], "fence") == 0) {
                fence_complete(argc - 3, argv + 3);
                return 0;
        }
        result = options_parse(argc, argv, &s.source, &s.options);
        if (result != OPTIONS_RUN) {
                options_source_release(&s.source);
                return result == OPTIONS_DONE ? 0 : result == OPTIONS_FAULT ? 1 : 2;
        }
        log_setup("fsyncfs-server", s.options.log_level);
        log_set_format(s.options.log_format);
        recent_begin();
        status_sample();
        block_signals(&signals);
        rpc_init();
        s.descriptors = io_raise_open_files();
        r = open_gate(&s.options, s.descriptors);
        if (r >= 0)
                r = server_start(&s);
        if (r >= 0) {
                supervisor_init(&s.supervisor);
                check_health(&s);
                server_run(&s, &signals);
                supervisor_stopping(&s.supervisor, rpc_server_calls(s.rpc));
                health_stop(s.master.health);
                rpc_server_free(TAKE_PTR(s.control));
                watches_stop(s.master.watches);
                rpc_server_stop(s.rpc, GRACE_MS);
        }
        server_release(&s);
        rpc_shutdown();
        return r < 0 ? 1 : 0;
}
