#include "proto/pack.h"

#include <string.h>

#include <zstd.h>

#include "proto/pack_format.h"

static uint64_t zigzag(uint64_t difference)
{
        return difference << 1 ^ -(difference >> 63);
}

struct pack_writer {
        ZSTD_CCtx *zstd;
        size_t count, raw_bytes;
        enum hash_algorithm base; /* of the pack; HASH_NONE: not known yet */
        struct buffer columns[COLUMNS];
        struct buffer digests;
        struct buffer raw; /* all columns, for zstd; empty between two packs */
        struct previous previous;
};

int pack_writer_new(struct pack_writer **ret)
{
        struct pack_writer *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        w->zstd = ZSTD_createCCtx();
        if (!w->zstd) {
                free(w);
                return -ENOMEM;
        }
        *ret = w;
        return 0;
}

void pack_writer_free(struct pack_writer *writer)
{
        if (!writer)
                return;
        for (size_t i = 0; i < COLUMNS; i++)
                buffer_release(&writer->columns[i]);
        buffer_release(&writer->digests);
        buffer_release(&writer->raw);
        ZSTD_freeCCtx(writer->zstd);
        free(writer);
}

size_t pack_writer_count(const struct pack_writer *writer)
{
        return writer->count;
}

bool pack_writer_full(const struct pack_writer *writer)
{
        return writer->count >= PACK_ENTRIES_MAX || writer->raw_bytes >= PACK_RAW_FULL;
}

/* The put_* want room reserved: an entry is added whole or not at all. */
static void put_byte(struct buffer *b, uint8_t byte)
{
        b->data[b->len++] = (char)byte;
}

static void put_varint(struct buffer *b, uint64_t v)
{
        for (; v >= 0x80; v >>= 7)
                put_byte(b, (uint8_t)(v | 0x80));
        put_byte(b, (uint8_t)v);
}

static void put_bytes(struct buffer *b, const void *data, size_t len)
{
        if (len > 0)
                memcpy(b->data + b->len, data, len);
        b->len += len;
}

static size_t shared_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
        size_t n = 0, most = MIN(a_len, b_len);

        while (n < most && a[n] == b[n])
                n++;
        return n;
}

static void put_folder(struct pack_writer *w, const char *folder, size_t len)
{
        struct previous *p = &w->previous;
        size_t shared = shared_bytes(folder, len, p->folder, p->folder_len);
        struct buffer *b = &w->columns[COLUMN_FOLDER];

        put_varint(b, shared);
        put_varint(b, len - shared);
        put_bytes(b, folder + shared, len - shared);
        memcpy(p->folder + shared, folder + shared, len - shared);
        p->folder_len = len;
}

static void put_name(struct pack_writer *w, const char *name, size_t len)
{
        struct previous *p = &w->previous;
        size_t shared = shared_bytes(name, len, p->name, p->name_len);

        put_varint(&w->columns[COLUMN_NAME_LEN], shared);
        put_varint(&w->columns[COLUMN_NAME_LEN], len - shared);
        put_bytes(&w->columns[COLUMN_NAME], name + shared, len - shared);
        memcpy(p->name + shared, name + shared, len - shared);
        p->name_len = len;
}

/* Bytes of a file that travel with its entry. */
static size_t data_len(const struct entry *entry)
{
        return entry->kind == ENTRY_FILE && entry->data ? entry->size : 0;
}

static void put_attributes(struct pack_writer *w, const struct entry *entry)
{
        struct previous *p = &w->previous;

        put_varint(&w->columns[COLUMN_MODE], zigzag((uint64_t)entry->mode - p->mode));
        put_varint(&w->columns[COLUMN_MTIME], zigzag((uint64_t)entry->mtime_ns - (uint64_t)p->mtime_ns));
        put_varint(&w->columns[COLUMN_SIZE], entry->size);
        if (entry->kind == ENTRY_SYMLINK) {
                put_varint(&w->columns[COLUMN_TARGET], entry->target_len);
                put_bytes(&w->columns[COLUMN_TARGET], entry->target, entry->target_len);
        }
        if (entry->kind == ENTRY_FILE) {
                put_varint(&w->columns[COLUMN_DATA_LEN], data_len(entry));
                put_bytes(&w->columns[COLUMN_DATA], entry->data, data_len(entry));
        }
        if (entry->content.algorithm != HASH_NONE)
                put_bytes(&w->digests, entry->content.bytes, hash_len(entry->content.algorithm));
        p->mode = entry->mode;
        p->mtime_ns = entry->mtime_ns;
}

/* Room for an entry in every column. */
static int reserve(struct pack_writer *w, const struct entry *entry)
{
        size_t most = entry->path_len + entry->target_len + data_len(entry) + 2 * (size_t)VARINT_MAX;

        for (size_t i = 0; i < COLUMNS; i++) {
                struct buffer *b = &w->columns[i];
                if (b->capacity - b->len > most)
                        continue;
                if (buffer_reserve(b, most) < 0)
                        return -ENOMEM;
        }
        return buffer_reserve(&w->digests, HASH_BYTES);
}

