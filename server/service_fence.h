/*
 * fsyncfs.v1.Control: what an operator on this machine asks. Served on the control socket alone (server/control.h); `service` is a struct master.
 */
#pragma once

#include "proto/rpc.h"

extern const struct rpc_call_ops service_fence_ops;
