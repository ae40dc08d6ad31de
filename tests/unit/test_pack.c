/* What goes into a pack comes out of it; and whatever else is read as a pack is refused, without a step beyond its bytes. */
#include "tests/unit/unit.h"

#include <string.h>

#include <zstd.h>

#include "base/path.h"
#include "proto/pack.h"

#define FORMAT 2

struct listing {
        const struct entry *expected;
        size_t count, seen;
        int stop_at; /* 0: never */
};

static void assert_entry_equal(const struct entry *a, const struct entry *b)
{
        assert_int_equal(a->path_len, b->path_len);
        assert_memory_equal(a->path, b->path, b->path_len);
        assert_int_equal(b->path[b->path_len], 0);
        assert_int_equal(a->gone, b->gone);
        if (a->gone)
                return;
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->mode, b->mode);
        assert_true(a->mtime_ns == b->mtime_ns);
        assert_true(a->size == b->size);
        assert_true(content_id_equal(&a->content, &b->content));
        assert_int_equal(a->unknown, b->unknown);
        assert_int_equal(a->whole, b->whole);
        assert_int_equal(a->kind == ENTRY_SYMLINK ? a->target_len : 0, b->target_len);
        if (b->target_len > 0)
                assert_memory_equal(a->target, b->target, b->target_len);
        assert_int_equal(a->kind == ENTRY_FILE && a->data, b->data != NULL);
        if (b->data)
                assert_memory_equal(a->data, b->data, b->size);
}

static int compare(const struct entry *entry, void *arg)
{
        struct listing *l = arg;

        assert_true(l->seen < l->count);
        assert_entry_equal(&l->expected[l->seen++], entry);
        return l->stop_at > 0 && (int)l->seen == l->stop_at ? 77 : 0;
}

static int ignore(const struct entry *entry, void *arg)
{
        assert_true(entry->path_len <= PATH_BYTES_MAX && entry->mode <= 07777);
        return 0;
}

/* Reads a copy that ends where an allocation ends, so that a sanitizer sees any step beyond. */
static int read_exact(struct pack_reader *reader, const uint8_t *data, size_t len,
                      int (*each)(const struct entry *entry, void *arg), void *arg)
{
        uint8_t *copy = malloc(len ?: 1);
        int r;

        assert_non_null(copy);
        memcpy(copy, data, len);
        r = pack_read(reader, copy, len, each, arg);
        free(copy);
        return r;
}

