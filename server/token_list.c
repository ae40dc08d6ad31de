#include "server/token_list.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#define NAME_PREFIX "name:"

struct rule {
        unsigned line;
        bool by_name;
        uint8_t digest
                [TOKEN_DIGEST_BYTES]; /* by token: of one length, so that comparing them tells nothing */
        const char *name;             /* by name */
        const char *const *patterns;  /* NULL-terminated; none: all spiders */
};

struct token_list {
        struct rule *rules; /* owned */
        size_t n_rules;
        const char **words; /* owned: what the rules' patterns are lists in */
        char *text;         /* owned: what all words lie in; the tokens are wiped from it */
};

void token_digest(const char *text, size_t len, uint8_t ret[TOKEN_DIGEST_BYTES])
{
        SHA256((const uint8_t *)text, len, ret);
}

bool token_pattern_matches(const char *pattern, const char *text)
{
        const char *star = NULL, *behind = NULL;

        while (*text) {
                if (*pattern == '*') {
                        star = pattern++; /* for nothing at first */
                        behind = text;
                } else if (*pattern == *text) {
                        pattern++;
                        text++;
                } else if (star) {
                        pattern = star + 1; /* for one more */
                        text = ++behind;
                } else {
                        return false;
                }
        }
        return pattern[strspn(pattern, "*")] == '\0';
}

/* ---- reading ---- */

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of a line, NUL-terminated where it stands; NULL: no more. */
static char *next_word(char **rest)
{
        char *word = *rest, *end;

        while (is_blank(*word))
                word++;
        if (!*word)
                return NULL;
        for (end = word; *end && !is_blank(*end);)
                end++;
        *rest = end;
        if (*end) {
                *end = '\0';
                (*rest)++;
        }
        return word;
}

/* What HTTP carries in a header: visible ASCII. */
static bool is_visible(const char *word)
{
        for (; *word; word++)
                if (*word <= ' ' || *word > '~')
                        return false;
        return true;
}

/* Reads LINE, which is no comment, with its words going to WORDS. Returns how many slots of WORDS it took, or -EINVAL. */
static ssize_t parse_line(char *line, const char **words, struct rule *ret)
{
        static const size_t prefix = sizeof(NAME_PREFIX) - 1;
        char *word = next_word(&line);
        ssize_t n = 0;

        if (!is_visible(word))
                return -EINVAL;
        ret->by_name = strncmp(word, NAME_PREFIX, prefix) == 0;
        if (ret->by_name && !word[prefix])
                return -EINVAL;
        if (ret->by_name) {
                ret->name = word + prefix;
        } else {
                token_digest(word, strlen(word), ret->digest);
                OPENSSL_cleanse(word, strlen(word));
        }
        ret->patterns = words;
        while ((word = next_word(&line)))
                words[n++] = word;
        words[n++] = NULL;
        return n;
}

static int parse_lines(struct token_list *list, struct failure *failure)
{
        char *rest = list->text, *line;
        const char **words = list->words;

        for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
                ssize_t n;

                line += strspn(line, " \t\r");
                if (*line == '\0' || *line == '#')
                        continue;
                n = parse_line(line, words, &list->rules[list->n_rules]);
                if (n < 0)
                        return failure_set(failure, -EINVAL,
                                           "line %u: a token is of visible ASCII characters", number);
                list->rules[list->n_rules].line = number;
                words += n;
                list->n_rules++;
        }
        return list->n_rules > 0 ? 0 : failure_set(failure, -EINVAL, "it holds no token");
}

/* At most this many rules, and as many words beside the NULLs that end them, can be in TEXT. */
static size_t count_words(const char *text, size_t len)
{
        size_t n = 1;

        for (size_t i = 0; i < len; i++)
                n += is_blank(text[i]) || text[i] == '\n';
        return n;
}

int token_list_parse(const char *text, size_t len, struct token_list **ret, struct failure *failure)
{
        size_t words = count_words(text, len);
        struct token_list *list;
        int r = -ENOMEM;

        if (memchr(text, '\0', len))
                return failure_set(failure, -EINVAL, "it holds a NUL byte");
        list = calloc(1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        list->text = strndup(text, len);
        list->rules = calloc(words, sizeof(*list->rules));
        list->words = calloc(2 * words, sizeof(*list->words));
        if (list->text && list->rules && list->words)
                r = parse_lines(list, failure);
        if (r < 0) {
                if (list->text)
                        OPENSSL_cleanse(list->text, len);
                token_list_free(list);
                return r;
        }
        *ret = list;
        return 0;
}

void token_list_free(struct token_list *list)
{
        if (!list)
                return;
        free(list->rules);
        free(list->words);
        free(list->text);
        free(list);
}

size_t token_list_count(const struct token_list *list)
{
        return list->n_rules;
}

/* ---- judging ---- */

static bool is_of(const struct rule *rule, const struct token_claim *claim)
{
        if (rule->by_name)
                return claim->name && strcmp(claim->name, rule->name) == 0;
        return (CRYPTO_memcmp(claim->digest, rule->digest, TOKEN_DIGEST_BYTES) == 0) & claim->has_token;
}

static bool opens(const struct rule *rule, const char *spider)
{
        if (!spider || !rule->patterns[0])
                return true;
        for (const char *const *pattern = rule->patterns; *pattern; pattern++)
                if (token_pattern_matches(*pattern, spider))
                        return true;
        return false;
}

enum token_verdict token_list_judge(const struct token_list *list, const struct token_claim *claim,
                                    const char *spider)
{
        enum token_verdict verdict = TOKEN_UNKNOWN;

        /* All of them, whatever the first says: the time tells nothing of where a token stands. */
        for (size_t i = 0; i < list->n_rules; i++)
                if (is_of(&list->rules[i], claim))
                        verdict = MAX(verdict,
                                      opens(&list->rules[i], spider) ? TOKEN_GRANTED : TOKEN_NOT_THIS_ONE);
        return verdict;
}

unsigned token_list_line(const struct token_list *list, const struct token_claim *claim)
{
        unsigned line = 0;

        /* The last one, and all are looked at: see above. */
        for (size_t i = 0; i < list->n_rules; i++)
                if (is_of(&list->rules[i], claim))
                        line = list->rules[i].line;
        return line;
}
