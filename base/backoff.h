/*
 * Pauses with jitter, so that many who lost the same peer in the same moment do not come back in the same moment.
 */
#pragma once

#include <stdint.h>

/** Some number below N, which is not 0. For spreading, not for secrets. */
uint32_t random_below(uint32_t n);

/**
 * When a pause of about *MS (half of it to half as much again), which begins now, is over: monotonic nanoseconds. *MS, which is not 0, doubles for the
 * next one, up to MAX_MS.
 */
int64_t backoff_next_ns(unsigned *ms, unsigned max_ms);
