/*
 * When the catalog is brought up to date: at first, on demand, every so many seconds, when the master pushes, and when a read finds its content
 * stale. One sync at a time, on a thread of its own; who asks while one runs waits for the next, for only that is sure to see the
 * present. Thread-safe.
 */
#pragma once

#include "sync/scan.h"

struct syncer;

struct syncer_options {
        struct session *session; /* borrowed, as are catalog and store */
        struct catalog *catalog;
        struct store *store;
        unsigned refresh_sec; /* 0: only when asked */
        bool push;            /* listen to what the master pushes, if it can */
        /* A version was committed: has the kernel forget what changed. Takes CHANGES over (it is emptied).
         * From the threads of the syncer, never under a lock. */
        void (*on_changes)(struct catalog_changes *changes, void *arg);
        void *on_changes_arg;
};

struct syncer_stats {
        uint64_t syncs;         /* that succeeded, pushed ones included */
        uint64_t pushes;        /* versions that the master pushed */
        uint64_t full_scans;    /* syncs that had to list all once more, because the digests differed */
        uint64_t full_listings; /* syncs in which everything was listed */
        uint64_t delta_entries; /* entries added, removed or modified, over all syncs */
        uint64_t resumed;       /* transfers that broke off and went on */
        uint64_t fetched_files, fetched_bytes; /* contents fetched ahead of a switch */
        bool watching;                         /* the master's pushes are being listened to */
        struct progress_view progress;
};

/** Starts the thread; no sync yet. */
int syncer_new(const struct syncer_options *options, struct syncer **ret);

/** Ends the thread, after a sync under way; whoever waits, now or later, gets -ECANCELED. session_interrupt first. */
void syncer_stop(struct syncer *syncer);

/** Stops if need be. Nobody may be waiting any more. NULL is fine. */
void syncer_free(struct syncer *syncer);

/** Who waits for the first sync. */
struct syncer_wait {
        int64_t lazy_ms; /* after so long a first version that is not all there yet will do; negative: never */
        void (*tick)(const struct progress_view *view, void *arg); /* now and then; or NULL */
        void *arg;
};

/** Runs the first sync and waits until the tree can be shown. 0 or the scan's error, with a line in FAILURE. */
int syncer_first(struct syncer *syncer, const struct syncer_wait *wait, struct failure *failure);

/**
 * In place of syncer_first, or after it has failed, where the catalog has a version that is shown: what syncer_first would have gone on with, a load, watching, refreshes,
 * is begun, and not waited for.
 */
void syncer_go_on(struct syncer *syncer);

/**
 * Asks for a sync that begins now or later and waits for its end; STAT_PASS: in which the master looks at all its files. 0 or the scan's
 * error, with a line in FAILURE.
 */
int syncer_run(struct syncer *syncer, bool stat_pass, struct failure *failure);

/**
 * Asks for the master's present version, like syncer_run, but only tells PREVIEW what it would change. On the calling thread; no sync begins meanwhile. -EAGAIN: the first
 * version is still on its way; or the scan's error, with a line in FAILURE.
 */
int syncer_preview(struct syncer *syncer, const struct intake_preview *preview, struct failure *failure);

void syncer_get_stats(struct syncer *syncer, struct syncer_stats *ret);
