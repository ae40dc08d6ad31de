/*
 * What the units of prefetch share: prefetch.c walks, and wants contents whole; prefetch_pieces.c wants a large one piece by piece.
 */
#pragma once

#include "base/lock.h"
#include "sync/prefetch.h"

struct prefetch {
        struct prefetch_options options;
        struct prefetch_list list; /* without `next`: a tree, TOP's */
        struct catalog_entry top;
        uint64_t asked_bytes; /* owned by the thread, as is the next */
        int64_t free_ns;      /* when the rate lets the next one go */
        struct mutex lock;
        struct condition room; /* a content has come, or stopping */
        struct prefetch_view view TSA_GUARDED(lock);
        unsigned ahead TSA_GUARDED(lock);
        uint64_t ahead_bytes TSA_GUARDED(lock), window TSA_GUARDED(lock); /* on their way, and at most */
        int64_t quickest_ns TSA_GUARDED(lock);                            /* from asking to having */
        int64_t cut_ns TSA_GUARDED(lock); /* when the window was made smaller last */
        unsigned busy TSA_GUARDED(lock);  /* contents that another process was fetching */
        unsigned ahead_max;               /* owned by the thread */
        bool stopping TSA_GUARDED(lock);
        int64_t began_ns;
        pthread_t thread;
};

/** Tells the list's owner. Never under a lock. */
void prefetch_note(struct prefetch *p, uint64_t ino, enum prefetch_event event);

/** A content did not come. The first failure is what people are told. */
void prefetch_note_failure(struct prefetch *p, int error) TSA_REQUIRES(p->lock);

/** SIZE bytes that were asked for at ASKED_NS have come: the window becomes larger or smaller. */
void prefetch_adapt(struct prefetch *p, uint64_t size, int64_t asked_ns) TSA_REQUIRES(p->lock);

/** Waits until SIZE bytes more may be on their way. False: stopping. */
bool prefetch_wait_for_room(struct prefetch *p, uint64_t size);

/** Waits until the rate lets SIZE bytes more go. */
void prefetch_keep_rate(struct prefetch *p, uint64_t size);

/**
 * Wants all pieces of FILE that are not here, as they may go; not beyond the end of what is stopped. 0; 1: stopping; -EOPNOTSUPP: from this master it
 * comes whole or not at all. What fails is noted.
 */
int prefetch_pieces(struct prefetch *p, const struct catalog_entry *file);
