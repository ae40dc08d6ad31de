/*
 * A small service for the tests of rpc: it echoes, counts, floods, waits, refuses. Counters say what happened; whoever tests waits
 * for one to reach a value.
 */
#pragma once

#include "base/lock.h"
#include "proto/rpc_guard.h"

#define METHOD_ECHO   "/test.Test/Echo"   /* every message comes back; OK at the end */
#define METHOD_COUNT  "/test.Test/Count"  /* "N SIZE": N messages of SIZE bytes, the last of them numbered */
#define METHOD_FLOOD  "/test.Test/Flood"  /* messages of FLOOD_BYTES without end */
#define METHOD_WAIT   "/test.Test/Wait"   /* silent until woken by service_wake_all, then "awake" and OK */
#define METHOD_FAIL   "/test.Test/Fail"   /* cannot be started */
#define METHOD_STATUS "/test.Test/Status" /* "CODE TEXT": ends so */

#define FLOOD_BYTES (64 << 10)

struct service {
        struct mutex mutex;
        struct condition changed;
        unsigned started, closed, ended, woken, half_closed; /* guarded by mutex, as all here */
        unsigned passes, passes_released, revoked;           /* of service_guard */
        unsigned sent, released;                             /* bodies given to gRPC, given back */
        enum rpc_code last_code;
        char last_method[64];
        struct rpc_call *waiting[64]; /* references */
        unsigned n_waiting;
        char peer[128]; /* of the last call */
};

extern const struct rpc_method service_methods[];
extern const size_t service_n_methods;

void service_init(struct service *service);
void service_release(struct service *service);

/** Waits until *COUNTER is at least VALUE; fails the test after 20 seconds. */
void service_await(struct service *service, const unsigned *counter, unsigned value);

/** *COUNTER now. */
unsigned service_read(struct service *service, const unsigned *counter);

/** Wakes every call of METHOD_WAIT there has been, also those that have ended, and drops the references. */
void service_wake_all(struct service *service);

/** Lets in whoever brings "secret"; refuses the message "forbid", and, once `revoked` is not 0, to send anything. */
extern const struct rpc_guard_ops service_guard;

void service_observe(void *arg, const char *method, enum rpc_code code, int64_t duration_ns);
