/*
 * All catalogs of a cache folder, from beside the mounts that use them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct catalog_verified {
        uint64_t catalogs; /* that were looked at */
        uint64_t damaged;
        uint64_t removed; /* of these */
};

/** A damaged database; REMOVED: it is gone, and the next mount begins it anew. */
typedef void (*catalog_verify_fn)(const char *path, bool removed, void *arg);

/**
 * Reads every catalog in cache folder DIR whole, and says whether it is what its digest says. REPAIR: removes a damaged one, unless a mount uses
 * it, and moves the logs of the others into their databases. 0, or negative errno where one could not be read at all.
 */
int catalog_verify_all(const char *dir, bool repair, catalog_verify_fn hear, void *arg,
                       struct catalog_verified *ret);

struct catalog_collected {
        uint64_t unused;        /* catalogs that were removed */
        uint64_t damaged_files; /* of what was once moved aside */
        uint64_t bytes;         /* of both, on the disk */
};

/**
 * Removes from cache folder DIR the catalogs from which nothing has been mounted for UNUSED_SEC seconds, and the damaged ones that were moved aside. The next mount of such a
 * SOURCE begins a catalog anew. 0 or negative errno.
 */
int catalog_collect(const char *dir, int64_t unused_sec, struct catalog_collected *ret);
