/*
 * Jobs of the pool that take long because of what a peer asks for: reading whole files to find out what they hold, gathering listings. A hostile peer can ask
 * for many: so a peer has a share of them in the pool at a time, all peers together have one as well, and what is beyond that waits in a line outside of the
 * pool. Peers take turns, of one peer's jobs the first come is first: who has room in his share waits for one job of each other peer at most, however many
 * those have. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "proto/rpc_peer.h"
#include "server/pool.h"

struct turns;

/** Embedded in what the job is about; zeroed first. */
struct turn {
        struct pool_job job; /* `run` is set by the owner */

        /* Guarded by the lock of the turns. */
        struct rpc_peer *peer; /* a reference, until turns_end or turns_withdraw */
        struct turn *prev, *next;
        struct turn *behind; /* its peer's others, if it is the first of them */
        bool waiting;
};

/** For jobs of POOL, borrowed, that are charged to their peers as WHAT. -ENOMEM. */
int turns_new(struct pool *pool, enum rpc_scarce what, struct turns **ret);

/** Nothing may wait any more. NULL is fine. */
void turns_free(struct turns *turns);

/** Has TURN run by a thread of the pool, now or when it is PEER's turn. Its `run` calls turns_end, once. Does not block. */
void turns_submit(struct turns *turns, struct turn *turn, struct rpc_peer *peer);

/**
 * PEER wants what TURN brings as well. If it still waits for another peer's turn, it waits for none of the two's any more, but with what else is wanted by
 * several: who asks for much must not have others wait for as long as he does.
 */
void turns_share(struct turns *turns, struct turn *turn, struct rpc_peer *peer);

/** True: TURN waited, and will not be run. False: it is the pool's, or was run, or never submitted. */
bool turns_withdraw(struct turns *turns, struct turn *turn);

/** TURN, which is run, has done what takes long: the next may begin. */
void turns_end(struct turns *turns, struct turn *turn);
