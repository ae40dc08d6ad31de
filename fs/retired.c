#include "fs/retired.h"

#include <stdatomic.h>
#include <string.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/catalog.h"
#include "fs/bindings.h"

#define KEEP_SEC (24 * 60 * 60)

int64_t retired_keep_ns(void)
{
        const char *text = getenv("FSYNCFS_TEST_RETIRED_SEC");

        return (text ? strtol(text, NULL, 10) : KEEP_SEC) * NSEC_PER_SEC;
}

/* That an inode's attributes are to be asked for again costs little, waits for nothing in the kernel, and tells of one that it does not know. */
static bool is_known(const struct retired *retired, uint64_t ino)
{
        return fuse_lowlevel_notify_inval_inode(retired->fuse, ino, -1, 0) != -ENOENT;
}

/* By itself, or for a number that is bound to it. */
static bool is_held(uint64_t ino, void *arg)
{
        const struct retired *retired = arg;
        uint64_t bound;

        while ((bound = bindings_find_bound(retired->bindings, ino)) != 0)
                if (is_known(retired, bound) || bindings_drop(retired->bindings, bound) < 0)
                        return true;
        return is_known(retired, ino);
}

void retired_next(struct retired *retired, uint64_t generation)
{
        int64_t now_ns = clock_monotonic_ns();
        int r = 0;

        if (retired->since_ns != 0 && now_ns - retired->since_ns < retired->keep_ns)
                return;
        if (retired->since_ns != 0) {
                atomic_store(retired->forgotten, retired->generation);
                r = catalog_forget(retired->catalog, retired->generation, is_held, retired);
        }
        if (r < 0)
                log_warning("the catalog keeps what older versions held for now: %s", strerror(-r));
        retired->generation = generation;
        retired->since_ns = now_ns;
}
