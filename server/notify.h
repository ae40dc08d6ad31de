/*
 * sd_notify(3) and what belongs to it, or, in notify_none.c, a build without libsystemd, which has nobody to tell. What is told: server/supervisor.h.
 */
#pragma once

#include <stdint.h>

/** Sends TEXT, lines of VARIABLE=VALUE, to who started this process, if they want to hear it. Does not block for long. */
void notify_send(const char *text);

/** Within how long they want to hear WATCHDOG=1 again and again; 0: they do not. */
int64_t notify_watchdog_ns(void);
