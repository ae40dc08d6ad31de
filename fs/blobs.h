/*
 * Open contents by inode number, so that the reads of one file share one open: the descriptor of a blob, or a large content of which not all
 * may be here. An inode number names one content for good, so nothing here is ever stale. At most so many are kept, the least recently
 * used go first; one in use stays. Thread-safe.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct blobs;
struct blob;
struct fetch_large;

/** LIMIT: how many descriptors may be kept. */
int blobs_new(unsigned limit, struct blobs **ret);

/** Closes all that are not in use: for who has run out of descriptors. */
void blobs_drop_idle(struct blobs *blobs);

/** Closes those that were read to their end, or not for UNUSED_NS: the store needs room, and who read them has most likely
 * ended. */
void blobs_drop_unused(struct blobs *blobs, int64_t unused_ns);

/** NULL is fine. No blob may be in use. */
void blobs_free(struct blobs *blobs);

/** The blob of INO in use, or NULL. */
struct blob *blobs_get(struct blobs *blobs, uint64_t ino);

/** Takes FD, of SIZE bytes, over for INO; returns the blob in use (another thread's, if that was quicker). NULL: out of
 * memory, FD is closed. */
struct blob *blobs_put(struct blobs *blobs, uint64_t ino, int fd, uint64_t size);

/** As blobs_put, for a content that comes by pieces: takes over the reference LARGE. */
struct blob *blobs_put_large(struct blobs *blobs, uint64_t ino, struct fetch_large *large);

/** The content that comes by pieces, borrowed while BLOB is in use; NULL: it is a blob, for blob_read. */
struct fetch_large *blob_large(const struct blob *blob);

/** Reads up to LEN bytes at OFFSET, fewer only at the end. The count or a negative errno; -EBADMSG: somebody has written to it since it was opened. */
ssize_t blob_read(struct blob *blob, void *data, size_t len, off_t offset);

/** Ends the use of one that could not be read: nobody gets it any more, and who asks the store for it next has it verified. */
void blobs_discard(struct blobs *blobs, struct blob *blob);

/** Ends the use. */
void blobs_unref(struct blobs *blobs, struct blob *blob);
