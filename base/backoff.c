#include "base/backoff.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/util.h"

uint32_t random_below(uint32_t n)
{
        uint32_t random = 0;

        getrandom(&random, sizeof(random), 0);
        return random % n;
}

int64_t backoff_next_ns(unsigned *ms, unsigned max_ms)
{
        int64_t until_ns = clock_monotonic_ns() + (int64_t)(*ms / 2 + random_below(*ms)) * NSEC_PER_MSEC;

        *ms = MIN(*ms * 2, max_ms);
        return until_ns;
}
