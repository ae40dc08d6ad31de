#include "cache/catalog_private.h"

#include <string.h>

#include "base/pieces.h"

/* A master of ours names a content by its tree's base and its size; a stock one, whose trees count as HASH_XXH3, as MD5; and one that could not read it not at all. */
static bool is_named_well(enum hash_algorithm base, const struct entry *entry)
{
        enum hash_algorithm algorithm = entry->content.algorithm;

        return entry->unknown || algorithm == HASH_NONE || (algorithm == HASH_MD5 && base == HASH_XXH3) ||
               algorithm == content_algorithm(base, entry->size);
}

int catalog_check_entry(enum hash_algorithm base, const struct entry *entry)
{
        int64_t seconds = clock_timespec(entry->mtime_ns).tv_sec;
        int r = path_check(entry->path, entry->path_len);

        if (r < 0)
                return r;
        if (entry->gone)
                return entry->path_len == 0 ? -EINVAL : 0;
        if ((unsigned)entry->kind > ENTRY_SYMLINK || entry->mode > 07777 || seconds > ENTRY_MTIME_SEC_MAX ||
            seconds < -ENTRY_MTIME_SEC_MAX)
                return -EINVAL;
        if ((entry->path_len == 0 || entry->whole) && entry->kind != ENTRY_DIRECTORY)
                return -EINVAL;
        if (entry->kind == ENTRY_FILE && entry->size > ENTRY_SIZE_MAX)
                return -EFBIG;
        if (entry->kind == ENTRY_FILE && !is_named_well(base, entry))
                return -EINVAL;
        if (entry->kind == ENTRY_SYMLINK && !entry->unknown &&
            (entry->target_len == 0 || entry->target_len > ENTRY_TARGET_MAX ||
             memchr(entry->target, '\0', entry->target_len)))
                return -EINVAL;
        return 0;
}

void catalog_row_from_entry(enum hash_algorithm base, const struct entry *entry, struct db_row *row)
{
        struct catalog_entry *e = &row->entry;

        row->unknown = entry->unknown || entry->kind == ENTRY_UNKNOWN;
        row->hash_len = hash_len(base);
        *e = (struct catalog_entry){ .kind = entry->kind, .mode = entry->mode, .mtime_ns = entry->mtime_ns };
        /* A link that leads nowhere known cannot be shown. */
        if (entry->kind == ENTRY_UNKNOWN || (entry->kind == ENTRY_SYMLINK && row->unknown)) {
                *e = (struct catalog_entry){ .kind = ENTRY_UNKNOWN };
        } else if (entry->kind == ENTRY_SYMLINK) {
                e->size = entry->target_len;
                hash_bytes(base, entry->target, entry->target_len, e->content.bytes);
        } else if (entry->kind == ENTRY_FILE) {
                e->size = entry->size;
                if (!row->unknown && entry->content.algorithm != HASH_NONE)
                        e->content = entry->content;
                row->hash_len = hash_len(e->content.algorithm);
        }
}

void catalog_count_row(struct db_version *version, const struct db_row *row, uint64_t by)
{
        struct catalog_version *v = &version->shown;

        version->rows += by;
        if (row->unknown)
                v->unknown += by;
        switch (row->entry.kind) {
        case ENTRY_FILE:
                v->files += by;
                v->bytes += by * row->entry.size;
                break;
        case ENTRY_DIRECTORY:
                v->directories += by;
                break;
        case ENTRY_SYMLINK:
                v->symlinks += by;
                break;
        case ENTRY_UNKNOWN:
                break;
        }
}
