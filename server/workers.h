/*
 * Which workers there are, by the node key that they send: for the gauge fsyncfs_workers, and to name stock workers, who say nothing
 * else. Thread-safe.
 */
#pragma once

#include "base/path.h"

#define WORKERS_TEXT_MAX 129 /* longer keys count by their beginning */

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

/** What worker WORKER last did as a stock one: it asked for SPIDER, from ADDRESS. NULL is fine. */
void workers_note_stock(struct workers *workers, struct worker *worker, const char *spider,
                        const char *address);

/** A stock worker seen within the last minute. What it says of itself is hostile. */
struct workers_stock {
        char key[WORKERS_TEXT_MAX];
        char address[WORKERS_TEXT_MAX];
        char spider[PATH_NAME_MAX + 1];
};

/** The first MAX of those that asked for SPIDER (NULL: for any) last: how many are in RET; RET_ALL gets how many there are. */
size_t workers_list_stock(struct workers *workers, const char *spider, size_t max, struct workers_stock *ret,
                          size_t *ret_all);

/** Workers with a call under way or seen within the last minute. */
unsigned workers_count(struct workers *workers);
