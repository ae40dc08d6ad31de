/*
 * The first exchange with a master: what it speaks, and what it can do. Also how a master is asked whether it is there.
 */
#pragma once

#include "base/failure.h"
#include "proto/rpc.h"

struct handshake {
        uint32_t protocol;    /* what it speaks; 0: nothing sensible */
        bool learns, fetches; /* see session_learns, session_fetches */
        int64_t ahead_ms;     /* see session_get_clock; HANDSHAKE_NO_CLOCK: it does not say */
};

#define HANDSHAKE_NO_CLOCK INT64_MIN

/**
 * Says that we are NODE, for people NAME, over STREAM, just opened, and waits for the reply; the stream is its owner's to finish. 0; -EPIPE: there was none, and
 * the stream's status says why; -ENOMEM; or as rpc_stream_receive.
 */
int handshake_run(struct rpc_stream *stream, const char *node, const char *name, struct handshake *ret);
