/*
 * Memory for pieces of files on their way out. A call holds one block at a time, so that what a slow worker costs is
 * one block; blocks that come back are kept for the next call, up to a few. Thread-safe.
 */
#pragma once

#include "base/util.h"

#define BLOCK_BYTES ((size_t)256 * 1024)

struct blocks;

struct block {
        struct blocks *owner;
        struct block *next;
        size_t size;
        uint8_t data[];
};

/** -ENOMEM. */
int blocks_new(struct blocks **ret);

/** All blocks must have been put back. NULL is fine. */
void blocks_free(struct blocks *blocks);

/** A block of at least SIZE bytes, BLOCK_BYTES at most; NULL: no memory. */
struct block *blocks_take(struct blocks *blocks, size_t size);

/** Gives a block back; the argument is a void pointer so that it serves as rpc_frame's `release`. */
void blocks_put(void *block);
