/*
 * Reads what the wants of one Fetch call name, and puts it into messages. A small content was verified against its hash before it goes out, and so was a piece of
 * a large one, or the range of it that is wanted, against the list of its pieces' hashes; but for a file that still has the stamp under which it was hashed: its
 * stamp is looked at after each piece, and that must do (the worker verifies what comes). The list is the tree's; if it has none a job of its own hashes the file first,
 * once for all wants of it that there are, while others are served.
 *
 * Counted: hashing goes on for a while when the call is over. Filling messages, and what that touches, belong to one thread at a time.
 */
#pragma once

#include <stdbool.h>

#include "proto/fetch_frame.h"
#include "server/fetch_queue.h"
#include "server/master.h"

/** A FetchReply: `head_len` bytes of `head`, then the `len` bytes of `body`. All zero: there is none. */
struct fetch_message {
        struct block *block;     /* owned; what the body lies in, or it is being filled; */
        struct content_run *run; /* or, owned as well: a piece goes out from where it is kept */
        const uint8_t *body;     /* NULL: it is not to be sent (yet) */
        size_t len, head_len;
        uint8_t head[FETCH_PART_HEAD_MAX];
};

/** Lets go of what it holds; then there is none. */
void fetch_message_release(struct fetch_message *message);

struct fetch_source;

/** For SPIDER (copied); CALL is referenced, and woken when what was held may go on. -ENOMEM. */
int fetch_source_new(struct master *master, struct rpc_call *call, const char *spider,
                     struct fetch_source **ret);

/** The call is over: whatever is still under way for it ends soon, and a message is left as it is. Any thread. */
void fetch_source_close(struct fetch_source *source);

/** No message may be being filled any more. What is being hashed is left to that; what waits to be is not hashed. NULL is fine. */
void fetch_source_unref(struct fetch_source *source);

/** Borrowed. */
const char *fetch_source_spider(const struct fetch_source *source);

/** The wants, borrowed. */
struct fetch_queue *fetch_source_queue(struct fetch_source *source);

/** Puts what waits for something that is scarce back into its line, as other calls may have given some back. By the thread that fills. */
void fetch_source_try_again(struct fetch_source *source);

/**
 * Fills MESSAGE, that has no body, with what is wanted first, as far as it fits and is in memory. Does not block. True: fetch_source_fill is to go on with it;
 * otherwise it is to be sent, if it has a body now.
 */
bool fetch_source_fill_from_memory(struct fetch_source *source, struct fetch_message *message);

/**
 * Fills MESSAGE, or goes on with it, with what is wanted first, as far as it fits; it has no body if there is nothing (any more). Blocks on the disk. Fails only
 * if the spider itself cannot be had (errors of workspace_open_folder) or for want of memory, and then there is no message; what is wrong with one want is told to
 * the worker in its part.
 */
int fetch_source_fill(struct fetch_source *source, struct fetch_message *message);
