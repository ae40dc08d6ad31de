/*
 * What is sent to many: the difference between two revisions of a folder, or all of it, as frames that go into one message each: plain entries
 * if they are few, packs otherwise. Each is built once, by a job of the pool, into a file without a name, and sent to all who ask while it is
 * being built and afterwards. As the same question gives the same bytes, a transfer that broke off goes on at an offset, even after a
 * restart of the server.
 * Thread-safe.
 */
#pragma once

#include "server/tree.h"
#include "server/turns.h"

#define SPOOL_PLAIN_ENTRIES 1000                /* of one frame of plain entries */
#define SPOOL_PLAIN_BYTES   ((size_t)256 << 10) /* from here on such a frame is full */

struct spools;
struct spool;

struct spools_options {
        struct pool *pool;        /* borrowed */
        struct turns *gatherings; /* of that; borrowed */
        const char *dir;          /* for the files; copied */
        uint64_t bytes_max;       /* of all spools that nobody uses; the oldest goes first */
        int64_t idle_ms;          /* how long one is kept that nobody uses */
};

int spools_new(const struct spools_options *options, struct spools **ret);

/** NULL is fine. All spools must have been put back; the pool is gone. */
void spools_free(struct spools *spools);

/** Drops what is too old. Now and then. */
void spools_expire(struct spools *spools);

enum spool_form {
        SPOOL_AUTO,     /* one frame of plain entries if they fit into it; packs otherwise */
        SPOOL_PLAIN,    /* plain entries, however many */
        SPOOL_PACKS,    /* packs, however few; the same bytes as AUTO's packs */
        SPOOL_CHILDREN, /* packs of what is directly in the folder, without the folder itself; base is 0 */
};

struct spool_key {
        const char *spider, *path; /* the folder; copied */
        enum spool_form form;
        const uint8_t *
                base_digest; /* that revision `base` had, as tree_view_changes takes it; copied; NULL: not known */
        uint64_t base;       /* 0: all of it; otherwise the difference from this revision … */
        uint64_t revision;     /* … to this one */
        struct rpc_peer *peer; /* no part of the key: who asks; borrowed */
};

struct spool_state {
        int error; /* negative: it could not be built. -ESTALE: the journal does not reach back to `base`. -ENOENT: no such folder */
        bool decided;  /* `plain` is settled; so it is if there is a frame */
        bool plain;    /* the frames hold whole `files` fields of a FileScanChunk; otherwise packs */
        bool complete; /* no more will come */
        uint64_t base, revision;
        uint8_t root_digest
                [HASH_BYTES]; /* of the folder at `revision` (tree_row_root_digest); valid once decided */
        size_t root_digest_len;
        uint64_t bytes;   /* there now */
        uint64_t entries; /* in all, as far as is known */
};

/** Somebody who waits for more. */
struct spool_waiter {
        /* From any thread, once per registration, under the lock of the spools: may do no more than rpc_call_wake. */
        void (*wake)(struct spool_waiter *waiter);
        struct spool_waiter *prev, *next; /* owned by the spool while `queued` */
        bool queued;
};

/**
 * The spool of KEY, built from VIEW (taken over, in every case) unless it is there or being built. VIEW NULL: only if it is there; -ENOENT otherwise.
 * Does not block: it is built when it is the peer's turn, and not if all who asked have put it back before. A reference for the caller. -ENOMEM; -EMFILE: too
 * many are in use, in all or, once half of what there may be are, by the peer (RPC_LISTINGS).
 */
int spools_get(struct spools *spools, const struct spool_key *key, struct tree_view *view,
               struct spool **ret);
void spool_put(struct spool *spool); /* NULL is fine */

void spool_get_state(struct spool *spool, struct spool_state *ret);

/** 0 if it is settled: there will be packs, or all plain entries are there, or it failed; 1: not yet, and WAITER is woken when it is. */
int spool_wait_settled(struct spool *spool, struct spool_waiter *waiter);

struct spool_piece {
        uint8_t *data; /* malloc'ed, the caller's */
        size_t len, entries;
        uint64_t next; /* the offset behind it */
};

/**
 * The frame that begins at OFFSET. 1: not there yet, and WAITER is woken when there is more, at the end and on failure; 0: there; -ENODATA: the
 * end; -EINVAL: no frame begins at OFFSET; other errors: of the building or reading (-EIO, -ENOSPC, -ENOMEM, -ESTALE, -ECANCELED …).
 */
int spool_read(struct spool *spool, uint64_t offset, struct spool_waiter *waiter, struct spool_piece *ret);

/** Takes WAITER out of the queue if it is in it: afterwards `wake` is not called any more. */
void spool_forget(struct spool *spool, struct spool_waiter *waiter);
