/*
 * The present version of each workspace, and one scan however many ask for it.
 *
 * A request is answered by a pass that began no earlier than the request came (or, if it allows that, by a recent one). At
 * any time one pass at most runs for a workspace and one waits; all requests that come meanwhile share the one that
 * waits. A pass that finds nothing changed keeps the listing there is.
 * Thread-safe.
 */
#pragma once

#include "server/scanner.h"
#include "server/workspace.h"

struct versions;

struct versions_options {
        const struct workspace_root *root; /* borrowed */
        struct pool *pool;                 /* borrowed; freed before versions_free */
        struct index *index;               /* borrowed */
};

/** -ENOMEM. */
int versions_new(const struct versions_options *options, struct versions **ret);

/** No pass may be under way. NULL is fine. */
void versions_free(struct versions *versions);

/** Embedded in the asker's state, which lives until `done`. */
struct versions_request {
        struct versions_request *next; /* owned by versions meanwhile */
        /* Called exactly once, from a thread of the pool or from within versions_get. 0 with a listing whose reference is now
         * the asker's; or the negative errno of workspace_open_folder or of the pass. Must not block for long. */
        void (*done)(struct versions_request *request, int error, struct listing *listing);
};

/**
 * Asks for folder PATH of SPIDER; a listing at most MAX_AGE_MS old will do (0: a new pass). Does not block.
 * -ENOMEM: `done` does not follow.
 */
int versions_get(struct versions *versions, const char *spider, const char *path, int64_t max_age_ms,
                 struct versions_request *request);

/** Forgets listings that nobody has asked for since IDLE_MS. Call it now and then. */
void versions_expire(struct versions *versions, int64_t idle_ms);
