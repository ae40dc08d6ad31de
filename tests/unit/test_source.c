#include "sync/source.h"

#include <string.h>

#include "tests/unit/unit.h"

static void check_good(const char *text, const char *masters, const char *spider, const char *path)
{
        char joined[512] = "";
        struct failure failure = { 0 };
        struct source s;

        assert_int_equal(source_parse(text, &s, &failure), 0);
        for (size_t i = 0; i < s.n_masters; i++)
                snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", i ? " " : "",
                         s.masters[i]);
        assert_string_equal(joined, masters);
        assert_string_equal(s.spider, spider);
        assert_string_equal(s.path, path);
        assert_string_equal(s.text, text);
        source_release(&s);
        assert_null(s.text);
}

static void test_good(void **state)
{
        check_good("master:/spider", "master:9666", "spider", "");
        check_good("master:17:/spider", "master:17", "spider", "");
        check_good("master:/spider/", "master:9666", "spider", "");
        check_good("master:/spider/a/b c", "master:9666", "spider", "a/b c");
        check_good("a,b:1,c:/s", "a:9666 b:1 c:9666", "s", "");
        check_good("[::1]:/s", "[::1]:9666", "s", "");
        check_good("[fe80::1]:77,10.0.0.1:/s", "[fe80::1]:77 10.0.0.1:9666", "s", "");
        check_good("unix:/run/f.sock:/s/p", "unix:/run/f.sock", "s", "p");
}

static void test_bad(void **state)
{
        static const char *const bad[] = {
                "",
                "nothing",
                "master",
                "master:",
                "master:/",
                "master://",
                ":/s",
                "master:spider",
                "master:0:/s",
                "master:65536:/s",
                "master:x:/s",
                "master:-1:/s",
                "master:+1:/s",
                "master: 1:/s",
                "a,:/s",
                ",a:/s",
                "[::1:/s",
                "[::1]x:/s",
                "master:/..",
                "master:/s/..",
                "master:/s/./a",
                "master:/s//a",
                "master:/\xff",
                "unix:/run/f.sock",
                "unix:run:/s",
                "unix::/s",
                "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q:/s",
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct failure failure = { 0 };
                struct source s = { .text = (char *)"untouched" };
                int r = source_parse(bad[i], &s, &failure);
                if (r != -EINVAL)
                        fail_msg("'%s' gave %d", bad[i], r);
                assert_string_equal(s.text, "untouched");
                assert_true(strlen(failure.text) > 10);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
};

UNIT_MAIN(tests)
