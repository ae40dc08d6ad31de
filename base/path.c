#include "base/path.h"

#include <string.h>

int path_check_name(const char *name, size_t len)
{
        if (len > PATH_NAME_MAX)
                return -ENAMETOOLONG;
        if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len))
                return -EINVAL;
        if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
                return -EINVAL;
        return 0;
}

int path_check(const char *path, size_t len)
{
        if (len > PATH_BYTES_MAX)
                return -ENAMETOOLONG;
        while (len > 0) {
                const char *slash = memchr(path, '/', len);
                size_t n = slash ? (size_t)(slash - path) : len;
                int r = path_check_name(path, n);
                if (r < 0)
                        return r;
                if (!slash)
                        return 0;
                path += n + 1;
                len -= n + 1;
                if (len == 0)
                        return -EINVAL; /* a slash at the end */
        }
        return 0;
}

bool path_next(const char **path, size_t *len, const char **ret_name, size_t *ret_len)
{
        const char *slash;
        size_t n;

        if (*len == 0)
                return false;
        slash = memchr(*path, '/', *len);
        n = slash ? (size_t)(slash - *path) : *len;
        *ret_name = *path;
        *ret_len = n;
        *path += slash ? n + 1 : n;
        *len -= slash ? n + 1 : n;
        return true;
}

size_t path_split(const char *path, size_t len, const char **ret_name)
{
        const char *slash = len > 0 ? memrchr(path, '/', len) : NULL;

        *ret_name = slash ? slash + 1 : path;
        return slash ? (size_t)(slash - path) : 0;
}

int path_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
        size_t n = MIN(a_len, b_len);

        for (size_t i = 0; i < n; i++) {
                unsigned char x = (unsigned char)a[i], y = (unsigned char)b[i];
                if (x == y)
                        continue;
                /* The separator sorts before every byte a name can hold, or "a-b" would fall between "a" and
                 * "a/b". */
                if (x == '/')
                        return -1;
                if (y == '/')
                        return 1;
                return x < y ? -1 : 1;
        }
        return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

static size_t utf8_tail(unsigned char c, unsigned char *ret_low, unsigned char *ret_high)
{
        *ret_low = 0x80;
        *ret_high = 0xbf;
        if (c >= 0xc2 && c <= 0xdf)
                return 1;
        if (c >= 0xe0 && c <= 0xef) {
                if (c == 0xe0)
                        *ret_low = 0xa0;
                if (c == 0xed)
                        *ret_high = 0x9f;
                return 2;
        }
        if (c >= 0xf0 && c <= 0xf4) {
                if (c == 0xf0)
                        *ret_low = 0x90;
                if (c == 0xf4)
                        *ret_high = 0x8f;
                return 3;
        }
        return 0;
}

bool path_is_utf8(const char *text, size_t len)
{
        const unsigned char *p = (const unsigned char *)text, *end = p + len;

        while (p < end) {
                unsigned char low, high;
                size_t tail;

                if (*p < 0x80) {
                        p++;
                        continue;
                }
                tail = utf8_tail(*p, &low, &high);
                if (tail == 0 || (size_t)(end - p) <= tail || p[1] < low || p[1] > high)
                        return false;
                for (size_t i = 2; i <= tail; i++)
                        if (p[i] < 0x80 || p[i] > 0xbf)
                                return false;
                p += tail + 1;
        }
        return true;
}
