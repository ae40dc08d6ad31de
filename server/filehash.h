/*
 * Reads a file to name its content, in such a way that the name and the file's stamp belong together.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "server/pool.h"

/** What a content's hash was computed under. */
struct file_state {
        struct stat st;
        struct content_id id;
        bool racy; /* the file may yet change under this stamp: the hash must not be trusted later (tree_stamp_racy) */
        const uint8_t *detail; /* the content's (T7 of the tree); NULL: it has none, or was named by MD5 */
        size_t detail_len;
};

/** What hashing one file after the other needs. Not thread-safe. */
struct file_hasher;

/** By BASE: HASH_MD5, as stock masters name contents; otherwise by content_algorithm of a tree's base. POOL (borrowed) is asked now and then whether to go on. -ENOMEM. */
int file_hasher_new(enum hash_algorithm base, struct pool *pool, struct file_hasher **ret);
void file_hasher_free(struct file_hasher *hasher); /* NULL is fine */

/**
 * Hashes the open file FD. Its stamp before and after must agree; it is tried three times. RET's detail is borrowed until the hasher is used again. Blocks.
 * -ELOOP: no regular file; -EAGAIN: it keeps changing; errors of read(2); -ECANCELED; -ENOMEM.
 */
int file_hasher_run(struct file_hasher *hasher, int fd, struct file_state *ret);

/** Who has a single file hashed. */
struct file_hash_asker {
        struct pool *pool;           /* as above */
        bool (*unwanted)(void *arg); /* asked now and then, from the thread that hashes; true: -ECANCELED */
        void *arg;
};

/** The same for a single file, without a detail: the list of a large one's pieces is appended to RET_LIST (by MD5 nothing is, and it may be NULL). */
int file_hash(int fd, enum hash_algorithm base, const struct file_hash_asker *asker, struct file_state *ret,
              struct buffer *ret_list);
