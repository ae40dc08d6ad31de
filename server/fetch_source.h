/*
 * Reads what the wants of one Fetch call name, and puts it into messages. A small content is read whole and hashed before a byte of it goes out: nobody has
 * to be asked what the file holds. A large one, or a range of it, is sent if the tree knows the open file's content under its present stamp;
 * otherwise a job of its own hashes the file first, once for all wants of it that there are, while others are served.
 *
 * Counted: hashing goes on for a while when the call is over. fetch_source_fill and what it touches belong to one thread at a time.
 */
#pragma once

#include "proto/fetch_frame.h"
#include "server/fetch_queue.h"
#include "server/master.h"

/** A FetchReply: `head_len` bytes of `head`, then `len` bytes of `block`. */
struct fetch_message {
        struct block *block; /* owned; NULL: there is no message */
        size_t len, head_len;
        uint8_t head[FETCH_PART_HEAD_MAX];
};

struct fetch_source;

/** For SPIDER (copied); CALL is referenced, and woken when what was held may go on. -ENOMEM. */
int fetch_source_new(struct master *master, struct rpc_call *call, const char *spider,
                     struct fetch_source **ret);

/** The call is over: whatever is still under way for it ends soon, and a message is left as it is. Any thread. */
void fetch_source_close(struct fetch_source *source);

/** NULL is fine. */
void fetch_source_unref(struct fetch_source *source);

/** Borrowed. */
const char *fetch_source_spider(const struct fetch_source *source);

/** The wants, borrowed. */
struct fetch_queue *fetch_source_queue(struct fetch_source *source);

/**
 * Fills RET with what is wanted first, as far as it fits; without a block if there is nothing (any more). Blocks on the disk. Fails only if the spider itself
 * cannot be had (errors of workspace_open_folder) or for want of memory; what is wrong with one want is told to the worker in its part.
 */
int fetch_source_fill(struct fetch_source *source, struct fetch_message *ret);
