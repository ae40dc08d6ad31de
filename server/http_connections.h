/*
 * Who is connected to the listener for operators (server/http.h), so that a flood costs only who sends it: when there are too many, the oldest connection of the peer that has
 * the most is ended, and never the one that comes. So nobody is kept out, and a connection needs no time to live: until others want its place it is in nobody's way.
 * Zeroed, it is empty; it has nothing to release. Not thread-safe: all calls are of the thread that polls the connections. The descriptors are the caller's.
 */
#pragma once

#include "proto/rpc_gate.h"

#define HTTP_CONNECTIONS_MAX 16

struct http_connection {
        int fd;
        struct rpc_gate_key peer;
};

/** Those that have not been ended, the oldest first; one more while it is looked for which one has to go. */
struct http_connections {
        struct http_connection table[HTTP_CONNECTIONS_MAX + 1];
        unsigned n;
};

/**
 * FD, a connected socket, has come. If that makes too many, another one is shut down, and forgotten here: who polls it sees its end at once, and is to
 * close it. What was not sent on it yet is lost. Does not block.
 */
void http_connections_add(struct http_connections *connections, int fd);

/** FD is about to be closed. One that was shut down is not there any more, which is fine. */
void http_connections_remove(struct http_connections *connections, int fd);
