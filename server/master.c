#include "server/master.h"

#include "proto/wire.h"
#include "server/access.h"
#include "server/metrics.h"
#include "server/service_download.h"
#include "server/service_health.h"
#include "server/service_sync.h"
#include "server/service_workspace.h"

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

void master_rpc_options(struct master *master, struct rpc_server_options *ret)
{
        *ret = (struct rpc_server_options){
                .methods = methods,
                .n_methods = ARRAY_SIZE(methods),
                .service = master,
                .guard = master->tokens ? &access_guard : NULL,
                .guard_context = master->tokens,
                .observe = observe,
        };
}
