/* Fetch's messages by hand against those that protobuf-c writes and reads, and hostile bytes. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "proto/fetch_frame.h"
#include "proto/workspace.pb-c.h"

static const uint64_t numbers[] = { 0, 1, 127, 128, 16384, UINT64_C(1) << 40, UINT64_MAX };
static const size_t sizes[] = { 0, 1, 127, 128, 16383, 16384, 256 << 10 };

/* A copy that ends where an allocation ends, so that a sanitizer sees any step beyond. */
static uint8_t *copy_of(const void *data, size_t len)
{
        uint8_t *copy = malloc(len ?: 1);

        assert_non_null(copy);
        memcpy(copy, data, len);
        return copy;
}

static void assert_part_equal(const struct fetch_part *a, const struct fetch_part *b)
{
        assert_true(a->id == b->id && a->status == b->status && a->offset == b->offset && a->last == b->last);
        assert_int_equal(a->text_len, b->text_len);
        assert_int_equal(a->data_len, b->data_len);
        if (a->text_len > 0)
                assert_memory_equal(a->text, b->text, a->text_len);
        if (a->data_len > 0)
                assert_memory_equal(a->data, b->data, a->data_len);
}

static void assert_theirs_equal(const Fsyncfs__V1__FetchPart *theirs, const struct fetch_part *ours)
{
        struct fetch_part part = {
                .id = theirs->id,
                .status = theirs->status,
                .text = theirs->text,
                .text_len = strlen(theirs->text),
                .offset = theirs->offset,
                .last = theirs->last,
                .data = theirs->data.data,
                .data_len = theirs->data.len,
        };

        assert_part_equal(&part, ours);
}

/* ---- replies ---- */

static void check_head(uint64_t id, uint64_t offset, size_t data_len, bool last)
{
        struct fetch_part part = { .id = id, .offset = offset, .last = last, .data_len = data_len }, read;
        _cleanup_free_ uint8_t *msg = malloc(FETCH_PART_HEAD_MAX + data_len);
        size_t head_len = fetch_part_head(msg, &part);
        struct wire_reader reader = fetch_reply_open(msg, head_len + data_len);
        Fsyncfs__V1__FetchReply *theirs;

        assert_true(head_len <= FETCH_PART_HEAD_MAX);
        memset(msg + head_len, 0xa5, data_len);
        part.data = msg + head_len;
        theirs = fsyncfs__v1__fetch_reply__unpack(NULL, head_len + data_len, msg);
        assert_non_null(theirs);
        assert_int_equal(theirs->n_parts, 1);
        assert_theirs_equal(theirs->parts[0], &part);
        fsyncfs__v1__fetch_reply__free_unpacked(theirs, NULL);

        assert_int_equal(fetch_reply_next(&reader, &read), 1);
        assert_part_equal(&read, &part);
        assert_ptr_equal(read.data, data_len > 0 ? part.data : NULL); /* in place */
        assert_int_equal(fetch_reply_next(&reader, &read), 0);
}

static void test_head_is_read_by_both(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                for (size_t j = 0; j < ARRAY_SIZE(numbers); j++)
                        for (size_t k = 0; k < ARRAY_SIZE(sizes); k++)
                                check_head(numbers[i], numbers[j], sizes[k], k % 2);
}

static const struct fetch_part several[] = {
        { .id = 1, .last = true, .data = (const uint8_t *)"abc", .data_len = 3 },
        { .id = 2, .status = 9, .text = "stale: gone", .text_len = 11, .last = true },
        { .id = 3, .last = true }, /* an empty content */
        { 0 },
        { .id = UINT64_MAX,
          .offset = UINT64_MAX,
          .status = UINT32_MAX,
          .data = (const uint8_t *)"x",
          .data_len = 1 },
};

static size_t append_several(uint8_t *buf, size_t capacity)
{
        size_t len = 0;

        for (size_t i = 0; i < ARRAY_SIZE(several); i++)
                assert_int_equal(fetch_part_append(buf, capacity, &len, &several[i]), 0);
        return len;
}

static void test_many_parts_in_one_message(void **state)
{
        uint8_t msg[256];
        size_t len = append_several(msg, sizeof(msg));
        struct wire_reader reader = fetch_reply_open(msg, len);
        Fsyncfs__V1__FetchReply *theirs = fsyncfs__v1__fetch_reply__unpack(NULL, len, msg);
        struct fetch_part part;

        assert_non_null(theirs);
        assert_int_equal(theirs->n_parts, ARRAY_SIZE(several));
        for (size_t i = 0; i < ARRAY_SIZE(several); i++) {
                assert_theirs_equal(theirs->parts[i], &several[i]);
                assert_int_equal(fetch_reply_next(&reader, &part), 1);
                assert_part_equal(&part, &several[i]);
        }
        assert_int_equal(fetch_reply_next(&reader, &part), 0);
        fsyncfs__v1__fetch_reply__free_unpacked(theirs, NULL);
}

