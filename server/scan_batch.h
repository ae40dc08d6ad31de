/*
 * Packs entries into one FileScanChunk after the other, in our own form or in a stock master's (docs/protocol.md).
 * Not thread-safe: owned by one call.
 */
#pragma once

#include "server/stock.h"

struct scan_batch;

/** What is in a chunk beside its entries. */
struct scan_batch_tail {
        bool is_complete;
        bool unchanged;
        const char *error;             /* NULL: none */
        uint64_t total;                /* entries of the whole listing */
        const struct listing *version; /* our own form only: its digest and revision; NULL: none */
};

/** An empty batch for chunks in our own form (1,000 entries, about 256 KiB) or a stock master's (100 entries). -ENOMEM. */
int scan_batch_new(bool own, struct scan_batch **ret);

/** NULL is fine. */
void scan_batch_free(struct scan_batch *batch);

/** True if a chunk is full: pack it before adding more. */
bool scan_batch_full(const struct scan_batch *batch);

size_t scan_batch_count(const struct scan_batch *batch);

/** Adds an entry in our own form. PATH is copied, the node borrowed until the batch is packed. */
void scan_batch_add(struct scan_batch *batch, const struct listing_node *node, const char *path,
                    size_t path_len);

/** Adds an entry as stock workers see it. FOLDER is the absolute path of the folder that is listed. */
void scan_batch_add_stock(struct scan_batch *batch, const struct stock_item *item, const char *path,
                          const char *folder);

/** The finished message (malloc'ed, the caller's); the batch is empty again. -ENOMEM. */
int scan_batch_pack(struct scan_batch *batch, const struct scan_batch_tail *tail, uint8_t **ret_data,
                    size_t *ret_len);
