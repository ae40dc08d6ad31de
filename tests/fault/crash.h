/*
 * What a power cut leaves of a folder of which all calls were recorded (tests/fault/recorder.h).
 *
 * Orders of what a file system may have done with what was not synced:
 *  CRASH_EXACT    everything before the cut is there, nothing after it (kill -9, too)
 *  CRASH_ORDERED  as a journaling file system: names, lengths and attributes up to some point after the last fsync of anything, all in order; of the bytes that
 *                 were not synced any sectors of 512, whatever came before or after them. What is missing of a file is a hole, or its end
 *  CRASH_LOOSE    as one without a journal: an fsync is for that file or folder alone; of everything else each change may be missing by itself,
 *                 but for folders: those are there
 */
#pragma once

#include "tests/fault/recorder.h"

enum crash_order {
        CRASH_EXACT = 0,
        CRASH_ORDERED,
        CRASH_LOOSE,
};

struct crash_plan {
        enum crash_order order;
        size_t cut;    /* so many records came before it */
        uint64_t seed; /* of what is missing; CRASH_EXACT: none */
};

/** Makes folder FOLDER, which is empty, what PLAN leaves of RECORDS. */
void crash_make(const struct record *records, const struct crash_plan *plan, const char *folder);
