/*
 * The control socket: what an operator on this machine asks, a gRPC server of its own on a unix socket in the folder of the index, for the server's user and
 * root alone.
 */
#pragma once

#include "base/buffer.h"
#include "server/master.h"

/** Appends "unix:" and the socket's path for a server whose index is in DIR. -ENOMEM. */
int control_address(const char *dir, struct buffer *ret);

/** Listens. MASTER is borrowed. -EADDRINUSE, -ENAMETOOLONG and so on, as rpc_server_listen. */
int control_start(struct master *master, const char *dir, struct rpc_server **ret);