static void make_pack(const struct entry *entries, size_t n, struct buffer *ret)
{
        struct pack_writer *writer;

        assert_int_equal(pack_writer_new(&writer), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(pack_writer_add(writer, &entries[i]), 0);
        assert_int_equal(pack_writer_count(writer), n);
        assert_int_equal(pack_writer_finish(writer, 3, ret), 0);
        assert_int_equal(pack_writer_count(writer), 0);
        pack_writer_free(writer);
}

static void round_trip(const struct entry *entries, size_t n)
{
        _cleanup_buffer_ struct buffer pack = { 0 };
        struct listing l = { .expected = entries, .count = n };
        struct pack_reader *reader;

        make_pack(entries, n, &pack);
        assert_int_equal(pack_reader_new(&reader), 0);
        assert_int_equal(read_exact(reader, (uint8_t *)pack.data, pack.len, compare, &l), 0);
        assert_int_equal(l.seen, n);
        pack_reader_free(reader);
}

#define PATH(p) .path = (p), .path_len = sizeof(p) - 1

static const uint8_t largest[ENTRY_TINY_MAX] = "the most that travels with an entry";

static const struct entry every_field[] = {
        { PATH(""), .kind = ENTRY_DIRECTORY, .mode = 01777, .mtime_ns = -1, .whole = true,
          .content = { HASH_XXH3, "root's digest.." } },
        { PATH("a"), .kind = ENTRY_FILE, .mode = 0644, .mtime_ns = INT64_MIN, .size = ENTRY_SIZE_MAX,
          .content = { HASH_XXH3, "0123456789abcde" } },
        { PATH("b"), .kind = ENTRY_FILE, .mode = 04755, .mtime_ns = INT64_MAX, .size = UINT64_MAX,
          .content = { HASH_MD5, "fedcba987654321" } },
        { PATH("b/\xff\xfe/name that is not UTF-8"), .kind = ENTRY_FILE, .size = 1 },
        { PATH("b/\xff\xfe/name that is"), .kind = ENTRY_SYMLINK, .mode = 0777, .target = "../to",
          .target_len = 5, .size = 5 },
        { PATH("b/tiny"), .kind = ENTRY_FILE, .mode = 0600, .size = 5, .data = (const uint8_t *)"a\0b\nc",
          .content = { HASH_XXH3, "of five bytes.." } },
        { PATH("b/largest"), .kind = ENTRY_FILE, .size = ENTRY_TINY_MAX, .data = largest,
          .content = { HASH_XXH3, "of all of it..." } },
        { PATH("b/pieces"), .kind = ENTRY_FILE, .size = 1 << 20,
          .content = { HASH_XXH3_PIECES, "of its pieces.." } },
        { PATH("b/gone"), .gone = true, .kind = ENTRY_FILE, .mode = 0600,
          .content = { HASH_XXH3, "not sent" } },
        { PATH("unknown"), .unknown = true },
        { PATH("unknown file"), .unknown = true, .kind = ENTRY_FILE, .size = 7, .mtime_ns = 1 },
        { PATH("z"), .kind = ENTRY_DIRECTORY, .whole = true, .mode = 0700, .mtime_ns = 1600000000000000000 },
        { PATH("z/z/z/z"), .kind = ENTRY_SYMLINK, .target = "", .target_len = 0 },
        { PATH(""), .kind = ENTRY_DIRECTORY },
};

static void test_every_field(void **state)
{
        round_trip(every_field, ARRAY_SIZE(every_field));
        for (size_t i = 0; i < ARRAY_SIZE(every_field); i++)
                round_trip(&every_field[i], 1);
        round_trip(NULL, 0);
}

static void test_sha256(void **state)
{
        static const struct entry entries[] = {
                { PATH(""), .kind = ENTRY_DIRECTORY,
                  .content = { HASH_SHA256, "root's digest of thirty-two by." } },
                { PATH("a"), .kind = ENTRY_FILE,
                  .content = { HASH_SHA256, "0123456789abcdef0123456789abcde" } },
                { PATH("b"), .kind = ENTRY_FILE, .size = 1 << 20,
                  .content = { HASH_SHA256_PIECES, "0123456789abcdef0123456789abcde" } },
                { PATH("c"), .kind = ENTRY_FILE },
                { PATH("d"), .gone = true },
        };
        static const struct entry others[] = {
                { PATH("x"), .kind = ENTRY_FILE, .content = { HASH_XXH3, "0123456789abcde" } },
                { PATH("x"), .kind = ENTRY_FILE, .content = { HASH_XXH3_PIECES, "0123456789abcde" } },
                { PATH("x"), .kind = ENTRY_FILE, .content = { HASH_MD5, "0123456789abcde" } },
        };
        struct pack_writer *writer;

        round_trip(entries, ARRAY_SIZE(entries));
        /* One tree, one base. */
        assert_int_equal(pack_writer_new(&writer), 0);
        assert_int_equal(pack_writer_add(writer, &entries[1]), 0);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                assert_int_equal(pack_writer_add(writer, &others[i]), -EINVAL);
        assert_int_equal(pack_writer_count(writer), 1);
        pack_writer_free(writer);
}

static void test_longest(void **state)
{
        char *path = malloc(PATH_BYTES_MAX + 2), *target = malloc(ENTRY_TARGET_MAX + 2);
        struct entry entries[3] = { { PATH("x") },
                                    { .path = path,
                                      .path_len = PATH_BYTES_MAX,
                                      .kind = ENTRY_SYMLINK,
                                      .target = target,
                                      .target_len = ENTRY_TARGET_MAX },
                                    { PATH("x") } };
        struct pack_writer *writer;

        memset(path, 'p', PATH_BYTES_MAX + 1);
        for (size_t i = 200; i < PATH_BYTES_MAX; i += 200)
                path[i] = '/';
        memset(target, 't', ENTRY_TARGET_MAX + 1);
        round_trip(entries, 3);

        assert_int_equal(pack_writer_new(&writer), 0);
        entries[1].path_len++;
        assert_int_equal(pack_writer_add(writer, &entries[1]), -EINVAL);
        entries[1].path_len--;
        entries[1].target_len++;
        assert_int_equal(pack_writer_add(writer, &entries[1]), -EINVAL);
        entries[1].target_len--;
        memset(path, 'p', 300);
        entries[1].path_len = 256;
        assert_int_equal(pack_writer_add(writer, &entries[1]), -EINVAL);
        assert_int_equal(pack_writer_add(writer, &(struct entry){ PATH("a/") }), -EINVAL);
        assert_int_equal(pack_writer_add(writer, &(struct entry){ PATH("a"), .mode = 010000 }), -EINVAL);
        assert_int_equal(pack_writer_add(writer, &(struct entry){ PATH("a"), .kind = ENTRY_FILE,
                                                                  .size = ENTRY_TINY_MAX + 1,
                                                                  .data = (uint8_t *)target }),
                         -EINVAL);
        assert_int_equal(pack_writer_count(writer), 0);
        pack_writer_free(writer);
        free(path);
        free(target);
}

static void test_each_ends_it(void **state)
{
        _cleanup_buffer_ struct buffer pack = { 0 };
        struct listing l = { .expected = every_field, .count = ARRAY_SIZE(every_field), .stop_at = 4 };
        struct pack_reader *reader;

        make_pack(every_field, ARRAY_SIZE(every_field), &pack);
        assert_int_equal(pack_reader_new(&reader), 0);
        assert_int_equal(pack_read(reader, (uint8_t *)pack.data, pack.len, compare, &l), 77);
        assert_int_equal(l.seen, 4);
        l.seen = 0;
        l.stop_at = 0;
        assert_int_equal(pack_read(reader, (uint8_t *)pack.data, pack.len, compare, &l), 0);
        pack_reader_free(reader);
}

static void test_full(void **state)
{
        struct pack_writer *writer;
        char target[ENTRY_TARGET_MAX];
        struct entry entry = { PATH("x"), .kind = ENTRY_SYMLINK, .target = target,
                               .target_len = sizeof(target) };
        _cleanup_buffer_ struct buffer pack = { 0 };
        size_t n = 0;

        memset(target, 'x', sizeof(target));
        assert_int_equal(pack_writer_new(&writer), 0);
        while (!pack_writer_full(writer)) {
                assert_int_equal(pack_writer_add(writer, &entry), 0);
                n++;
        }
        assert_in_range(n, PACK_RAW_FULL / 4200, PACK_RAW_FULL / 4000);
        assert_int_equal(pack_writer_add(writer, &entry), -EFBIG);
        assert_int_equal(pack_writer_finish(writer, 1, &pack), 0);
        entry.target_len = 0;
        for (n = 0; !pack_writer_full(writer); n++)
                assert_int_equal(pack_writer_add(writer, &entry), 0);
        assert_int_equal(n, PACK_ENTRIES_MAX);
        pack_writer_free(writer);
}

static void test_same_entries_same_bytes(void **state)
{
        _cleanup_buffer_ struct buffer a = { 0 }, b = { 0 };
        struct pack_writer *writer;

        make_pack(every_field, ARRAY_SIZE(every_field), &a);
        /* Another writer, with a history of its own. */
        assert_int_equal(pack_writer_new(&writer), 0);
        assert_int_equal(pack_writer_add(writer, &every_field[3]), 0);
        assert_int_equal(pack_writer_finish(writer, 1, &b), 0);
        buffer_truncate(&b, 0);
        for (size_t i = 0; i < ARRAY_SIZE(every_field); i++)
                assert_int_equal(pack_writer_add(writer, &every_field[i]), 0);
        assert_int_equal(pack_writer_finish(writer, 3, &b), 0);
        pack_writer_free(writer);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.data, b.data, a.len);
}