static size_t raw_bytes(const struct pack_writer *w)
{
        size_t sum = 0;

        for (size_t i = 0; i < COLUMNS; i++)
                sum += w->columns[i].len;
        return sum;
}

static bool fits(const struct entry *entry, size_t name_len)
{
        return entry->path_len <= PATH_BYTES_MAX && name_len <= PATH_NAME_MAX &&
               (name_len > 0 || entry->path_len == 0) && entry->target_len <= ENTRY_TARGET_MAX &&
               entry->mode <= MODE_MAX && entry->kind <= ENTRY_SYMLINK &&
               (unsigned)entry->content.algorithm < HASH_ALGORITHMS && data_len(entry) <= ENTRY_TINY_MAX;
}

/* The base of the tree that ENTRY is of, as far as it shows; stock masters' MD5s are of trees of XXH3. */
static enum hash_algorithm base_of(const struct entry *entry)
{
        enum hash_algorithm algorithm = entry->content.algorithm;

        return entry->gone ? HASH_NONE : algorithm == HASH_MD5 ? HASH_XXH3 : hash_base(algorithm);
}

static unsigned algorithm_flag(enum hash_algorithm algorithm)
{
        if (algorithm == HASH_NONE || algorithm == HASH_MD5)
                return algorithm == HASH_NONE ? PACK_NONE : PACK_MD5;
        return hash_by_pieces(algorithm) ? PACK_PIECES : PACK_BASE;
}

static uint8_t flags_of(const struct entry *entry)
{
        if (entry->gone)
                return FLAG_GONE;
        return (uint8_t)(entry->kind | algorithm_flag(entry->content.algorithm) << ALGORITHM_SHIFT |
                         (entry->unknown ? FLAG_UNKNOWN : 0) | (entry->whole ? FLAG_WHOLE : 0));
}

int pack_writer_add(struct pack_writer *writer, const struct entry *entry)
{
        const struct previous *p = &writer->previous;
        const char *name;
        size_t folder_len = path_split(entry->path, entry->path_len, &name);
        size_t name_len = entry->path_len - (size_t)(name - entry->path);
        enum hash_algorithm base = base_of(entry);
        bool moved = folder_len != p->folder_len || memcmp(entry->path, p->folder, folder_len) != 0;

        if (pack_writer_full(writer))
                return -EFBIG;
        if (!fits(entry, name_len) ||
            (base != HASH_NONE && writer->base != HASH_NONE && base != writer->base))
                return -EINVAL;
        if (reserve(writer, entry) < 0)
                return -ENOMEM;
        put_byte(&writer->columns[COLUMN_FLAGS], flags_of(entry) | (moved ? FLAG_FOLDER : 0));
        if (moved)
                put_folder(writer, entry->path, folder_len);
        put_name(writer, name, name_len);
        if (!entry->gone)
                put_attributes(writer, entry);
        if (base != HASH_NONE)
                writer->base = base;
        writer->count++;
        writer->raw_bytes = raw_bytes(writer);
        return 0;
}

/* The head and the columns one after the other. */
static int join_columns(struct pack_writer *w)
{
        int r = buffer_reserve(&w->raw, w->raw_bytes + (size_t)VARINT_MAX * (1 + COLUMNS));

        if (r < 0)
                return r;
        w->raw.len = 0;
        put_varint(&w->raw, w->count);
        for (size_t i = 0; i < COLUMNS; i++)
                put_varint(&w->raw, w->columns[i].len);
        for (size_t i = 0; i < COLUMNS; i++)
                put_bytes(&w->raw, w->columns[i].data, w->columns[i].len);
        return 0;
}

static int compress_into(struct pack_writer *w, int level, struct buffer *ret)
{
        size_t bound, len, digests = w->digests.len / hash_len(w->base);
        int r = join_columns(w);

        if (r < 0)
                return r;
        bound = ZSTD_compressBound(w->raw.len);
        r = buffer_reserve(ret, HEAD_BYTES + w->digests.len + bound);
        if (r < 0)
                return r;
        len = ZSTD_compressCCtx(w->zstd, ret->data + ret->len + HEAD_BYTES + w->digests.len, bound,
                                w->raw.data, w->raw.len, level);
        if (ZSTD_isError(len))
                return -ENOMEM; /* there is room enough: nothing else can be the matter */
        put_byte(ret, w->base == HASH_SHA256 ? PACK_FORMAT_SHA256 : PACK_FORMAT_XXH3);
        for (unsigned shift = 0; shift < 32; shift += 8)
                put_byte(ret, (uint8_t)(digests >> shift));
        put_bytes(ret, w->digests.data, w->digests.len);
        ret->len += len;
        ret->data[ret->len] = '\0';
        return 0;
}

int pack_writer_finish(struct pack_writer *writer, int level, struct buffer *ret)
{
        int r = compress_into(writer, level, ret);

        for (size_t i = 0; i < COLUMNS; i++)
                writer->columns[i].len = 0;
        writer->digests.len = writer->raw.len = writer->count = writer->raw_bytes = 0;
        writer->base = HASH_NONE;
        forget_previous(&writer->previous);
        return r;
}
