#include "base/path.h"

#include <string.h>

#include "tests/unit/unit.h"

struct sample {
        const char *bytes;
        size_t len;
        int expected;
};

#define SAMPLE(text, expected)                                                                               \
        {                                                                                                    \
                text, sizeof(text) - 1, expected                                                             \
        }

static void test_names(void **state)
{
        static const struct sample samples[] = {
                SAMPLE("a", 0),       SAMPLE("...", 0),        SAMPLE(".a", 0),       SAMPLE("a b\n\xff", 0),
                SAMPLE("", -EINVAL),  SAMPLE(".", -EINVAL),    SAMPLE("..", -EINVAL), SAMPLE("a/b", -EINVAL),
                SAMPLE("/", -EINVAL), SAMPLE("a\0b", -EINVAL), SAMPLE("\0", -EINVAL),
        };
        char name[PATH_NAME_MAX + 1];

        for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
                assert_int_equal(path_check_name(samples[i].bytes, samples[i].len), samples[i].expected);
        memset(name, 'n', sizeof(name));
        assert_int_equal(path_check_name(name, PATH_NAME_MAX), 0);
        assert_int_equal(path_check_name(name, PATH_NAME_MAX + 1), -ENAMETOOLONG);
}

static void test_paths(void **state)
{
        static const struct sample samples[] = {
                SAMPLE("", 0),
                SAMPLE("a", 0),
                SAMPLE("a/b/c", 0),
                SAMPLE("..a/b..", 0),
                SAMPLE("a/.../b", 0),
                SAMPLE("\xff/\xfe\n", 0),
                SAMPLE("/", -EINVAL),
                SAMPLE("/a", -EINVAL),
                SAMPLE("a/", -EINVAL),
                SAMPLE("a//b", -EINVAL),
                SAMPLE("..", -EINVAL),
                SAMPLE("../a", -EINVAL),
                SAMPLE("a/..", -EINVAL),
                SAMPLE("a/../b", -EINVAL),
                SAMPLE(".", -EINVAL),
                SAMPLE("./a", -EINVAL),
                SAMPLE("a/./b", -EINVAL),
                SAMPLE("a/.", -EINVAL),
                SAMPLE("a\0/b", -EINVAL),
                SAMPLE("a/b\0", -EINVAL),
                SAMPLE("\0", -EINVAL),
        };

        for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
                assert_int_equal(path_check(samples[i].bytes, samples[i].len), samples[i].expected);
}

static void test_path_length(void **state)
{
        char path[PATH_BYTES_MAX + 1];

        memset(path, 'a', sizeof(path));
        for (size_t i = 200; i < sizeof(path) - 1; i += 200)
                path[i] = '/';
        assert_int_equal(path_check(path, PATH_BYTES_MAX), 0);
        assert_int_equal(path_check(path, PATH_BYTES_MAX + 1), -ENAMETOOLONG);
        memset(path, 'a', sizeof(path));
        assert_int_equal(path_check(path, PATH_NAME_MAX + 1), -ENAMETOOLONG);
}

static void test_next(void **state)
{
        static const char *const expected[] = { "one", "2", "three" };
        const char *path = "one/2/three", *name;
        size_t len = strlen(path), name_len, n = 0;

        while (path_next(&path, &len, &name, &name_len)) {
                assert_true(n < ARRAY_SIZE(expected));
                assert_int_equal(name_len, strlen(expected[n]));
                assert_memory_equal(name, expected[n], name_len);
                n++;
        }
        assert_int_equal(n, ARRAY_SIZE(expected));
        assert_int_equal(len, 0);
}

static void test_split(void **state)
{
        const char *name;

        assert_int_equal(path_split("a/bc/d", 6, &name), 4);
        assert_string_equal(name, "d");
        assert_int_equal(path_split("name", 4, &name), 0);
        assert_string_equal(name, "name");
        assert_int_equal(path_split("", 0, &name), 0);
        assert_string_equal(name, "");
}

/* Each path sorts before all that follow it; a folder comes right before what is in it. */
static void test_order(void **state)
{
        static const char *const sorted[] = { "",    "a",   "a/b", "a/b/c", "a/c",  "a\x01",
                                              "a-b", "a.b", "ab",  "b",     "\x80", "\xff" };

        for (size_t i = 0; i < ARRAY_SIZE(sorted); i++)
                for (size_t j = 0; j < ARRAY_SIZE(sorted); j++) {
                        int order = path_compare(sorted[i], strlen(sorted[i]), sorted[j], strlen(sorted[j]));
                        assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
                }
}

static void test_utf8(void **state)
{
        static const struct sample samples[] = {
                SAMPLE("", true),
                SAMPLE("plain\n\x7f", true),
                SAMPLE("\xc3\xa4", true),
                SAMPLE("\xe4\xb8\xad", true),
                SAMPLE("\xf0\x9f\x98\x80", true),
                SAMPLE("\xf4\x8f\xbf\xbf", true),
                SAMPLE("\xef\xbf\xbf", true),
                SAMPLE("\xee\x80\x80", true),
                SAMPLE("\xed\x9f\xbf", true),
                SAMPLE("\x80", false),
                SAMPLE("\xc3", false),
                SAMPLE("\xc3\x28", false),
                SAMPLE("\xc0\xaf", false),
                SAMPLE("\xc1\xbf", false),
                SAMPLE("\xe0\x80\xaf", false),
                SAMPLE("\xe0\x9f\xbf", false),
                SAMPLE("\xed\xa0\x80", false),
                SAMPLE("\xed\xbf\xbf", false),
                SAMPLE("\xe4\xb8", false),
                SAMPLE("\xf0\x8f\xbf\xbf", false),
                SAMPLE("\xf4\x90\x80\x80", false),
                SAMPLE("\xf5\x80\x80\x80", false),
                SAMPLE("\xff", false),
                SAMPLE("\xf0\x9f\x98", false),
                SAMPLE("ok\xe4\xb8\xadok\xfe", false),
        };

        for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
                assert_int_equal(path_is_utf8(samples[i].bytes, samples[i].len), samples[i].expected);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_paths), cmocka_unit_test(test_path_length),
        cmocka_unit_test(test_next),  cmocka_unit_test(test_split), cmocka_unit_test(test_order),
        cmocka_unit_test(test_utf8),
};

UNIT_MAIN(tests)
