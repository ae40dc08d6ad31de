/* A token file of any bytes, and its patterns: read or refused, nothing of it shown, and what it grants is what a line of it says. */
#include <assert.h>
#include <string.h>

#include "server/token_list.h"
#include "tests/fuzz/driver.h"

static bool has_line_with(const uint8_t *data, size_t len, const char *word)
{
        return memmem(data, len, word, strlen(word)) != NULL;
}

static void judge(const struct token_list *list, const uint8_t *data, size_t len)
{
        static const char *const words[] = { "key", "all", "red", "a", "x", "" };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                struct token_claim claim = { .has_token = true, .name = words[i] };

                token_digest(words[i], strlen(words[i]), claim.digest);
                for (size_t j = 0; j < ARRAY_SIZE(words); j++)
                        if (token_list_judge(list, &claim, words[j]) != TOKEN_UNKNOWN)
                                assert(words[i][0] && has_line_with(data, len, words[i]));
                claim = (struct token_claim){ 0 };
                assert(token_list_judge(list, &claim, words[i]) == TOKEN_UNKNOWN);
        }
}

/* The bytes as a pattern of themselves. */
static void match(const uint8_t *data, size_t len)
{
        char text[256];

        if (len >= sizeof(text) || memchr(data, '\0', len))
                return;
        memcpy(text, data, len);
        text[len] = '\0';
        assert(token_pattern_matches(text, text));
        assert(token_pattern_matches("*", text));
}

void fuzz_one(const uint8_t *data, size_t len)
{
        struct failure failure = { 0 };
        struct token_list *list = NULL;
        int r = token_list_parse((const char *)data, len, &list, &failure);

        match(data, len);
        if (r < 0) {
                assert(!list && failure.text[0]);
                return;
        }
        assert(token_list_count(list) > 0 && token_list_count(list) <= len);
        judge(list, data, len);
        token_list_free(list);
}
