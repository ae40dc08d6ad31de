/*
 * MD5s of files on their way into the tree: many in one transaction, since the first listing for a stock worker may find out a million. Not thread-safe.
 */
#pragma once

#include "server/versions.h"

#define MD5_BATCH_MAX 256

struct md5_batch {
        struct versions *versions; /* borrowed, as is `spider` */
        const char *spider;
        struct versions_md5 items[MD5_BATCH_MAX];
        size_t offsets[MD5_BATCH_MAX]; /* of their paths */
        size_t n;
        struct buffer paths; /* each with its NUL */
};

/** Notes the MD5 of the file at PATH (copied) under STAMP; stores all that are noted if there is no room for more. -ENOMEM, and nothing was noted. */
int md5_batch_add(struct md5_batch *batch, const char *path, const struct tree_stamp *stamp,
                  const uint8_t md5[HASH_MD5_BYTES]);

/** Stores what is noted. What cannot be kept is found out again when it is asked for. */
void md5_batch_store(struct md5_batch *batch);

/** Frees it, whatever is in it. */
void md5_batch_release(struct md5_batch *batch);
