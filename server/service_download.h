/*
 * grpc.SyncService's StreamFileDownload. A worker that says which content it expects gets that content or "stale", never
 * other bytes as complete under its name. `service` is a struct master.
 */
#pragma once

#include "proto/rpc.h"

extern const struct rpc_call_ops service_download_ops;
