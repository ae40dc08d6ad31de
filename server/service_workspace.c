#include "server/service_workspace.h"

#include "base/clock.h"
#include "base/util.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "server/master.h"

#define REQUEST_MAX 65536

/* The call needs no state of its own: it is the master. */
static int handshake_start(struct rpc_call *call, void *service, void **ret_state)
{
        rpc_call_receive(call);
        *ret_state = service;
        return 0;
}

static void send_reply(struct rpc_call *call, const struct master *master, uint32_t protocol)
{
        Fsyncfs__V1__HandshakeReply reply = FSYNCFS__V1__HANDSHAKE_REPLY__INIT;
        char *capabilities[] = { (char *)"ranges", (char *)"expected-hash", (char *)"unchanged",
                                 (char *)"delta",  (char *)"packs",         (char *)"watch",
                                 (char *)"fetch",  (char *)"learned",       (char *)"pieces" };
        char *masters[] = { (char *)master->address };
        uint8_t *data;
        size_t len;

        reply.protocol = protocol;
        reply.server_version = (char *)FSYNCFS_VERSION;
        reply.server_name = (char *)master->name;
        reply.capabilities = capabilities;
        reply.n_capabilities = ARRAY_SIZE(capabilities);
        reply.masters = masters;
        reply.n_masters = master->address[0] ? ARRAY_SIZE(masters) : 0;
        reply.time_ms = clock_wall_ms();
        len = fsyncfs__v1__handshake_reply__get_packed_size(&reply);
        data = malloc(len);
        if (!data) {
                rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        fsyncfs__v1__handshake_reply__pack(&reply, data);
        rpc_call_send(call, &(struct rpc_frame){
                                    .body = data, .body_len = len, .release = free, .release_arg = data });
}

static void handshake_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        const struct master *master = state;
        Fsyncfs__V1__HandshakeRequest *request;
        struct wire_arena arena;
        uint32_t protocol;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (Fsyncfs__V1__HandshakeRequest *)wire_unpack(&fsyncfs__v1__handshake_request__descriptor,
                                                               &arena.allocator, data, len);
        protocol = request ? MIN(request->protocol, (uint32_t)WIRE_PROTOCOL) : 0;
        if (protocol > 0)
                workers_leave(master->workers, workers_enter(master->workers, request->node_key));
        wire_arena_release(&arena);
        if (protocol == 0)
                rpc_call_finish(call, RPC_INVALID_ARGUMENT, "not a HandshakeRequest of protocol 1 or later");
        else
                send_reply(call, master, protocol);
}

static void handshake_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void handshake_writable(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_OK, NULL);
}

static void handshake_closed(struct rpc_call *call, void *state)
{
}

const struct rpc_call_ops service_handshake_ops = {
        .start = handshake_start,
        .message = handshake_message,
        .half_close = handshake_half_close,
        .writable = handshake_writable,
        .closed = handshake_closed,
};
