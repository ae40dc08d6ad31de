#include "server/status.h"

#include <string.h>
#include <time.h>

#include "base/lock.h"
#include "proto/rpc_gate.h"
#include "server/gauges.h"
#include "server/metrics.h"
#include "server/recent.h"

/* What peers and files are called is hostile: JSON is UTF-8, and nobody's terminal is to be driven. */
static json_t *text(const char *hostile)
{
        char copy[512];

        snprintf(copy, sizeof(copy), "%s", hostile);
        log_make_printable(copy);
        log_make_utf8(copy);
        return json_string(copy);
}

/* A longer hash has zeros there once in 2^128. */
void status_format_version(const uint8_t digest[HASH_BYTES], char ret[2 * HASH_BYTES + 1])
{
        static const uint8_t zeros[HASH_BYTES];
        const size_t shorter = hash_len(HASH_XXH3);

        hex_encode(digest, memcmp(digest + shorter, zeros, HASH_BYTES - shorter) == 0 ? shorter : HASH_BYTES,
                   ret);
}

static json_t *digest_text(const uint8_t digest[HASH_BYTES])
{
        char hex[2 * HASH_BYTES + 1];

        status_format_version(digest, hex);
        return json_string(hex);
}

static json_t *number(uint64_t n)
{
        return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

/* ---- rates ---- */

static const enum metric rated[] = { METRIC_BYTES_SENT, METRIC_BYTES_FROM_MEMORY, METRIC_METADATA_BYTES_SENT,
                                     METRIC_DOWNLOADS, METRIC_FILES_HASHED };
static const char *const rated_names[] = { "bytes_per_second", "memory_bytes_per_second",
                                           "listing_bytes_per_second", "downloads_per_second",
                                           "hashed_files_per_second" };

struct sample {
        int64_t at_ns;
        uint64_t counts[ARRAY_SIZE(rated)];
};

static struct mutex sample_lock = { PTHREAD_MUTEX_INITIALIZER };
static struct sample samples[2] TSA_GUARDED(sample_lock); /* the last two, the older first */

static void take_sample(struct sample *ret)
{
        ret->at_ns = clock_monotonic_ns();
        for (size_t i = 0; i < ARRAY_SIZE(rated); i++)
                ret->counts[i] = metrics_get(rated[i]);
}

void status_sample(void)
{
        struct sample now;

        take_sample(&now);
        mutex_lock(&sample_lock);
        samples[0] = samples[1].at_ns ? samples[1] : now;
        samples[1] = now;
        mutex_unlock(&sample_lock);
}

/* Since the sample before the last: a span of ten to twenty seconds. */
static json_t *transfers_json(const struct rpc_server *rpc)
{
        struct sample now, then;
        double seconds;
        json_t *j;

        take_sample(&now);
        mutex_lock(&sample_lock);
        then = samples[0];
        mutex_unlock(&sample_lock);
        seconds = (double)(now.at_ns - then.at_ns) / (double)NSEC_PER_SEC;
        j = json_pack("{s:f, s:I}", "window_seconds", seconds, "calls", (json_int_t)rpc_server_calls(rpc));
        for (size_t i = 0; j && i < ARRAY_SIZE(rated); i++)
                json_object_set_new(
                        j, rated_names[i],
                        json_real(seconds > 0 ? (double)(now.counts[i] - then.counts[i]) / seconds : 0));
        return j;
}

/* Of PART in WHOLE; null while there is nothing to divide. */
static json_t *percent(uint64_t part, uint64_t whole)
{
        return whole > 0 ? json_real(100.0 * (double)part / (double)whole) : json_null();
}

static json_t *savings_json(void)
{
        uint64_t deltas = metrics_get(METRIC_DELTAS);

        return json_pack("{s:o, s:o}", "from_memory_percent",
                         percent(metrics_get(METRIC_BYTES_FROM_MEMORY), metrics_get(METRIC_BYTES_SENT)),
                         "difference_percent", percent(deltas, deltas + metrics_get(METRIC_FULL_LISTINGS)));
}

/* ---- the tables ---- */

static json_t *table(json_t *rows, size_t all)
{
        return json_pack("{s:o, s:o}", "count", number(all), "rows", rows);
}

static json_t *workspace_row(const struct versions_summary *w)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "spider", text(w->spider), "version",
                         w->version.valid ? digest_text(w->version.digest) : json_null(), "revision",
                         number(w->version.revision), "entries", number(w->version.entries), "bytes",
                         number(w->version.bytes), "unknown", number(w->version.unknown), "changed",
                         w->changed_sec ? json_integer(w->changed_sec) : json_null(), "subscribers",
                         number(w->subscribers));
}

