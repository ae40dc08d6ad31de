/*
 * A spool on its way to one worker: frame by frame, each in a FileScanChunk that says what it belongs to. Owned by one call, used on its
 * event thread only.
 */
#pragma once

#include "proto/rpc.h"
#include "server/spool.h"

/** As FileScanChunk.strategy says it. */
enum transfer_strategy {
        STRATEGY_AUTO = 0,
        STRATEGY_CHANGES = 1,  /* plain entries */
        STRATEGY_BATCHES = 2,  /* packs of a difference, or because they were asked for */
        STRATEGY_SNAPSHOT = 3, /* packs of everything */
};

/** "changes" and so on, for the log. */
const char *transfer_strategy_name(enum transfer_strategy strategy);

/** A zeroed struct carries nothing. */
struct transfer {
        struct rpc_call *call; /* borrowed */
        struct spool *spool;   /* a reference */
        struct spool_waiter waiter;
        enum transfer_strategy asked;
        uint64_t offset;         /* of the next frame */
        uint64_t entries, bytes; /* sent */
};

/**
 * Takes SPOOL over, to be sent over CALL from OFFSET on, 0 or what next_offset said. ASKED: BATCHES is what packs are called then, whatever
 * is in them. The call is woken whenever there is more.
 */
void transfer_begin(struct transfer *t, struct rpc_call *call, struct spool *spool, uint64_t offset,
                    enum transfer_strategy asked);

/** Forgets the spool; fine at any time, and again. */
void transfer_release(struct transfer *t);

enum transfer_result {
        TRANSFER_SENT = 0, /* a chunk is on its way */
        TRANSFER_LAST = 1, /* so is the last one */
        TRANSFER_WAIT = 2, /* nothing is there yet: the call is woken */
};

/**
 * Sends the next chunk; nothing else may be on its way. Negative: an error of spool_read, and then nothing was sent. A transfer that
 * cannot go on at its offset begins anew.
 */
int transfer_send(struct transfer *t);

/** How the entries are sent; AUTO: not known yet. */
enum transfer_strategy transfer_get_strategy(const struct transfer *t);
