#include "server/blocks.h"

#include "base/lock.h"

#define KEEP_MAX 64 /* 16 MiB */

struct blocks {
        struct mutex lock;
        struct block *kept TSA_GUARDED(&lock);
        size_t n_kept TSA_GUARDED(&lock);
};

int blocks_new(struct blocks **ret)
{
        struct blocks *blocks = calloc(1, sizeof(*blocks));

        if (!blocks)
                return -ENOMEM;
        mutex_init(&blocks->lock);
        *ret = blocks;
        return 0;
}

void blocks_free(struct blocks *blocks)
{
        if (!blocks)
                return;
        mutex_lock(&blocks->lock);
        while (blocks->kept) {
                struct block *block = blocks->kept;
                blocks->kept = block->next;
                free(block);
        }
        mutex_unlock(&blocks->lock);
        mutex_release(&blocks->lock);
        free(blocks);
}

struct block *blocks_take(struct blocks *blocks, size_t size)
{
        struct block *block = NULL;

        if (size == BLOCK_BYTES) {
                mutex_lock(&blocks->lock);
                block = blocks->kept;
                if (block) {
                        blocks->kept = block->next;
                        blocks->n_kept--;
                }
                mutex_unlock(&blocks->lock);
        }
        if (block)
                return block;
        block = malloc(sizeof(*block) + size);
        if (block)
                *block = (struct block){ .owner = blocks, .size = size };
        return block;
}

void blocks_put(void *arg)
{
        struct block *block = arg;
        struct blocks *blocks = block->owner;

        mutex_lock(&blocks->lock);
        if (block->size == BLOCK_BYTES && blocks->n_kept < KEEP_MAX) {
                block->next = blocks->kept;
                blocks->kept = TAKE_PTR(block);
                blocks->n_kept++;
        }
        mutex_unlock(&blocks->lock);
        free(block);
}
