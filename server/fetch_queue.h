/*
 * What one Fetch call still owes its worker: urgent wants before the others, within each the first come first. A large content is given back after each
 * piece and goes to the end of its line, so that nobody waits for all of it.
 *
 * A want is in one of the lines, or held (until another want or a job has come to its end), or taken by the one who serves it. Thread-safe; wants are
 * taken by one at a time.
 */
#pragma once

#include <stdbool.h>

#include "base/hash.h"
#include "proto/fetch_frame.h"
#include "proto/rpc_peer.h"

#define FETCH_QUEUE_MAX 4096 /* wants at a time */

struct fetch_queue;
struct fetch_file;

enum fetch_place { FETCH_TAKEN, FETCH_IN_LINE, FETCH_HELD };

struct fetch_item {
        /* The queue's. */
        struct fetch_item *prev, *next; /* of its line, or of those held */
        struct fetch_item *same_bucket;
        enum fetch_place place;
        bool known; /* can be found by its id */
        bool cancelled;
        bool urgent;

        /* Set when it was added. */
        uint64_t id;
        const char *refused; /* static; why it is not valid, and then only `id` is; NULL: it is */
        struct content_id content;
        uint64_t size, begin, end;
        bool list; /* the hashes of the pieces come first */

        /* Whoever has taken it may write these; zero at first. */
        bool dropped; /* cancelled, as of when it was taken */
        bool counted;
        uint64_t offset;         /* of what is sent next */
        size_t list_sent;        /* bytes of the list */
        struct fetch_file *file; /* a reference; the queue must not free it while this is set */

        char path[]; /* checked */
};

/** What it holds is charged to PEER (RPC_WANTS), who outlives it. -ENOMEM. */
int fetch_queue_new(struct rpc_peer *peer, struct fetch_queue **ret);

/** No want may be taken; those that are left must have no file. NULL is fine. */
void fetch_queue_free(struct fetch_queue *queue);

/** Adds a want, which is copied; one that is not valid is added as `refused`. -EBUSY: too many, or too much of
 * this peer's; -ENOMEM. */
int fetch_queue_add(struct fetch_queue *queue, const struct fetch_want *want);

/** Nobody waits for ID any more; nothing if it is not there. One that is held with a file is first in its line, for its file to be let go. */
void fetch_queue_cancel(struct fetch_queue *queue, uint64_t id);

/** A read waits for ID by now: it is urgent, last among those. Nothing if it is not there, or was before. */
void fetch_queue_hurry(struct fetch_queue *queue, uint64_t id);

/** All wants, those taken and held included. */
unsigned fetch_queue_count(struct fetch_queue *queue);

/** True if fetch_queue_take would give one. */
bool fetch_queue_is_ready(struct fetch_queue *queue);

/**
 * The next want, borrowed until it is given back by one of the three below; NULL: none. RET_TICKET is for fetch_queue_hold. One that was cancelled after it
 * was begun is `dropped`.
 */
struct fetch_item *fetch_queue_take(struct fetch_queue *queue, uint64_t *ret_ticket);

/** It is not done: back to the beginning of its line, or to the end (it gives way). */
void fetch_queue_put_first(struct fetch_queue *queue, struct fetch_item *item);
void fetch_queue_put_last(struct fetch_queue *queue, struct fetch_item *item);

/** It cannot go on before fetch_queue_release, unless there was a release since TICKET: then it is first in its line. */
void fetch_queue_hold(struct fetch_queue *queue, struct fetch_item *item, uint64_t ticket);

/** It is done: frees it. Its file must have been let go. */
void fetch_queue_finish(struct fetch_queue *queue, struct fetch_item *item);

/** Puts all that are held, or the one held longest, back into their lines, first in them. */
void fetch_queue_release_all(struct fetch_queue *queue);
void fetch_queue_release_one(struct fetch_queue *queue);
