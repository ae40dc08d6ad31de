#include "base/hash.h"

#include <string.h>

#include "base/pieces.h"
#include "tests/unit/unit.h"

/* Known answers: `xxhsum -H2`, `md5sum` and `sha256sum` of the same bytes. */
struct vector {
        const char *data;
        size_t repeat;
        const char *xxh3, *md5, *sha256;
};

static const struct vector vectors[] = {
        { "", 1, "99aa06d3014798d86001c324468d497f", "d41d8cd98f00b204e9800998ecf8427e",
          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "a", 1, "a96faf705af16834e6c632b61e964e1f", "0cc175b9c0f1b6a831c399e269772661",
          "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" },
        { "abc", 1, "06b05ab6733a618578af5f94892f3950", "900150983cd24fb0d6963f7d28e17f72",
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "x", 200000, "cef4e9bfab1383027d16afd1aef7e39c", "4b98146705d4b0b98b758a78ff6fb73f",
          "91e3faafd322bcdf160f3f0ce886acb092b9b9e2a1e8526b40f21a8898a8700b" },
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
        if (hash_is_base(ret->algorithm)) {
                uint8_t whole[HASH_BYTES];
                hash_bytes(ret->algorithm, data, len, whole);
                assert_memory_equal(whole, ret->bytes, HASH_BYTES);
                assert_true(hash_proves(ret->algorithm, data, len, whole));
                whole[hash_len(ret->algorithm) - 1] ^= 1;
                assert_false(hash_proves(ret->algorithm, data, len, whole));
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
                        hex_encode(id.bytes, hash_len(algorithm), hex);
                        assert_string_equal(hex, algorithm == HASH_MD5      ? vectors[i].md5
                                                 : algorithm == HASH_SHA256 ? vectors[i].sha256
                                                                            : vectors[i].xxh3);
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

static void test_sha256(void **state)
{
        check_algorithm(HASH_SHA256);
}

static void test_what_algorithms_are(void **state)
{
        static const struct {
                enum hash_algorithm algorithm, base;
                size_t len;
                bool is_base, by_pieces;
                const char *name;
        } rows[] = {
                { HASH_NONE, HASH_NONE, 16, false, false, "none" },
                { HASH_XXH3, HASH_XXH3, 16, true, false, "xxh3" },
                { HASH_MD5, HASH_MD5, 16, false, false, "md5" },
                { HASH_XXH3_PIECES, HASH_XXH3, 16, false, true, "xxh3p" },
                { HASH_SHA256, HASH_SHA256, 32, true, false, "sha256" },
                { HASH_SHA256_PIECES, HASH_SHA256, 32, false, true, "sha256p" },
                { HASH_ALGORITHMS, HASH_NONE, 16, false, false, "none" },
                { (enum hash_algorithm)77, HASH_NONE, 16, false, false, "none" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                enum hash_algorithm a = rows[i].algorithm;

                assert_int_equal(hash_base(a), rows[i].base);
                assert_int_equal(hash_len(a), rows[i].len);
                assert_int_equal(hash_is_base(a), rows[i].is_base);
                assert_int_equal(hash_by_pieces(a), rows[i].by_pieces);
                assert_string_equal(hash_algorithm_name(a), rows[i].name);
                assert_int_equal(hash_base_named(rows[i].name), rows[i].is_base ? a : HASH_NONE);
                if (!rows[i].is_base)
                        assert_false(hash_proves(a, "", 0, (const uint8_t[HASH_BYTES]){ 0 }));
        }
        assert_int_equal(hash_of_len(16), HASH_XXH3);
        assert_int_equal(hash_of_len(32), HASH_SHA256);
        assert_int_equal(hash_of_len(0), HASH_NONE);
        assert_int_equal(hash_of_len(31), HASH_NONE);
}

static void test_take(void **state)
{
        uint8_t hash[HASH_BYTES];

        memset(hash, 7, sizeof(hash));
        hash_take(hash, "0123456789abcdef", 16);
        assert_memory_equal(hash, "0123456789abcdef\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32);
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
                "sha256p:0cc175b9c0f1b6a831c399e269772661",
                "xxh3:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256p:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550",
                "MD5:0cc175b9c0f1b6a831c399e269772661",
                "md:0cc175b9c0f1b6a831c399e269772661",
                " md5:0cc175b9c0f1b6a831c399e269772661",
        };
        static const char *const right[] = {
                "xxh3p:06b05ab6733a618578af5f94892f3950",
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256p:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
                "xxh3:06b05ab6733a618578af5f94892f3950",
        };
        struct content_id id, none = { .algorithm = HASH_NONE };
        char buf[HASH_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
                assert_int_equal(content_id_parse(right[i], &id), 0);
                assert_string_equal(content_id_format(&id, buf), right[i]);
        }
        assert_int_equal(id.algorithm, HASH_XXH3);
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
                hash_bytes(HASH_XXH3, bytes + at, MIN(len - at, (size_t)262144), list + n * 16);
        return n * 16;
}

static void test_pieces(void **state)
{
        static const size_t lens[] = { 1, 262143, 262144, 262145, 524288, 600000 };
        static const size_t steps[] = { 1000, 262144, 300000, 1 << 20 };
        uint8_t list[3 * 16 + 16], *bytes = bytes_of(600000);
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
                hash_bytes(HASH_XXH3, list, list_len, named.bytes);
                assert_memory_equal(id.bytes, named.bytes, HASH_BYTES);
                assert_true(pieces_prove(&id, len, list, list_len));
        }
        hasher_free(hasher);
        free(bytes);
}

/* The answer is Python's hashlib's. */
static void test_pieces_sha256(void **state)
{
        static const char answer[] =
                "sha256p:03fdddd4d622df7a337a5749f3fb5ee967feb5c4ce70e3beeb82a6f55e7573b6";
        uint8_t *bytes = bytes_of(600000), longer[4 * 32] = { 0 };
        struct content_id id, plain;
        struct hasher *hasher;
        const uint8_t *list;
        char text[HASH_TEXT_MAX];
        size_t len;

        assert_int_equal(hasher_new(HASH_SHA256_PIECES, &hasher), 0);
        hasher_update(hasher, bytes, 1); /* and from the beginning again */
        hasher_reset(hasher);
        for (size_t at = 0; at < 600000; at += 1000)
                hasher_update(hasher, bytes + at, 1000);
        hasher_final(hasher, &id);
        assert_string_equal(content_id_format(&id, text), answer);
        assert_int_equal(hasher_get_pieces(hasher, &list, &len), 0);
        assert_int_equal(len, 3 * 32);
        assert_true(pieces_prove(&id, 600000, list, len));
        assert_false(pieces_prove(&id, 600001, list, len)); /* the size is in the name */
        assert_false(pieces_prove(&id, 600000, list, len - 1));
        memcpy(longer, list, len);
        assert_false(pieces_prove(&id, 600000, longer, sizeof(longer)));
        longer[40] ^= 1;
        assert_false(pieces_prove(&id, 600000, longer, len));
        /* No bytes of a content are hashed to the name of a large one. */
        hash_bytes(HASH_SHA256, list, len, plain.bytes);
        assert_memory_not_equal(plain.bytes, id.bytes, HASH_BYTES);
        hasher_free(hasher);
        free(bytes);
}

static void test_pieces_proof(void **state)
{
        uint8_t list[4 * 16] = { 1, 2, 3 };
        struct content_id id, other;

        pieces_name(HASH_XXH3_PIECES, 3 * PIECE_BYTES, list, 3 * 16, &id);
        assert_true(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * 16));
        assert_true(pieces_prove(&id, 2 * PIECE_BYTES + 1, list, 3 * 16));
        assert_false(pieces_prove(&id, 2 * PIECE_BYTES, list, 3 * 16));
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 2 * 16));
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * 16 + 1));
        assert_false(pieces_prove(&id, 4 * PIECE_BYTES, list, 4 * 16));
        other = id;
        other.algorithm = HASH_XXH3;
        assert_false(pieces_prove(&other, 3 * PIECE_BYTES, list, 3 * 16));
        list[47] ^= 1;
        assert_false(pieces_prove(&id, 3 * PIECE_BYTES, list, 3 * 16));
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
                assert_int_equal(content_algorithm(HASH_XXH3, cases[i].size),
                                 cases[i].count > 1 ? HASH_XXH3_PIECES : HASH_XXH3);
                assert_int_equal(content_algorithm(HASH_SHA256, cases[i].size),
                                 cases[i].count > 1 ? HASH_SHA256_PIECES : HASH_SHA256);
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
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_what_algorithms_are),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_no_algorithm),
        cmocka_unit_test(test_content_id_text),
        cmocka_unit_test(test_content_id_equal),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_pieces_sha256),
        cmocka_unit_test(test_pieces_proof),
        cmocka_unit_test(test_pieces_arithmetic),
        cmocka_unit_test(test_hex),
};

UNIT_MAIN(tests)
