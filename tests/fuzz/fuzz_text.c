/* Paths and names of contents from outside: what the checkers let through holds what they promise. */
#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/path.h"
#include "tests/fuzz/driver.h"

static void check_path(const char *path, size_t len)
{
        const char *name, *rest = path;
        size_t name_len, rest_len = len, sum = 0, names = 0;

        if (path_check(path, len) < 0)
                return;
        assert(len <= PATH_BYTES_MAX && (len == 0 || (path[0] != '/' && path[len - 1] != '/')));
        while (path_next(&rest, &rest_len, &name, &name_len)) {
                assert(path_check_name(name, name_len) == 0);
                assert(!memchr(name, '/', name_len) && !memchr(name, '\0', name_len));
                assert(!(name_len == 2 && memcmp(name, "..", 2) == 0));
                sum += name_len;
                names++;
        }
        assert(len == 0 ? names == 0 : sum + names - 1 == len);
        assert(path_split(path, len, &name) <= len);
        assert(path_compare(path, len, path, len) == 0);
}

static void parse_id(const uint8_t *data, size_t len)
{
        char text[256], again[HASH_TEXT_MAX];
        struct content_id id, back;

        if (len >= sizeof(text))
                return;
        memcpy(text, data, len);
        text[len] = '\0';
        if (content_id_parse(text, &id) == 0) {
                assert(content_id_parse(content_id_format(&id, again), &back) == 0);
                assert(content_id_equal(&id, &back));
        }
}

void fuzz_one(const uint8_t *data, size_t len)
{
        check_path((const char *)data, len);
        (void)path_is_utf8((const char *)data, len);
        parse_id(data, len);
}
