/*
 * What an operator and a machine that watches over us see, over HTTP: / and /status.json (server/status.h), /metrics, /healthz (it is alive) and
 * /readyz (it serves; 503 with the reason otherwise). Nothing can be changed here. One thread of its own.
 */
#pragma once

#include "server/master.h"

struct http;

/**
 * Listens on ADDRESS ("HOST:PORT" with a numeric host, "[V6]:PORT"; port 0: any). RET_PORT gets the port. MASTER, of which all but `address` is set,
 * and RPC are borrowed.
 * -EINVAL: not an address; -EADDRINUSE and other errors of bind(2); -ENOMEM.
 */
int http_start(const char *address, const struct master *master, const struct rpc_server *rpc,
               struct http **ret, int *ret_port);

/** NULL is fine. */
void http_stop(struct http *http);
