/*
 * How things stand just now, as metrics: what server/metrics.h does not count because it is there to be looked at.
 */
#pragma once

#include "base/buffer.h"
#include "server/fleet.h"
#include "server/master.h"

#define LAG_UNKNOWN (-1)

/** For how many seconds MOUNT has not been showing the present version of what it mounts: 0 if it does, LAG_UNKNOWN. Looks into the workspace's tree. */
int64_t gauges_lag_sec(const struct master *master, const struct fleet_mount *mount);

/** Appends all of them in Prometheus' text format. -ENOMEM. */
int gauges_format(const struct master *master, struct buffer *out);
