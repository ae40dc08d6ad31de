/*
 * The counters that an operator and the tests read, in one table, so that names, help texts and code cannot drift apart.
 * Process-wide, like the log. Thread-safe and lock-free.
 */
#pragma once

#include "base/buffer.h"
#include "proto/rpc.h"

#define METRICS_COUNTERS(X)                                                                                  \
        X(SCAN_REQUESTS, "fsyncfs_scan_requests_total", "Listings asked for")                                \
        X(STAT_PASSES, "fsyncfs_stat_passes_total", "Walks over all of a workspace")                         \
        X(PARTIAL_PASSES, "fsyncfs_partial_passes_total",                                                    \
          "Looks at what the watcher named and nothing else")                                                \
        X(SCANS, "fsyncfs_scans_total", "Walks and looks that found a new version")                          \
        X(WATCH_EVENTS, "fsyncfs_watch_events_total", "Names that the watcher told")                         \
        X(WATCH_OVERFLOWS, "fsyncfs_watch_overflows_total", "Times that the watcher lost events")            \
        X(FILES_HASHED, "fsyncfs_files_hashed_total", "Files read to be hashed")                             \
        X(DOWNLOADS, "fsyncfs_downloads_total", "Downloads begun")                                           \
        X(BYTES_SENT, "fsyncfs_bytes_sent_total",                                                            \
          "Bytes of file contents and of lists of their pieces sent")                                        \
        X(BYTES_FROM_MEMORY, "fsyncfs_bytes_from_memory_total",                                              \
          "Of these, bytes of contents that were not read from the disk, as others had wanted them shortly " \
          "before")                                                                                          \
        X(ENTRIES_SENT, "fsyncfs_entries_sent_total", "Entries of listings sent")                            \
        X(DELTAS, "fsyncfs_deltas_total", "Listings answered by a difference")                               \
        X(FULL_LISTINGS, "fsyncfs_full_listings_total", "Listings answered by everything")                   \
        X(SNAPSHOTS_BUILT, "fsyncfs_snapshots_built_total", "Snapshots built to be sent to many")            \
        X(METADATA_BYTES_SENT, "fsyncfs_metadata_bytes_sent_total", "Bytes of listings sent")                \
        X(REPORTS, "fsyncfs_reports_total", "Reports of first reads that were merged")                       \
        X(UNKNOWN, "fsyncfs_unknown_entries_total", "Entries that could not be read during a walk")          \
        X(LEFT_OUT, "fsyncfs_left_out_entries_total",                                                        \
          "Sockets, fifos, devices and over-long paths met during a walk")

#define METRICS_ENUM(id, name, help) METRIC_##id,
enum metric {
        METRICS_COUNTERS(METRICS_ENUM) METRIC_COUNT_,
};
#undef METRICS_ENUM

void metrics_add(enum metric metric, uint64_t n);
uint64_t metrics_get(enum metric metric);

/** One call has ended. METHOD is one of WIRE_METHOD_*; anything else counts as "other". */
void metrics_observe_rpc(const char *method, enum rpc_code code, int64_t duration_ns);

/** Appends all of it in Prometheus' text format. -ENOMEM. */
int metrics_format(struct buffer *out);
