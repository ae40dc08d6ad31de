#include "proto/pack_format.h"

#include <string.h>

#include <zstd.h>

#include "base/pieces.h"

static uint64_t unzigzag(uint64_t v)
{
        return v >> 1 ^ -(v & 1);
}

struct cursor {
        const uint8_t *at, *end;
};

struct pack_reader {
        ZSTD_DCtx *zstd;
        enum hash_algorithm base; /* of the pack */
        struct buffer raw;
        struct cursor columns[COLUMNS];
        struct cursor digests;
        struct previous previous;
        char path[PATH_BYTES_MAX + 1];
        char target[ENTRY_TARGET_MAX + 1];
};

int pack_reader_new(struct pack_reader **ret)
{
        struct pack_reader *reader = calloc(1, sizeof(*reader));

        if (!reader)
                return -ENOMEM;
        reader->zstd = ZSTD_createDCtx();
        if (!reader->zstd) {
                free(reader);
                return -ENOMEM;
        }
        *ret = reader;
        return 0;
}

void pack_reader_free(struct pack_reader *reader)
{
        if (!reader)
                return;
        ZSTD_freeDCtx(reader->zstd);
        buffer_release(&reader->raw);
        free(reader);
}

static int get_varint(struct cursor *c, uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
                uint8_t byte = *c->at++;
                v |= (uint64_t)(byte & 0x7f) << shift;
                if (byte >= 0x80)
                        continue;
                if (shift == 63 && byte > 1)
                        return -EBADMSG;
                *ret = v;
                return 0;
        }
        return -EBADMSG;
}

static int get_bytes(struct cursor *c, size_t len, const uint8_t **ret)
{
        if (len > (size_t)(c->end - c->at))
                return -EBADMSG;
        *ret = c->at;
        c->at += len;
        return 0;
}

/* Brings TEXT up to date, LEN bytes so far and MAX at most: LENGTHS says how many of them stay and how many follow in BYTES. */
static int get_text(struct cursor *lengths, struct cursor *bytes, char *text, size_t *len, size_t max)
{
        uint64_t shared, more;
        const uint8_t *data;

        if (get_varint(lengths, &shared) < 0 || get_varint(lengths, &more) < 0 || shared > *len ||
            more > max - shared || get_bytes(bytes, more, &data) < 0)
                return -EBADMSG;
        memcpy(text + shared, data, more);
        *len = shared + more;
        return 0;
}

/* The folder and what is between it and a name in `path`; the name follows. */
static int get_path(struct pack_reader *reader, bool moved, struct entry *entry)
{
        struct previous *p = &reader->previous;
        struct cursor *folder = &reader->columns[COLUMN_FOLDER];
        size_t at;

        if (moved && get_text(folder, folder, p->folder, &p->folder_len, sizeof(p->folder)) < 0)
                return -EBADMSG;
        if (get_text(&reader->columns[COLUMN_NAME_LEN], &reader->columns[COLUMN_NAME], p->name, &p->name_len,
                     sizeof(p->name)) < 0)
                return -EBADMSG;
        at = p->folder_len > 0 ? p->folder_len + 1 : 0;
        if (at + p->name_len > PATH_BYTES_MAX || (at > 0 && p->name_len == 0) ||
            memchr(p->name, '/', p->name_len))
                return -EBADMSG;
        if (moved && at > 0) {
                memcpy(reader->path, p->folder, p->folder_len);
                reader->path[p->folder_len] = '/';
        }
        memcpy(reader->path + at, p->name, p->name_len);
        entry->path = reader->path;
        entry->path_len = at + p->name_len;
        reader->path[entry->path_len] = '\0';
        return 0;
}

static int get_target(struct pack_reader *reader, struct entry *entry)
{
        struct cursor *c = &reader->columns[COLUMN_TARGET];
        const uint8_t *data;
        uint64_t len;

        if (get_varint(c, &len) < 0 || len > ENTRY_TARGET_MAX || get_bytes(c, len, &data) < 0)
                return -EBADMSG;
        memcpy(reader->target, data, len);
        reader->target[len] = '\0';
        entry->target = reader->target;
        entry->target_len = len;
        return 0;
}

/* All of the file's bytes, or none. */
static int get_data(struct pack_reader *reader, struct entry *entry)
{
        uint64_t len;

        if (get_varint(&reader->columns[COLUMN_DATA_LEN], &len) < 0)
                return -EBADMSG;
        if (len == 0)
                return 0;
        if (len != entry->size || len > ENTRY_TINY_MAX)
                return -EBADMSG;
        return get_bytes(&reader->columns[COLUMN_DATA], len, &entry->data);
}

static int get_attributes(struct pack_reader *reader, struct entry *entry)
{
        struct previous *p = &reader->previous;
        uint64_t mode, mtime;
        const uint8_t *digest;

        if (get_varint(&reader->columns[COLUMN_MODE], &mode) < 0 ||
            get_varint(&reader->columns[COLUMN_MTIME], &mtime) < 0 ||
            get_varint(&reader->columns[COLUMN_SIZE], &entry->size) < 0)
                return -EBADMSG;
        mode = p->mode + unzigzag(mode);
        if (mode > MODE_MAX)
                return -EBADMSG;
        p->mode = entry->mode = (uint32_t)mode;
        p->mtime_ns = entry->mtime_ns = (int64_t)((uint64_t)p->mtime_ns + unzigzag(mtime));
        if (entry->kind == ENTRY_SYMLINK && get_target(reader, entry) < 0)
                return -EBADMSG;
        if (entry->kind == ENTRY_FILE && get_data(reader, entry) < 0)
                return -EBADMSG;
        if (entry->content.algorithm == HASH_NONE)
                return 0;
        if (get_bytes(&reader->digests, hash_len(reader->base), &digest) < 0)
                return -EBADMSG;
        hash_take(entry->content.bytes, digest, hash_len(reader->base));
        return 0;
}