/* A folder like those that are met: few bytes beside the hashes. */
static void test_small(void **state)
{
        enum { N = 10000 };
        struct entry *entries = calloc(N, sizeof(*entries));
        char(*paths)[32] = calloc(N, sizeof(*paths));
        _cleanup_buffer_ struct buffer pack = { 0 };

        for (int i = 0; i < N; i++) {
                snprintf(paths[i], sizeof(paths[i]), "dir%04d/file_%04d.py", i / 1000, i % 1000);
                entries[i] =
                        (struct entry){ .path = paths[i],
                                        .path_len = strlen(paths[i]),
                                        .kind = ENTRY_FILE,
                                        .mode = 0644,
                                        .mtime_ns = INT64_C(1700000000123456789) + i / 50 * INT64_C(4000001),
                                        .size = 512 };
                entries[i].content.algorithm = HASH_XXH3;
                hash_bytes(HASH_XXH3, paths[i], entries[i].path_len, entries[i].content.bytes);
        }
        round_trip(entries, N);
        make_pack(entries, N, &pack);
        assert_in_range(pack.len, N * 16, N * 16 + N);
        free(entries);
        free(paths);
}

/* ---- hostile ---- */

static void test_every_truncation(void **state)
{
        _cleanup_buffer_ struct buffer pack = { 0 };
        struct pack_reader *reader;

        make_pack(every_field, ARRAY_SIZE(every_field), &pack);
        assert_int_equal(pack_reader_new(&reader), 0);
        for (size_t len = 0; len < pack.len; len++)
                assert_int_equal(read_exact(reader, (uint8_t *)pack.data, len, ignore, NULL), -EBADMSG);
        assert_int_equal(buffer_append(&pack, "x", 1), 0);
        assert_int_equal(read_exact(reader, (uint8_t *)pack.data, pack.len, ignore, NULL), -EBADMSG);
        pack_reader_free(reader);
}

