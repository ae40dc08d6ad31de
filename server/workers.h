/*
 * Which workers there are, by the node key that they send: for the gauge fsyncfs_workers only. Thread-safe.
 */
#pragma once

#include "base/util.h"

struct workers;
struct worker;

/** -ENOMEM. */
int workers_new(struct workers **ret);

/** NULL is fine. */
void workers_free(struct workers *workers);

/** A call of worker KEY begins. NULL if it is not counted (no key, too many workers, no memory). */
struct worker *workers_enter(struct workers *workers, const char *key);

/** The call is over. NULL is fine. */
void workers_leave(struct workers *workers, struct worker *worker);

/** Workers with a call under way or seen within the last minute. */
unsigned workers_count(struct workers *workers);
