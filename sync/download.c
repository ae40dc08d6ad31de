#include "sync/download.h"

#include <string.h>

#include "base/buffer.h"
#include "base/path.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"

/* A download under way. */
struct download {
        const struct download_request *request;
        uint64_t size; /* how many bytes are to come */
        uint64_t received;
        bool complete;                                        /* the final marker has come */
        int (*take)(const void *data, size_t len, void *arg); /* some of them, in order */
        void *arg;
};

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
                request.digest =
                        (ProtobufCBinaryData){ hash_len(d->content.algorithm), (uint8_t *)d->content.bytes };
                request.offset = d->offset;
                request.length = d->length;
        }
        return wire_send_only(stream, &request.base);
}

static int take_chunk(struct download *d, const struct wire_download_chunk *chunk)
{
        int r;

        if (chunk->error)
                return -ESTALE; /* a stock master's way to say that it cannot read the file (any more) */
        if (d->complete && chunk->data_len > 0)
                return -EPROTO;
        if (chunk->total_bytes != 0 && (uint64_t)chunk->total_bytes != d->request->size)
                return -ESTALE;
        if (chunk->data_len == 0 && !chunk->is_complete)
                return -EPROTO; /* or a peer could keep a read waiting for ever */
        if (chunk->data_len > d->size - d->received)
                return -ESTALE; /* it has grown since; a liar ends the same way */
        d->received += chunk->data_len;
        r = d->take(chunk->data, chunk->data_len, d->arg);
        d->complete = d->complete || chunk->is_complete;
        if (r == 0 && chunk->data_len > 0)
                d->request->progress(chunk->data_len, d->request->progress_arg);
        return r;
}

static int receive_content(struct rpc_stream *stream, struct download *d)
{
        for (;;) {
                struct wire_download_chunk chunk;
                const uint8_t *data;
                size_t len;
                int r = rpc_stream_receive(stream, &data, &len);

                if (r < 0)
                        return r;
                if (r == RPC_END)
                        return d->complete && d->received == d->size ? 0 : -EPIPE;
                r = wire_download_chunk_parse(data, len, &chunk);
                if (r < 0)
                        return -EPROTO;
                r = take_chunk(d, &chunk);
                if (r < 0)
                        return r;
        }
}

static int exchange(struct session *session, struct download *d, struct failure *failure)
{
        const struct download_request *request = d->request;
        struct failure ended = { 0 };
        struct rpc_stream *stream;
        int r = session_stream(session, WIRE_METHOD_DOWNLOAD, &stream, failure), status;

        if (r < 0)
                return r;
        r = send_request(session, request, stream);
        if (r == 0)
                r = receive_content(stream, d);
        status = session_finish(session, stream, &ended);
        if (status < 0 &&
            (r == 0 || r == -EPIPE)) /* it ended early because the call failed: that says more */
                return failure_set(failure, status, "%s", ended.text);
        if (r < 0) {
                r = r == -EPIPE ? -EPROTO : r;
                return failure_set(failure, r, "download of '%.*s' failed: %s",
                                   (int)MIN(request->path_len, (size_t)200), request->path,
                                   r == -EPROTO ? "the master's answer is malformed or cut short"
                                                : strerror(-r));
        }
        return 0;
}

static int take_into_store(const void *data, size_t len, void *arg)
{
        struct store_writer *writer = arg;

        return store_write(writer, data, len);
}

int download_run(struct session *session, const struct download_request *request, struct store_writer *writer,
                 struct failure *failure)
{
        struct download d = {
                .request = request, .size = request->size, .take = take_into_store, .arg = writer
        };
        int r = exchange(session, &d, failure);

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

static int take_into_memory(const void *data, size_t len, void *arg)
{
        uint8_t **at = arg;

        if (len > 0)
                memcpy(*at, data, len);
        *at += len;
        return 0;
}

int download_range(struct session *session, const struct download_request *request, uint8_t *data,
                   struct failure *failure)
{
        struct download d = {
                .request = request, .size = request->length, .take = take_into_memory, .arg = &data
        };

        return exchange(session, &d, failure);
}
