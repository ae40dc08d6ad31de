/*
 * Calls that wait for a long job, and the heartbeat that wakes them twice a second, so that they can tell their worker that
 * the master is alive and at work. Thread-safe.
 */
#pragma once

#include "base/clock.h"
#include "proto/rpc.h"

#define PARKED_QUIET_NS                                                                                      \
        (NSEC_PER_SEC / 4) /* a call that is woken sooner after its last word was woken by something else */

struct parked;

/** One waiting call, embedded in what waits. */
struct parked_call {
        struct rpc_call *call; /* set by the owner, who holds a reference */
        struct parked_call *prev, *next;
};

/** Starts the heartbeat's thread. */
int parked_new(struct parked **ret);

/** NULL is fine. Nothing may be parked any more. */
void parked_free(struct parked *parked);

void parked_add(struct parked *parked, struct parked_call *call);
void parked_remove(struct parked *parked, struct parked_call *call);
