/*
 * How much a server takes, and how much of what is scarce a peer may hold.
 */
#pragma once

#include <stddef.h>

/** What is scarce on a server, so that each peer has an account of it (proto/rpc_peer.h). */
enum rpc_scarce {
        RPC_LISTINGS,    /* being built or sent */
        RPC_FILES,       /* open, of a workspace */
        RPC_WANTS,       /* bytes of what is wanted and not sent yet */
        RPC_LISTS,       /* bytes of the lists of hashes of files that are being sent */
        RPC_SPARE_LISTS, /* and of files that were sent */
        RPC_HASHINGS,    /* jobs that read whole files, queued or under way */
        RPC_GATHERINGS,  /* jobs that gather listings, likewise */
        RPC_SCARCE_N
};

/** How much of something there may be of one peer's, and in all; 0: any number. */
struct rpc_share {
        size_t peer, all;
};

/** What a server takes; 0: the default. What is beyond the first three is answered RESOURCE_EXHAUSTED. */
struct rpc_limits {
        unsigned calls;      /* under way; four times peer_calls */
        unsigned peer_calls; /* of one address; 4,096 */
        size_t peer_bytes; /* sent to one address and not yet taken by it, before it may begin another call; 256 MiB */
        size_t memory_bytes;                   /* gRPC's resource quota; 512 MiB */
        struct rpc_share shares[RPC_SCARCE_N]; /* 0: no limit */
};
