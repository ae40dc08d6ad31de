/*
 * A file's time as nanoseconds since the epoch.
 */
#pragma once

#include "base/clock.h"
#include "base/entry.h"

/** Kept within what 64 bits of nanoseconds and the wire can hold; no real clock comes near the limits. */
static inline int64_t stamp_ns(const struct timespec *ts)
{
        int64_t sec = MAX(-ENTRY_MTIME_SEC_MAX, MIN(ENTRY_MTIME_SEC_MAX, (int64_t)ts->tv_sec));

        return sec * NSEC_PER_SEC + ts->tv_nsec;
}
