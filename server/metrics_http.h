/*
 * Serves the metrics over HTTP: GET /metrics, and nothing else. One thread of its own.
 */
#pragma once

#include "server/workers.h"

struct metrics_http;

/**
 * Listens on ADDRESS ("HOST:PORT" with a numeric host, "[V6]:PORT"; port 0: any). RET_PORT gets the port. WORKERS is borrowed.
 * -EINVAL: not an address; -EADDRINUSE and other errors of bind(2); -ENOMEM.
 */
int metrics_http_start(const char *address, struct workers *workers, struct metrics_http **ret,
                       int *ret_port);

/** NULL is fine. */
void metrics_http_stop(struct metrics_http *http);
