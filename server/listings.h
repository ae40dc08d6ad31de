/*
 * How many listings there may be at a time, of either kind (server/spool.h, server/stock.h): who takes its time must not take them all.
 */
#pragma once

#include <stdbool.h>

#include "proto/rpc_peer.h"

#define LISTINGS_MAX      256 /* of a kind: each holds a descriptor and, until it is made, a tree's view */
#define LISTINGS_HELD_MAX 16  /* by one peer, when there are half of them */

/** Whether one more may be made for PEER, when there are COUNT of its kind. */
static inline bool listings_have_room(unsigned count, struct rpc_peer *peer)
{
        return count <
               (rpc_peer_charged(peer, RPC_LISTINGS) < LISTINGS_HELD_MAX ? LISTINGS_MAX : LISTINGS_MAX / 2);
}
