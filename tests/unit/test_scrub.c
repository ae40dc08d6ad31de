/*
 * What a bug report leaves out: values behind the names of secrets, private keys; and what it keeps.
 */
#include <string.h>

#include "cli/scrub.h"
#include "tests/unit/unit.h"

static void assert_scrubbed(const char *text, const char *expected)
{
        _cleanup_buffer_ struct buffer clean = { 0 };

        assert_int_equal(scrub(text, strlen(text), &clean), 0);
        assert_string_equal(clean.data ?: "", expected);
}

static void test_values(void **state)
{
        assert_scrubbed("token=abc def", "token=(removed) def");
        assert_scrubbed("Authorization: Bearer abc.def-ghi\nnext", "Authorization: Bearer (removed)\nnext");
        assert_scrubbed("a PASSWORD = \"two words\", b", "a PASSWORD = (removed), b");
        assert_scrubbed("{\"api_key\": \"abc\", \"x\": 1}", "{\"api_key\": (removed), \"x\": 1}");
        assert_scrubbed("its secret is abc; token:x,password=y",
                        "its secret is (removed); token:(removed),password=(removed)");
}

static void test_keys(void **state)
{
        assert_scrubbed("a\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nEEIB\n-----END EC PRIVATE KEY-----\nb\n",
                        "a\n(removed)\nb\n");
        assert_scrubbed("-----BEGIN PRIVATE KEY-----\nMHcC", "(removed)\n");
        assert_scrubbed("-----BEGIN CERTIFICATE-----\nMHcC\n-----END CERTIFICATE-----",
                        "-----BEGIN CERTIFICATE-----\nMHcC\n-----END CERTIFICATE-----");
}

static void test_kept(void **state)
{
        static const char *const kept[] = {
                "",
                "\n\n",
                "host:/spider /mnt fsyncfs token_file=/etc/fsyncfs/token,tls,key=/etc/k.pem 0 0",
                "token=/etc/fsyncfs/token",
                "master 10.0.0.1:9666 refuses the token",
                "keys: 12, hits: 3",
        };

        for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
                assert_scrubbed(kept[i], kept[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_keys),
                cmocka_unit_test(test_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
