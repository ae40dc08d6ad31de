/*
 * grpc.health.v1.Health, the standard health service: for load balancers and orchestrators, which have no token, so it asks for none and tells nothing
 * else. `service` is a struct master.
 */
#pragma once

#include "proto/rpc.h"

extern const struct rpc_call_ops service_health_check_ops, service_health_watch_ops;