static void test_append_stops_at_the_end_of_the_buffer(void **state)
{
        uint8_t data[200], buf[512];
        struct fetch_part part = { .id = 300, .data = data, .data_len = sizeof(data) };
        size_t need = 0, len;

        memset(data, 1, sizeof(data));
        assert_int_equal(fetch_part_append(buf, sizeof(buf), &need, &part), 0);
        for (size_t capacity = 0; capacity <= need; capacity++) {
                _cleanup_free_ uint8_t *exact = malloc(capacity ?: 1);

                len = 0;
                assert_int_equal(fetch_part_append(exact, capacity, &len, &part),
                                 capacity < need ? -ENOSPC : 0);
                assert_int_equal(len, capacity < need ? 0 : need);
        }
        len = sizeof(buf) - need;
        assert_int_equal(fetch_part_append(buf, sizeof(buf), &len, &part), 0);
        assert_int_equal(len, sizeof(buf));
        assert_int_equal(fetch_part_append(buf, sizeof(buf), &len, &part), -ENOSPC);
}

static void test_unknown_fields_are_skipped(void **state)
{
        /* parts { 1: 5, 7: 1, 8: "hi", 9: fixed64, 10: fixed32 }, 2: "x" */
        static const uint8_t msg[] = { 0x0a, 22, 0x08, 5, 0x38, 1,    0x42, 2, 'h', 'i', 0x49, 1, 2,  3,
                                       4,    5,  6,    7, 8,    0x55, 1,    2, 3,   4,   0x12, 1, 'x' };
        struct wire_reader reader = fetch_reply_open(msg, sizeof(msg));
        struct fetch_part part;

        assert_int_equal(fetch_reply_next(&reader, &part), 1);
        assert_true(part.id == 5 && !part.data && !part.text && !part.last);
        assert_int_equal(fetch_reply_next(&reader, &part), 0);
}

static void test_malformed_replies(void **state)
{
        static const struct {
                const char *bytes;
                size_t len;
        } bad[] = {
                { "\x0a", 1 },                                          /* no length */
                { "\x0a\x05\x08\x01", 4 },                              /* cut */
                { "\x08\x01", 2 },                                      /* parts as a number */
                { "\x0a\x02\x0a\x00", 4 },                              /* id as bytes */
                { "\x0a\x02\x30\x01", 4 },                              /* data as a number */
                { "\x0a\x03\x32\x02x", 5 },                             /* data beyond the part */
                { "\x0a\x02\x00\x00", 4 },                              /* field number 0 */
                { "\x0b", 1 },                                          /* a group */
                { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, /* a length of 2^64 - 1 */
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_free_ uint8_t *msg = copy_of(bad[i].bytes, bad[i].len);
                struct wire_reader reader = fetch_reply_open(msg, bad[i].len);
                struct fetch_part part = { .id = 77 };
                int r = fetch_reply_next(&reader, &part);

                assert_int_equal(r, -EBADMSG);
                assert_int_equal(part.id, 77);
        }
}

static void test_cut_anywhere(void **state)
{
        uint8_t msg[256];
        size_t len = append_several(msg, sizeof(msg));

        for (size_t cut = 0; cut < len; cut++) {
                _cleanup_free_ uint8_t *copy = copy_of(msg, cut);
                struct wire_reader reader = fetch_reply_open(copy, cut);
                struct fetch_part part;
                unsigned n = 0;
                int r;

                while ((r = fetch_reply_next(&reader, &part)) == 1)
                        assert_part_equal(&part, &several[n++]);
                assert_true(r == -EBADMSG || (r == 0 && n < ARRAY_SIZE(several)));
        }
}

/* ---- requests ---- */

static void assert_want_equal(const struct fetch_want *ours, const Fsyncfs__V1__FetchWant *theirs)
{
        const uint8_t *path = ours->raw ? theirs->raw_path.data : (const uint8_t *)theirs->path;
        size_t path_len = ours->raw ? theirs->raw_path.len : strlen(theirs->path);

        assert_true(ours->id == theirs->id && ours->size == theirs->size && ours->offset == theirs->offset &&
                    ours->length == theirs->length && ours->urgent == theirs->urgent);
        assert_int_equal(ours->hash_algorithm, theirs->hash_algorithm);
        assert_int_equal(ours->path_len, path_len);
        if (path_len > 0)
                assert_memory_equal(ours->path, path, path_len);
        assert_int_equal(ours->digest_len, theirs->digest.len);
        if (ours->digest_len > 0)
                assert_memory_equal(ours->digest, theirs->digest.data, ours->digest_len);
}

static void test_their_request_is_read(void **state)
{
        Fsyncfs__V1__FetchWant a = FSYNCFS__V1__FETCH_WANT__INIT, b = FSYNCFS__V1__FETCH_WANT__INIT;
        Fsyncfs__V1__FetchWant *wants[] = { &a, &b };
        Fsyncfs__V1__FetchRequest request = FSYNCFS__V1__FETCH_REQUEST__INIT;
        uint64_t cancel[] = { 7, UINT64_MAX }, hurry[] = { 300, 1 };
        struct fetch_request_reader reader;
        struct fetch_request_item item;
        uint8_t packed[512];
        size_t len;

        a.id = 1;
        a.path = (char *)"d/f";
        a.hash_algorithm = 1;
        a.digest = (ProtobufCBinaryData){ .data = (uint8_t *)"0123456789abcdef", .len = 16 };
        a.size = 99;
        a.urgent = true;
        b.id = UINT64_MAX;
        b.raw_path = (ProtobufCBinaryData){ .data = (uint8_t *)"\xff", .len = 1 };
        b.offset = 5;
        b.length = 6;
        request.spider_id = (char *)"spider";
        request.node_key = (char *)"node";
        request.wants = wants;
        request.n_wants = 2;
        request.cancel = cancel;
        request.n_cancel = 2;
        request.hurry = hurry;
        request.n_hurry = 2;
        len = fsyncfs__v1__fetch_request__pack(&request, packed);

        reader = fetch_request_open(packed, len);
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_SPIDER);
        assert_memory_equal(item.text, "spider", item.text_len);
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_NODE);
        assert_memory_equal(item.text, "node", item.text_len);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(fetch_request_next(&reader, &item), FETCH_WANT);
                assert_false(item.want.two_paths);
                assert_want_equal(&item.want, wants[i]);
        }
        for (size_t i = 0; i < 2; i++) { /* packed, as proto3 does */
                assert_int_equal(fetch_request_next(&reader, &item), FETCH_CANCEL);
                assert_true(item.id == cancel[i]);
        }
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(fetch_request_next(&reader, &item), FETCH_HURRY);
                assert_true(item.id == hurry[i]);
        }
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_END);

        for (size_t cut = 0; cut < len; cut++) {
                _cleanup_free_ uint8_t *copy = copy_of(packed, cut);

                reader = fetch_request_open(copy, cut);
                while (fetch_request_next(&reader, &item) > 0)
                        ;
        }
}

