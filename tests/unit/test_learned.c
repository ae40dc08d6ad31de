#include "server/learned_list.h"

#include <string.h>

#include "proto/wire.h"
#include "tests/unit/unit.h"

#define MANY 6000

static void merge(struct learned_list *list, const char *folder, const char *const *names, size_t n)
{
        struct learned_path paths[MANY];
        struct learned_report report = { .folder = folder, .paths = paths, .n = n };

        for (size_t i = 0; i < n; i++)
                paths[i] = (struct learned_path){ names[i], strlen(names[i]) };
        assert_int_equal(learned_list_merge(list, &report), 0);
}

#define MERGE(list, folder, ...)                                                                             \
        do {                                                                                                 \
                const char *const names_[] = { __VA_ARGS__ };                                                \
                merge(list, folder, names_, ARRAY_SIZE(names_));                                             \
        } while (0)

static void check(const struct learned_list *list, const char *expected)
{
        _cleanup_buffer_ struct buffer text = { 0 };

        for (size_t i = 0; i < list->n; i++)
                buffer_printf(&text, "%s%s", i ? " " : "", list->entries[i]->path);
        assert_string_equal(text.data ? text.data : "", expected);
}

static void test_order_is_kept(void **state)
{
        struct learned_list list = { 0 };

        MERGE(&list, "", "z", "b/c", "a", "m");
        check(&list, "z b/c a m");
        MERGE(&list, "", "z", "b/c", "new", "a", "m");
        check(&list, "z b/c new a m");
        learned_list_release(&list);
        check(&list, "");
}

static void test_the_first_of_a_name_counts(void **state)
{
        struct learned_list list = { 0 };

        MERGE(&list, "", "a", "b", "a", "c", "a");
        check(&list, "a b c");
        assert_int_equal(list.entries[0]->score, 1000);
        learned_list_release(&list);
}

static void test_a_folder_goes_before_its_paths(void **state)
{
        struct learned_list list = { 0 };

        MERGE(&list, "sub/dir", "x", "y/z");
        check(&list, "sub/dir/x sub/dir/y/z");
        assert_string_equal(learned_entry_below(list.entries[1], "sub"), "dir/y/z");
        assert_string_equal(learned_entry_below(list.entries[1], ""), "sub/dir/y/z");
        assert_null(learned_entry_below(list.entries[1], "su"));
        assert_null(learned_entry_below(list.entries[0], "sub/dir/x"));
        learned_list_release(&list);
}

static void test_what_is_not_reported_any_more_fades(void **state)
{
        struct learned_list list = { 0 };
        unsigned rounds = 0;

        MERGE(&list, "", "once", "always");
        for (unsigned i = 0; i < 10; i++)
                MERGE(&list, "", "always");
        assert_in_range(list.entries[0]->score + list.entries[1]->score, 6000, 12000);
        check(&list, "once always");
        assert_in_range(list.entries[0]->score, 480, 520); /* half after ten */
        while (list.n == 2 && rounds++ < 100)
                MERGE(&list, "", "always");
        check(&list, "always");
        assert_in_range(rounds, 20, 50);
        assert_in_range(list.entries[0]->score, 13000, 16000);
        learned_list_release(&list);
}

static void test_the_most_reported_stay(void **state)
{
        static char names[MANY][16];
        const char *pointers[MANY];
        struct learned_list list = { 0 };

        for (int i = 0; i < MANY; i++) {
                snprintf(names[i], sizeof(names[i]), "f%05d", i);
                pointers[i] = names[i];
        }
        merge(&list, "", pointers, 4000);
        merge(&list, "", pointers + 3000, 3000);
        assert_int_equal(list.n, WIRE_LEARNED_PATHS_MAX);
        for (size_t i = 0; i < list.n; i++)
                if (strcmp(list.entries[i]->path, "f03500") == 0)
                        assert_int_equal(list.entries[i]->score, 1933);
        merge(&list, "", pointers, MANY); /* beyond what a report may have: cut */
        assert_int_equal(list.n, WIRE_LEARNED_PATHS_MAX);
        learned_list_release(&list);
}