static enum hash_algorithm algorithm_of(const struct pack_reader *reader, uint8_t flags)
{
        switch ((flags & FLAG_ALGORITHM) >> ALGORITHM_SHIFT) {
        case PACK_BASE:
                return reader->base;
        case PACK_MD5:
                return HASH_MD5;
        case PACK_PIECES:
                return content_algorithm(reader->base, UINT64_MAX);
        default:
                return HASH_NONE;
        }
}

static int get_entry(struct pack_reader *reader, uint8_t flags, struct entry *ret)
{
        enum hash_algorithm algorithm = algorithm_of(reader, flags);

        if (algorithm == HASH_MD5 && reader->base != HASH_XXH3)
                return -EBADMSG;
        if ((flags & FLAG_GONE) && (flags & ~FLAG_FOLDER) != FLAG_GONE)
                return -EBADMSG;
        *ret = (struct entry){
                .kind = (enum entry_kind)(flags & FLAG_KIND),
                .content.algorithm = algorithm,
                .unknown = flags & FLAG_UNKNOWN,
                .gone = flags & FLAG_GONE,
                .whole = flags & FLAG_WHOLE,
        };
        if (get_path(reader, flags & FLAG_FOLDER, ret) < 0)
                return -EBADMSG;
        return ret->gone ? 0 : get_attributes(reader, ret);
}

/* What is left of the pack behind its head and digests is one frame. */
static int decompress(struct pack_reader *reader, const uint8_t *frame, size_t len)
{
        unsigned long long size = ZSTD_getFrameContentSize(frame, len);
        size_t n;

        if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > PACK_RAW_MAX)
                return -EBADMSG;
        buffer_truncate(&reader->raw, 0);
        if (buffer_reserve(&reader->raw, size) < 0)
                return -ENOMEM;
        n = ZSTD_decompressDCtx(reader->zstd, reader->raw.data, size, frame, len);
        if (ZSTD_isError(n) || n != size)
                return -EBADMSG;
        reader->raw.len = n;
        return 0;
}

static int find_columns(struct pack_reader *reader, size_t *ret_count)
{
        struct cursor raw = { .at = (const uint8_t *)reader->raw.data };
        uint64_t count, lengths[COLUMNS];

        raw.end = raw.at + reader->raw.len;
        if (get_varint(&raw, &count) < 0 || count > PACK_ENTRIES_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < COLUMNS; i++)
                if (get_varint(&raw, &lengths[i]) < 0)
                        return -EBADMSG;
        for (size_t i = 0; i < COLUMNS; i++) {
                struct cursor *c = &reader->columns[i];
                if (get_bytes(&raw, lengths[i], &c->at) < 0)
                        return -EBADMSG;
                c->end = raw.at;
        }
        if (raw.at != raw.end || lengths[COLUMN_FLAGS] != count)
                return -EBADMSG;
        *ret_count = count;
        return 0;
}

static int open_pack(struct pack_reader *reader, const uint8_t *data, size_t len, size_t *ret_count)
{
        uint32_t digests = 0;
        size_t digests_len;
        int r;

        if (len < HEAD_BYTES || (data[0] != PACK_FORMAT_XXH3 && data[0] != PACK_FORMAT_SHA256))
                return -EBADMSG;
        reader->base = data[0] == PACK_FORMAT_SHA256 ? HASH_SHA256 : HASH_XXH3;
        for (unsigned i = 0; i < 4; i++)
                digests |= (uint32_t)data[1 + i] << 8 * i;
        data += HEAD_BYTES;
        len -= HEAD_BYTES;
        digests_len = digests * hash_len(reader->base);
        if (digests > PACK_ENTRIES_MAX || digests_len > len)
                return -EBADMSG;
        reader->digests = (struct cursor){ .at = data, .end = data + digests_len };
        r = decompress(reader, reader->digests.end, len - digests_len);
        return r < 0 ? r : find_columns(reader, ret_count);
}

static bool is_used_up(const struct pack_reader *reader)
{
        for (size_t i = 0; i < COLUMNS; i++)
                if (reader->columns[i].at != reader->columns[i].end)
                        return false;
        return reader->digests.at == reader->digests.end;
}

int pack_read(struct pack_reader *reader, const uint8_t *data, size_t len,
              int (*each)(const struct entry *entry, void *arg), void *arg)
{
        size_t count;
        int r = open_pack(reader, data, len, &count);

        if (r < 0)
                return r;
        forget_previous(&reader->previous);
        for (size_t i = 0; i < count; i++) {
                struct entry entry;
                r = get_entry(reader, *reader->columns[COLUMN_FLAGS].at++, &entry);
                if (r < 0)
                        return r;
                r = each(&entry, arg);
                if (r != 0)
                        return r;
        }
        return is_used_up(reader) ? 0 : -EBADMSG;
}
