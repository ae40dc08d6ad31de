/* The hand-written messages against those that protobuf-c writes and reads, hostile bytes, and the arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"

static const int64_t totals[] = { 0, 1, 127, 128, 65536, INT64_C(1) << 40, INT64_MAX, -1, INT64_MIN };
static const size_t sizes[] = { 0, 1, 127, 128, 16383, 16384, 65536, 1 << 20 };

/* Parses a copy that ends where an allocation ends, so that a sanitizer sees any step beyond. */
static int parse_exact(const uint8_t *msg, size_t len, struct wire_download_chunk *ret)
{
        _cleanup_free_ uint8_t *copy = malloc(len ?: 1);

        assert_non_null(copy);
        memcpy(copy, msg, len);
        return wire_download_chunk_parse(copy, len, ret);
}

static void check_head(size_t data_len, bool is_complete, int64_t total)
{
        _cleanup_free_ uint8_t *msg = malloc(WIRE_DOWNLOAD_HEAD_MAX + data_len);
        struct wire_download_chunk chunk;
        Grpc__FileDownloadChunk *theirs;
        size_t head_len;

        assert_non_null(msg);
        head_len = wire_download_head(msg, data_len, is_complete, total);
        assert_true(head_len <= WIRE_DOWNLOAD_HEAD_MAX);
        memset(msg + head_len, 0xa5, data_len);

        theirs = grpc__file_download_chunk__unpack(NULL, head_len + data_len, msg);
        assert_non_null(theirs);
        assert_int_equal(theirs->data.len, data_len);
        if (data_len > 0)
                assert_memory_equal(theirs->data.data, msg + head_len, data_len);
        assert_int_equal(theirs->is_complete, is_complete);
        assert_true(theirs->total_bytes == total);
        assert_string_equal(theirs->error, "");
        grpc__file_download_chunk__free_unpacked(theirs, NULL);

        assert_int_equal(wire_download_chunk_parse(msg, head_len + data_len, &chunk), 0);
        assert_int_equal(chunk.data_len, data_len);
        if (data_len > 0)
                assert_ptr_equal(chunk.data, msg + head_len);
        assert_int_equal(chunk.is_complete, is_complete);
        assert_true(chunk.total_bytes == total);
        assert_null(chunk.error);
}

static void test_head_is_read_by_both(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (size_t j = 0; j < ARRAY_SIZE(totals); j++) {
                        check_head(sizes[i], false, totals[j]);
                        check_head(sizes[i], true, totals[j]);
                }
}

static void check_scan_head(const struct wire_scan_head *chunk, const char *body, size_t body_len)
{
        uint8_t msg[WIRE_SCAN_HEAD_MAX + 64];
        size_t len = wire_scan_head(msg, chunk);
        Grpc__FileScanChunk *theirs;

        assert_true(len <= WIRE_SCAN_HEAD_MAX);
        memcpy(msg + len, body, body_len);
        theirs = grpc__file_scan_chunk__unpack(NULL, len + body_len, msg);
        assert_non_null(theirs);
        assert_int_equal(theirs->is_complete, chunk->is_complete);
        assert_int_equal(theirs->unchanged, chunk->unchanged);
        assert_int_equal(theirs->notice, chunk->notice);
        assert_int_equal(theirs->root_digest.len, chunk->root_digest ? chunk->root_digest_len : 0);
        if (chunk->root_digest)
                assert_memory_equal(theirs->root_digest.data, chunk->root_digest, chunk->root_digest_len);
        assert_true(theirs->revision == chunk->revision && theirs->base_revision == chunk->base_revision);
        assert_int_equal(theirs->strategy, chunk->strategy);
        assert_true(theirs->total_entries == chunk->total_entries &&
                    theirs->total_bytes == chunk->total_bytes);
        assert_true(theirs->offset == chunk->offset && theirs->next_offset == chunk->next_offset);
        assert_int_equal(theirs->pack.len, chunk->pack_len);
        if (chunk->pack_len > 0)
                assert_memory_equal(theirs->pack.data, body, body_len);
        else
                assert_int_equal(theirs->n_files, body_len > 0 ? 2 : 0);
        grpc__file_scan_chunk__free_unpacked(theirs, NULL);
}

