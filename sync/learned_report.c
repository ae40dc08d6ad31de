#include <string.h>

#include "proto/workspace.pb-c.h"
#include "sync/learned_private.h"

#define REPORT_BYTES_MAX (UINT64_C(64) << 20) /* contents of the files in a report */
#define MESSAGE_MAX      ((size_t)8 << 20)

/* STREAM is what is waited for from now on. False: it is too late for that. */
static bool show_stream(struct learned *l, struct rpc_stream *stream)
{
        bool fine;

        mutex_lock(&l->lock);
        fine = !l->late && !(l->asking && l->stopping);
        l->stream = fine ? stream : NULL;
        mutex_unlock(&l->lock);
        return fine;
}

static void hide_stream(struct learned *l)
{
        mutex_lock(&l->lock);
        l->stream = NULL;
        mutex_unlock(&l->lock);
}

static int talk(struct rpc_stream *stream, const struct buffer *request, struct buffer *reply)
{
        const uint8_t *data;
        size_t len;
        int r = rpc_stream_send(stream, request->data, request->len);

        if (r == 0)
                r = rpc_stream_close_send(stream);
        if (r == 0)
                r = rpc_stream_receive(stream, &data, &len);
        if (r != RPC_MESSAGE)
                return r < 0 ? r : -EPIPE;
        r = len <= MESSAGE_MAX ? buffer_append(reply, data, len) : -EPROTO;
        if (r == 0 && rpc_stream_receive(stream, &data, &len) != RPC_END)
                r = -EPROTO;
        return r;
}

/* One request, one reply. */
static int exchange(struct learned *l, const char *method, const struct buffer *request, struct buffer *reply,
                    struct failure *failure)
{
        struct failure ended = { 0 };
        struct rpc_stream *stream;
        int r = session_stream(l->options.session, method, &stream, failure), status;

        if (r < 0)
                return r;
        r = show_stream(l, stream) ? talk(stream, request, reply) : -ECANCELED;
        hide_stream(l);
        status = session_finish(l->options.session, stream, &ended);
        return status < 0 ? failure_set(failure, status, "%s", ended.text) : r;
}

static int pack(const ProtobufCMessage *message, struct buffer *ret)
{
        size_t len = protobuf_c_message_get_packed_size(message);
        int r = buffer_reserve(ret, len);

        if (r == 0)
                ret->len = protobuf_c_message_pack(message, (uint8_t *)ret->data);
        return r;
}

/* What is mounted, in the one field or in the other. */
static void set_path(const char *path, char **ret_path, ProtobufCBinaryData *ret_raw)
{
        if (path_is_utf8(path, strlen(path)))
                *ret_path = (char *)path;
        else
                *ret_raw = (ProtobufCBinaryData){ strlen(path), (uint8_t *)path };
}

/* ---- the list ---- */

/* A peer's list: nothing that cannot be a path of ours, and not too much. */
static int take_list(struct learned *l, const struct buffer *reply)
{
        Fsyncfs__V1__LearnedReply *list = (Fsyncfs__V1__LearnedReply *)wire_unpack(
                &fsyncfs__v1__learned_reply__descriptor, &l->list.allocator, (const uint8_t *)reply->data,
                reply->len);

        if (!list || list->n_paths > LEARNED_FILES_MAX)
                return -EPROTO;
        for (size_t i = 0; i < list->n_paths; i++)
                if (list->paths[i].len == 0 ||
                    path_check((const char *)list->paths[i].data, list->paths[i].len) < 0)
                        return -EPROTO;
        l->paths = list->paths;
        l->n_paths = list->n_paths;
        return 0;
}

