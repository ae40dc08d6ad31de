/*
 * How far a sync is, for who looks at it: the terminal of mount and refresh, and `status --json`. Written by the thread that syncs, read by any.
 */
#pragma once

#include <stdint.h>

#include "base/clock.h"

enum progress_phase {
        PROGRESS_IDLE = 0,
        PROGRESS_CONNECTING,
        PROGRESS_WAITING,   /* the master looks at its files */
        PROGRESS_RECEIVING, /* entries come */
        PROGRESS_WRITING,   /* all came; the version is proved and committed */
};

struct progress {
        _Atomic int phase;
        _Atomic uint64_t entries, total_entries; /* total 0: not known */
        _Atomic uint64_t bytes, total_bytes;     /* of the master's messages */
        _Atomic int64_t began_ns;                /* clock_monotonic_ns of the first entry */
};

/** A copy at one moment. */
struct progress_view {
        enum progress_phase phase;
        uint64_t entries, total_entries, bytes, total_bytes;
        int64_t elapsed_ns; /* since the first entry */
};

/** Another phase begins. CONNECTING sets everything back. */
void progress_enter(struct progress *progress, enum progress_phase phase);

void progress_get(struct progress *progress, struct progress_view *ret);

/** "connecting", …; static. */
const char *progress_phase_name(enum progress_phase phase);

/** One line for people, of at most LEN - 1 bytes: entries, bytes, rate, time left. */
void progress_format(const struct progress_view *view, char *buf, size_t len);
