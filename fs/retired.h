/*
 * Has the catalog forget what older versions held (catalog.h, C3) when the kernel does not know it any more: no such file is open, nobody stands in such a folder.
 * The kernel is asked for each of them, so that it is right after a take-over, too. A listing can stand at an entry that the kernel does not know: so
 * all is kept for a day at least.
 *
 * Used by the notifier's thread alone.
 */
#pragma once

#include <stdint.h>

struct bindings;
struct catalog;
struct fuse_session;

struct retired {
        struct fuse_session *fuse; /* borrowed, as are the next three */
        struct catalog *catalog;
        struct bindings *bindings;
        _Atomic uint64_t *forgotten; /* up to which generation rows may be gone, for who takes over */
        int64_t keep_ns;
        int64_t since_ns;    /* 0: not yet */
        uint64_t generation; /* the one of then */
};

/** For how long all is kept: a day, or what tests want. */
int64_t retired_keep_ns(void);

/** The kernel has been told of all that changed up to GENERATION. */
void retired_next(struct retired *retired, uint64_t generation);
