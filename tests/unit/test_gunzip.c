/* A compressed request: inflated up to a limit, and refused if it is not whole. */
#include "tests/unit/unit.h"

#include <string.h>

#include <zlib.h>

#include "proto/rpc_internal.h"

/* gzip of LEN bytes at DATA; the caller's. */
static uint8_t *compress_bytes(const void *data, size_t len, size_t *ret_len)
{
        z_stream stream = { .next_in = (uint8_t *)data, .avail_in = (uInt)len };
        uint8_t *out;
        size_t bound;

        assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        bound = deflateBound(&stream, len);
        out = malloc(bound);
        assert_non_null(out);
        stream.next_out = out;
        stream.avail_out = (uInt)bound;
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        *ret_len = stream.total_out;
        deflateEnd(&stream);
        return out;
}

static void test_round_trip(void **state)
{
        static const size_t sizes[] = { 0, 1, 100, 5000, 300000 };

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                _cleanup_free_ uint8_t *data = malloc(sizes[i] + 1), *zipped = NULL, *back = NULL;
                size_t zipped_len, len;

                for (size_t j = 0; j < sizes[i]; j++)
                        data[j] = (uint8_t)(j * j >> 3);
                zipped = compress_bytes(data, sizes[i], &zipped_len);
                assert_int_equal(rpc_gunzip(zipped, zipped_len, 1 << 20, &back, &len), 0);
                assert_int_equal(len, sizes[i]);
                assert_memory_equal(back, data, len);
        }
}

static void test_limit(void **state)
{
        enum { LEN = 100000 };
        _cleanup_free_ uint8_t *zeros = calloc(1, LEN), *zipped = NULL, *back = NULL;
        size_t zipped_len, len = 77;

        zipped = compress_bytes(zeros, LEN, &zipped_len);
        assert_int_equal(rpc_gunzip(zipped, zipped_len, LEN - 1, &back, &len), -EFBIG);
        assert_null(back);
        assert_int_equal(rpc_gunzip(zipped, zipped_len, LEN, &back, &len), 0);
        assert_int_equal(len, LEN);
}

static void test_damage(void **state)
{
        static const char text[] =
                "a request, a request, a request that was cut short or goes on behind its end";
        _cleanup_free_ uint8_t *zipped = NULL;
        uint8_t *back = NULL;
        size_t zipped_len, len;

        zipped = compress_bytes(text, sizeof(text), &zipped_len);
        for (size_t cut = 0; cut < zipped_len; cut++) {
                uint8_t *copy = malloc(cut + 1); /* ends where the allocation ends, for the sanitizer */
                memcpy(copy + 1, zipped, cut);
                assert_int_equal(rpc_gunzip(copy + 1, cut, 1 << 20, &back, &len), -EBADMSG);
                free(copy);
        }
        zipped = realloc(zipped, zipped_len + 1);
        zipped[zipped_len] = 0;
        assert_int_equal(rpc_gunzip(zipped, zipped_len + 1, 1 << 20, &back, &len), -EBADMSG);
        zipped[zipped_len - 5] ^= 1; /* of the checksum */
        assert_int_equal(rpc_gunzip(zipped, zipped_len, 1 << 20, &back, &len), -EBADMSG);
        assert_null(back);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_damage),
};

UNIT_MAIN(tests)
