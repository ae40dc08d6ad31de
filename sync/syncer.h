/*
 * When the catalog is brought up to date: on demand, every so many seconds, and when a read finds its content
 * stale. One scan at a time, on a thread of its own; who asks while one runs waits for the next, for only
 * that is sure to see the present. Thread-safe.
 */
#pragma once

#include "sync/scan.h"

struct syncer;

struct syncer_options {
        struct session *session; /* borrowed, as are catalog and store */
        struct catalog *catalog;
        struct store *store;
        unsigned refresh_sec; /* 0: only when asked */
        /* A version was committed: has the kernel forget what changed. Takes CHANGES over (it is emptied).
         * From the syncer's thread, never under a lock. */
        void (*on_changes)(struct catalog_changes *changes, void *arg);
        void *on_changes_arg;
};

struct syncer_stats {
        uint64_t syncs;         /* that succeeded */
        uint64_t full_scans;    /* syncs that had to list all once more, because the digests differed */
        uint64_t delta_entries; /* entries added, removed or modified, over all syncs */
        uint64_t fetched_files, fetched_bytes; /* contents fetched ahead of a switch */
};

/** Starts the thread; no sync yet. */
int syncer_new(const struct syncer_options *options, struct syncer **ret);

/** Ends the thread, after a sync under way; whoever waits, now or later, gets -ECANCELED. */
void syncer_stop(struct syncer *syncer);

/** Stops if need be. Nobody may be waiting any more. NULL is fine. */
void syncer_free(struct syncer *syncer);

/** Asks for a sync that begins now or later and waits for its end. 0 or the scan's error, with a line in
 * FAILURE. */
int syncer_run(struct syncer *syncer, struct failure *failure);

/** Counts a scan that was run elsewhere (the mount's first). */
void syncer_count(struct syncer *syncer, const struct scan_result *result);

void syncer_get_stats(struct syncer *syncer, struct syncer_stats *ret);
