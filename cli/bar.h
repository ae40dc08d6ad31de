/*
 * How far something is: on a terminal one line that is written over again and again (a bar, how much, how fast, how long yet), otherwise a plain line
 * now and then. To standard error.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bar {
        const char *label; /* borrowed */
        bool terminal;
        int64_t began_ns, shown_ns; /* of the monotonic clock */
        bool dirty;                 /* a line stands on the terminal */
};

struct bar_state {
        uint64_t bytes, total_bytes;
        uint64_t moved_bytes; /* of `bytes`, those that were not there before: what the rate is of */
        bool counted;         /* the total is all there is */
};

/** Begins. LABEL, a name that is not ours, may be cut and is made printable when it is shown. */
void bar_begin(struct bar *bar, const char *label);

/** Shows STATE, if it is time. */
void bar_show(struct bar *bar, const struct bar_state *state);

/** Takes the line off the terminal, so that something else may be printed. */
void bar_clear(struct bar *bar);
