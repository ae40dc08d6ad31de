/*
 * Protobuf's encoding, field by field, for the messages that are read and written by hand
 * (https://protobuf.dev/programming-guides/encoding/). Reads hostile bytes: nothing is trusted, nothing read beyond the end, nothing copied.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

enum wire_type {
        WIRE_VARINT = 0,
        WIRE_FIXED64 = 1,
        WIRE_BYTES = 2,
        WIRE_FIXED32 = 5,
};

#define WIRE_TAG(field, type) ((uint32_t)(field) << 3 | (uint32_t)(type))
#define WIRE_VARINT_MAX       10 /* bytes */

struct wire_reader {
        const uint8_t *at, *end;
};

/** One field's value: NUMBER of a varint, or the bytes of the other kinds, which lie within the message. */
struct wire_field {
        uint32_t tag; /* WIRE_TAG */
        uint64_t number;
        const uint8_t *data;
        size_t len;
};

static inline int wire_read_varint(struct wire_reader *r, uint64_t *ret)
{
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 70; shift += 7) {
                uint8_t byte;

                if (r->at == r->end)
                        return -EBADMSG;
                byte = *r->at++;
                value |= (uint64_t)(byte & 0x7f)
                         << shift; /* bits beyond the 64th are dropped, as everywhere */
                if (byte < 0x80) {
                        *ret = value;
                        return 0;
                }
        }
        return -EBADMSG;
}

static inline int wire_read_bytes(struct wire_reader *r, uint64_t len, struct wire_field *f)
{
        if (len > (uint64_t)(r->end - r->at))
                return -EBADMSG;
        f->data = r->at;
        f->len = (size_t)len;
        r->at += len;
        return 0;
}

/** The next field; not at the end (r->at == r->end). -EBADMSG. */
static inline int wire_read_field(struct wire_reader *r, struct wire_field *ret)
{
        uint64_t tag, len;

        if (wire_read_varint(r, &tag) < 0 || tag > UINT32_MAX || tag >> 3 == 0)
                return -EBADMSG;
        ret->tag = (uint32_t)tag;
        switch (tag & 7) {
        case WIRE_VARINT:
                return wire_read_varint(r, &ret->number);
        case WIRE_FIXED64:
                return wire_read_bytes(r, 8, ret);
        case WIRE_FIXED32:
                return wire_read_bytes(r, 4, ret);
        case WIRE_BYTES:
                return wire_read_varint(r, &len) < 0 ? -EBADMSG : wire_read_bytes(r, len, ret);
        default: /* groups: no longer in use, and nothing of ours ever had one */
                return -EBADMSG;
        }
}

static inline uint8_t *wire_write_varint(uint8_t *at, uint64_t value)
{
        for (; value >= 0x80; value >>= 7)
                *at++ = (uint8_t)(value | 0x80);
        *at++ = (uint8_t)value;
        return at;
}

/** A varint field, tag included; a zero is left out. */
static inline uint8_t *wire_write_number(uint8_t *at, uint32_t field, uint64_t value)
{
        if (value == 0)
                return at;
        at = wire_write_varint(at, WIRE_TAG(field, WIRE_VARINT));
        return wire_write_varint(at, value);
}

static inline size_t wire_varint_size(uint64_t value)
{
        size_t n = 1;

        for (; value >= 0x80; value >>= 7)
                n++;
        return n;
}
