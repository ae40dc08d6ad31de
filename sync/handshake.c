#include "sync/handshake.h"

#include <string.h>

#include "base/util.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"

static bool has_capability(const Fsyncfs__V1__HandshakeReply *message, const char *name)
{
        for (size_t i = 0; i < message->n_capabilities; i++)
                if (strcmp(message->capabilities[i], name) == 0)
                        return true;
        return false;
}

static void parse(const uint8_t *reply, size_t len, struct handshake *ret)
{
        Fsyncfs__V1__HandshakeReply *message = fsyncfs__v1__handshake_reply__unpack(NULL, len, reply);

        *ret = (struct handshake){ 0 };
        if (!message)
                return;
        ret->protocol = message->protocol;
        ret->learns = has_capability(message, "learned");
        ret->fetches = has_capability(message, "fetch");
        fsyncfs__v1__handshake_reply__free_unpacked(message, NULL);
}

int handshake_run(struct rpc_stream *stream, const char *node, const char *name, struct handshake *ret)
{
        Fsyncfs__V1__HandshakeRequest request = FSYNCFS__V1__HANDSHAKE_REQUEST__INIT;
        struct handshake answer;
        const uint8_t *data;
        size_t len;
        int r;

        request.protocol = WIRE_PROTOCOL;
        request.node_key = (char *)node;
        request.node_name = (char *)name;
        r = wire_send_only(stream, &request.base);
        if (r == 0)
                r = rpc_stream_receive(stream, &data, &len);
        if (r != RPC_MESSAGE)
                return r < 0 ? r : -EPIPE;
        parse(data, len, &answer);
        r = rpc_stream_receive(stream, &data, &len);
        if (r == RPC_MESSAGE)
                return -EPROTO; /* one reply, no more */
        if (r == RPC_END)
                *ret = answer;
        return r;
}
