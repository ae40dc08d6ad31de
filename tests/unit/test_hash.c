#include "base/hash.h"

#include <string.h>

#include "base/pieces.h"
#include "tests/unit/unit.h"

/* Known answers: `xxhsum -H2` and `md5sum` of the same bytes. */
struct vector {
        const char *data;
        size_t repeat;
        const char *xxh3, *md5;
};

static const struct vector vectors[] = {
        { "", 1, "99aa06d3014798d86001c324468d497f", "d41d8cd98f00b204e9800998ecf8427e" },
        { "a", 1, "a96faf705af16834e6c632b61e964e1f", "0cc175b9c0f1b6a831c399e269772661" },
        { "abc", 1, "06b05ab6733a618578af5f94892f3950", "900150983cd24fb0d6963f7d28e17f72" },
        { "x", 200000, "cef4e9bfab1383027d16afd1aef7e39c", "4b98146705d4b0b98b758a78ff6fb73f" },
};

/* Hashes VECTOR's bytes in steps of STEP. */
static void hash_vector(struct hasher *h, const struct vector *vector, size_t step, struct content_id *ret)
{
        size_t unit = strlen(vector->data), len = unit * vector->repeat;
        _cleanup_free_ char *data = malloc(len + 1);

        assert_non_null(data);
        for (size_t i = 0; i < vector->repeat; i++)
                memcpy(data + i * unit, vector->data, unit);
        for (size_t at = 0; at < len; at += step)
                hasher_update(h, data + at, MIN(step, len - at));
        hasher_final(h, ret);
        if (ret->algorithm == HASH_XXH3) {
                uint8_t whole[HASH_BYTES];
                hash_xxh3(data, len, whole);
                assert_memory_equal(whole, ret->bytes, HASH_BYTES);
        }
}

static void check_algorithm(enum hash_algorithm algorithm)
{
        static const size_t steps[] = { 1, 7, 256, 1 << 20 };
        _cleanup_hasher_ struct hasher *h = NULL;

        assert_int_equal(hasher_new(algorithm, &h), 0);
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
                for (size_t j = 0; j < ARRAY_SIZE(steps); j++) {
                        struct content_id id;
                        char hex[2 * HASH_BYTES + 1];

                        hasher_reset(h);
                        hash_vector(h, &vectors[i], steps[j], &id);
                        assert_int_equal(id.algorithm, algorithm);
                        hex_encode(id.bytes, HASH_BYTES, hex);
                        assert_string_equal(hex, algorithm == HASH_MD5 ? vectors[i].md5 : vectors[i].xxh3);
                }
}

static void test_xxh3(void **state)
{
        check_algorithm(HASH_XXH3);
}

static void test_md5(void **state)
{
        check_algorithm(HASH_MD5);
}

static void test_no_algorithm(void **state)
{
        struct hasher *h = NULL;

        assert_int_equal(hasher_new(HASH_NONE, &h), -EINVAL);
        assert_int_equal(hasher_new((enum hash_algorithm)77, &h), -EINVAL);
        assert_null(h);
        hasher_free(NULL);
}

static void test_content_id_text(void **state)
{
        static const char *const wrong[] = {
                "",
                "none",
                "xxh3",
                "xxh3:",
                "md5:0cc175b9c0f1b6a831c399e26977266",
                "md5:0cc175b9c0f1b6a831c399e2697726610",
                "md5:0cc175b9c0f1b6a831c399e26977266g",
                "sha256:0cc175b9c0f1b6a831c399e269772661",
                "MD5:0cc175b9c0f1b6a831c399e269772661",
                "md:0cc175b9c0f1b6a831c399e269772661",
                " md5:0cc175b9c0f1b6a831c399e269772661",
        };
        const char *text = "xxh3:06b05ab6733a618578af5f94892f3950";
        struct content_id id, none = { .algorithm = HASH_NONE };
        char buf[HASH_TEXT_MAX];

        assert_int_equal(content_id_parse(text, &id), 0);
        assert_int_equal(id.algorithm, HASH_XXH3);
        assert_string_equal(content_id_format(&id, buf), text);
        assert_string_equal(content_id_format(&none, buf), "none");
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct content_id before = id;
                assert_int_equal(content_id_parse(wrong[i], &id), -EINVAL);
                assert_true(content_id_equal(&before, &id));
        }
}

/* ---- by pieces ---- */

static uint8_t *bytes_of(size_t len)
{
        uint8_t *bytes = malloc(len);

        assert_non_null(bytes);
        for (size_t i = 0; i < len; i++)
                bytes[i] = (uint8_t)(i * 7 + i / 999);
        return bytes;
}

/* What the format says, by itself: the hashes of the runs, and the hash of those. */
static size_t list_of(const uint8_t *bytes, size_t len, uint8_t *list)
{
        size_t n = 0;

        for (size_t at = 0; at < len; at += 262144, n++)
                hash_xxh3(bytes + at, MIN(len - at, (size_t)262144), list + n * HASH_BYTES);
        return n * HASH_BYTES;
}