/* A pack of RAW columns and no digests. */
static int read_raw(const void *raw, size_t len)
{
        size_t bound = ZSTD_compressBound(len), n;
        uint8_t *data = calloc(1, 5 + bound);
        struct pack_reader *reader;
        int r;

        assert_non_null(data);
        data[0] = FORMAT;
        n = ZSTD_compress(data + 5, bound, raw, len, 1);
        assert_false(ZSTD_isError(n));
        assert_int_equal(pack_reader_new(&reader), 0);
        r = read_exact(reader, data, 5 + n, ignore, NULL);
        pack_reader_free(reader);
        free(data);
        return r;
}

static void test_columns(void **state)
{
#define RAW(s) s, sizeof(s) - 1
        /* count; lengths of flags, folders, name lengths, names, modes, mtimes, sizes, targets, data lengths, data; the
         * columns */
        assert_int_equal(read_raw(RAW("\x00"
                                      "\0\0\0\0\0\0\0\0\0\0")),
                         0);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         0);
        /* a column too short, too long, not used up, bytes behind the last */
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\1\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\1\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "x"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "x")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\0\0\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        /* more entries than flags; a name that shares what is not there; one that goes beyond its column */
        assert_int_equal(read_raw(RAW("\x02"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\1\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\0\2"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        /* a digest that is not there, of each of two algorithms, a mode beyond its bits, gone and more */
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x05"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x0d"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x01"
                                      "\0\1"
                                      "n"
                                      "\1"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\1\1\1\0\1\0"
                                      "\x21"
                                      "\0\1"
                                      "n"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\0\2\1\0\0\0\0\0\0"
                                      "\x20"
                                      "\0\1"
                                      "n")),
                         0);
        /* a folder without a name in it; numbers of eleven bytes, and beyond 64 bits */
        assert_int_equal(read_raw(RAW("\x01"
                                      "\1\3\2\0\1\1\1\0\1\0"
                                      "\x81"
                                      "\0\1f"
                                      "\0\0"
                                      "\0"
                                      "\0"
                                      "\0"
                                      "\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"
                                      "\0\0\0\0\0\0\0\0\0\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"
                                      "\0\0\0\0\0\0\0\0\0\0")),
                         -EBADMSG);
        assert_int_equal(read_raw(RAW("\x00"
                                      "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\1\0"
                                      "\0\0\0\0\0\0\0"
                                      "\0")),
                         -EBADMSG);
#undef RAW
}