static void test_scan_head_is_read_by_protobuf_c(void **state)
{
        static const uint8_t digest[] = "0123456789abcdef0123456789abcdef";
        struct wire_scan_head all = {
                .is_complete = true,
                .unchanged = true,
                .notice = true,
                .root_digest = digest,
                .root_digest_len = 32,
                .revision = UINT64_MAX,
                .base_revision = UINT64_MAX - 1,
                .strategy = 3,
                .total_entries = UINT64_MAX - 2,
                .total_bytes = UINT64_MAX - 3,
                .offset = UINT64_MAX - 4,
                .next_offset = UINT64_MAX - 5,
                .pack_len = 5,
        };
        struct wire_scan_head plain = { .root_digest = digest, .root_digest_len = 16, .revision = 1 };

        check_scan_head(&all, "bytes", 5);
        check_scan_head(&plain, "", 0);
        check_scan_head(&plain,
                        "\x0a\x03\x12\x01"
                        "a"
                        "\x0a\x03\x12\x01"
                        "b",
                        10);
        check_scan_head(&(struct wire_scan_head){ 0 }, "", 0);
        assert_int_equal(wire_scan_head((uint8_t[WIRE_SCAN_HEAD_MAX]){ 0 }, &(struct wire_scan_head){ 0 }),
                         0);
}

static void test_parse_reads_protobuf_c(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (size_t j = 0; j < ARRAY_SIZE(totals); j++) {
                        Grpc__FileDownloadChunk theirs = GRPC__FILE_DOWNLOAD_CHUNK__INIT;
                        _cleanup_free_ uint8_t *data = calloc(1, sizes[i] ?: 1), *msg = NULL;
                        struct wire_download_chunk chunk;
                        size_t len;

                        theirs.data = (ProtobufCBinaryData){ .data = data, .len = sizes[i] };
                        theirs.is_complete = j & 1;
                        theirs.error = i & 1 ? (char *)"out of order" : (char *)"";
                        theirs.total_bytes = totals[j];
                        msg = malloc(grpc__file_download_chunk__get_packed_size(&theirs) ?: 1);
                        assert_non_null(msg);
                        len = grpc__file_download_chunk__pack(&theirs, msg);

                        assert_int_equal(parse_exact(msg, len, &chunk), 0);
                        assert_int_equal(chunk.data_len, sizes[i]);
                        assert_int_equal(chunk.is_complete, j & 1);
                        assert_true(chunk.total_bytes == totals[j]);
                        assert_int_equal(chunk.error_len, i & 1 ? 12 : 0);
                        assert_int_equal(chunk.error != NULL, i & 1);
                }
}

static void test_every_truncation(void **state)
{
        static const uint8_t msg[] = "\x10\x01\x20\x80\x80\x04\x1a\x03"
                                     "bad\x0a\x05hello\xa2\x06\x02xy\xad\x06"
                                     "abcd\xb1\x06"
                                     "abcdefgh";
        static const size_t ends[] = {
                0, 2, 6, 11, 18, 23, 29, 39
        }; /* where one field ends and the next begins */
        struct wire_download_chunk chunk;

        assert_int_equal(sizeof(msg) - 1, 39);
        for (size_t len = 0, next = 0; len < sizeof(msg); len++) {
                struct wire_download_chunk untouched = { .total_bytes = 77 };
                bool whole = ends[next] == len;

                chunk = untouched;
                assert_int_equal(parse_exact(msg, len, &chunk), whole ? 0 : -EBADMSG);
                if (whole)
                        next++;
                else
                        assert_memory_equal(&chunk, &untouched, sizeof(chunk));
        }
        assert_int_equal(parse_exact(msg, sizeof(msg) - 1, &chunk), 0);
        assert_true(chunk.is_complete);
        assert_int_equal(chunk.total_bytes, 65536);
        assert_int_equal(chunk.error_len, 3);
        assert_int_equal(chunk.data_len, 5);
}

