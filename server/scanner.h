/*
 * One pass over a workspace: walks all folders in parallel on the pool's threads, each opened beneath its parent's descriptor,
 * and makes a listing. Files whose stamp the index knows are not read.
 *
 * What changes while it is walked harms nothing: what vanished is left out, what cannot be read is "unknown", a file's
 * hash and stamp always belong together. Entries' metadata is no older than the pass.
 */
#pragma once

#include "server/index.h"
#include "server/listing.h"
#include "server/pool.h"

struct scanner {
        struct pool *pool; /* both borrowed */
        struct index *index;
};

/**
 * Called once from a thread of the pool. 0 with LISTING, now the callee's and without a revision yet; or a negative errno
 * with NULL: the top folder could not be read, -ENOMEM, -ECANCELED (pool_cancel).
 */
typedef void (*scanner_done_fn)(void *arg, int error, struct listing *listing);

/**
 * Begins a pass over the folder FD (taken, also on failure). LABEL names it in the log (copied). Does not block; DONE comes
 * after a return of 0 only. -ENOMEM.
 */
int scanner_start(const struct scanner *scanner, int fd, const char *label, scanner_done_fn done, void *arg);
