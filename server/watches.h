/*
 * The calls that are open to tell what happens, of Watch, Attend and the health service: they would go on for ever, so whoever stops the server ends them first. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "proto/rpc.h"

struct watches;

/** One call, embedded in what belongs to it. */
struct watches_call {
        struct rpc_call *call; /* set by the owner, who holds a reference */
        struct watches_call *prev, *next;
};

/** -ENOMEM. */
int watches_new(struct watches **ret);

/** NULL is fine. No call may be left. */
void watches_free(struct watches *watches);

/** From now on every call is to end: wakes them, and those that come later find out by themselves. Before rpc_server_stop. */
void watches_stop(struct watches *watches);

/** Wakes every call: there may be something to tell. */
void watches_wake(struct watches *watches);

bool watches_stopping(struct watches *watches);

void watches_add(struct watches *watches, struct watches_call *call);
void watches_remove(struct watches *watches, struct watches_call *call);
