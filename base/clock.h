/*
 * Time: monotonic for deadlines, wall clock for stamps. All in nanoseconds or milliseconds, as the names say.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)

/** Nanoseconds of CLOCK_MONOTONIC: for deadlines and durations. */
static inline int64_t clock_monotonic_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/** Nanoseconds since the epoch, by the clock that stamps file times (no finer than the kernel's tick). */
static inline int64_t clock_coarse_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME_COARSE, &ts);
        return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/** Milliseconds since the epoch, by the wall clock. */
static inline int64_t clock_wall_ms(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / NSEC_PER_MSEC;
}

/** Seconds since the epoch. */
static inline int64_t clock_wall_sec(void)
{
        return (int64_t)time(NULL);
}

/** Splits nanoseconds since the epoch so that the remainder is 0..999999999, also before 1970. */
static inline struct timespec clock_timespec(int64_t ns)
{
        int64_t sec = ns / NSEC_PER_SEC, rest = ns % NSEC_PER_SEC;
        if (rest < 0) {
                rest += NSEC_PER_SEC;
                sec--;
        }
        return (struct timespec){ .tv_sec = sec, .tv_nsec = rest };
}

/** Whether both are the same instant. */
static inline bool clock_same(struct timespec a, struct timespec b)
{
        return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}
