/*
 * A few threads that do what may block: reading folders, hashing files. Two orders of work: `pool_submit` is first come, first
 * served and goes before everything pushed; `pool_push` is last come, first served within a walk of a tree, so that it goes
 * deep before it goes wide and keeps few folders open, and walks take turns. For one of several threads what was pushed goes first: else walks would stand
 * still as long as peers ask for enough of what is submitted.
 * Thread-safe. A job may submit and push further jobs.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

/** So that one peer's share of what takes long is not all of it, and that is not all there is (server/turns.h). */
#define POOL_THREADS_MIN 3

struct pool;

/** Embedded in what the job is about. `run` owns the job: it may free it. */
struct pool_job {
        struct pool_job *next;
        void (*run)(struct pool_job *job);
};

/** Embedded in what walks a tree; zeroed first. */
struct pool_walk {
        struct pool_job *newest;
        struct pool_walk *prev, *next; /* while it has jobs */
};

/** Starts the threads (0: as many as suit the machine, POOL_THREADS_MIN at least and 4 at most). -ENOMEM, -EAGAIN. */
int pool_new(unsigned threads, struct pool **ret);

unsigned pool_threads(const struct pool *pool);

/** Has every job that is still queued run, ends the threads, frees. NULL is fine. */
void pool_free(struct pool *pool);

/** Asks all jobs, those under way included, to end as soon as they can. They are still run, each has somebody to answer. */
void pool_cancel(struct pool *pool);

/** True after pool_cancel: a job that takes long looks here now and then, and fails with -ECANCELED. */
bool pool_cancelled(struct pool *pool);

void pool_submit(struct pool *pool, struct pool_job *job);

/** WALK is needed until all its jobs are run. */
void pool_push(struct pool *pool, struct pool_walk *walk, struct pool_job *job);
