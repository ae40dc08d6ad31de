#include "server/file_info.h"

#include <string.h>

#include "base/clock.h"
#include "base/path.h"
#include "proto/sync_service.pb-c.h"

#define FILES_TAG 0x0a /* field 1, length-delimited */

static ProtobufCBinaryData bytes_of(const void *data, size_t len)
{
        return (ProtobufCBinaryData){ .data = (uint8_t *)data, .len = len };
}

static void fill_attributes(Grpc__FileInfo *info, const struct entry *e)
{
        struct timespec mtime = clock_timespec(e->mtime_ns);

        info->kind = e->kind;
        info->unknown = e->unknown;
        info->whole = e->whole;
        info->is_dir = e->kind == ENTRY_DIRECTORY;
        info->mode = entry_go_mode(e->kind, e->mode);
        info->mod_time = mtime.tv_sec;
        info->mtime_nsec = (uint32_t)mtime.tv_nsec;
        info->file_size = (int64_t)e->size;
        if (e->kind == ENTRY_SYMLINK && e->target)
                info->link_target = bytes_of(e->target, e->target_len);
        if (e->content.algorithm != HASH_NONE) {
                info->hash_algorithm = e->content.algorithm;
                info->digest = bytes_of(e->content.bytes, hash_len(e->content.algorithm));
        }
        if (e->data)
                info->content = bytes_of(e->data, (size_t)e->size);
}

int file_info_append(struct buffer *ret, const struct entry *entry)
{
        Grpc__FileInfo info = GRPC__FILE_INFO__INIT;
        char path[PATH_BYTES_MAX + 1];
        size_t len;
        uint8_t *at;

        if (entry->path_len > PATH_BYTES_MAX)
                return -ENAMETOOLONG;
        memcpy(path, entry->path, entry->path_len);
        path[entry->path_len] = '\0';
        if (path_is_utf8(path, entry->path_len))
                info.path = path;
        else
                info.raw_path = bytes_of(path, entry->path_len);
        info.gone = entry->gone;
        if (!entry->gone)
                fill_attributes(&info, entry);
        len = grpc__file_info__get_packed_size(&info);
        if (buffer_reserve(ret, 1 + 10 + len) < 0)
                return -ENOMEM;
        at = (uint8_t *)ret->data + ret->len;
        *at++ = FILES_TAG;
        for (size_t rest = len;; rest >>= 7) {
                *at++ = (uint8_t)(rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0);
                if (rest < 0x80)
                        break;
        }
        grpc__file_info__pack(&info, at);
        ret->len = (size_t)(at - (uint8_t *)ret->data) + len;
        ret->data[ret->len] = '\0';
        return 0;
}
