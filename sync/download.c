#include "sync/download.h"

#include <string.h>

#include "base/buffer.h"
#include "base/path.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"

static int send_request(struct session *session, const struct download_request *d, struct rpc_stream *stream)
{
        const struct source *source = session_get_source(session);
        Grpc__FileDownloadRequest request = GRPC__FILE_DOWNLOAD_REQUEST__INIT;
        _cleanup_buffer_ struct buffer path = { 0 };
        int r;

        r = source_join(source, d->path, d->path_len, &path);
        if (r < 0)
                return r;
        request.spider_id = source->spider;
        request.node_key = (char *)session_get_node(session);
        if (path_is_utf8(path.data, path.len))
                request.path = path.data;
        else
                request.raw_path = (ProtobufCBinaryData){ path.len, (uint8_t *)path.data };
        if (session_get_dialect(session) != SESSION_STOCK) {
                request.fsyncfs_protocol = WIRE_PROTOCOL;
                request.hash_algorithm = d->content.algorithm;
                request.digest = (ProtobufCBinaryData){ HASH_BYTES, (uint8_t *)d->content.bytes };
        }
        return wire_send_only(stream, &request.base);
}

/* One message into the writer. *RECEIVED counts the content's bytes so far; *COMPLETE is set by the final
 * marker. */
static int take_chunk(const struct download_request *d, const struct wire_download_chunk *chunk,
                      struct store_writer *writer, uint64_t *received, bool *complete)
{
        int r;

        if (chunk->error)
                return -ESTALE; /* a stock master's way to say that it cannot read the file (any more) */
        if (*complete && chunk->data_len > 0)
                return -EPROTO;
        if (chunk->total_bytes != 0 && (uint64_t)chunk->total_bytes != d->size)
                return -ESTALE;
        if (chunk->data_len == 0 && !chunk->is_complete)
                return -EPROTO; /* or a peer could keep a read waiting for ever */
        *received += chunk->data_len;
        if (*received > d->size)
                return -ESTALE; /* it has grown since; a liar ends the same way */
        r = store_write(writer, chunk->data, chunk->data_len);
        *complete = *complete || chunk->is_complete;
        if (r == 0 && chunk->data_len > 0)
                d->progress(chunk->data_len, d->progress_arg);
        return r;
}

static int receive_content(struct rpc_stream *stream, const struct download_request *d,
                           struct store_writer *writer)
{
        uint64_t received = 0;
        bool complete = false;

        for (;;) {
                struct wire_download_chunk chunk;
                const uint8_t *data;
                size_t len;
                int r = rpc_stream_receive(stream, &data, &len);

                if (r < 0)
                        return r;
                if (r == RPC_END)
                        return complete && received == d->size ? 0 : -EPIPE;
                r = wire_download_chunk_parse(data, len, &chunk);
                if (r < 0)
                        return -EPROTO;
                r = take_chunk(d, &chunk, writer, &received, &complete);
                if (r < 0)
                        return r;
        }
}

int download_run(struct session *session, const struct download_request *request, struct store_writer *writer,
                 struct failure *failure)
{
        struct rpc_stream *stream;
        struct failure ended = { 0 };
        int r, status;

        r = session_stream(session, WIRE_METHOD_DOWNLOAD, &stream, failure);
        if (r < 0) {
                store_write_abort(writer);
                return r;
        }
        r = send_request(session, request, stream);
        if (r == 0)
                r = receive_content(stream, request, writer);
        status = session_finish(session, stream, &ended);
        if (status < 0 && (r == 0 || r == -EPIPE)) {
                r = status; /* the stream ended early because the call failed: that says more */
                failure_set(failure, r, "%s", ended.text);
        } else if (r < 0) {
                r = r == -EPIPE ? -EPROTO : r;
                failure_set(failure, r, "download of '%.*s' failed: %s",
                            (int)MIN(request->path_len, (size_t)200), request->path,
                            r == -EPROTO ? "the master's answer is malformed or cut short" : strerror(-r));
        }
        if (r < 0) {
                store_write_abort(writer);
                return r;
        }
        r = store_write_commit(writer);
        if (r == STORE_MISMATCH)
                return failure_set(failure, -EBADMSG,
                                   "what the master sent for '%.*s' does not match its hash",
                                   (int)MIN(request->path_len, (size_t)200), request->path);
        return r;
}
