#include "cli/scrub.h"

#include <regex.h>
#include <stdbool.h>
#include <string.h>

#define REMOVED "(removed)"

/* A word that names a secret, and its value: up to a blank, or quoted. What begins with a slash is a file's name. */
static const char secret[] =
        "(authorization|token|passwd|password|passphrase|secret|credential|bearer|api[_-]?key)s?['\"]?"
        "([[:blank:]]*[=:][[:blank:]]*|[[:blank:]]+is[[:blank:]]+)"
        "(bearer[[:blank:]]+)?(\"[^\"]*\"|'[^']*'|[^][:blank:]\"'/,;][^][:blank:]\"',;]*)";

static int scrub_line(const regex_t *expression, const char *line, struct buffer *ret)
{
        regmatch_t m[5];
        int r = 0;

        while (r == 0 && regexec(expression, line, ARRAY_SIZE(m), m, 0) == 0) {
                r = buffer_append(ret, line, (size_t)m[4].rm_so);
                if (r == 0)
                        r = buffer_append(ret, REMOVED, sizeof(REMOVED) - 1);
                line += m[4].rm_eo;
        }
        return r < 0 ? r : buffer_append(ret, line, strlen(line));
}

/* Also across lines: a key as PEM. */
static int scrub_lines(const regex_t *expression, char *text, struct buffer *ret)
{
        bool in_key = false;
        char *line;
        int r = 0;

        while (r == 0 && (line = strsep(&text, "\n"))) {
                bool begins = strstr(line, "-----BEGIN ") && strstr(line, "PRIVATE KEY-----");

                if (begins)
                        r = buffer_append(ret, REMOVED, sizeof(REMOVED) - 1);
                else if (!in_key)
                        r = scrub_line(expression, line, ret);
                if (r == 0 && text && (begins || !in_key))
                        r = buffer_append(ret, "\n", 1);
                in_key = (in_key || begins) && !strstr(line, "-----END ");
        }
        return r;
}

int scrub(const char *text, size_t len, struct buffer *ret)
{
        _cleanup_free_ char *copy = strndup(text, len);
        regex_t expression;
        int r;

        if (!copy || regcomp(&expression, secret, REG_EXTENDED | REG_ICASE) != 0)
                return -ENOMEM;
        r = scrub_lines(&expression, copy, ret);
        regfree(&expression);
        return r;
}
