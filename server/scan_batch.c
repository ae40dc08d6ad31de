#include "server/scan_batch.h"

#include <limits.h>
#include <string.h>

#include "proto/sync_service.pb-c.h"

#define CHUNK_ENTRIES 100
#define CHUNK_BYTES   ((size_t)256 * 1024)

/* The most that one entry adds to `text`: path and full_path with what is before it, a hash, and their NULs. */
#define ENTRY_TEXT_MAX ((size_t)4 * (PATH_BYTES_MAX + 1))

struct scan_batch {
        size_t count;
        size_t text_len;
        size_t bytes; /* about what the message will take */
        Grpc__FileInfo infos[CHUNK_ENTRIES];
        Grpc__FileInfo *pointers[CHUNK_ENTRIES];
        char text[CHUNK_BYTES + ENTRY_TEXT_MAX]; /* what the strings of `infos` point to */
};

int scan_batch_new(struct scan_batch **ret)
{
        struct scan_batch *batch = malloc(sizeof(*batch));

        if (!batch)
                return -ENOMEM;
        batch->count = batch->text_len = batch->bytes = 0;
        *ret = batch;
        return 0;
}

void scan_batch_free(struct scan_batch *batch)
{
        free(batch);
}

bool scan_batch_full(const struct scan_batch *batch)
{
        return batch->count == CHUNK_ENTRIES || batch->bytes >= CHUNK_BYTES;
}

size_t scan_batch_count(const struct scan_batch *batch)
{
        return batch->count;
}

static char *keep_text(struct scan_batch *batch, const char *text, size_t len)
{
        char *kept = batch->text + batch->text_len;

        memcpy(kept, text, len);
        kept[len] = '\0';
        batch->text_len += len + 1;
        return kept;
}

static Grpc__FileInfo *next_info(struct scan_batch *batch, size_t bytes)
{
        Grpc__FileInfo *info = &batch->infos[batch->count];

        grpc__file_info__init(info);
        batch->pointers[batch->count++] = info;
        batch->bytes += bytes;
        return info;
}

/* As Go's filepath.Ext: from the last dot of the last component on, the dot included. */
static const char *extension(const char *name)
{
        const char *dot = strrchr(name, '.');

        return dot ? dot : "";
}

static const char *last_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

void scan_batch_add(struct scan_batch *batch, const struct stock_item *item, const char *folder)
{
        size_t path_len = item->path_len, folder_len = strlen(folder);
        Grpc__FileInfo *info = next_info(batch, 2 * path_len + folder_len + 128);
        char hex[2 * HASH_MD5_BYTES + 1];
        char *full = batch->text + batch->text_len;

        memcpy(full, folder, folder_len + 1);
        if (path_len > 0) {
                full[folder_len] = '/';
                memcpy(full + folder_len + 1, item->path, path_len + 1);
        }
        batch->text_len += strlen(full) + 1;
        info->full_path = full;
        info->path = path_len > 0 ? full + folder_len + 1 : (char *)".";
        info->name = (char *)last_name(full);
        info->extension = (char *)extension(info->name);
        info->is_dir = item->is_dir;
        info->file_size = (int64_t)item->size;
        info->mod_time = item->mtime_sec;
        info->mode = item->go_mode;
        if (!item->is_dir) {
                hex_encode(item->md5, HASH_MD5_BYTES, hex);
                info->hash = keep_text(batch, hex, 2 * HASH_MD5_BYTES);
        }
}

int scan_batch_pack(struct scan_batch *batch, const struct scan_batch_tail *tail, uint8_t **ret_data,
                    size_t *ret_len)
{
        Grpc__FileScanChunk chunk = GRPC__FILE_SCAN_CHUNK__INIT;
        uint8_t *data;

        chunk.n_files = batch->count;
        chunk.files = batch->pointers;
        chunk.is_complete = tail->is_complete;
        chunk.total_files = (int32_t)MIN(tail->total, (uint64_t)INT32_MAX);
        if (tail->error)
                chunk.error = (char *)tail->error;
        *ret_len = grpc__file_scan_chunk__get_packed_size(&chunk);
        data = malloc(*ret_len + 1); /* an empty message is valid, and is not a failed malloc */
        if (!data)
                return -ENOMEM;
        grpc__file_scan_chunk__pack(&chunk, data);
        batch->count = batch->text_len = batch->bytes = 0;
        *ret_data = data;
        return 0;
}
