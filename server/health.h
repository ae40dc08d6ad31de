/*
 * Whether this server serves, and if not, why: for /readyz, the standard health service and the metrics. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#define HEALTH_REASON_MAX 256

struct health;

/** It does not serve yet: "starting". -ENOMEM. */
int health_new(struct health **ret);

/** NULL is fine. */
void health_free(struct health *health);

/** From now on it serves (REASON NULL), or does not for REASON. True if that is news. Once it is stopping nothing changes any more. */
bool health_set(struct health *health, const char *reason);

/** It is stopping, for good. */
void health_stop(struct health *health);

/** Whether it serves; REASON gets why not. */
bool health_get(struct health *health, char reason[HEALTH_REASON_MAX]);
