/*
 * Reads a file to name its content, in such a way that the name and the file's stamp belong together.
 */
#pragma once

#include "server/index.h"
#include "server/pool.h"

/** What a content's hash was computed under. */
struct file_state {
        struct stat st;
        struct content_id id;
};

/**
 * Hashes the open regular file FD. Its stamp before and after must agree; it is tried three times. A hash that can be trusted
 * later is handed to INDEX (index_store). Blocks; POOL is asked now and then whether to go on. -EAGAIN: the file keeps changing; errors of read(2); -ENOMEM;
 * -ECANCELED.
 */
int file_hash(int fd, enum hash_algorithm algorithm, struct index *index, struct pool *pool,
              struct file_state *ret);
