/*
 * What of the kernel's FUSE a mount uses, and why or why not: one table, filled when the kernel's greeting was answered, and the same until the mount ends.
 * `fsyncfs status` shows it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

struct filesystem;

enum feature_id {
        FEATURE_PASSTHROUGH,
        FEATURE_NO_OPEN,
        FEATURE_NO_OPENDIR,
        FEATURE_READDIRPLUS,
        FEATURE_KEEP_CACHE,
        FEATURE_MAX_READ,
        FEATURE_READ_AHEAD,
        FEATURE_ASYNC_READ,
        FEATURE_PARALLEL_DIROPS,
        FEATURE_SPLICE,
        FEATURE_IO_URING,
        FEATURE_LARGE_FOLIOS,
        FEATURES
};

struct feature {
        bool on;
        uint64_t value;     /* bytes, of what is a size; otherwise 0 */
        const char *reason; /* borrowed, for ever */
};

struct features {
        struct feature list[FEATURES];
};

/**
 * Fills RET for FS, whose kernel has been greeted and whose passthrough is decided. BDI is the device of the mount, "major:minor", or NULL if it is not known.
 */
void feature_collect(const struct filesystem *fs, const char *bdi, struct features *ret);

/** Of the libfuse that this process runs with, "3.14.0"; static. */
const char *feature_libfuse_version(void);

/** An object of objects by name: `on`, `value` (of sizes), `reason`. NULL: out of memory. */
json_t *feature_json(const struct features *features);
