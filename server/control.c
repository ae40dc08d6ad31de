#include "server/control.h"

#include <sys/stat.h>

#include "proto/wire.h"
#include "server/service_fence.h"

static const struct rpc_method methods[] = {
        { WIRE_METHOD_FENCE, &service_fence_ops },
};

int control_address(const char *dir, struct buffer *ret)
{
        return buffer_printf(ret, "unix:%s/control", dir);
}

static int listen_privately(struct rpc_server *rpc, const char *address)
{
        mode_t before = umask(0077);
        int r = rpc_server_listen(rpc, address, NULL);

        umask(before);
        return r;
}

int control_start(struct master *master, const char *dir, struct rpc_server **ret)
{
        const struct rpc_server_options options = {
                .methods = methods,
                .n_methods = ARRAY_SIZE(methods),
                .service = master,
                .threads = 1,
        };
        _cleanup_buffer_ struct buffer address = { 0 };
        struct rpc_server *rpc;
        int r = control_address(dir, &address);

        if (r >= 0)
                r = rpc_server_new(&options, &rpc);
        if (r < 0)
                return r;
        r = listen_privately(rpc, address.data);
        if (r >= 0)
                r = rpc_server_start(rpc);
        if (r < 0) {
                rpc_server_free(rpc);
                return r;
        }
        *ret = rpc;
        return 0;
}
