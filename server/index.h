/*
 * What the master remembers on disk: for each file (device, inode) the hash of its content together with the stamp (size,
 * mtime, ctime) that it had, and for each workspace the last version. Only a cache: an index that is damaged or gone
 * costs hashing everything once.
 *
 * Invariants:
 *  1. A hash is stored only if it belongs to the content for as long as the stamp stays the same: the file's times
 *     lay further back than a tick of the file system's clock when it was read ("racy clean", as in git's index). Hence a
 *     stored hash whose stamp matches can be trusted.
 *  2. A workspace's revision never goes back, not even when the index was lost: it begins with the time of day in seconds.
 *
 * Thread-safe. Every function may block on the disk.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/hash.h"

struct index;

/** What tells one state of a file from another without reading it. */
struct index_stamp {
        uint64_t device, inode, size;
        int64_t mtime_ns, ctime_ns;
};

struct index_query {
        struct index_stamp stamp;
        enum hash_algorithm algorithm;
        bool known; /* out */
        uint8_t digest[HASH_BYTES];
};

/** Opens or makes FILE (its folder must exist). One that is damaged is moved aside, with a warning. -EIO, -EACCES, -ENOMEM … */
int index_open(const char *file, struct index **ret);

/** Writes what is gathered and closes. NULL is fine. */
void index_close(struct index *index);

/** The stamp of a file. */
struct index_stamp index_stamp_of(const struct stat *st);

bool index_stamp_equal(const struct index_stamp *a, const struct index_stamp *b);

/** True if a content read at TAKEN_NS (clock_coarse_ns, before the stamp was taken) may yet change under the same stamp. */
bool index_stamp_racy(const struct index_stamp *stamp, int64_t taken_ns);

/** Answers N queries in one go. What cannot be read is not known; a failing disk is logged. */
void index_lookup(struct index *index, struct index_query *queries, size_t n);

/** Gathers a hash for the next flush; the caller has made sure that invariant 1 holds. -ENOMEM. */
int index_store(struct index *index, const struct index_stamp *stamp, const struct content_id *id);

/** Commits all that is gathered in one transaction. -EIO, -ENOSPC, -EBUSY, -ENOMEM: it is lost and will be hashed again. */
int index_flush(struct index *index);

/** The revision of workspace SPIDER/PATH whose root digest is DIGEST: one more than the last if it differs from that. */
int index_revision(struct index *index, const char *spider, const char *path,
                   const uint8_t digest[HASH_BYTES], uint64_t *ret_revision);
