#include "server/gauges.h"

#include <string.h>
#include <time.h>

#include "proto/rpc_gate.h"
#include "server/recent.h"

int64_t gauges_lag_sec(const struct master *master, const struct fleet_mount *mount)
{
        uint8_t present[HASH_BYTES];
        int64_t since_sec;

        if (!mount->shows ||
            versions_find_root(master->versions, mount->spider, mount->path, present) != TREE_OK)
                return LAG_UNKNOWN;
        if (memcmp(present, mount->digest, HASH_BYTES) == 0)
                return 0;
        since_sec = versions_outdated_sec(master->versions, mount->spider, mount->revision);
        /* It had come to be before anybody counted: at least since this mount is here. */
        return MAX((int64_t)time(NULL) - (since_sec ?: mount->since_sec), (int64_t)1);
}

struct fleet_sum {
        size_t mounts, behind, unknown;
        int64_t lag_sec;
};

static int sum_up(const struct master *master, struct fleet_sum *ret)
{
        struct fleet_mount *list;
        int n = fleet_list(master->fleet, NULL, SIZE_MAX, &list, NULL);

        *ret = (struct fleet_sum){ 0 };
        if (n < 0)
                return n;
        ret->mounts = (size_t)n;
        for (int i = 0; i < n; i++) {
                int64_t lag_sec = gauges_lag_sec(master, &list[i]);

                ret->behind += lag_sec > 0;
                ret->unknown += lag_sec == LAG_UNKNOWN;
                ret->lag_sec = MAX(ret->lag_sec, lag_sec);
        }
        fleet_list_free(list, (size_t)n);
        return 0;
}

static int format_one(struct buffer *out, const char *name, const char *type, const char *help,
                      uint64_t value)
{
        return buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
                             (unsigned long long)value);
}

static int format_fleet(const struct master *master, struct buffer *out)
{
        struct fleet_sum sum;
        size_t stock;
        int r = sum_up(master, &sum);

        workers_list_stock(master->workers, NULL, 0, NULL, &stock);
        if (r >= 0)
                r = format_one(out, "fsyncfs_workers", "gauge", "Workers seen in the last minute",
                               workers_count(master->workers));
        if (r >= 0)
                r = format_one(out, "fsyncfs_stock_workers", "gauge",
                               "Of these, stock workers, of which it is not known what they have", stock);
        if (r >= 0)
                r = format_one(out, "fsyncfs_mounts", "gauge", "Mounts that are connected", sum.mounts);
        if (r >= 0)
                r = format_one(out, "fsyncfs_mounts_behind", "gauge",
                               "Mounts that show an older version than the present one", sum.behind);
        if (r >= 0)
                r = format_one(out, "fsyncfs_mounts_unknown", "gauge",
                               "Mounts of which it is not known whether they show the present version",
                               sum.unknown);
        return r < 0 ? r
                     : format_one(out, "fsyncfs_mounts_lag_seconds", "gauge",
                                  "For how long the mount that is furthest behind has been so",
                                  (uint64_t)MAX(sum.lag_sec, (int64_t)0));
}

static int format_log(struct buffer *out)
{
        static const char name[] = "fsyncfs_log_lines_total";

        return buffer_printf(out,
                             "# HELP %s Warnings and errors said in the log\n# TYPE %s counter\n"
                             "%s{level=\"warning\"} %llu\n%s{level=\"error\"} %llu\n",
                             name, name, name, (unsigned long long)recent_count(LOG_LEVEL_WARNING), name,
                             (unsigned long long)recent_count(LOG_LEVEL_ERROR));
}

int gauges_format(const struct master *master, struct buffer *out)
{
        char reason[HEALTH_REASON_MAX];
        size_t workspaces = 0;
        int r = buffer_printf(out,
                              "# HELP fsyncfs_build_info What runs here\n# TYPE fsyncfs_build_info gauge\n"
                              "fsyncfs_build_info{version=\"" FSYNCFS_VERSION "\"} 1\n");

        if (r >= 0)
                r = versions_list(master->versions, NULL, 0, &workspaces);
        if (r >= 0)
                r = format_one(out, "fsyncfs_start_time_seconds", "gauge",
                               "Time of day at which the server started", (uint64_t)master->started_sec);
        if (r >= 0)
                r = format_one(out, "fsyncfs_ready", "gauge", "1 if the server serves, as on /readyz",
                               health_get(master->health, reason));
        if (r >= 0)
                r = format_one(out, "fsyncfs_workspaces", "gauge",
                               "Workspaces that somebody has asked for lately", workspaces);
        if (r >= 0)
                r = format_one(out, "fsyncfs_memory_contents_bytes", "gauge",
                               "Contents that are kept in memory, as many want them",
                               content_cache_get_bytes(master->contents));
        if (r >= 0)
                r = format_one(out, "fsyncfs_connections_refused_total", "counter",
                               "Connections beyond the bounds, closed as they came", rpc_gate_refused());
        if (r >= 0)
                r = format_fleet(master, out);
        return r < 0 ? r : format_log(out);
}
