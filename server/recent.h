/*
 * The last lines of the log that are warnings or errors, for the status page. Process-wide, like the log. Thread-safe; a leaf lock.
 */
#pragma once

#include <stdint.h>

#include "base/log.h"

#define RECENT_MAX      50
#define RECENT_LINE_MAX 400

struct recent_line {
        int64_t at_sec; /* time of day */
        enum log_level level;
        char text[RECENT_LINE_MAX]; /* printable; cut if longer */
};

/** From now on they are kept. Before threads start. */
void recent_begin(void);

/** The last ones, the newest first: how many. */
unsigned recent_list(struct recent_line ret[RECENT_MAX]);

/** How many lines of LEVEL, warning or error, there were. */
uint64_t recent_count(enum log_level level);
