#include "proto/rpc_internal.h"

#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* the largest, and a gzip header */

/* All of STREAM's input as one member, into a buffer that grows up to LIMIT. */
static int inflate_all(z_stream *stream, size_t limit, uint8_t **ret_data, size_t *ret_len)
{
        size_t room = MIN(MAX((size_t)stream->avail_in * 4, (size_t)1024), limit);
        _cleanup_free_ uint8_t *data = NULL;

        for (;;) {
                uint8_t *larger = realloc(data, room);
                int status;

                if (!larger)
                        return -ENOMEM;
                data = larger;
                stream->next_out = data + stream->total_out;
                stream->avail_out = (uInt)(room - stream->total_out);
                status = inflate(stream, Z_FINISH);
                if (status == Z_STREAM_END)
                        break;
                if (status == Z_MEM_ERROR)
                        return -ENOMEM;
                if ((status != Z_OK && status != Z_BUF_ERROR) || stream->avail_out > 0)
                        return -EBADMSG; /* wrong, or cut short */
                if (room == limit)
                        return -EFBIG;
                room = MIN(room * 2, limit);
        }
        if (stream->avail_in > 0)
                return -EBADMSG;
        *ret_data = TAKE_PTR(data);
        *ret_len = stream->total_out;
        return 0;
}

int rpc_gunzip(const uint8_t *data, size_t len, size_t limit, uint8_t **ret_data, size_t *ret_len)
{
        z_stream stream = { .next_in = (uint8_t *)data, .avail_in = (uInt)len };
        int r;

        if (len > RPC_REQUEST_MAX)
                return -EFBIG;
        if (inflateInit2(&stream, GZIP_WINDOW) != Z_OK)
                return -ENOMEM;
        r = inflate_all(&stream, limit, ret_data, ret_len);
        inflateEnd(&stream);
        return r;
}
