/*
 * For LD_PRELOAD: the wall clock of one process, shifted by what the file named by FSYNCFS_CLOCK says (nanoseconds, an int64_t), which may change at any
 * time. Waits until a wall clock's time (abseil's, below gRPC) get the shift taken off again when they begin; unlike with a real clock, one under way
 * does not notice a jump.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/interpose.h"

#define SEC INT64_C(1000000000)

static const volatile int64_t *shift;

__attribute__((constructor)) static void map_shift(void)
{
        const char *path = getenv("FSYNCFS_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *at = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

        if (fd >= 0)
                close(fd);
        if (at != MAP_FAILED)
                shift = at;
}

static struct timespec shifted(struct timespec ts, int64_t by)
{
        int64_t ns = ts.tv_sec * SEC + ts.tv_nsec + by;

        return (struct timespec){ .tv_sec = ns / SEC, .tv_nsec = ns % SEC };
}

PUBLIC int clock_gettime(clockid_t clock, struct timespec *ts)
{
        int r = (int)syscall(SYS_clock_gettime, clock, ts);

        if (r == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                *ts = shifted(*ts, *shift);
        return r;
}

PUBLIC int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
        struct timespec ts;
        int r = clock_gettime(CLOCK_REALTIME, &ts);

        (void)zone;
        *tv = (struct timeval){ .tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000 };
        return r;
}

PUBLIC time_t time(time_t *ret)
{
        struct timespec ts = { 0 };

        clock_gettime(CLOCK_REALTIME_COARSE, &ts);
        if (ret)
                *ret = ts.tv_sec;
        return ts.tv_sec;
}

PUBLIC long syscall(long number, ...)
{
        struct timespec until;
        long a[6];

        ARGUMENTS_AFTER(number, a);
        if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && a[3] && shift) {
                until = shifted(*(const struct timespec *)a[3], -*shift);
                a[3] = (long)&until;
        }
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
