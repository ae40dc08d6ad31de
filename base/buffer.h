/*
 * A growable run of bytes, always followed by a NUL that is not counted, so that text can be printed as it
 * is. Not thread-safe: the owner guards it. A zeroed struct is an empty buffer.
 */
#pragma once

#include "base/util.h"

struct buffer {
        char *data; /* owned; NULL while empty */
        size_t len;
        size_t capacity;
};

/** Frees the bytes; the buffer is empty and usable again. */
void buffer_release(struct buffer *b);

/** Makes room for EXTRA more bytes (and the NUL). -ENOMEM leaves the buffer as it was. */
int buffer_reserve(struct buffer *b, size_t extra);

/** Appends LEN bytes; -ENOMEM leaves the buffer as it was. */
int buffer_append(struct buffer *b, const void *data, size_t len);

/** Appends printf-formatted text; -ENOMEM leaves the buffer as it was. */
int buffer_printf(struct buffer *b, const char *format, ...) _printf_(2, 3);

/** Cuts to LEN bytes, which must not exceed the present length. */
void buffer_truncate(struct buffer *b, size_t len);

#define _cleanup_buffer_ _cleanup_(buffer_release)
