#include "server/md5_batch.h"

#include <string.h>

int md5_batch_add(struct md5_batch *batch, const char *path, const struct tree_stamp *stamp,
                  const uint8_t md5[HASH_MD5_BYTES])
{
        struct versions_md5 *item;

        if (batch->n == MD5_BATCH_MAX)
                md5_batch_store(batch);
        batch->offsets[batch->n] = batch->paths.len;
        if (buffer_append(&batch->paths, path, strlen(path) + 1) < 0)
                return -ENOMEM;
        item = &batch->items[batch->n++];
        item->stamp = *stamp;
        memcpy(item->md5, md5, HASH_MD5_BYTES);
        return 0;
}

void md5_batch_store(struct md5_batch *batch)
{
        for (size_t i = 0; i < batch->n; i++)
                batch->items[i].path = batch->paths.data + batch->offsets[i];
        if (batch->n > 0)
                (void)versions_store_md5s(batch->versions, batch->spider, batch->items, batch->n, NULL);
        batch->n = 0;
        buffer_truncate(&batch->paths, 0);
}

void md5_batch_release(struct md5_batch *batch)
{
        buffer_release(&batch->paths);
        batch->n = 0;
}