static void check_written_want(const struct fetch_want *want)
{
        _cleanup_free_ uint8_t *msg = malloc(FETCH_WANT_MAX(want->path_len));
        size_t len = (size_t)(fetch_want_write(msg, want) - msg);
        Fsyncfs__V1__FetchRequest *theirs = fsyncfs__v1__fetch_request__unpack(NULL, len, msg);

        assert_true(len <= FETCH_WANT_MAX(want->path_len));
        assert_non_null(theirs);
        assert_int_equal(theirs->n_wants, 1);
        assert_want_equal(want, theirs->wants[0]);
        fsyncfs__v1__fetch_request__free_unpacked(theirs, NULL);
}

static void test_our_wants_are_read_by_them(void **state)
{
        struct fetch_want want = {
                .path = (const uint8_t *)"some/path",
                .path_len = 9,
                .hash_algorithm = 1,
                .digest = (const uint8_t *)"0123456789abcdef",
                .digest_len = 16,
        };

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                want.id = want.size = want.offset = want.length = numbers[i];
                want.urgent = i % 2;
                want.raw = i % 3 == 0;
                check_written_want(&want);
        }
        check_written_want(&(struct fetch_want){ 0 });
}

static void test_cancel_one_by_one_and_both_paths(void **state)
{
        static const uint8_t msg[] = { 0x20, 9,    0x20, 0x81, 0x01, 0x22, 0x00, 0x22, 0x01, 3,    0x1a,
                                       0x06, 0x12, 1,    'a',  0x1a, 1,    'b',  0x28, 5,    0x30, 1 };
        struct fetch_request_reader reader = fetch_request_open(msg, sizeof(msg));
        struct fetch_request_item item;
        uint64_t ids[] = { 9, 129, 3 };

        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                assert_int_equal(fetch_request_next(&reader, &item), FETCH_CANCEL);
                assert_true(item.id == ids[i]);
        }
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_WANT);
        assert_true(item.want.two_paths);
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_HURRY);
        assert_true(item.id == 5);
        assert_int_equal(fetch_request_next(&reader, &item), FETCH_END);
}

static void test_malformed_requests(void **state)
{
        static const struct {
                const char *bytes;
                size_t len;
        } bad[] = {
                { "\x08\x01", 2 },         /* the spider as a number */
                { "\x1a\x02\x0a\x00", 4 }, /* a want's id as bytes */
                { "\x1a\x04\x08", 3 },     /* cut */
                { "\x22\x01\x80", 3 },     /* a packed number that does not end */
                { "\x22\x05\x01", 3 },     /* a packed list beyond the end */
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_free_ uint8_t *msg = copy_of(bad[i].bytes, bad[i].len);
                struct fetch_request_reader reader = fetch_request_open(msg, bad[i].len);
                struct fetch_request_item item;

                assert_int_equal(fetch_request_next(&reader, &item), -EBADMSG);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_is_read_by_both),
        cmocka_unit_test(test_many_parts_in_one_message),
        cmocka_unit_test(test_append_stops_at_the_end_of_the_buffer),
        cmocka_unit_test(test_unknown_fields_are_skipped),
        cmocka_unit_test(test_malformed_replies),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_their_request_is_read),
        cmocka_unit_test(test_our_wants_are_read_by_them),
        cmocka_unit_test(test_cancel_one_by_one_and_both_paths),
        cmocka_unit_test(test_malformed_requests),
};

UNIT_MAIN(tests)
