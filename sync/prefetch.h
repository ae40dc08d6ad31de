/*
 * Many contents brought into the store, with a bounded number on their way: everything at or below a path, because somebody asked for it, after all
 * reads and read-ahead; or a list of files that will probably be read, in its order, as read-ahead. What is there is not fetched again, so a
 * prefetch that was broken off goes on when it is asked for anew.
 *
 * Each runs on a thread of its own until its end or prefetch_stop. Thread-safe.
 */
#pragma once

#include "sync/fetch.h"

struct prefetch;

struct prefetch_options {
        struct catalog *catalog; /* all borrowed until prefetch_free */
        struct store *store;
        struct fetch *fetch;
        uint64_t rate_bytes; /* a second, at most; 0: as fast as it goes */
        uint64_t bytes_max;  /* what would be more is left out; 0: everything */
};

enum prefetch_event {
        PREFETCH_ASKED, /* the content is on its way */
        PREFETCH_HERE,  /* and has come */
        PREFETCH_FAILED,
};

/** Where a list comes from. */
struct prefetch_list {
        /* The next file: 0, 1 (no more), or negative errno, which ends it. On the prefetch's thread. */
        int (*next)(struct catalog_entry *ret, void *arg);
        /* What becomes of file INO, unless its content is in the store. From any thread, never under a lock; must not block. */
        void (*note)(uint64_t ino, enum prefetch_event event, void *arg);
        void *arg;
};

struct prefetch_view {
        uint64_t total_files, total_bytes; /* found so far; all of them once `counted` */
        uint64_t files, bytes;             /* of these, in the store */
        uint64_t fetched_files, fetched_bytes;
        uint64_t failed;
        int error; /* the first failure's; 0: none */
        int64_t elapsed_ns;
        bool counted, finished;
};

/** Begins with what is at or below INO. -ENOENT: no such entry; -ENOMEM, -EAGAIN. */
int prefetch_new(const struct prefetch_options *options, uint64_t ino, struct prefetch **ret);

/** Begins with LIST's files; a master that has no order of wants is not asked. LIST is copied, its ARG borrowed. -ENOMEM, -EAGAIN. */
int prefetch_new_list(const struct prefetch_options *options, const struct prefetch_list *list,
                      struct prefetch **ret);

void prefetch_get(struct prefetch *prefetch, struct prefetch_view *ret);

/** Has it end soon; what is on its way still comes. Does not block. */
void prefetch_stop(struct prefetch *prefetch);

/** Stops, waits for what is on its way, frees. The fetch must still be running, or have been freed. NULL is fine. */
void prefetch_free(struct prefetch *prefetch);