static void test_malformed(void **state)
{
        static const struct {
                const char *bytes;
                size_t len;
        } cases[] = {
                { "\x00\x01", 2 },  /* field number 0 */
                { "\x0b", 1 },      /* a group */
                { "\x0c", 1 },      /* its end */
                { "\x0e\x01", 2 },  /* no such wire type */
                { "\x08\x01", 2 },  /* data as a number */
                { "\x12\x01x", 3 }, /* is_complete as bytes */
                { "\x21"
                  "12345678",
                  9 },                                                  /* total_bytes as fixed64 */
                { "\x0a\xff\xff\xff\xff\x0f", 6 },                      /* 4 GiB of data that are not there */
                { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, /* 2^64 - 1 of them */
                { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10 },     /* 2^63 - 1 of them */
                { "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12 }, /* a number of eleven bytes */
                { "\xff\xff\xff\xff\xff\x01\x01", 7 },                      /* a field number beyond 2^29 */
        };
        struct wire_download_chunk chunk;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(parse_exact((const uint8_t *)cases[i].bytes, cases[i].len, &chunk),
                                 -EBADMSG);
}

static void test_last_one_counts(void **state)
{
        struct wire_download_chunk chunk;
        static const uint8_t msg[] = "\x0a\x01x\x20\x05\x0a\x02yz\x20\x06";

        assert_int_equal(wire_download_chunk_parse(msg, sizeof(msg) - 1, &chunk), 0);
        assert_int_equal(chunk.data_len, 2);
        assert_memory_equal(chunk.data, "yz", 2);
        assert_int_equal(chunk.total_bytes, 6);
}

/* What we accept, protobuf-c accepts too, and reads alike: over a fixed run of pseudo-random and mutated messages. */
static void test_garbage(void **state)
{
        uint64_t x = 88172645463325252u;
        unsigned accepted = 0;

        for (int i = 0; i < 200000; i++) {
                uint8_t msg[24];
                struct wire_download_chunk chunk;
                Grpc__FileDownloadChunk *theirs;
                size_t len = (size_t)i % sizeof(msg);

                for (size_t j = 0; j < len; j++) {
                        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                        msg[j] = (uint8_t)(x & 3 ? x >> 8 & 0x23 : x >> 8);
                }
                if (parse_exact(msg, len, &chunk) < 0)
                        continue;
                accepted++;
                theirs = grpc__file_download_chunk__unpack(NULL, len, msg);
                if (!theirs)
                        continue; /* protobuf-c looks into some unknown fields that we skip */
                assert_int_equal(theirs->data.len, chunk.data_len);
                assert_int_equal(theirs->is_complete, chunk.is_complete);
                assert_true(theirs->total_bytes == chunk.total_bytes);
                grpc__file_download_chunk__free_unpacked(theirs, NULL);
        }
        assert_true(accepted > 8333); /* more than the empty messages alone */
}

/* ---- the arena ---- */

static void test_arena_alignment_and_growth(void **state)
{
        struct wire_arena arena;
        size_t total = 0;

        wire_arena_init(&arena, 8 << 20);
        for (size_t size = 0; size < 2000; size += 7) {
                uint8_t *p = arena.allocator.alloc(arena.allocator.allocator_data, size);

                assert_non_null(p);
                assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
                memset(p, 0xff, size);
                arena.allocator.free(arena.allocator.allocator_data, p);
                total += size;
        }
        assert_true(arena.used_bytes >= total);
        wire_arena_clear(&arena);
        assert_int_equal(arena.used_bytes, 0);
        assert_non_null(arena.blocks);
        wire_arena_release(&arena);
        assert_null(arena.blocks);
}

static void test_arena_limit(void **state)
{
        struct wire_arena arena;

        wire_arena_init(&arena, 1000);
        assert_null(arena.allocator.alloc(&arena, 1001));
        assert_null(arena.allocator.alloc(&arena, SIZE_MAX));
        assert_null(arena.allocator.alloc(&arena, SIZE_MAX - 8));
        assert_int_equal(arena.used_bytes, 0);
        assert_non_null(arena.allocator.alloc(&arena, 512));
        assert_null(arena.allocator.alloc(&arena, 512));
        assert_non_null(arena.allocator.alloc(&arena, 480));
        assert_null(arena.allocator.alloc(&arena, 1));
        wire_arena_clear(&arena);
        assert_non_null(arena.allocator.alloc(&arena, 512));
        wire_arena_release(&arena);
}

/* A scan chunk of N_FILES entries as a peer would send it; the bytes are the caller's. */
static uint8_t *pack_scan(size_t n_files, size_t *ret_len)
{
        Grpc__FileScanChunk chunk = GRPC__FILE_SCAN_CHUNK__INIT;
        Grpc__FileInfo *infos = calloc(n_files, sizeof(*infos)),
                       **list = calloc(n_files, sizeof(Grpc__FileInfo *));
        uint8_t *msg;

        for (size_t i = 0; i < n_files; i++) {
                infos[i] = (Grpc__FileInfo)GRPC__FILE_INFO__INIT;
                infos[i].path = (char *)"a/path/of/some/length.py";
                infos[i].file_size = (int64_t)i;
                list[i] = &infos[i];
        }
        chunk.files = list;
        chunk.n_files = n_files;
        msg = malloc(grpc__file_scan_chunk__get_packed_size(&chunk));
        assert_non_null(msg);
        *ret_len = grpc__file_scan_chunk__pack(&chunk, msg);
        free(list);
        free(infos);
        return msg;
}

static void test_arena_unpacks(void **state)
{
        struct wire_arena arena;
        size_t len;
        _cleanup_free_ uint8_t *msg = pack_scan(1000, &len);

        wire_arena_init(&arena, 4 << 20);
        for (int round = 0; round < 3; round++) {
                Grpc__FileScanChunk *chunk = grpc__file_scan_chunk__unpack(&arena.allocator, len, msg);

                assert_non_null(chunk);
                assert_int_equal(chunk->n_files, 1000);
                for (size_t i = 0; i < chunk->n_files; i++) {
                        assert_string_equal(chunk->files[i]->path, "a/path/of/some/length.py");
                        assert_int_equal(chunk->files[i]->file_size, i);
                }
                wire_arena_clear(&arena);
        }
        wire_arena_release(&arena);
}

static void test_arena_limit_fails_unpack(void **state)
{
        struct wire_arena arena;
        size_t len;
        _cleanup_free_ uint8_t *msg = pack_scan(1000, &len);

        for (size_t limit = 0; limit < (128 << 10); limit = limit * 2 + 64) {
                wire_arena_init(&arena, limit);
                assert_null(grpc__file_scan_chunk__unpack(&arena.allocator, len, msg));
                assert_true(arena.used_bytes <= limit);
                wire_arena_release(&arena);
        }
}

/* In what else the message holds, protobuf-c is more lenient than our reader: that must not hide the string from it. */
static void test_hidden_nul(void **state)
{
#define NAMED "\x0a\x03" /* a spider_id of three bytes */
        static const struct {
                const char *message;
                size_t len;
        } hidden[] = {
                { NAMED "a\0b", 5 },
                { "\x82\0\0" NAMED "a\0b", 8 },                      /* behind a field 0 */
                { "\x80\x80\x80\x80\x20\1" NAMED "a\0b", 11 },       /* behind one beyond 2^29 */
                { "\x9a\x06\x80\x80\x80\x80\x10" NAMED "a\0b", 12 }, /* behind a length of 2^32 */
        };
        ProtobufCMessage *fine =
                wire_unpack(&grpc__file_sync_request__descriptor, NULL, (const uint8_t *)NAMED "abc", 5);

        assert_non_null(fine);
        assert_string_equal(((Grpc__FileSyncRequest *)fine)->spider_id, "abc");
        protobuf_c_message_free_unpacked(fine, NULL);
        for (size_t i = 0; i < ARRAY_SIZE(hidden); i++)
                if (wire_unpack(&grpc__file_sync_request__descriptor, NULL,
                                (const uint8_t *)hidden[i].message, hidden[i].len))
                        fail_msg("message %zu was taken", i);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_head_is_read_by_both),
                cmocka_unit_test(test_scan_head_is_read_by_protobuf_c),
                cmocka_unit_test(test_parse_reads_protobuf_c),
                cmocka_unit_test(test_every_truncation),
                cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_last_one_counts),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_arena_alignment_and_growth),
                cmocka_unit_test(test_arena_limit),
                cmocka_unit_test(test_arena_unpacks),
                cmocka_unit_test(test_arena_limit_fails_unpack),
                cmocka_unit_test(test_hidden_nul),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
