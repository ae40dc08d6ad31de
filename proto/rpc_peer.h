/*
 * Those who have calls under way, told apart by where they come from: what one of them holds is bounded whatever the others do. A peer has an account of
 * everything that is scarce; whoever takes some of that for a call charges it first, and discharges it when it is given back. Thread-safe.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <uthash.h>

#include "proto/rpc_limits.h"

struct rpc_peers;

/** One origin. It lives while it is referenced. */
struct rpc_peer {
        struct rpc_peers *owner;      /* a reference */
        unsigned refs;                /* guarded by the owner's lock */
        _Atomic unsigned calls;       /* under way */
        _Atomic size_t bytes;         /* of bodies that gRPC has and has not sent yet */
        size_t charged[RPC_SCARCE_N]; /* guarded by the owner's lock */
        char *origin;                 /* owned: its name in the table */
        UT_hash_handle hh;
};

/** SHARES[RPC_SCARCE_N] is copied; NULL: no limits. NULL: no memory. */
struct rpc_peers *rpc_peers_new(const struct rpc_share *shares);

/** Freed with the last peer. NULL is fine. */
void rpc_peers_free(struct rpc_peers *peers);

/**
 * Where ADDRESS, as gRPC writes it ("ipv4:1.2.3.4:5678", "ipv6:%5B::1%5D:5678", "unix:user-1000"), comes from: the IPv4 address, the /64 that one IPv6 host has, or
 * the user of this machine (rpc_gate.c names it). For free(3); NULL: no memory.
 */
char *rpc_peer_origin(const char *address);

/** The peer at ADDRESS, with a reference. NULL: no memory. */
struct rpc_peer *rpc_peer_get(struct rpc_peers *peers, const char *address);

struct rpc_peer *rpc_peer_ref(struct rpc_peer *peer);

/** NULL is fine. Nothing may be charged any more when the last reference goes. */
void rpc_peer_unref(struct rpc_peer *peer);

/**
 * Charges AMOUNT of WHAT. False, and nothing is charged, if PEER or all together would hold more than they may; what is larger than the limit
 * is given to who holds nothing else, or it would wait for ever.
 */
bool rpc_peer_charge(struct rpc_peer *peer, enum rpc_scarce what, size_t amount);

void rpc_peer_discharge(struct rpc_peer *peer, enum rpc_scarce what, size_t amount);

/** How much PEER is charged. */
size_t rpc_peer_charged(struct rpc_peer *peer, enum rpc_scarce what);
