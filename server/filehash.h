/*
 * Reads a file to name its content, in such a way that the name and the file's stamp belong together.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "server/pool.h"

/** What a content's hash was computed under. */
struct file_state {
        struct stat st;
        struct content_id id;
        bool racy; /* the file may yet change under this stamp: the hash must not be trusted later (tree_stamp_racy) */
};

/** What hashing one file after the other needs. Not thread-safe. */
struct file_hasher;

/** POOL (borrowed) is asked now and then whether to go on. -ENOMEM, -EINVAL. */
int file_hasher_new(enum hash_algorithm algorithm, struct pool *pool, struct file_hasher **ret);
void file_hasher_free(struct file_hasher *hasher); /* NULL is fine */

/**
 * Hashes the open file FD. Its stamp before and after must agree; it is tried three times. Blocks. -ELOOP: no regular file; -EAGAIN: it
 * keeps changing; errors of read(2); -ECANCELED.
 */
int file_hasher_run(struct file_hasher *hasher, int fd, struct file_state *ret);

/** The same for a single file; -ENOMEM, too. */
int file_hash(int fd, enum hash_algorithm algorithm, struct pool *pool, struct file_state *ret);
