#include "base/setting_field.h"

#include <string.h>

int setting_parse_number(const char *text, int base, uint64_t most, uint64_t *ret)
{
        char *end;
        unsigned long long n;

        errno = 0;
        n = strtoull(text, &end, base);
        if (text[0] < '0' || text[0] > '9' || *end || errno || n > most)
                return -EINVAL;
        *ret = n;
        return 0;
}

int setting_set_flag(const struct setting *row, void *field, const char *value)
{
        *(bool *)field = strcmp(value, "yes") == 0;
        return 0;
}

int setting_set_number(const struct setting *row, void *field, const char *value)
{
        uint64_t n;

        if (setting_parse_number(value, 10, row->most, &n) < 0 || n < row->least)
                return -EINVAL;
        *(unsigned *)field = (unsigned)n;
        return 0;
}

int setting_set_choice(const struct setting *row, void *field, const char *value)
{
        const char *word = row->choices;
        unsigned i = 0;

        for (size_t len; *word; word += len + strspn(word + len, " "), i++) {
                len = strcspn(word, " ");
                if (strlen(value) == len && memcmp(word, value, len) == 0) {
                        *(unsigned *)field = i;
                        return 0;
                }
        }
        return -EINVAL;
}

int setting_set_text(const struct setting *row, void *field, const char *value)
{
        if (!value[0])
                return -EINVAL;
        *(const char **)field = value;
        return 0;
}

static int replace(char **where, char *text)
{
        if (!text)
                return -ENOMEM;
        free(*where);
        *where = text;
        return 0;
}

int setting_set_copy(const struct setting *row, void *field, const char *value)
{
        return replace(field, strdup(value));
}

int setting_set_path(const struct setting *row, void *field, const char *value)
{
        _cleanup_free_ char *cwd = NULL;
        char *absolute = NULL;

        if (!value[0])
                return -EINVAL;
        if (value[0] == '/')
                return setting_set_copy(row, field, value);
        cwd = get_current_dir_name();
        if (!cwd || asprintf(&absolute, "%s/%s", cwd, value) < 0)
                absolute = NULL;
        return replace(field, absolute);
}
