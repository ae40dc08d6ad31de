#include "base/entry.h"

#include <string.h>

#define GO_DIR     (UINT32_C(1) << 31)
#define GO_SYMLINK (UINT32_C(1) << 27)
#define GO_DEVICE  (UINT32_C(1) << 26)
#define GO_FIFO    (UINT32_C(1) << 25)
#define GO_SOCKET  (UINT32_C(1) << 24)
#define GO_SETUID  (UINT32_C(1) << 23)
#define GO_SETGID  (UINT32_C(1) << 22)
#define GO_STICKY  (UINT32_C(1) << 20)
#define GO_SPECIAL (UINT32_C(1) << 19)

mode_t entry_st_mode(enum entry_kind kind, uint32_t mode)
{
        static const mode_t types[] = { S_IFREG, S_IFREG, S_IFDIR, S_IFLNK };

        return types[kind] | (mode & 07777);
}

uint32_t entry_go_mode(enum entry_kind kind, uint32_t mode)
{
        uint32_t go = mode & 0777;

        if (kind == ENTRY_DIRECTORY)
                go |= GO_DIR;
        if (kind == ENTRY_SYMLINK)
                go |= GO_SYMLINK;
        if (mode & S_ISUID)
                go |= GO_SETUID;
        if (mode & S_ISGID)
                go |= GO_SETGID;
        if (mode & S_ISVTX)
                go |= GO_STICKY;
        return go;
}

int entry_from_go_mode(uint32_t go_mode, enum entry_kind *ret_kind, uint32_t *ret_mode)
{
        uint32_t mode = go_mode & 0777;

        if (go_mode & (GO_DEVICE | GO_FIFO | GO_SOCKET | GO_SPECIAL))
                return -EINVAL;
        if ((go_mode & GO_DIR) && (go_mode & GO_SYMLINK))
                return -EINVAL;
        if (go_mode & GO_SETUID)
                mode |= S_ISUID;
        if (go_mode & GO_SETGID)
                mode |= S_ISGID;
        if (go_mode & GO_STICKY)
                mode |= S_ISVTX;
        *ret_kind = go_mode & GO_DIR ? ENTRY_DIRECTORY : go_mode & GO_SYMLINK ? ENTRY_SYMLINK : ENTRY_FILE;
        *ret_mode = mode;
        return 0;
}

static uint8_t *put_le(uint8_t *p, uint64_t value, size_t bytes)
{
        for (size_t i = 0; i < bytes; i++)
                *p++ = (uint8_t)(value >> (8 * i));
        return p;
}

void entry_digest_add(struct hasher *h, const struct entry_digest_input *child)
{
        uint8_t record[64], *p = record;

        p = put_le(p, child->name_len, 2);
        if (child->unknown || child->kind == ENTRY_UNKNOWN) {
                p = put_le(p, ENTRY_UNKNOWN, 1);
                hasher_update(h, record, (size_t)(p - record));
                hasher_update(h, child->name, child->name_len);
                return;
        }
        p = put_le(p, child->kind, 1);
        p = put_le(p, child->mode, 4);
        p = put_le(p, (uint64_t)child->mtime_ns, 8);
        p = put_le(p, child->kind == ENTRY_DIRECTORY ? 0 : child->size, 8);
        p = put_le(p, child->algorithm, 1);
        memcpy(p, child->digest, hash_len(child->algorithm));
        p += hash_len(child->algorithm);
        hasher_update(h, record, (size_t)(p - record));
        hasher_update(h, child->name, child->name_len);
}

void entry_root_digest(enum hash_algorithm base, uint32_t mode, int64_t mtime_ns,
                       const uint8_t folder_digest[HASH_BYTES], uint8_t ret[HASH_BYTES])
{
        uint8_t record[12 + HASH_BYTES], *p = record;

        p = put_le(p, mode, 4);
        p = put_le(p, (uint64_t)mtime_ns, 8);
        memcpy(p, folder_digest, hash_len(base));
        hash_bytes(base, record, 12 + hash_len(base), ret);
}