/* A file of SIZE bytes (less than 128), of which a pack says that there are LEN, and brings COUNT. */
static int read_data(uint8_t size, size_t len, size_t count)
{
        uint8_t raw[1024] = { 1, 1, 0, 2, 1, 1, 1, 1, 0 };
        uint8_t *p = raw + 9;

        *p++ = len < 128 ? 1 : 2;
        *p++ = (uint8_t)(count & 0x7f) | 0x80;
        *p++ = (uint8_t)(count >> 7);
        *p++ = ENTRY_FILE;
        *p++ = 0;
        *p++ = 1;
        *p++ = 'n';
        p += 2; /* mode, mtime */
        *p++ = size;
        *p++ = (uint8_t)(len & 0x7f) | (len < 128 ? 0 : 0x80);
        if (len >= 128)
                *p++ = (uint8_t)(len >> 7);
        memset(p, 'd', count);
        return read_raw(raw, (size_t)(p - raw) + count);
}

static void test_data_is_all_or_nothing(void **state)
{
        assert_int_equal(read_data(100, 100, 100), 0);
        assert_int_equal(read_data(100, 0, 0), 0);
        assert_int_equal(read_data(100, 99, 99), -EBADMSG);
        assert_int_equal(read_data(100, 101, 101), -EBADMSG);
        assert_int_equal(read_data(100, 100, 99), -EBADMSG);
        assert_int_equal(read_data(100, 100, 101), -EBADMSG);
        assert_int_equal(read_data(100, 0, 100), -EBADMSG);
        assert_int_equal(read_data(0, 1, 1), -EBADMSG);
        assert_int_equal(read_data(127, 500, 500), -EBADMSG);
}

/* A file of LEN bytes, at least 128, all of them there. */
static int read_tiny(size_t len)
{
        uint8_t raw[2 * ENTRY_TINY_MAX + 32] = { 1, 1, 0, 2, 1, 1, 1, 2, 0, 2 }, *p = raw + 10;
        const uint8_t low = (uint8_t)(len % 128 + 128), high = (uint8_t)(len / 128);

        *p++ = low;
        *p++ = high;
        *p++ = ENTRY_FILE;
        *p++ = 0;
        *p++ = 1;
        *p++ = 'n';
        p += 2;     /* mode, mtime */
        *p++ = low; /* size */
        *p++ = high;
        *p++ = low; /* data */
        *p++ = high;
        return read_raw(raw, (size_t)(p - raw) + len);
}

static void test_data_too_long(void **state)
{
        assert_int_equal(read_tiny(ENTRY_TINY_MAX), 0);
        assert_int_equal(read_tiny(ENTRY_TINY_MAX + 1), -EBADMSG);
}

static void test_bombs(void **state)
{
        size_t len = PACK_RAW_MAX + 1;
        uint8_t *zeros = calloc(1, len), data[64] = { FORMAT };
        struct pack_reader *reader;

        /* Beyond PACK_RAW_MAX, and at it: the frame says so itself. */
        assert_int_equal(read_raw(zeros, len), -EBADMSG);
        assert_int_equal(read_raw(zeros, len - 1), -EBADMSG); /* zero entries, and bytes behind them */
        /* More digests than there are bytes; than a pack may have; another format. */
        assert_int_equal(pack_reader_new(&reader), 0);
        data[1] = 16;
        assert_int_equal(read_exact(reader, data, sizeof(data), ignore, NULL), -EBADMSG);
        memset(data + 1, 0xff, 4);
        assert_int_equal(read_exact(reader, data, sizeof(data), ignore, NULL), -EBADMSG);
        data[0] = FORMAT - 1;
        assert_int_equal(read_exact(reader, data, sizeof(data), ignore, NULL), -EBADMSG);
        pack_reader_free(reader);
        free(zeros);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field),   cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_longest),       cmocka_unit_test(test_each_ends_it),
        cmocka_unit_test(test_full),          cmocka_unit_test(test_same_entries_same_bytes),
        cmocka_unit_test(test_small),         cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_columns),       cmocka_unit_test(test_data_is_all_or_nothing),
        cmocka_unit_test(test_data_too_long), cmocka_unit_test(test_bombs),
};

UNIT_MAIN(tests)
