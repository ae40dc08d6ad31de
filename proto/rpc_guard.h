/*
 * Who may call what on a server: hooks that the runtime asks, so that no method has to.
 */
#pragma once

#include "proto/rpc.h"

/** What is known of who calls; borrowed for the callback. */
struct rpc_caller {
        const char *authorization; /* the metadata's value; NULL: none was sent */
        const char *certificate;   /* the common name in the certificate that TLS verified; NULL: none */
        const char *peer;          /* the address, for the log */
};

/**
 * Who may call what. Asked for every call and every message of every method, so that none can forget it. Any thread, for one call one at a
 * time. All hooks are mandatory.
 */
struct rpc_guard_ops {
        /* Before `start`: RPC_OK lets the call in, with RET_PASS as what the other hooks get; anything else is its status. METHOD is the known name or
         * "other". */
        enum rpc_code (*admit)(void *context, const char *method, const struct rpc_caller *caller,
                               void **ret_pass);
        /* Before `message` sees DATA, and, with DATA NULL, before a message is sent: anything but RPC_OK ends the call with that status. */
        enum rpc_code (*allow)(void *context, void *pass, const char *peer, const uint8_t *data, size_t len);
        /* The call is over. */
        void (*release)(void *pass);
};

/** What the guard let CALL in with: its `ret_pass`. NULL: there is no guard, or the method is open. Borrowed, valid until `closed`. */
void *rpc_call_pass(const struct rpc_call *call);