static void test_pieces(void **state)
{
        static const size_t lens[] = { 1, 262143, 262144, 262145, 524288, 600000 };
        static const size_t steps[] = { 1000, 262144, 300000, 1 << 20 };
        uint8_t list[3 * HASH_BYTES], *bytes = bytes_of(600000);
        struct hasher *hasher;

        assert_int_equal(hasher_new(HASH_XXH3_PIECES, &hasher), 0);
        for (size_t i = 0; i < ARRAY_SIZE(lens) * ARRAY_SIZE(steps); i++) {
                size_t len = lens[i / ARRAY_SIZE(steps)], step = steps[i % ARRAY_SIZE(steps)], list_len;
                struct content_id id, named;
                const uint8_t *made;
                size_t made_len;

                hasher_reset(hasher);
                for (size_t at = 0; at < len; at += step)
                        hasher_update(hasher, bytes + at, MIN(step, len - at));
                hasher_final(hasher, &id);
                list_len = list_of(bytes, len, list);
                assert_int_equal(hasher_get_pieces(hasher, &made, &made_len), 0);
                assert_int_equal(made_len, list_len);
                assert_memory_equal(made, list, list_len);
                assert_int_equal(id.algorithm, HASH_XXH3_PIECES);
                hash_xxh3(list, list_len, named.bytes);
                assert_memory_equal(id.bytes, named.bytes, HASH_BYTES);
                assert_true(pieces_prove(&id, len, list, list_len));
        }
        hasher_free(hasher);
        free(bytes);
}

static void test_pieces_proof(void **state)
{
        uint8_t list[4 * HASH_BYTES] = { 1, 2, 3 };
        struct content_id id, other;

        pieces_name(list, 3 * HASH_BYTES, &id);
        assert_true(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * HASH_BYTES));
        assert_true(pieces_prove(&id, 2 * PIECE_BYTES + 1, list, 3 * HASH_BYTES));
        assert_false(pieces_prove(&id, 2 * PIECE_BYTES, list, 3 * HASH_BYTES));
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 2 * HASH_BYTES));
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * HASH_BYTES + 1));
        assert_false(pieces_prove(&id, 4 * PIECE_BYTES, list, 4 * HASH_BYTES));
        other = id;
        other.algorithm = HASH_XXH3;
        assert_false(pieces_prove(&other, 3 * PIECE_BYTES, list, 3 * HASH_BYTES));
        list[47] ^= 1;
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * HASH_BYTES));
}

static void test_pieces_arithmetic(void **state)
{
        static const struct {
                uint64_t size, count;
                size_t last;
        } cases[] = { { 1, 1, 1 },
                      { 262144, 1, 262144 },
                      { 262145, 2, 1 },
                      { UINT64_C(1) << 40, UINT64_C(1) << 22, 262144 },
                      { (UINT64_C(1) << 40) + 5, (UINT64_C(1) << 22) + 1, 5 } };

        assert_int_equal(pieces_count(0), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(pieces_count(cases[i].size), cases[i].count);
                assert_int_equal(piece_len(cases[i].size, cases[i].count - 1), cases[i].last);
                assert_int_equal(content_algorithm(cases[i].size),
                                 cases[i].count > 1 ? HASH_XXH3_PIECES : HASH_XXH3);
        }
}

static void test_content_id_equal(void **state)
{
        struct content_id a = { HASH_XXH3, { 1, 2 } }, b = a, c = { HASH_MD5, { 1, 2 } },
                          d = { HASH_XXH3, { 1, 3 } };
        struct content_id none = { HASH_NONE, { 5 } }, none2 = { HASH_NONE, { 6 } };

        assert_true(content_id_equal(&a, &b));
        assert_false(content_id_equal(&a, &c));
        assert_false(content_id_equal(&a, &d));
        assert_true(content_id_equal(&none, &none2));
}

static void test_hex(void **state)
{
        const uint8_t bytes[] = { 0x00, 0x0f, 0xf0, 0xab, 0xff };
        uint8_t back[sizeof(bytes)] = { 0 };
        char hex[2 * sizeof(bytes) + 1];

        hex_encode(bytes, sizeof(bytes), hex);
        assert_string_equal(hex, "000ff0abff");
        assert_int_equal(hex_decode("000FF0aBfF", 10, back, sizeof(back)), 0);
        assert_memory_equal(back, bytes, sizeof(bytes));
        assert_int_equal(hex_decode("000ff0abf", 9, back, sizeof(back)), -EINVAL);
        assert_int_equal(hex_decode("000ff0abf/", 10, back, sizeof(back)), -EINVAL);
        assert_int_equal(hex_decode("000ff0abf:", 10, back, sizeof(back)), -EINVAL);
        assert_int_equal(hex_decode("000ff0ab\xff\xff", 10, back, sizeof(back)), -EINVAL);
        assert_memory_equal(back, bytes, sizeof(bytes));
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xxh3),
        cmocka_unit_test(test_md5),
        cmocka_unit_test(test_no_algorithm),
        cmocka_unit_test(test_content_id_text),
        cmocka_unit_test(test_content_id_equal),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_pieces_proof),
        cmocka_unit_test(test_pieces_arithmetic),
        cmocka_unit_test(test_hex),
};

UNIT_MAIN(tests)
