#include "base/entry.h"

#include <string.h>

#include "tests/unit/unit.h"

/* The bit numbers are Go's (io/fs.FileMode), written out: not the constants of the code under test. */
struct mode_case {
        enum entry_kind kind;
        uint32_t mode;
        uint32_t go;
};

static const struct mode_case mode_cases[] = {
        { ENTRY_FILE, 0644, 0644 },
        { ENTRY_FILE, 0000, 0 },
        { ENTRY_FILE, 07777, 0x00d00000 | 0777 },
        { ENTRY_FILE, 04755, 0x00800000 | 0755 },
        { ENTRY_FILE, 02755, 0x00400000 | 0755 },
        { ENTRY_FILE, 01644, 0x00100000 | 0644 },
        { ENTRY_DIRECTORY, 0755, 0x80000000 | 0755 },
        { ENTRY_DIRECTORY, 01777, 0x80100000 | 0777 },
        { ENTRY_DIRECTORY, 02775, 0x80400000 | 0775 },
        { ENTRY_SYMLINK, 0777, 0x08000000 | 0777 },
};

static void test_go_mode(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(mode_cases); i++) {
                const struct mode_case *c = &mode_cases[i];
                enum entry_kind kind;
                uint32_t mode;

                assert_int_equal(entry_go_mode(c->kind, c->mode), c->go);
                assert_int_equal(entry_from_go_mode(c->go, &kind, &mode), 0);
                assert_int_equal(kind, c->kind);
                assert_int_equal(mode, c->mode);
        }
}

static void test_go_mode_refused(void **state)
{
        /* device, fifo, socket, irregular, and a folder that is a link too */
        static const uint32_t wrong[] = { 1u << 26, 1u << 25, 1u << 24, 1u << 19, (1u << 31) | (1u << 27) };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                enum entry_kind kind = ENTRY_UNKNOWN;
                uint32_t mode = 1;
                assert_int_equal(entry_from_go_mode(wrong[i] | 0644, &kind, &mode), -EINVAL);
                assert_int_equal(kind, ENTRY_UNKNOWN);
                assert_int_equal(mode, 1);
        }
}

static void test_st_mode(void **state)
{
        assert_int_equal(entry_st_mode(ENTRY_FILE, 04755), S_IFREG | 04755);
        assert_int_equal(entry_st_mode(ENTRY_DIRECTORY, 01777), S_IFDIR | 01777);
        assert_int_equal(entry_st_mode(ENTRY_SYMLINK, 0777), S_IFLNK | 0777);
        assert_int_equal(entry_st_mode(ENTRY_FILE, 0xffffffff), S_IFREG | 07777);
}

static void folder_digest(enum hash_algorithm base, const struct entry_digest_input *children, size_t n,
                          char hex[2 * HASH_BYTES + 1], uint8_t ret[HASH_BYTES])
{
        _cleanup_hasher_ struct hasher *h = NULL;
        struct content_id id;

        assert_int_equal(hasher_new(base, &h), 0);
        for (size_t i = 0; i < n; i++)
                entry_digest_add(h, &children[i]);
        hasher_final(h, &id);
        hex_encode(id.bytes, hash_len(base), hex);
        memcpy(ret, id.bytes, HASH_BYTES);
}

/* The answers come from tests/peers/digest.py, which was written from the format's description. */
static void test_digest(void **state)
{
        uint8_t abc[HASH_BYTES], target[HASH_BYTES], empty[HASH_BYTES], folder[HASH_BYTES], root[HASH_BYTES];
        char hex[2 * HASH_BYTES + 1];

        folder_digest(HASH_XXH3, NULL, 0, hex, empty);
        assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
        hash_bytes(HASH_XXH3, "abc", 3, abc);
        hash_bytes(HASH_XXH3, "target", 6, target);
        const struct entry_digest_input children[] = {
                { "a.txt", 5, ENTRY_FILE, 0644, INT64_C(1600000000123456789), 3, false, HASH_XXH3, abc },
                { "b", 1, ENTRY_SYMLINK, 0777, -1, 6, false, HASH_XXH3, target },
                { "dir", 3, ENTRY_DIRECTORY, 01755, 0, 4096, false, HASH_XXH3, empty },
        };
        folder_digest(HASH_XXH3, children, ARRAY_SIZE(children), hex, folder);
        assert_string_equal(hex, "f010dc743a0f96eb2927109a0ed6ba8a");
        entry_root_digest(HASH_XXH3, 0755, 5, folder, root);
        hex_encode(root, hash_len(HASH_XXH3), hex);
        assert_string_equal(hex, "3d0bf76079d3d594e24c93d94814dea9");
}

