/*
 * One answer of a master on its way into the catalog: a listing or a difference, in plain entries or packs, from our own master or a stock one.
 * Checks every entry, proves that both ends hold the same tree (promise 8), and knows where a transfer that broke off can go on.
 * Used by one thread.
 */
#pragma once

#include <stdbool.h>

#include "cache/catalog_preview.h"
#include "cache/store.h"
#include "proto/sync_service.pb-c.h"
#include "sync/progress.h"
#include "sync/session.h"

/* As FileScanChunk.strategy says it. */
enum strategy {
        STRATEGY_AUTO = 0,
        STRATEGY_CHANGES,  /* plain entries */
        STRATEGY_BATCHES,  /* packs of a difference */
        STRATEGY_SNAPSHOT, /* packs of everything */
};

struct intake;

struct intake_options {
        struct session *session; /* all borrowed for the intake's life */
        struct catalog *catalog;
        struct store *store; /* NULL: nothing is fetched ahead of a switch */
        struct progress *progress;
};

/** Nothing has come yet. -ENOMEM. */
int intake_new(const struct intake_options *options, struct intake **ret);

/** Drops what was not committed; of a first version what was saved stays. NULL is fine. */
void intake_free(struct intake *intake);

/** The next message. Negative errno with a line in FAILURE: -EPROTO what came is wrong in itself; -ENOENT the master has no such folder. */
int intake_take(struct intake *intake, const Grpc__FileScanChunk *chunk, struct failure *failure);

enum intake_state {
        INTAKE_EMPTY,     /* no entry and no verdict came */
        INTAKE_PARTIAL,   /* some, and the end is missing */
        INTAKE_COMPLETE,  /* ready for intake_commit */
        INTAKE_UNCHANGED, /* the catalog has the master's version; only its number may be new */
        INTAKE_NOTICE,    /* there is a new version to be asked for */
};

/** Where it stands once the stream has ended. A stock master need not mark the end. */
enum intake_state intake_get_state(const struct intake *intake);

/** The transfer can go on after RET_OFFSET bytes of revision RET_REVISION; BASE is the revision it is a difference from. */
bool intake_can_resume(const struct intake *intake, uint64_t *ret_base, uint64_t *ret_revision,
                       uint64_t *ret_offset);

/** The version that is named; zero until something came. */
void intake_get_digest(const struct intake *intake, uint8_t ret[HASH_BYTES]);
uint64_t intake_get_revision(const struct intake *intake);
uint64_t intake_get_base(const struct intake *intake);

/** Whether what came names a version and lists it in full, rather than as a difference from the one that is here. */
bool intake_is_listed_in_full(const struct intake *intake);

struct intake_result {
        struct catalog_changes changes; /* release with catalog_changes_release */
        uint64_t entries;               /* received */
        enum strategy strategy;
        bool difference;                       /* not everything was listed */
        uint64_t fetched_files, fetched_bytes; /* ahead of the switch, see sync/warm.h */
};

/** What a version would change: see catalog_update_preview. */
struct intake_preview {
        int (*each)(const struct catalog_difference *difference, void *arg);
        void *arg;
};

/** In place of intake_commit, for an intake without a store, where the catalog has a version: only tells what that would change. Returns as it. */
int intake_preview(struct intake *intake, const struct intake_preview *preview, struct failure *failure);

/**
 * Makes what came the catalog's version. LAST: also if the master has replaced files meanwhile that are in use; otherwise -ESTALE.
 * CATALOG_MISMATCH: it does not add up to the digest that the master named; negative errno with a line in FAILURE. Then
 * the catalog still has the version from before.
 */
int intake_commit(struct intake *intake, bool last, struct intake_result *ret, struct failure *failure);
