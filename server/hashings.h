/*
 * Jobs of the pool that read whole files because somebody asked what they hold. One of them takes as long as its files are large, and hostile peers can name
 * many: so a peer has a share of the pool's threads for them (RPC_HASHINGS), all peers together leave one for everything else, and what is beyond that waits
 * in a line outside of the pool. Peers take turns, of one peer's jobs the first come is first: who has room in his share waits for one job of each other peer
 * at most, however many those have. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "proto/rpc_peer.h"
#include "server/pool.h"

struct hashings;

/** Embedded in what the job is about. */
struct hashing {
        struct pool_job job;   /* `run` is set by the owner */
        struct rpc_peer *peer; /* borrowed, until hashings_end; set by the owner */

        /* While it waits; guarded by the lock of the hashings. */
        struct hashing *prev, *next;
        struct hashing *behind; /* its peer's others, if it is the first of them */
        bool waiting;
};

/** For jobs of POOL, borrowed. -ENOMEM. */
int hashings_new(struct pool *pool, struct hashings **ret);

/** Nothing may wait any more. NULL is fine. */
void hashings_free(struct hashings *hashings);

/** Has HASHING run by a thread of the pool, now or when it is its peer's turn. Its `run` calls hashings_end, once. Does not block. */
void hashings_submit(struct hashings *hashings, struct hashing *hashing);

/** True: HASHING waited, and will not be run. False: it is the pool's, or was run, or never submitted (all zero). */
bool hashings_withdraw(struct hashings *hashings, struct hashing *hashing);

/** A job of PEER's has read what it had to: the next may begin. By the job, while its peer is sure to live. */
void hashings_end(struct hashings *hashings, struct rpc_peer *peer);
