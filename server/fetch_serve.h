/*
 * What is done about one want: the next part of it, put into the message that is being filled. The step between the queue of a Fetch call (fetch_source.h) and
 * the files (fetch_file.h), contents (content.h) and memory (content_cache.h) that parts come from.
 */
#pragma once

#include <stdbool.h>

#include "server/fetch_file.h"
#include "server/fetch_source.h"

/* What is needed for it; all borrowed, for the thread that fills the message. */
struct fetch_serving {
        struct master *master;
        const char *peer; /* who asked, for the log */
        struct fetch_files *files;
        struct fetch_message *message; /* with a block */
        int folder;                    /* the spider's; -1: only what is in memory is served */
};

enum fetch_served {
        FETCH_SERVED_DONE,    /* nothing more is owed */
        FETCH_SERVED_PIECE,   /* there is more to come, in another message */
        FETCH_SERVED_LIST,    /* there is more to come, and it may go on at once */
        FETCH_SERVED_FULL,    /* nothing was done: it does not fit into what is left of the message */
        FETCH_SERVED_NO_DISK, /* nothing was done: it is not in memory, and the folder is -1 */
        FETCH_SERVED_HELD,    /* nothing was done: others go first */
};

/** Serves ITEM, which was taken. Whatever is wrong with it is told to the worker. Blocks on the disk unless the folder is -1. */
enum fetch_served fetch_serve(struct fetch_serving *serving, struct fetch_item *item);

/** True if ITEM's content is of one piece. */
bool fetch_item_is_small(const struct fetch_item *item);
