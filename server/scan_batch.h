/*
 * Packs entries into one FileScanChunk after the other, in a stock master's form (docs/protocol.md). Not thread-safe: owned by one call.
 */
#pragma once

#include "server/stock.h"

struct scan_batch;

/** What is in a chunk beside its entries. */
struct scan_batch_tail {
        bool is_complete;
        const char *error; /* NULL: none */
        uint64_t total;    /* entries of the whole listing */
};

/** An empty batch for chunks of 100 entries. -ENOMEM. */
int scan_batch_new(struct scan_batch **ret);

/** NULL is fine. */
void scan_batch_free(struct scan_batch *batch);

/** True if a chunk is full: pack it before adding more. */
bool scan_batch_full(const struct scan_batch *batch);

size_t scan_batch_count(const struct scan_batch *batch);

/** Adds an entry as stock workers see it. FOLDER is the absolute path of the folder that is listed, 2 * PATH_BYTES_MAX bytes at most. */
void scan_batch_add(struct scan_batch *batch, const struct stock_item *item, const char *folder);

/** The finished message (malloc'ed, the caller's); the batch is empty again. -ENOMEM. */
int scan_batch_pack(struct scan_batch *batch, const struct scan_batch_tail *tail, uint8_t **ret_data,
                    size_t *ret_len);