int learned_ask(struct learned *l, struct failure *failure)
{
        const struct source *source = session_get_source(l->options.session);
        Fsyncfs__V1__LearnedRequest request = FSYNCFS__V1__LEARNED_REQUEST__INIT;
        _cleanup_buffer_ struct buffer packed = { 0 }, reply = { 0 };
        int r;

        request.spider_id = source->spider;
        request.node_key = (char *)session_get_node(l->options.session);
        set_path(source->path, &request.path, &request.raw_path);
        r = pack(&request.base, &packed);
        if (r == 0)
                r = exchange(l, WIRE_METHOD_LEARNED, &packed, &reply, failure);
        return r < 0 ? r : take_list(l, &reply);
}

/* ---- the report ---- */

/* The files in the order in which they were read. Those at the end that were pushed, and after which nothing was read, were perhaps never. */
static unsigned take_order(struct learned *l, uint64_t inos[LEARNED_FILES_MAX])
{
        unsigned n;

        mutex_lock(&l->lock);
        l->recording = false;
        for (n = l->n_order; n > 0 && l->order[n - 1]->pushed; n--)
                continue;
        for (unsigned i = 0; i < n; i++)
                inos[i] = l->order[i]->ino;
        mutex_unlock(&l->lock);
        return n;
}

static bool is_late(struct learned *l)
{
        bool late;

        mutex_lock(&l->lock);
        late = l->late;
        mutex_unlock(&l->lock);
        return late;
}

/* Appends the path of INO to TEXT. 0; 1: it is not one for the report; -ENOMEM and so on. */
static int append_path(struct learned *l, uint64_t ino, uint64_t *bytes, struct buffer *text)
{
        struct catalog_entry entry;
        size_t before = text->len;
        int r = catalog_get(l->options.catalog, ino, &entry);

        if (r == CATALOG_OK && *bytes + entry.size > REPORT_BYTES_MAX)
                r = CATALOG_NONE;
        if (r == CATALOG_OK)
                r = catalog_path(l->options.catalog, ino, text);
        if (r == CATALOG_OK && text->len > WIRE_LEARNED_BYTES_MAX)
                r = CATALOG_NONE;
        if (r == CATALOG_OK)
                *bytes += entry.size;
        else if (text->len > before)
                buffer_truncate(text, before);
        return r;
}

/* The paths of the N files at INOS, one after the other in TEXT, and where each is. */
static int list_paths(struct learned *l, const uint64_t *inos, unsigned n, struct buffer *text,
                      ProtobufCBinaryData *paths, size_t *ret_n)
{
        uint64_t bytes = 0;
        int r = 0;

        for (unsigned i = 0; i < n && r >= 0; i++) {
                size_t before = text->len;
                if (is_late(l))
                        return -ETIMEDOUT;
                r = append_path(l, inos[i], &bytes, text);
                if (r == 0 && text->len > before)
                        paths[(*ret_n)++].len = text->len - before;
        }
        for (size_t i = 0, at = 0; i < *ret_n; at += paths[i++].len)
                paths[i].data = (uint8_t *)text->data + at;
        return MIN(r, 0);
}

int learned_report(struct learned *l, struct failure *failure)
{
        const struct source *source = session_get_source(l->options.session);
        Fsyncfs__V1__AccessReport report = FSYNCFS__V1__ACCESS_REPORT__INIT;
        _cleanup_free_ ProtobufCBinaryData *paths = calloc(LEARNED_FILES_MAX, sizeof(*paths));
        _cleanup_free_ uint64_t *inos = calloc(LEARNED_FILES_MAX, sizeof(*inos));
        _cleanup_buffer_ struct buffer text = { 0 }, packed = { 0 }, reply = { 0 };
        int r = paths && inos ? 0 : -ENOMEM;

        if (r == 0)
                r = list_paths(l, inos, take_order(l, inos), &text, paths, &report.n_paths);
        if (r < 0 || report.n_paths == 0)
                return r;
        report.spider_id = source->spider;
        report.node_key = (char *)session_get_node(l->options.session);
        set_path(source->path, &report.path, &report.raw_path);
        report.paths = paths;
        r = pack(&report.base, &packed);
        return r < 0 ? r : exchange(l, WIRE_METHOD_REPORT, &packed, &reply, failure);
}
