/*
 * What `fsyncfs top` shows: samples of the mounts' counters (top_sample.c), and how they look (top_show.c). A thread for each mount asks its daemon, so that one
 * that does not answer holds up neither the others nor the keyboard.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include <jansson.h>

#include "base/lock.h"
#include "base/util.h"
#include "cli/mounts.h"

/** Of one mount, since the sample before. Plain data, but for `counters`. */
struct top_sample {
        char target[256];
        char error[256];  /* why there is no sample; empty: there is */
        json_t *counters; /* a reference: the last ones; NULL: none yet */
        double seconds;   /* between the last two; 0: there is but one */
        double requests, replies, fetched_files, fetched_bytes, waits; /* a second; replies are bytes */
        double hits, misses;                                           /* a second */
};

struct top;

/** Begins to ask all of MOUNTS, which is copied, every INTERVAL_MS. -ENOMEM, -EAGAIN. It goes on until the process ends. */
int top_start(const struct mounts *mounts, unsigned interval_ms, struct top **ret);

/** How many mounts there are. */
size_t top_count(const struct top *top);

/** Copies the last sample of mount I; top_sample_release it. */
void top_get(struct top *top, size_t i, struct top_sample *ret);

void top_sample_release(struct top_sample *sample);

/** Waits until all have a number NTH (1, …) of samples or an error, TIMEOUT_MS at most. */
void top_await(struct top *top, unsigned nth, unsigned timeout_ms);

/** Everything as lines of at most COLUMNS bytes, ROWS at most (0: as many as there are). */
void top_show(struct top *top, FILE *out, int columns, int rows);

/** One object with all samples: `time` and `mounts`. NULL: out of memory. */
json_t *top_json(struct top *top);
