#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

void buffer_release(struct buffer *b)
{
        free(b->data);
        *b = (struct buffer){ 0 };
}

int buffer_reserve(struct buffer *b, size_t extra)
{
        size_t need, capacity;
        char *data;

        if (extra > SIZE_MAX / 4 || b->len > SIZE_MAX / 4)
                return -ENOMEM;
        need = b->len + extra + 1;
        if (need <= b->capacity)
                return 0;
        capacity = MAX(MAX(need, b->capacity * 2), (size_t)64);
        data = realloc(b->data, capacity);
        if (!data)
                return -ENOMEM;
        b->data = data;
        b->capacity = capacity;
        b->data[b->len] = '\0';
        return 0;
}

int buffer_append(struct buffer *b, const void *data, size_t len)
{
        int r = buffer_reserve(b, len);

        if (r < 0)
                return r;
        if (len > 0)
                memcpy(b->data + b->len, data, len);
        b->len += len;
        b->data[b->len] = '\0';
        return 0;
}

int buffer_printf(struct buffer *b, const char *format, ...)
{
        va_list ap;
        int n, r;

        va_start(ap, format);
        n = vsnprintf(NULL, 0, format, ap);
        va_end(ap);
        if (n < 0)
                return -EINVAL;
        r = buffer_reserve(b, (size_t)n);
        if (r < 0)
                return r;
        va_start(ap, format);
        vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
        va_end(ap);
        b->len += (size_t)n;
        return 0;
}

void buffer_truncate(struct buffer *b, size_t len)
{
        assert(len <= b->len);
        b->len = len;
        if (b->data)
                b->data[len] = '\0';
}
