#include "server/request.h"

#include <string.h>

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* False at the end of the message, or where it is broken: unpacking it fails then. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
                uint8_t byte = *(*p)++;
                value |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = value;
                        return true;
                }
        }
        return false;
}

bool request_hides_nul(const uint8_t *data, size_t len, uint32_t strings)
{
        const uint8_t *p = data, *end = data + len;
        uint64_t tag, n;

        while (take_varint(&p, end, &tag)) {
                switch (tag & 7) {
                case WIRE_VARINT:
                        if (!take_varint(&p, end, &n))
                                return false;
                        n = 0;
                        break;
                case WIRE_FIXED64:
                        n = 8;
                        break;
                case WIRE_BYTES:
                        if (!take_varint(&p, end, &n))
                                return false;
                        break;
                case WIRE_FIXED32:
                        n = 4;
                        break;
                default:
                        return false;
                }
                if (n > (uint64_t)(end - p))
                        return false;
                if ((tag & 7) == WIRE_BYTES && tag >> 3 < 32 && (strings >> (tag >> 3) & 1) &&
                    memchr(p, '\0', n))
                        return true;
                p += n;
        }
        return false;
}
