/*
 * Mutex and condition, annotated for clang's -Wthread-safety. With other compilers the annotations are
 * nothing. The order in which locks may nest is in docs/locking.md.
 */
#pragma once

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"

#if defined(__clang__)
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif

#define TSA_CAPABILITY TSA(capability("mutex"))
/* In C, clang (before 20) cannot name a sibling member here: for the reader only; what is checked is who
 * holds what. */
#define TSA_GUARDED(l)
#define TSA_REQUIRES(l)   TSA(requires_capability(l))
#define TSA_ACQUIRES(...) TSA(acquire_capability(__VA_ARGS__))
#define TSA_RELEASES(...) TSA(release_capability(__VA_ARGS__))
#define TSA_NONE          TSA(no_thread_safety_analysis)

struct TSA_CAPABILITY mutex {
        pthread_mutex_t m;
};

struct condition {
        pthread_cond_t c;
};

static inline void mutex_init(struct mutex *mu)
{
        pthread_mutex_init(&mu->m, NULL);
}

static inline void mutex_release(struct mutex *mu)
{
        pthread_mutex_destroy(&mu->m);
}

static inline void mutex_lock(struct mutex *mu) TSA_ACQUIRES(mu) TSA_NONE;
static inline void mutex_lock(struct mutex *mu)
{
        int r __attribute__((unused)) = pthread_mutex_lock(&mu->m);
        assert(r == 0);
}

static inline void mutex_unlock(struct mutex *mu) TSA_RELEASES(mu) TSA_NONE;
static inline void mutex_unlock(struct mutex *mu)
{
        pthread_mutex_unlock(&mu->m);
}

/** A condition whose timed waits run on CLOCK_MONOTONIC. */
static inline void condition_init(struct condition *co)
{
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&co->c, &attr);
        pthread_condattr_destroy(&attr);
}

static inline void condition_release(struct condition *co)
{
        pthread_cond_destroy(&co->c);
}

static inline void condition_wait(struct condition *co, struct mutex *mu) TSA_REQUIRES(mu)
{
        pthread_cond_wait(&co->c, &mu->m);
}

/** Waits until signalled or DEADLINE_NS (clock_monotonic_ns) has passed; 0 or -ETIMEDOUT. */
static inline int condition_wait_until(struct condition *co, struct mutex *mu, int64_t deadline_ns)
        TSA_REQUIRES(mu)
{
        struct timespec ts = clock_timespec(deadline_ns);
        return -pthread_cond_timedwait(&co->c, &mu->m, &ts);
}

static inline void condition_signal(struct condition *co)
{
        pthread_cond_signal(&co->c);
}

static inline void condition_broadcast(struct condition *co)
{
        pthread_cond_broadcast(&co->c);
}

/** Names the calling thread as ps, top and gdb show it (at most 15 bytes). */
static inline void thread_name(const char *name)
{
        pthread_setname_np(pthread_self(), name);
}