static void test_bytes_are_bounded(void **state)
{
        struct learned_list list = { 0 };
        struct learned_path paths[600];
        struct learned_report report = { .folder = "", .paths = paths, .n = ARRAY_SIZE(paths) };

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                char *path = malloc(4000);
                int n = snprintf(path, 4000, "%04zu", i);
                for (; n < 4000 - 200; n += 200)
                        memset(memset(path + n, 'x', 200), '/', 1);
                paths[i] = (struct learned_path){ path, (size_t)n };
        }
        assert_int_equal(learned_list_merge(&list, &report), 0);
        assert_in_range(list.bytes, WIRE_LEARNED_BYTES_MAX / 2, WIRE_LEARNED_BYTES_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                memset((char *)paths[i].data, 'y', 4);
        assert_int_equal(learned_list_merge(&list, &report), 0);
        assert_in_range(list.bytes, WIRE_LEARNED_BYTES_MAX / 2, WIRE_LEARNED_BYTES_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                free((char *)paths[i].data);
        learned_list_release(&list);
}

static void test_written_and_read_back(void **state)
{
        _cleanup_buffer_ struct buffer text = { 0 }, again = { 0 };
        struct learned_list list = { 0 }, back = { 0 };

        MERGE(&list, "", "plain", "with space", "with\nline", "per%cent", "\xff\x01\x7f", "\xc3\xa4");
        MERGE(&list, "", "with\nline");
        assert_int_equal(learned_list_write(&list, &text), 0);
        assert_int_equal(learned_list_read(&back, text.data, text.len), 0);
        assert_int_equal(back.n, 6);
        assert_int_equal(back.bytes, list.bytes);
        assert_int_equal(learned_list_write(&back, &again), 0);
        assert_string_equal(again.data, text.data);
        MERGE(&back, "", "plain"); /* a list that was read can be merged into */
        assert_int_equal(back.n, 6);
        learned_list_release(&list);
        learned_list_release(&back);
}

#define HEAD "fsyncfs-learned 1\n"

static void test_damaged_text_is_refused(void **state)
{
        static const char *const bad[] = {
                "",
                "fsyncfs-learned 1",
                "fsyncfs-learned 2\n",
                HEAD "1000 0 a",  /* no end */
                HEAD "1000 0 \n", /* no path */
                HEAD "1000 0\n",
                HEAD "x 0 a\n",
                HEAD "-1 0 a\n",
                HEAD " 1 0 a\n",
                HEAD "99999999 0 a\n", /* a score that nothing comes to */
                HEAD "1000 99999999999999999999999 a\n",
                HEAD "1000 0 ../a\n",
                HEAD "1000 0 /a\n",
                HEAD "1000 0 a/%2e%2e/b\n",
                HEAD "1000 0 a%00b\n",
                HEAD "1000 0 a%\n",
                HEAD "1000 0 a%2\n",
                HEAD "1000 0 a%zz\n",
                HEAD "1000 0 a b\n",
                HEAD "1000 0 a\r\n",
                HEAD "1000 0 a\n1000 0 a\n",
                HEAD "\n",
        };
        struct learned_list list = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(learned_list_read(&list, bad[i], strlen(bad[i])), -EBADMSG);
                assert_int_equal(list.n, 0);
                assert_null(list.entries);
        }
        assert_int_equal(learned_list_read(&list, HEAD "1 2 a\n\0", strlen(HEAD) + 7), -EBADMSG);
        assert_int_equal(learned_list_read(&list, HEAD "1000 0 a\n", strlen(HEAD) + 9), 0);
        learned_list_release(&list);
}

static void test_too_long_a_text_is_refused(void **state)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        struct learned_list list = { 0 };

        buffer_printf(&text, HEAD);
        for (int i = 0; i <= WIRE_LEARNED_PATHS_MAX; i++)
                buffer_printf(&text, "1 1 f%d\n", i);
        assert_int_equal(learned_list_read(&list, text.data, text.len), -EBADMSG);
        text.len = 0;
        buffer_printf(&text, HEAD "1 1 ");
        for (int i = 0; i < 2100; i++)
                buffer_printf(&text, "a/");
        buffer_printf(&text, "a\n");
        assert_int_equal(learned_list_read(&list, text.data, text.len), -EBADMSG);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_kept),
        cmocka_unit_test(test_the_first_of_a_name_counts),
        cmocka_unit_test(test_a_folder_goes_before_its_paths),
        cmocka_unit_test(test_what_is_not_reported_any_more_fades),
        cmocka_unit_test(test_the_most_reported_stay),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_written_and_read_back),
        cmocka_unit_test(test_damaged_text_is_refused),
        cmocka_unit_test(test_too_long_a_text_is_refused),
};

UNIT_MAIN(tests)
