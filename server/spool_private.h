/*
 * What spool.c (who has which spool, and reads it) and spool_build.c (what is in it) share.
 */
#pragma once

#include "base/lock.h"
#include "server/spool.h"

struct spool_frame {
        uint64_t offset;
        size_t len, entries;
};

/* Freed by the last user's spool_put, by spools_expire or by a newer one that needs the room, once nobody uses it. */
struct spool {
        /* Never change. */
        struct spools *owner;
        char *spider, *path; /* owned */
        enum spool_form form;
        bool has_base_digest;
        uint8_t base_digest[HASH_BYTES];

        /* Owned by the job. */
        struct turn job;
        struct tree_view *view; /* until the job ends */

        int fd; /* set by the job before the first frame, then never changed; -1: none */

        /* Guarded by the lock of the owner. */
        struct spool_state state;
        uint64_t entries;           /* in the frames there are */
        struct spool_frame *frames; /* owned; in the order of their offsets */
        size_t n_frames, frames_room;
        struct spool_waiter *waiters;
        unsigned users; /* references; the job has one */
        bool listed;    /* whoever asks can find it */
        int64_t unused_ns;
        struct spool *prev, *next;
};

struct pool *spools_pool(const struct spools *spools);
const char *spools_dir(const struct spools *spools);

/** The job: fills SPOOL from its view, says so with the functions below, and gives view and reference back. */
void spool_build(struct pool_job *job);

/** It is settled what the frames hold, and of which version. */
void spool_decide(struct spool *spool, bool plain, const uint8_t *root_digest, size_t len);

/** The LEN bytes behind the last frame were written to `fd`: they are the next one, with ENTRIES in it. LAST: nothing more will come. -ENOMEM. */
int spool_publish(struct spool *spool, size_t len, size_t entries, bool last);

/** Nothing more will come, and the next listing may be gathered: once, by the job. ERROR: 0 or negative. */
void spool_end(struct spool *spool, int error);
