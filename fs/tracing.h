/*
 * `fsyncfs trace`, `explain` and `top` at the daemon's end: what fs/trace.h has seen, as JSON. The keys are a contract with scripts (docs/commands.md).
 */
#pragma once

#include <stdint.h>

#include <jansson.h>

struct filesystem;

/** A line of JSON for each wait that ends from now on, until the peer of FD hangs up, or STOP_FD becomes readable. Blocks. */
void tracing_serve(struct filesystem *fs, int fd, int stop_fd);

/** The tasks whose process is PID, or, if CGROUP is not NULL, that are in it or below it. NULL: out of memory. */
json_t *tracing_tasks_json(struct filesystem *fs, int pid, const char *cgroup);

/** Counters of requests, and the slowest of the last waits. Cheap: for who asks every second. NULL: out of memory. */
json_t *tracing_counters_json(struct filesystem *fs);