/* Of the same tree; the answers are Python's hashlib's. */
static void test_digest_sha256(void **state)
{
        uint8_t abc[HASH_BYTES], target[HASH_BYTES], empty[HASH_BYTES], folder[HASH_BYTES], root[HASH_BYTES];
        char hex[2 * HASH_BYTES + 1];

        folder_digest(HASH_SHA256, NULL, 0, hex, empty);
        hash_bytes(HASH_SHA256, "abc", 3, abc);
        hash_bytes(HASH_SHA256, "target", 6, target);
        const struct entry_digest_input children[] = {
                { "a.txt", 5, ENTRY_FILE, 0644, INT64_C(1600000000123456789), 3, false, HASH_SHA256, abc },
                { "b", 1, ENTRY_SYMLINK, 0777, -1, 6, false, HASH_SHA256, target },
                { "dir", 3, ENTRY_DIRECTORY, 01755, 0, 4096, false, HASH_SHA256, empty },
        };
        folder_digest(HASH_SHA256, children, ARRAY_SIZE(children), hex, folder);
        assert_string_equal(hex, "208fe4b00eea9f8170b19b2e758b2abd57a7d7aef6d7274e0fb88757117a0a0e");
        entry_root_digest(HASH_SHA256, 0755, 5, folder, root);
        hex_encode(root, hash_len(HASH_SHA256), hex);
        assert_string_equal(hex, "e4cda012b0dcd31a5484f5a7372460c248afc235704f5d85c270a996c86a22b2");
}

static void test_digest_unknown(void **state)
{
        const struct entry_digest_input bare = { .name = "unk", .name_len = 3, .unknown = true };
        const struct entry_digest_input known = { "unk", 3, ENTRY_FILE, 0644, 7, 8, true, HASH_NONE, NULL };
        char hex[2 * HASH_BYTES + 1];
        uint8_t digest[HASH_BYTES];

        folder_digest(HASH_XXH3, &bare, 1, hex, digest);
        assert_string_equal(hex, "5e982929b641391e66c592d332db05ba");
        folder_digest(HASH_XXH3, &known, 1, hex, digest);
        assert_string_equal(hex, "5e982929b641391e66c592d332db05ba");
}

/* Each field of a child counts. */
static void test_digest_covers(void **state)
{
        const uint8_t hash1[HASH_BYTES] = { 1 }, hash2[HASH_BYTES] = { 2 };
        const struct entry_digest_input children[] = {
                { "name", 4, ENTRY_FILE, 0644, 100, 10, false, HASH_XXH3, hash1 },
                { "nbme", 4, ENTRY_FILE, 0644, 100, 10, false, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_SYMLINK, 0644, 100, 10, false, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_FILE, 0645, 100, 10, false, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_FILE, 0644, 101, 10, false, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_FILE, 0644, 100, 11, false, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_FILE, 0644, 100, 10, true, HASH_XXH3, hash1 },
                { "name", 4, ENTRY_FILE, 0644, 100, 10, false, HASH_MD5, hash1 },
                { "name", 4, ENTRY_FILE, 0644, 100, 10, false, HASH_XXH3, hash2 },
        };
        uint8_t digests[ARRAY_SIZE(children)][HASH_BYTES];
        char hex[2 * HASH_BYTES + 1];

        for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
                folder_digest(HASH_XXH3, &children[i], 1, hex, digests[i]);
                for (size_t j = 0; j < i; j++)
                        assert_memory_not_equal(digests[i], digests[j], HASH_BYTES);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_go_mode),       cmocka_unit_test(test_go_mode_refused),
        cmocka_unit_test(test_st_mode),       cmocka_unit_test(test_digest),
        cmocka_unit_test(test_digest_sha256), cmocka_unit_test(test_digest_unknown),
        cmocka_unit_test(test_digest_covers),
};

UNIT_MAIN(tests)
