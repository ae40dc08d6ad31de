#include "server/master.h"

#include "proto/wire.h"
#include "server/access.h"
#include "server/metrics.h"
#include "server/service_download.h"
#include "server/service_health.h"
#include "server/service_sync.h"
#include "server/service_workspace.h"

#define PEERS_WORTH 4 /* as many peers may hold all that one may hold */
#define FILES_LEAST 16
#define WANTS_BYTES ((size_t)256 << 20) /* a mount that waits for all it can has half a MiB of wants */
#define LISTS_BYTES ((size_t)256 << 20) /* a file of 256 GiB has a list of 16 MiB */

static const struct rpc_method methods[] = {
        { WIRE_METHOD_SCAN, &service_scan_ops },
        { WIRE_METHOD_SYNC, &service_sync_ops },
        { WIRE_METHOD_DOWNLOAD, &service_download_ops },
        { WIRE_METHOD_HANDSHAKE, &service_handshake_ops },
        { WIRE_METHOD_WATCH, &service_watch_ops },
        { WIRE_METHOD_LIST_FOLDER, &service_folder_ops },
        { WIRE_METHOD_FETCH, &service_fetch_ops },
        { WIRE_METHOD_REPORT, &service_report_ops },
        { WIRE_METHOD_LEARNED, &service_learned_ops },
        { WIRE_METHOD_ATTEND, &service_attend_ops },
        { WIRE_METHOD_HEALTH_CHECK, &service_health_check_ops },
        { WIRE_METHOD_HEALTH_WATCH, &service_health_watch_ops },
};

static void observe(void *service, const char *method, enum rpc_code code, int64_t duration_ns)
{
        metrics_observe_rpc(method, code, duration_ns);
}

/*
 * What peers may hold. DESCRIPTORS is the limit of open files: connections have most of them (main.c), files have half of the rest. One of the pool's THREADS
 * is left for walks and listings, and no peer may have all of the others.
 */
static void set_shares(struct rpc_share *shares, unsigned descriptors, unsigned threads)
{
        size_t files = MAX(descriptors / 8, FILES_LEAST);

        shares[RPC_FILES] = (struct rpc_share){ .peer = files / PEERS_WORTH, .all = files };
        shares[RPC_WANTS] = (struct rpc_share){ .peer = WANTS_BYTES / PEERS_WORTH, .all = WANTS_BYTES };
        shares[RPC_LISTS] = (struct rpc_share){ .peer = LISTS_BYTES / PEERS_WORTH, .all = LISTS_BYTES };
        shares[RPC_SPARE_LISTS] = shares[RPC_LISTS];
        shares[RPC_HASHINGS] = (struct rpc_share){ .peer = threads / 2, .all = threads - 1 };
        shares[RPC_GATHERINGS] = (struct rpc_share){ .peer = threads - 1, .all = threads }; /* short ones */
}

void master_rpc_options(struct master *master, unsigned descriptors, struct rpc_server_options *ret)
{
        *ret = (struct rpc_server_options){
                .methods = methods,
                .n_methods = ARRAY_SIZE(methods),
                .service = master,
                .guard = master->tokens ? &access_guard : NULL,
                .guard_context = master->tokens,
                .observe = observe,
        };
        set_shares(ret->limits.shares, descriptors, pool_threads(master->pool));
}
