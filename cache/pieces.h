/*
 * Contents of several pieces (base/pieces.h) that are not whole yet. What is here of one lies in the store beside the blobs (cache/part.h), can be
 * served piece by piece, counts towards the quota, is evicted like a blob, and survives restarts. All processes that use the store see and fill
 * the same one. When the last piece is here it becomes a blob.
 *
 * Invariants (tests cite them), beside those of store.h:
 *  P1 No byte is served from a piece before it was verified against the content's list, and the list against the content's name.
 *  P2 A piece is marked as here only after all of its bytes were written. A mark of an earlier boot (S3) is worth nothing until the piece was read and
 *     verified again. So neither kill -9 nor a power cut yields a wrong byte, and no fsync is needed.
 *  P3 A piece is brought by one process of the machine at a time: whoever has claimed it. A dead process's claims are nobody's.
 *  P4 It becomes a blob when every piece is marked in this boot and nobody has claimed one any more: cut off behind its data, and renamed, as S1.
 *
 * Bytes are checked when they come, and after a restart of the machine; what somebody else writes into the file in between is noticed as far as it changes
 * its length: then the content is begun anew, and a handle that is open is *lost*: nothing is PIECE_HERE in it any more, and put says so.
 *
 * A handle is shared by threads; every function but unref may be called from several at the same time.
 */
#pragma once

#include "base/pieces.h"
#include "cache/store.h"

struct store_pieces;

/**
 * What is here of content ID (by pieces) of SIZE bytes, begun if nothing is: STORE_OK with a handle that is unref'd by the caller; STORE_HAVE: the
 * whole blob is here (verified or not: store_get; a handle that is open may have become it as well, and works on); STORE_MISS: nothing is, and MAKE is false. -EINVAL: no such content, or in use with another
 * size; -EFBIG; -ENOSPC, -EIO and so on. A handle of this process that is still in use is returned again, so that one content has one. While
 * a handle is in use nothing of it is evicted.
 *
 * Opens files, and may wait for a walk of one folder of blobs, or, if the disk is full, for an eviction.
 */
int store_pieces_open(struct store *store, const struct content_id *id, uint64_t size, bool make,
                      struct store_pieces **ret);

struct store_pieces *store_pieces_ref(struct store_pieces *pieces);

/** NULL is fine. All handles go before the store; a claim of the handle's must have ended. */
void store_pieces_unref(struct store_pieces *pieces);

const struct content_id *store_pieces_id(const struct store_pieces *pieces);
uint64_t store_pieces_size(const struct store_pieces *pieces);

/** True once the list is here, verified: brought by this process, found in the file on opening it, or found there by a claim. Cheap. */
bool store_pieces_listed(const struct store_pieces *pieces);

/**
 * Takes the list over, whoever brought it: STORE_OK (also if it was here already, and then LIST is not looked at), STORE_MISMATCH: not this
 * content's; -ENOMEM. A disk that is full is put's concern: with the list in memory pieces can be verified.
 */
int store_pieces_set_list(struct store_pieces *pieces, const uint8_t *list, size_t len);

/** The hash of piece INDEX, hash_len, valid as long as the handle; the list must be here. */
const uint8_t *store_pieces_hash(const struct store_pieces *pieces, uint64_t index);

enum piece_state {
        PIECE_MISSING = 0,
        PIECE_HERE = 1,      /* may be served */
        PIECE_UNCHECKED = 2, /* from an earlier boot: store_pieces_check; or claim it and bring it anew */
};

/** Cheap: never waits, reads no disk. Without a list nothing is PIECE_HERE, unless the content has come as a whole (store_write). */
enum piece_state store_pieces_state(const struct store_pieces *pieces, uint64_t index);

/** How many bytes are PIECE_HERE or PIECE_UNCHECKED. Walks the marks. */
uint64_t store_pieces_present(const struct store_pieces *pieces);

/**
 * Reads an unchecked piece: STORE_OK: it is PIECE_HERE (now, or it was); STORE_MISS: it was wrong, or there was none, and it is PIECE_MISSING;
 * -EINTR after store_interrupt, negative errno. Claims the piece meanwhile, so the caller must not have: waits for the disk, and for who has.
 */
int store_pieces_check(struct store_pieces *pieces, uint64_t index);

/**
 * Up to LEN bytes at OFFSET, fewer only at the end of the content or where the next piece is not PIECE_HERE: the count. -ENODATA: the first one is
 * not, or not any more: a piece that the disk cannot give back is PIECE_MISSING, to be brought again. Works on after the content has become a blob;
 * if that cannot be read, nothing of it is here any more, and who asks the store for it next has it verified.
 */
ssize_t store_pieces_read(struct store_pieces *pieces, void *data, size_t len, uint64_t offset);

/**
 * Claims piece INDEX for who is about to bring it (P3): STORE_OK; STORE_HAVE: it is PIECE_HERE; STORE_BUSY: another process (or another thread of this
 * one) has claimed it. With MAY_WAIT instead of STORE_BUSY it waits until that one has brought it (STORE_HAVE) or given up (STORE_OK); -EINTR after
 * store_interrupt; -EBUSY: another process has claimed it, and does neither for ten seconds. -EINVAL: there is no such piece. The list need not be here, and may be afterwards. The claim ends with put or give_up, by any thread.
 */
int store_pieces_claim(struct store_pieces *pieces, uint64_t index, bool may_wait);

/** Gives a claim back. May publish (P4), as put. */
void store_pieces_give_up(struct store_pieces *pieces, uint64_t index);

/**
 * Verifies the bytes of the claimed piece INDEX (all of it), writes and marks them, ends the claim; the last one publishes the blob (P4). STORE_OK;
 * STORE_MISMATCH: they are not that piece's, nothing is written; with any error they are, but could not be kept: -ENOSPC (after making room as S8),
 * -ESTALE: the handle is lost, a new one is needed to keep more; -EINTR after store_interrupt while it waited for room; -EIO and so on. The claim
 * ends in every case. The list must be here.
 */
int store_pieces_put(struct store_pieces *pieces, uint64_t index, const void *data, size_t len);

/** The same for who has compared the hash of all of its bytes with store_pieces_hash already. */
int store_pieces_put_verified(struct store_pieces *pieces, uint64_t index, const void *data);

/**
 * Takes piece INDEX, claimed, over from the content open as FD, in which it has the same place, if that one has it: STORE_OK, as put; STORE_MISS: it has
 * other bytes there, and the claim stays; it ends in every other case. For a new version of a file of which the old one is here. Reads FD.
 */
int store_pieces_adopt(struct store_pieces *pieces, uint64_t index, int fd);
