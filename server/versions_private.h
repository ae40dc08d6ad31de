/*
 * What the units of versions.h share. Nobody else includes this.
 *
 * Functions that end in _locked need versions->lock. Those that get a version cannot say so to clang, which does not know that its `versions`
 * is the one that is locked.
 */
#pragma once

#include <uthash.h>

#include "base/lock.h"
#include "server/scanner.h"
#include "server/versions.h"

#define VERSION_MOMENTS 64

/* When a version came to be the present one. */
struct version_moment {
        uint64_t revision;
        uint8_t digest[HASH_BYTES];
        int64_t at_sec; /* time of day; 0: it was there before this server looked */
};

/*
 * One workspace that somebody asked for. All fields but the names are guarded by versions->lock, but for those that say otherwise. Made by the
 * first request, freed by versions_expire when nothing runs and nobody has asked for a while, or when it turns out that there
 * is no such workspace.
 */
struct version {
        struct pool_job job; /* the pass's beginning; queued only while `running` */
        struct versions *versions;
        char *spider; /* owned */

        struct tree *tree; /* owned; NULL before the first pass; only a pass or who frees us sets it */
        bool damaged;      /* the tree is to be opened anew */
        unsigned pins;     /* who uses the tree outside of the lock and is no pass */
        int64_t begun_ns; /* when the last pass that succeeded began, or the watcher was asked last; 0: never */
        int64_t asked_ns;
        int64_t used_ns; /* when it was last looked at between requests, as downloads do */

        bool running;                     /* a pass is queued or under way */
        bool reading;                     /* it has begun: who comes now has to wait for the next */
        bool wanted, wanted_full;         /* the timer asks for a pass */
        bool waiting_full;                /* somebody waiting wants a walk over everything */
        bool pass_full;                   /* so does somebody served by the present pass */
        struct versions_request *served;  /* by the present pass */
        struct versions_request *waiting; /* for the next */

        /* The present pass's own. */
        int64_t pass_ns;         /* when it began to read */
        bool pass_walks;         /* it is a walk over everything */
        struct spots pass_spots; /* what it looks at */

        /* What the watcher has told since the last pass began. */
        bool synced; /* a walk over everything has succeeded, and the watcher has lost nothing since it began */
        bool lost;   /* something was lost since the present or last pass began */
        bool has_suspects; /* in SPOTS */
        struct spots spots;
        int64_t first_told_ns, last_told_ns; /* 0: nothing was */
        int64_t walked_ns;                   /* when the last walk began, or was tried; 0: never */
        int64_t rest_until_ns;               /* no walk for the watcher's sake before that */

        struct versions_subscriber *subscribers;
        struct versions_subscriber *called, *next_called; /* by the pass that ends right now */

        struct version_moment moments[VERSION_MOMENTS]; /* the last versions, the oldest overwritten first */
        unsigned n_moments;                             /* how many there ever were */

        uint64_t device, inode; /* of the spider's folder at the last pass; the passes' own */
        UT_hash_handle hh;
};

struct versions {
        struct versions_options options; /* dir is owned */
        char *dir;
        struct watcher *watcher; /* owned */
        struct mutex lock;       /* never held during I/O or callbacks */
        struct condition
                change; /* for the timer: something may be due earlier; for unsubscribing: a round of calls has ended */
        struct version *table TSA_GUARDED(&lock);
        bool stopping TSA_GUARDED(&lock);
        bool has_timer;
        pthread_t timer;
};

/* ---- passes (versions_pass.c) ---- */

/* Queues the next pass if somebody waits or wants one, and none is under way. */
void version_queue_pass_locked(struct version *v);

/* ---- trees (versions_tree.c) ---- */

/* Opens V's tree, or has it opened anew if it was damaged. Only from V's pass. */
int version_open_tree(struct version *v);

/* Only while V's `running` is the caller's, and nobody has views. */
void version_close_tree(struct version *v);

/* ---- the table (versions.c) ---- */

/* NULL: there is none. */
struct version *version_find_locked(struct versions *versions, const char *spider)
        TSA_REQUIRES(versions->lock);

/* NULL: no memory. */
struct version *version_find_or_make_locked(struct versions *versions, const char *spider)
        TSA_REQUIRES(versions->lock);

/* Takes V out of the table if it has no tree and nobody needs it; then it is returned, to be freed outside the lock. */
struct version *version_drop_useless_locked(struct version *v);
void version_free(struct version *v); /* NULL is fine */

/* ---- single files (versions_files.c) ---- */

/* Whether V has a tree that may be used. */
bool version_is_usable_locked(const struct version *v);

/* ---- what happens by itself (versions_timer.c) ---- */

/* Something in V is to be looked at: notes when, for the timer. */
void version_told_locked(struct version *v);

int versions_start_timer(struct versions *versions);
void versions_stop_timer(struct versions *versions);
