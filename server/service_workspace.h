/*
 * fsyncfs.v1.Workspace: what our own two ends say to each other beside SyncService. `service` is a struct master.
 */
#pragma once

#include "proto/rpc.h"

extern const struct rpc_call_ops service_handshake_ops;
extern const struct rpc_call_ops service_watch_ops;                       /* service_watch.c */
extern const struct rpc_call_ops service_folder_ops;                      /* service_folder.c */
extern const struct rpc_call_ops service_fetch_ops;                       /* service_fetch.c */
extern const struct rpc_call_ops service_attend_ops;                      /* service_attend.c */
extern const struct rpc_call_ops service_report_ops, service_learned_ops; /* service_report.c */
