/* A peer's packs, as they come and, so that damage reaches what is in them, compressed here. What is read out of one can be written, and reads as the same. */
#include <assert.h>
#include <string.h>

#include <zstd.h>

#include "base/path.h"
#include "proto/pack.h"
#include "tests/fuzz/driver.h"

#define HEAD 5 /* bytes before the digests */

static struct pack_reader *reader;
static struct pack_writer *writer;

static int count_one(const struct entry *entry, void *arg)
{
        size_t *count = arg;

        (*count)++;
        return 0;
}

static int check_and_copy(const struct entry *entry, void *arg)
{
        assert(entry->path_len <= PATH_BYTES_MAX && entry->path[entry->path_len] == '\0');
        assert(entry->target_len <= ENTRY_TARGET_MAX &&
               (entry->target_len == 0 || entry->target[entry->target_len] == '\0'));
        assert(entry->mode <= 07777 && entry->content.algorithm < HASH_ALGORITHMS);
        assert(!entry->data || (entry->kind == ENTRY_FILE && entry->size <= ENTRY_TINY_MAX));
        return pack_writer_full(writer) ? 0 : pack_writer_add(writer, entry);
}

static void read_pack(const uint8_t *data, size_t len)
{
        _cleanup_buffer_ struct buffer again = { 0 };
        size_t count = 0, written;
        int r = pack_read(reader, data, len, check_and_copy, NULL);

        assert(r == 0 || r == -EBADMSG); /* what comes out can be written */
        written = pack_writer_count(writer);
        assert(pack_writer_finish(writer, 1, &again) == 0);
        assert(pack_read(reader, (uint8_t *)again.data, again.len, count_one, &count) == 0 &&
               count == written);
}

/* The input as the columns of a pack whose digests are its first bytes. */
static void read_columns(uint8_t format, size_t hash_bytes, const uint8_t *data, size_t len)
{
        size_t digests = MIN(len / hash_bytes, (size_t)3), at = HEAD + digests * hash_bytes;
        size_t bound = ZSTD_compressBound(len), n;
        uint8_t *pack = calloc(1, at + bound);

        assert(pack);
        pack[0] = format;
        pack[1] = (uint8_t)digests;
        memcpy(pack + HEAD, data, digests * hash_bytes);
        n = ZSTD_compress(pack + at, bound, data, len, 1);
        assert(!ZSTD_isError(n));
        read_pack(pack, at + n);
        free(pack);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        if (!reader) {
                assert(pack_reader_new(&reader) == 0);
                assert(pack_writer_new(&writer) == 0);
        }
        read_pack(data, len);
        read_columns(2, 16, data, len);
        read_columns(3, 32, data, len);
}
