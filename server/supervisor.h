/*
 * What the service manager that started this server (systemd) is told of it: from when on it serves, what it is doing, that it reads its files again, that it stops, and, if it
 * is watched, that its event loops turn. Nobody is told anything if nobody wants to hear it. Owned by the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUPERVISOR_STATUS_MAX 320 /* what is longer is cut */

struct rpc_server;

struct supervisor {
        int64_t watchdog_ns; /* 0: we are not watched */
        bool ready;          /* it was told so */
        char status[SUPERVISOR_STATUS_MAX];
};

/** Looks who started this process. */
void supervisor_init(struct supervisor *supervisor);

/** At most this long between two calls of supervisor_watch. */
int64_t supervisor_tick_ns(const struct supervisor *supervisor, int64_t most_ns);

/** STATUS, one line, if it is another than before; and, the first time that READY is true, that start-up is over. */
void supervisor_tell(struct supervisor *supervisor, bool ready, const char *status);

/** Before the files are read again, and after. */
void supervisor_reloading(struct supervisor *supervisor);
void supervisor_reloaded(struct supervisor *supervisor);

/** It stops, for good; CALLS are still under way. */
void supervisor_stopping(struct supervisor *supervisor, unsigned calls);

/**
 * Says that it is alive, unless an event thread of one of the N SERVERS (NULL among them is fine) has not moved for half of the time
 * after which the manager loses its patience. Only calling it says that the main thread is alive.
 */
void supervisor_watch(struct supervisor *supervisor, struct rpc_server *const *servers, size_t n);
