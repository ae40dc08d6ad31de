#include "sync/folder.h"

#include <string.h>

#include "base/buffer.h"
#include "proto/pack.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "sync/incoming.h"

#define MESSAGE_MEMORY_MAX  ((size_t)16 << 20)
#define CHILDREN_MEMORY_MAX (UINT64_C(128) << 20) /* some 800,000; a larger folder comes in its turn */
#define LARGE_MEMORY        (UINT64_C(4) << 20)   /* beyond that it is a large one */

/* What has come; owned by folder_run. */
struct arrival {
        const struct folder_request *request;
        struct pack_reader *reader;
        struct incoming *children;
        uint64_t bytes; /* of the children, in memory */
        uint64_t count;
        size_t last_len;
        char last[PATH_NAME_MAX]; /* name of the child that came last */
        bool complete;
        bool large; /* and no other is meanwhile */
};

static int send_request(struct session *session, const struct folder_request *f, struct rpc_stream *stream)
{
        const struct source *source = session_get_source(session);
        Fsyncfs__V1__FolderRequest request = FSYNCFS__V1__FOLDER_REQUEST__INIT;
        _cleanup_buffer_ struct buffer path = { 0 };
        int r = source_join(source, f->path, f->path_len, &path);

        if (r < 0)
                return r;
        request.spider_id = source->spider;
        request.node_key = (char *)session_get_node(session);
        if (path_is_utf8(path.data, path.len))
                request.path = path.data;
        else
                request.raw_path = (ProtobufCBinaryData){ path.len, (uint8_t *)path.data };
        request.digest = (ProtobufCBinaryData){ f->digest_len, (uint8_t *)f->digest };
        return wire_send_only(stream, &request.base);
}

/* By their names, each once, as the catalog wants them: what is wrong need not be gathered first. */
static bool follows(const struct arrival *a, const struct entry *child)
{
        int order = memcmp(a->last, child->path, MIN(a->last_len, child->path_len));

        return child->path_len > 0 && child->path_len <= sizeof(a->last) &&
               (order < 0 || (order == 0 && a->last_len < child->path_len));
}

static int keep_child(const struct entry *entry, void *arg)
{
        struct arrival *a = arg;

        if (!follows(a, entry))
                return -EPROTO;
        memcpy(a->last, entry->path, entry->path_len);
        a->last_len = entry->path_len;
        a->count++;
        a->bytes += sizeof(*entry) + entry->path_len + entry->target_len + (entry->data ? entry->size : 0);
        if (a->bytes > CHILDREN_MEMORY_MAX)
                return -EFBIG;
        if (a->bytes > LARGE_MEMORY && !a->large) {
                if (atomic_exchange(a->request->large, true))
                        return -EAGAIN;
                a->large = true;
        }
        return incoming_add(a->children, entry);
}

static int take_chunk(struct arrival *a, const Grpc__FileScanChunk *chunk)
{
        uint64_t before = a->count;
        int r = 0;

        if (a->complete || chunk->n_files > 0)
                return -EPROTO;
        if (chunk->pack.len > 0)
                r = pack_read(a->reader, chunk->pack.data, chunk->pack.len, keep_child, a);
        if (r == 0 && a->count == before && !chunk->is_complete)
                return -EPROTO; /* or a peer could keep a task waiting for ever */
        a->complete = chunk->is_complete;
        return r == -EBADMSG ? -EPROTO : r;
}

static int receive_children(struct rpc_stream *stream, struct arrival *a)
{
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, MESSAGE_MEMORY_MAX);
        for (;;) {
                Grpc__FileScanChunk *chunk;
                const uint8_t *data;
                size_t len;

                r = rpc_stream_receive(stream, &data, &len);
                if (r != RPC_MESSAGE)
                        break;
                chunk = (Grpc__FileScanChunk *)wire_unpack(&grpc__file_scan_chunk__descriptor,
                                                           &arena.allocator, data, len);
                r = chunk ? take_chunk(a, chunk) : -EPROTO;
                wire_arena_clear(&arena);
                if (r < 0)
                        break;
                a->request->progress(len, a->request->progress_arg);
        }
        wire_arena_release(&arena);
        return r < 0 ? r : a->complete ? 0 : -EPIPE;
}

static int exchange(struct session *session, struct arrival *a, struct failure *failure)
{
        const struct folder_request *f = a->request;
        struct rpc_stream *stream;
        struct failure ended = { 0 };
        int r = session_stream(session, WIRE_METHOD_LIST_FOLDER, &stream, failure), status;

        if (r < 0)
                return r;
        r = send_request(session, f, stream);
        if (r == 0)
                r = receive_children(stream, a);
        status = session_finish(session, stream, &ended);
        if (status < 0 && (r == 0 || r == -EPIPE))
                return failure_set(failure, status, "%s", ended.text);
        if (r < 0)
                return failure_set(failure, r == -EPIPE ? -EPROTO : r, "listing of '%.*s' failed: %s",
                                   (int)MIN(f->path_len, (size_t)200), f->path,
                                   r == -EPROTO || r == -EPIPE
                                           ? "the master's answer is malformed or cut short"
                                           : strerror(-r));
        return 0;
}

static int give(struct catalog *catalog, struct arrival *a, struct failure *failure)
{
        const struct entry *children;
        size_t n;
        int r;

        incoming_get(a->children, &children, &n);
        r = catalog_load_folder(catalog, a->request->ino, children, n);
        if (r == -ENOENT)
                return 0;
        if (r == -EBADMSG || r == -EINVAL)
                return failure_set(failure, -EBADMSG,
                                   "what the master listed in '%.*s' does not match its digest",
                                   (int)MIN(a->request->path_len, (size_t)200), a->request->path);
        return r < 0 ? failure_set(failure, r, "cannot write the catalog: %s", strerror(-r)) : 0;
}

int folder_run(struct session *session, struct catalog *catalog, const struct folder_request *request,
               struct failure *failure)
{
        struct arrival a = { .request = request };
        int r = pack_reader_new(&a.reader);

        if (r == 0)
                r = incoming_new(&a.children);
        if (r == 0)
                r = exchange(session, &a, failure);
        if (r == 0)
                r = give(catalog, &a, failure);
        incoming_free(a.children);
        pack_reader_free(a.reader);
        if (a.large)
                atomic_store(request->large, false);
        return r;
}
