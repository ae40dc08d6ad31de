#include "sync/handshake.h"

#include <string.h>

#include "base/clock.h"
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

/* How far a clock that showed TIME_MS somewhere between BEGAN_MS and now is ahead of ours: the middle is the best guess. */
static int64_t ahead_by(int64_t time_ms, int64_t began_ms)
{
        int64_t now_ms = clock_wall_ms(), ahead_ms;

        if (time_ms == 0 || __builtin_sub_overflow(time_ms, began_ms + (now_ms - began_ms) / 2, &ahead_ms))
                return HANDSHAKE_NO_CLOCK;
        return ahead_ms;
}

static void parse(const uint8_t *reply, size_t len, int64_t began_ms, struct handshake *ret)
{
        Fsyncfs__V1__HandshakeReply *message = fsyncfs__v1__handshake_reply__unpack(NULL, len, reply);

        *ret = (struct handshake){ .ahead_ms = HANDSHAKE_NO_CLOCK };
        if (!message)
                return;
        ret->protocol = message->protocol;
        ret->learns = has_capability(message, "learned");
        ret->fetches = has_capability(message, "fetch");
        ret->ahead_ms = ahead_by(message->time_ms, began_ms);
        fsyncfs__v1__handshake_reply__free_unpacked(message, NULL);
}

int handshake_run(struct rpc_stream *stream, const char *node, const char *name, struct handshake *ret)
{
        Fsyncfs__V1__HandshakeRequest request = FSYNCFS__V1__HANDSHAKE_REQUEST__INIT;
        const int64_t began_ms = clock_wall_ms();
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
        parse(data, len, began_ms, &answer);
        r = rpc_stream_receive(stream, &data, &len);
        if (r == RPC_MESSAGE)
                return -EPROTO; /* one reply, no more */
        if (r == RPC_END)
                *ret = answer;
        return r;
}
