/*
 * Those who have calls under way, told apart by their address without the port: what one of them holds is bounded whatever the others do.
 * Thread-safe.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <uthash.h>

struct rpc_peers;

/** One address. It lives while it is referenced. */
struct rpc_peer {
        struct rpc_peers *owner; /* a reference */
        unsigned refs;           /* guarded by the owner's lock */
        _Atomic unsigned calls;  /* under way */
        _Atomic unsigned holds;  /* of what callers of rpc_call_hold count */
        _Atomic size_t bytes;    /* of bodies that gRPC has and has not sent yet */
        char *origin;            /* owned: its name in the table */
        UT_hash_handle hh;
};

/** NULL: no memory. */
struct rpc_peers *rpc_peers_new(void);

/** Freed with the last peer. NULL is fine. */
void rpc_peers_free(struct rpc_peers *peers);

/** The peer at ADDRESS as gRPC writes it ("ipv4:1.2.3.4:5678"), with a reference. NULL: no memory. */
struct rpc_peer *rpc_peer_get(struct rpc_peers *peers, const char *address);

struct rpc_peer *rpc_peer_ref(struct rpc_peer *peer);

/** NULL is fine. */
void rpc_peer_unref(struct rpc_peer *peer);
