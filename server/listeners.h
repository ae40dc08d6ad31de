/*
 * Where the server listens: what --listen says, or the default; and the refusal to listen for other machines when whoever comes could read
 * everything.
 */
#pragma once

#include "base/buffer.h"
#include "proto/rpc.h"
#include "server/options.h"

/**
 * Has RPC listen. RET_ADDRESS gets the first address that another machine could use, with NAME, this machine's, for a wildcard; it stays empty if there
 * is none. Negative errno, and the log says why: -EPERM is the refusal.
 */
int listeners_open(const struct options *options, struct rpc_server *rpc, const char *name,
                   struct buffer *ret_address);

/** Appends ADDRESS, as written but with PORT, to RET. -ENOMEM. */
int listeners_set_port(const char *address, int port, struct buffer *ret);
