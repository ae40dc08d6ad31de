#include "server/token_list.h"

#include <string.h>

#include "tests/unit/unit.h"

static struct token_list *parse(const char *text)
{
        struct token_list *list = NULL;
        struct failure failure = { 0 };

        if (token_list_parse(text, strlen(text), &list, &failure) != 0)
                fail_msg("'%s': %s", text, failure.text);
        return list;
}

static enum token_verdict judge(const struct token_list *list, const char *token, const char *name,
                                const char *spider)
{
        struct token_claim claim = { .has_token = token != NULL, .name = name };

        if (token)
                token_digest(token, strlen(token), claim.digest);
        return token_list_judge(list, &claim, spider);
}

static void test_one_line(void **state)
{
        static const char *const texts[] = { "key", "key\n", "  key \t\r\n\n", "# a comment\n\nkey" };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct token_list *list = parse(texts[i]);

                assert_int_equal(token_list_count(list), 1);
                assert_int_equal(judge(list, "key", NULL, "any"), TOKEN_GRANTED);
                assert_int_equal(judge(list, "key", NULL, NULL), TOKEN_GRANTED);
                assert_int_equal(judge(list, "key ", NULL, "any"), TOKEN_UNKNOWN);
                assert_int_equal(judge(list, "ke", NULL, "any"), TOKEN_UNKNOWN);
                assert_int_equal(judge(list, "", NULL, "any"), TOKEN_UNKNOWN);
                assert_int_equal(judge(list, NULL, NULL, "any"), TOKEN_UNKNOWN);
                assert_int_equal(judge(list, NULL, "key", "any"), TOKEN_UNKNOWN);
                token_list_free(list);
        }
}

static void test_rights(void **state)
{
        struct token_list *list = parse("a red-* shared\n"
                                        "b\tblue\r\n"
                                        "#c everything\n"
                                        "a green\n"
                                        "b#d x\n");

        assert_int_equal(token_list_count(list), 4);
        assert_int_equal(judge(list, "a", NULL, "red-1"), TOKEN_GRANTED);
        assert_int_equal(judge(list, "a", NULL, "shared"), TOKEN_GRANTED);
        assert_int_equal(judge(list, "a", NULL, "green"), TOKEN_GRANTED); /* another line of the same token */
        assert_int_equal(judge(list, "a", NULL, "blue"), TOKEN_NOT_THIS_ONE);
        assert_int_equal(judge(list, "a", NULL, "red"), TOKEN_NOT_THIS_ONE);
        assert_int_equal(judge(list, "a", NULL, ""), TOKEN_NOT_THIS_ONE);
        assert_int_equal(judge(list, "a", NULL, NULL), TOKEN_GRANTED);
        assert_int_equal(judge(list, "b", NULL, "blue"), TOKEN_GRANTED);
        assert_int_equal(judge(list, "b", NULL, "blue\r"), TOKEN_NOT_THIS_ONE);
        assert_int_equal(judge(list, "b#d", NULL, "x"), TOKEN_GRANTED);
        assert_int_equal(judge(list, "c", NULL, "x"), TOKEN_UNKNOWN);
        assert_int_equal(judge(list, "#c", NULL, "x"), TOKEN_UNKNOWN);
        token_list_free(list);
}

/* What a token is called where people read it. */
static void test_lines(void **state)
{
        struct token_list *list = parse("# two\na red\n\nname:host blue\na green\n");
        struct token_claim claim = { .has_token = true };

        token_digest("a", 1, claim.digest);
        assert_int_equal(token_list_line(list, &claim), 5);
        token_digest("b", 1, claim.digest);
        assert_int_equal(token_list_line(list, &claim), 0);
        assert_int_equal(token_list_line(list, &(struct token_claim){ .name = "host" }), 4);
        token_list_free(list);
}

static void test_names(void **state)
{
        struct token_list *list = parse("name:worker-1 red\nname:worker-2\n");

        assert_int_equal(judge(list, NULL, "worker-1", "red"), TOKEN_GRANTED);
        assert_int_equal(judge(list, NULL, "worker-1", "blue"), TOKEN_NOT_THIS_ONE);
        assert_int_equal(judge(list, NULL, "worker-2", "blue"), TOKEN_GRANTED);
        assert_int_equal(judge(list, NULL, "worker-3", "red"), TOKEN_UNKNOWN);
        assert_int_equal(judge(list, NULL, "", "red"), TOKEN_UNKNOWN);
        /* A name is not something that one can say. */
        assert_int_equal(judge(list, "name:worker-1", NULL, "red"), TOKEN_UNKNOWN);
        assert_int_equal(judge(list, "worker-1", NULL, "red"), TOKEN_UNKNOWN);
        token_list_free(list);
}

/* An empty token has a digest like any other, and so has none at all. */
static void test_nothing_is_no_token(void **state)
{
        struct token_list *list = parse("name:x\n");
        struct token_claim claim = { 0 };

        assert_int_equal(token_list_judge(list, &claim, "s"), TOKEN_UNKNOWN);
        claim.has_token = true;
        assert_int_equal(token_list_judge(list, &claim, "s"), TOKEN_UNKNOWN);
        token_list_free(list);
}

static void test_bad(void **state)
{
        static const struct {
                const char *text;
                size_t len;
                const char *says;
        } bad[] = {
                { "", 0, "no token" },
                { "\n \t\n", 4, "no token" },
                { "# secret\n#", 10, "no token" },
                { "fine\nsecr\xc3\xa9t\n", 13, "line 2" },
                { "\n\nsecret\x01\n", 10, "line 3" },
                { "secret\x7f", 7, "line 1" },
                { "name:\n", 6, "line 1" },
                { "secret\0more", 11, "NUL" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct token_list *list = NULL;
                struct failure failure = { 0 };

                assert_int_equal(token_list_parse(bad[i].text, bad[i].len, &list, &failure), -EINVAL);
                assert_null(list);
                if (!strstr(failure.text, bad[i].says) || strstr(failure.text, "secr"))
                        fail_msg("%zu: '%s'", i, failure.text);
        }
}

static void test_patterns(void **state)
{
        static const struct {
                const char *pattern, *text;
                bool matches;
        } rows[] = {
                { "", "", true },        { "", "a", false },          { "a", "a", true },
                { "a", "", false },      { "a", "ab", false },        { "*", "", true },
                { "*", "abc", true },    { "**", "abc", true },       { "a*", "a", true },
                { "a*", "abc", true },   { "a*", "ba", false },       { "*c", "abc", true },
                { "*c", "abcd", false }, { "a*c", "abbc", true },     { "a*c", "acbc", true },
                { "a*c", "acb", false }, { "a*b*c", "axbxbc", true }, { "a*b*c", "axcxc", false },
                { "?", "a", false },     { "[a]", "a", false },       { "[a]", "[a]", true },
                { "\\*", "*", false },   { "\\*", "\\x", true },      { "*ab", "aab", true },
        };
        char many[2000], text[2000];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (token_pattern_matches(rows[i].pattern, rows[i].text) != rows[i].matches)
                        fail_msg("'%s' and '%s'", rows[i].pattern, rows[i].text);
        /* What takes some matchers the age of the universe. */
        for (size_t i = 0; i + 2 < sizeof(many); i += 2)
                memcpy(many + i, "*a", 3);
        memset(text, 'a', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        text[sizeof(text) - 2] = 'b';
        assert_false(token_pattern_matches(many, text));
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nothing_is_no_token),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_patterns),
};

UNIT_MAIN(tests)
