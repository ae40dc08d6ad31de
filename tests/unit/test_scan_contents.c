/* What a pass keeps of contents by their hash (T7 of the tree): lists of pieces, and the bytes of tiny files. */
#include "base/pieces.h"
#include "tests/unit/scan_passes.h"

#define SCAN_LIST_LONG 65536 /* bytes; no shorter than what a pass keeps in hand of lists */

static uint8_t *write_bytes(const struct fixture *f, const char *path, size_t len, uint8_t seed)
{
        int fd = openat(f->top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        uint8_t *bytes = malloc(len + 1);

        assert_true(fd >= 0 && bytes);
        for (size_t i = 0; i < len; i++)
                bytes[i] = (uint8_t)(seed + i / 100);
        assert_int_equal(write(fd, bytes, len), len);
        close(fd);
        return bytes;
}

/* The row at PATH names LEN BYTES, and the tree has what is kept of such. */
static void check_content(const struct fixture *f, const char *path, const uint8_t *bytes, size_t len)
{
        _cleanup_buffer_ struct buffer detail = { 0 };
        struct content_id id, found;
        struct hasher *hasher;
        struct tree_view *view;
        struct tree_row row;
        size_t detail_len;

        assert_int_equal(hasher_new(content_algorithm(HASH_XXH3, len), &hasher), 0);
        hasher_update(hasher, bytes, len);
        hasher_final(hasher, &id);
        hasher_free(hasher);
        assert_int_equal(find(f, path, &row), TREE_OK);
        found = tree_row_content(&row);
        assert_true(content_id_equal(&found, &id));
        detail_len = tree_row_detail_len(&row);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_detail(view, &id, len, &detail), detail_len > 0 ? TREE_OK : TREE_NONE);
        tree_view_put(view);
        if (len > PIECE_BYTES)
                assert_true(pieces_prove(&id, len, (const uint8_t *)detail.data, detail.len));
        else if (detail_len > 0)
                assert_memory_equal(detail.data, bytes, len);
}

static void test_contents_of_all_sizes(void **state)
{
        static const size_t sizes[] = { 0,      1,      ENTRY_TINY_MAX, ENTRY_TINY_MAX + 1,
                                        4096,   262143, 262144,         262145,
                                        524288, 700001 };
        struct fixture *f = *state;
        char name[16];

        for (int round = 0; round < 2; round++) {
                uint8_t *bytes[ARRAY_SIZE(sizes)];

                for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                        snprintf(name, sizeof(name), "%zu", sizes[i]);
                        bytes[i] = write_bytes(f, name, sizes[i], (uint8_t)(17 * round + i));
                }
                scan(f);
                for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                        snprintf(name, sizeof(name), "%zu", sizes[i]);
                        check_content(f, name, bytes[i], sizes[i]);
                        free(bytes[i]);
                }
        }
}

/* More tiny files than a pass keeps in hand, in folders, each with bytes of its own. */
static void test_many_tiny(void **state)
{
        struct fixture *f = *state;
        char name[32], text[ENTRY_TINY_MAX + 1];

        for (int i = 0; i < 3000; i++) {
                snprintf(name, sizeof(name), "%d", i % 3);
                (void)mkdirat(f->top, name, 0755);
                snprintf(name, sizeof(name), "%d/%d", i % 3, i);
                snprintf(text, sizeof(text), "%*d", ENTRY_TINY_MAX, i);
                write_file(f, name, text);
        }
        scan(f);
        for (int i = 0; i < 3000; i++) {
                snprintf(name, sizeof(name), "%d/%d", i % 3, i);
                snprintf(text, sizeof(text), "%*d", ENTRY_TINY_MAX, i);
                check_content(f, name, (const uint8_t *)text, ENTRY_TINY_MAX);
        }
}

/* A list that is longer than what a pass keeps in hand, beside others. */
static void test_long_list(void **state)
{
        struct fixture *f = *state;
        uint64_t size = ((uint64_t)SCAN_LIST_LONG / 16 + 1) * PIECE_BYTES;
        _cleanup_buffer_ struct buffer list = { 0 };
        struct content_id id;
        struct tree_view *view;
        struct tree_row row;
        int fd = openat(f->top, "hole", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        close(fd);
        for (int i = 0; i < 5; i++) {
                char name[8];
                snprintf(name, sizeof(name), "t%d", i);
                write_file(f, name, name);
        }
        scan(f);
        assert_int_equal(find(f, "hole", &row), TREE_OK);
        id = tree_row_content(&row);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_detail(view, &id, size, &list), TREE_OK);
        tree_view_put(view);
        assert_true(pieces_prove(&id, size, (const uint8_t *)list.data, list.len));
        check_content(f, "t0", (const uint8_t *)"t0", 2);
        check_content(f, "t4", (const uint8_t *)"t4", 2);
}

/* Files of a folder that is found elsewhere are not read again: what is kept of them stays. */
static void test_moved_contents(void **state)
{
        struct fixture *f = *state;
        uint8_t *bytes;
        uint64_t hashed;

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "d/tiny", "tiny");
        bytes = write_bytes(f, "d/large", 300000, 9);
        let_age();
        scan(f);
        hashed = metrics_get(METRIC_FILES_HASHED);
        assert_int_equal(renameat(f->top, "d", f->top, "e"), 0);
        scan(f);
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed);
        check_content(f, "e/tiny", (const uint8_t *)"tiny", 4);
        check_content(f, "e/large", bytes, 300000);
        free(bytes);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_contents_of_all_sizes),
        TEST(test_many_tiny),
        TEST(test_long_list),
        TEST(test_moved_contents),
};

UNIT_MAIN(tests)