static json_t *workspaces_json(const struct master *master)
{
        _cleanup_free_ struct versions_summary *list = calloc(STATUS_ROWS_MAX, sizeof(*list));
        json_t *rows = json_array();
        size_t all = 0;
        int n = list ? versions_list(master->versions, list, STATUS_ROWS_MAX, &all) : -ENOMEM;

        for (int i = 0; i < n; i++)
                json_array_append_new(rows, workspace_row(&list[i]));
        return table(rows, all);
}

static json_t *mount_row(const struct master *master, const struct fleet_mount *m)
{
        int64_t lag_sec = gauges_lag_sec(master, m);
        const char *state = lag_sec == LAG_UNKNOWN ? "unknown" : lag_sec > 0 ? "behind" : "current";

        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:I}", "node", text(m->node),
                         "program", text(m->version), "address", text(m->address), "key", text(m->key),
                         "spider", text(m->spider), "path", text(m->path), "version",
                         m->shows ? digest_text(m->digest) : json_null(), "revision", number(m->revision),
                         "state", state, "lag_seconds",
                         lag_sec == LAG_UNKNOWN ? json_null() : json_integer(lag_sec), "since",
                         (json_int_t)m->since_sec);
}

static json_t *mounts_json(const struct master *master)
{
        struct fleet_mount *list;
        json_t *rows = json_array();
        size_t all = 0;
        int n = fleet_list(master->fleet, NULL, STATUS_ROWS_MAX, &list, &all);

        for (int i = 0; i < n; i++)
                json_array_append_new(rows, mount_row(master, &list[i]));
        if (n >= 0)
                fleet_list_free(list, (size_t)n);
        return table(rows, all);
}

static json_t *stock_json(const struct master *master)
{
        _cleanup_free_ struct workers_stock *list = calloc(STATUS_ROWS_MAX, sizeof(*list));
        json_t *rows = json_array();
        size_t all = 0, n = list ? workers_list_stock(master->workers, NULL, STATUS_ROWS_MAX, list, &all) : 0;

        for (size_t i = 0; i < n; i++)
                json_array_append_new(rows, json_pack("{s:o, s:o, s:o}", "node", text(list[i].key), "address",
                                                      text(list[i].address), "spider", text(list[i].spider)));
        return table(rows, all);
}

static json_t *log_json(void)
{
        _cleanup_free_ struct recent_line *list = calloc(RECENT_MAX, sizeof(*list));
        unsigned n = list ? recent_list(list) : 0;
        json_t *rows = json_array();

        for (unsigned i = 0; i < n; i++)
                json_array_append_new(rows,
                                      json_pack("{s:I, s:s, s:o}", "at", (json_int_t)list[i].at_sec, "level",
                                                list[i].level == LOG_LEVEL_ERROR ? "error" : "warning",
                                                "text", text(list[i].text)));
        return rows;
}

/* ---- in short ---- */

bool status_line(const struct master *master, char ret[STATUS_LINE_MAX])
{
        char reason[HEALTH_REASON_MAX];
        size_t spiders = 0;

        if (!health_get(master->health, reason)) {
                snprintf(ret, STATUS_LINE_MAX, "not ready: %s", reason);
                return false;
        }
        versions_list(master->versions, NULL, 0, &spiders);
        snprintf(ret, STATUS_LINE_MAX, "serving; spiders in use: %zu, workers: %u", spiders,
                 workers_count(master->workers));
        return true;
}

/* ---- all of it ---- */

static json_t *server_json(const struct master *master)
{
        char reason[HEALTH_REASON_MAX];
        bool ready = health_get(master->health, reason);
        int64_t now_sec = (int64_t)time(NULL);

        return json_pack(
                "{s:o, s:s, s:o, s:b, s:o, s:I, s:I, s:I, s:o, s:o}", "name", text(master->name), "version",
                FSYNCFS_VERSION, "address", text(master->address), "ready", ready, "reason", text(reason),
                "now", (json_int_t)now_sec, "started", (json_int_t)master->started_sec, "uptime_seconds",
                (json_int_t)(now_sec - master->started_sec), "workers",
                number(workers_count(master->workers)), "connections_refused", number(rpc_gate_refused()));
}

json_t *status_json(const struct master *master, const struct rpc_server *rpc)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "server", server_json(master), "transfers",
                         transfers_json(rpc), "savings", savings_json(), "workspaces",
                         workspaces_json(master), "mounts", mounts_json(master), "stock_workers",
                         stock_json(master), "log", log_json());
}
