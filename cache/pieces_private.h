/*
 * What the units of the pieces share: the handle, the table of those in use, and the steps from a claim to a blob.
 */
#pragma once

#include <uthash.h>

#include "cache/part.h"
#include "cache/pieces.h"
#include "cache/store_private.h"

#define PIECES_MAKE_BYTES (1 << 20) /* evicted at least, when the disk is full */

/* A piece that a thread of this process has claimed. */
struct claim {
        uint64_t index;
        struct claim *next;
};

/*
 * A handle. FD is the part as long as it is one, and the blob afterwards. Processes exclude each other by locks (F_OFD_SETLK) of byte INDEX of
 * the file, which belong to FD and so to all threads; threads exclude each other by CLAIMS. Who publishes holds all of these bytes, while no
 * claim is out: nothing is written to what is about to be a blob (S2).
 */
struct store_pieces {
        struct store *store;
        struct content_id id;
        struct part_layout layout;
        int fd; /* owned */
        unsigned refs TSA_GUARDED(pieces_table.lock);

        struct claim *claims TSA_GUARDED(pieces_table.lock);
        bool publishing TSA_GUARDED(pieces_table.lock);
        bool trusted; /* the marks of this boot are: pieces_put_stamp; whoever else has it open has them right */
        atomic_bool lost;  /* FD is of no use any more: for good */
        atomic_bool whole; /* FD is the blob: for good */

        struct mutex list_lock;
        uint8_t *list; /* owned; set once, before LISTED */
        _Atomic uint8_t
                *known; /* owned, the same; enum piece_state of each piece, as far as this process knows */
        atomic_bool listed;                  /* for good */
        bool written TSA_GUARDED(list_lock); /* the list is in the file */

        _Atomic uint64_t first; /* no piece before it is missing, as far as known */
        UT_hash_handle hh;
};

/**
 * S3 for parts: what is closed with all its marks right gets the stamp of a blob, which whoever writes to it takes off. Without it the marks of this boot count as
 * those of another one: each piece is verified once, by each process that opens the part.
 */
void pieces_put_stamp(struct store_pieces *pieces);
bool pieces_has_stamp(const struct store_pieces *pieces);

struct pieces_table {
        struct mutex lock; /* of claims too: they are few, and held for longer than it takes to make one */
        struct condition released;
        struct store_pieces *all TSA_GUARDED(lock); /* by id */
};

/** Takes over the list that the file has, if this handle has none: 0 also if there is none. -ENOMEM, -EIO and so on. */
int pieces_load_list(struct store_pieces *pieces);

/** Makes sure that the list is in the file: 0, -ENOSPC, -EINTR and so on. */
int pieces_write_list(struct store_pieces *pieces);

/** Whether FD is still what the part's name stands for. */
bool pieces_is_current(const struct store_pieces *pieces);

/**
 * Somebody has truncated the part. It is never written to again: as it grew, others would take its holes for what they know to be here. Who opens
 * the content next begins anew.
 */
void pieces_lose(struct store_pieces *pieces);

/** Notes what piece INDEX is now. */
void pieces_note(struct store_pieces *pieces, uint64_t index, enum piece_state state);

/** Notes what all marks say. 0; -ENODATA: the file ends before them; negative errno. */
int pieces_load_marks(struct store_pieces *pieces);

/** As store_pieces_state, but reads the disk if it must. */
enum piece_state pieces_look(struct store_pieces *pieces, uint64_t index);

/** As store_pieces_claim, but never STORE_HAVE. */
int pieces_claim_any(struct store_pieces *pieces, uint64_t index, bool may_wait);

/**
 * Reads piece INDEX again, which was claimed and then looked at: STORE_OK and marked, or STORE_MISS and not here any more; negative errno. STORE_OK also, and
 * nothing is read, if the look has shown that it is a blob by now.
 */
int pieces_reread(struct store_pieces *pieces, uint64_t index);

/** Ends a claim, and publishes if that was all that was left. */
void pieces_release(struct store_pieces *pieces, uint64_t index);

/** Publishes the blob (P4) if every piece is here and nobody is at it; else who ends the last claim does. */
void pieces_finish(struct store_pieces *pieces);

/** Locks (F_WRLCK) or unlocks (F_UNLCK) COUNT bytes from FIRST on: 0, STORE_BUSY, negative errno. */
int pieces_lock_range(int fd, uint64_t first, uint64_t count, short type);
