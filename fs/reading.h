/*
 * Which files the kernel is being answered reads of just now. A page that is being read is locked until its read is answered, and who pushes it (fs/pagecache.h) waits for that in the
 * kernel, beyond any signal. So nothing is pushed that is being read: the answer brings the same bytes.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define READING_SLOTS 1024

/** Zero: nothing is being read. Thread-safe. Files share slots: one may seem to be read because another one is. */
struct reading {
        atomic_uint counts[READING_SLOTS];
};

static inline atomic_uint *reading_slot(struct reading *reading, uint64_t ino)
{
        return &reading->counts[ino % READING_SLOTS];
}

static inline void reading_begin(struct reading *reading, uint64_t ino)
{
        atomic_fetch_add(reading_slot(reading, ino), 1);
}

/** After the answer. */
static inline void reading_end(struct reading *reading, uint64_t ino)
{
        atomic_fetch_sub(reading_slot(reading, ino), 1);
}

static inline bool reading_has(struct reading *reading, uint64_t ino)
{
        return atomic_load(reading_slot(reading, ino)) > 0;
}
