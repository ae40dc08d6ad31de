/*
 * What the units of the syncer share: syncer.c decides when a sync runs and has it done; syncer_push.c takes what the master pushes.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "sync/syncer.h"
#include "sync/watch.h"

#define HAD_MAX 64 /* versions of which it is known that they were here */

struct syncer {
        struct syncer_options options;
        struct progress progress;
        struct mutex lock;
        struct condition work;              /* a sync is wanted, or stopping */
        struct condition outcome;           /* a sync has ended, or the turn is free */
        uint64_t wanted TSA_GUARDED(lock);  /* tickets given out */
        uint64_t ended TSA_GUARDED(lock);   /* tickets answered */
        bool stat_pass TSA_GUARDED(lock);   /* one of those who wait wants one */
        int64_t due_ns TSA_GUARDED(lock);   /* when the next sync comes by itself; INT64_MAX: never */
        int64_t check_ns TSA_GUARDED(lock); /* when it is asked whether all was pushed; INT64_MAX: never */
        int64_t begun_ns TSA_GUARDED(lock); /* when the last sync began */
        bool turn TSA_GUARDED(lock);  /* somebody, this thread or the watch's, is changing the catalog */
        int result TSA_GUARDED(lock); /* of the last sync */
        struct failure failure TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
        atomic_bool synced; /* once at least; never reset */
        pthread_t thread;
        bool started;
        /* Where the version there is comes from, and those that were here, the oldest overwritten first; owned by who has the turn. */
        const char *origin; /* of session_get_address; NULL: not known */
        uint8_t had[HAD_MAX][HASH_BYTES];
        unsigned n_had;
        struct watch *_Atomic watch; /* owned; made by the thread after the first sync */
        _Atomic uint64_t syncs, pushes, full_scans, full_listings, delta_entries, resumed;
        _Atomic uint64_t fetched_files, fetched_bytes;
};

/* ---- syncer.c ---- */

/** Who has it may change the catalog; waits for it. False: stopping. */
bool syncer_turn_take(struct syncer *s);

void syncer_turn_give(struct syncer *s);

/** A sync begins at DUE_NS, or earlier. */
void syncer_make_due(struct syncer *s, int64_t due_ns);

/** The version that is in the catalog now is MASTER's, too. Of who has the turn. */
void syncer_note_origin(struct syncer *s, const char *master);

/** RESULT was committed, HOW: counts it, and tells the owner. */
void syncer_take_result(struct syncer *s, struct intake_result *result, const char *how);

/* ---- syncer_push.c ---- */

/** Listens to pushes, if they are wanted and a master that has answered can push. Of the thread. */
void syncer_begin_watching(struct syncer *s);
