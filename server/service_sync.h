/*
 * grpc.SyncService's listings: StreamFileScan (one request) and SyncFiles (one after another on one call), for our own workers
 * and for stock ones. `service` is a struct master.
 */
#pragma once

#include "proto/rpc.h"

extern const struct rpc_call_ops service_scan_ops;
extern const struct rpc_call_ops service_sync_ops;
