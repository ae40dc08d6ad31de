#include "sync/scan.h"

#include <string.h>

#include "base/log.h"
#include "proto/wire.h"
#include "sync/incoming.h"
#include "sync/warm.h"

#define HEARTBEATS_MAX     14400 /* empty chunks in a row: two hours of a master that hashes */
#define OVERTAKEN_MAX      3 /* scans in a row that the master may overtake; then what there is is taken */
#define MESSAGE_MEMORY_MAX ((size_t)64 << 20) /* what one chunk may unpack to */

/* One exchange: from the request to the commit. Lives on scan_once's stack. */
struct scan {
        struct session *session;
        struct catalog *catalog;
        struct failure *failure;
        struct scan_result *result;
        bool stock;
        struct catalog_update *update; /* owned until the commit */
        struct warm *warm;             /* owned; NULL: nothing is fetched ahead */
        bool last;                     /* take this version, even if the master has overtaken it */
        struct incoming *incoming;     /* owned; a stock master's entries until all are there */
        uint64_t received;             /* entries so far */
        uint64_t announced;            /* how many there are, as the last chunk said; 0: it did not */
        unsigned heartbeats;           /* empty chunks since the last entry */
        bool complete;                 /* the final marker has come */
        uint8_t digest[HASH_BYTES];    /* the master's, of the version being listed */
        bool has_digest;
        uint64_t revision;
};

static int put_entry(const struct entry *entry, void *arg)
{
        struct scan *scan = arg;
        int r = catalog_update_put(scan->update, entry);
        int shown = (int)MIN(entry->path_len, (size_t)200);

        switch (r) {
        case -EINVAL:
        case -ENAMETOOLONG:
        case -EEXIST:
        case -ENOENT:
        case -ENOTDIR:
        case -EFBIG:
                return failure_set(scan->failure, -EPROTO,
                                   "the master's listing is refused: entry '%.*s': %s", shown, entry->path,
                                   r == -EEXIST    ? "listed twice"
                                   : r == -ENOENT  ? "its folder is not listed before it"
                                   : r == -ENOTDIR ? "it lies in something that is not a folder"
                                   : r == -EFBIG   ? "its size, or the number of entries, is beyond all sense"
                                                   : "it is malformed");
        case 0:
                return 0;
        default:
                return failure_set(scan->failure, r, "cannot write the catalog: %s", strerror(-r));
        }
}

static int take_entry(struct scan *scan, const Grpc__FileInfo *info)
{
        struct entry entry;
        int r = scan->stock ? incoming_read_stock(info, &entry, scan->failure)
                            : incoming_read_own(info, &entry, scan->failure);

        if (r < 0)
                return r;
        if (!scan->stock)
                return put_entry(&entry, scan);
        r = incoming_add(scan->incoming, &entry);
        return r < 0 ? failure_set(scan->failure, r, "the master's listing is too large to hold: %s",
                                   strerror(-r))
                     : 0;
}

static int take_chunk(struct scan *scan, const Grpc__FileScanChunk *chunk)
{
        if (chunk->error[0])
                return failure_set(scan->failure, -ENOENT, "the master cannot list spider '%s': %.300s",
                                   session_get_source(scan->session)->spider, chunk->error);
        if (scan->complete)
                return failure_set(scan->failure, -EPROTO,
                                   "the master's listing is refused: it goes on after its end");
        /* Our own master says twice a second that it is still hashing. */
        scan->heartbeats = chunk->n_files > 0 || chunk->is_complete ? 0 : scan->heartbeats + 1;
        if (scan->heartbeats > (scan->stock ? 0 : HEARTBEATS_MAX))
                return failure_set(scan->failure, -ETIMEDOUT,
                                   "the master keeps us waiting without listing anything");
        scan->received += chunk->n_files;
        scan->announced = chunk->total_files > 0 ? (uint64_t)chunk->total_files : 0;
        /* A stock master may leave its root out of the count. */
        if (chunk->total_files > 0 && scan->received > (uint64_t)chunk->total_files + 1)
                return failure_set(scan->failure, -EPROTO,
                                   "the master's listing is refused: it announced %d entries, then sent more",
                                   chunk->total_files);
        for (size_t i = 0; i < chunk->n_files; i++) {
                int r = take_entry(scan, chunk->files[i]);
                if (r < 0)
                        return r;
        }
        scan->complete = chunk->is_complete;
        if (!scan->stock && chunk->root_digest.len == HASH_BYTES) {
                memcpy(scan->digest, chunk->root_digest.data, HASH_BYTES);
                scan->has_digest = true;
                scan->revision = chunk->revision;
        }
        scan->result->unchanged = !scan->stock && chunk->unchanged;
        return 0;
}

static int send_request(struct scan *scan, struct rpc_stream *stream, const struct catalog_version *known)
{
        const struct source *source = session_get_source(scan->session);
        Grpc__FileSyncRequest request = GRPC__FILE_SYNC_REQUEST__INIT;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t len;
        int r;

        request.spider_id = source->spider;
        request.path = source->path;
        request.node_key = (char *)session_get_node(scan->session);
        if (!scan->stock) {
                request.fsyncfs_protocol = WIRE_PROTOCOL;
                if (known && known->valid)
                        request.known_digest = (ProtobufCBinaryData){ HASH_BYTES, (uint8_t *)known->digest };
        }
        len = grpc__file_sync_request__get_packed_size(&request);
        packed = malloc(MAX(len, (size_t)1));
        if (!packed)
                return -ENOMEM;
        grpc__file_sync_request__pack(&request, packed);
        r = rpc_stream_send(stream, packed, len);
        return r < 0 ? r : rpc_stream_close_send(stream);
}

static int receive_chunks(struct scan *scan, struct rpc_stream *stream)
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
                r = chunk ? take_chunk(scan, chunk)
                          : failure_set(scan->failure, -EPROTO,
                                        "the master's listing is refused: a malformed message");
                wire_arena_clear(&arena);
                if (r < 0)
                        break;
        }
        wire_arena_release(&arena);
        return r;
}

/* The whole exchange with the master; what came waits in the update or the listing. */
static int receive_listing(struct scan *scan, const struct catalog_version *known)
{
        struct rpc_stream *stream;
        struct failure ended = { 0 };
        int r, status;

        r = session_stream(scan->session, WIRE_METHOD_SCAN, &stream, scan->failure);
        if (r < 0)
                return r;
        r = send_request(scan, stream, known);
        if (r >= 0)
                r = receive_chunks(scan, stream);
        status = session_finish(scan->session, stream, &ended);
        /* Our own verdict on what was received comes first; otherwise the status tells. */
        if (r < 0 && scan->failure->text[0])
                return r;
        if (status < 0) {
                *scan->failure = ended;
                return status;
        }
        if (r < 0)
                return failure_set(scan->failure, r, "the master's listing broke off: %s", strerror(-r));
        /* A stock master need not mark the end, but lists at least its root, and never fewer than it announces. */
        if (scan->stock ? scan->received == 0 || scan->received < scan->announced : !scan->complete)
                return failure_set(scan->failure, -EPROTO, "the master's listing broke off before its end");
        return 0;
}

static int begin(struct scan *scan, struct store *store)
{
        int r = catalog_update_begin(scan->catalog, &scan->update);

        if (r < 0)
                return failure_set(scan->failure, r, "cannot write the catalog: %s", strerror(-r));
        if (store)
                r = warm_new(scan->session, store, &scan->warm);
        if (r == 0 && store)
                catalog_update_on_replaced(scan->update, warm_note, scan->warm);
        return r == 0 && scan->stock ? incoming_new(&scan->incoming) : r;
}

static int commit(struct scan *scan)
{
        int r;

        if (scan->stock) {
                r = incoming_each_sorted(scan->incoming, put_entry, scan);
                if (r < 0)
                        return r;
        } else if (!scan->has_digest) {
                return failure_set(scan->failure, -EPROTO,
                                   "the master's listing is refused: it names no version");
        }
        if (scan->warm) {
                r = warm_run(scan->warm, &scan->result->fetched_files, &scan->result->fetched_bytes);
                if (r == -ESTALE && !scan->last)
                        return r;
        }
        r = catalog_update_commit(TAKE_PTR(scan->update), scan->stock ? NULL : scan->digest, scan->revision,
                                  &scan->result->changes);
        if (r == CATALOG_MISMATCH)
                return r;
        return r < 0 ? failure_set(scan->failure, r, "cannot write the catalog: %s", strerror(-r)) : 0;
}

/* One try. KNOWN NULL asks for everything, whatever the catalog holds. */
static int scan_once(struct scan *scan, const struct catalog_version *known, struct store *store)
{
        int r = begin(scan, store);

        if (r == 0)
                r = receive_listing(scan, known);
        scan->result->entries = scan->received;
        if (r == 0 && scan->result->unchanged &&
            (!known || (scan->has_digest && memcmp(scan->digest, known->digest, HASH_BYTES) != 0)))
                r = failure_set(
                        scan->failure, -EPROTO,
                        "the master's answer is refused: 'unchanged' to a worker that has another version");
        if (r == 0 && scan->result->unchanged) {
                catalog_update_abort(TAKE_PTR(scan->update));
                r = catalog_touch(scan->catalog, scan->revision);
        } else if (r == 0) {
                r = commit(scan);
        }
        catalog_update_abort(scan->update);
        incoming_free(scan->incoming);
        warm_free(scan->warm);
        return r;
}

int scan_run(struct session *session, struct catalog *catalog, struct store *store, struct scan_result *ret,
             struct failure *failure)
{
        struct catalog_version known;
        bool reconnected = false;
        int r = session_connect(session, failure);

        *ret = (struct scan_result){ 0 };
        if (r < 0)
                return r;
        catalog_get_version(catalog, &known);
        for (int overtaken = 0;;) {
                struct scan scan = {
                        .session = session,
                        .catalog = catalog,
                        .failure = failure,
                        .result = ret,
                        .stock = session_get_dialect(session) == SESSION_STOCK,
                        .last = overtaken + 1 == OVERTAKEN_MAX,
                };

                *failure = (struct failure){ 0 };
                r = scan_once(&scan, known.valid && !ret->fell_back ? &known : NULL, store);
                if (r == -ESTALE && ++overtaken < OVERTAKEN_MAX)
                        continue;
                /* A master that was restarted shows as a broken connection, once. */
                if (r == -EHOSTUNREACH && !reconnected) {
                        reconnected = true;
                        r = session_reconnect(session, failure);
                        if (r == 0)
                                continue;
                }
                if (r != CATALOG_MISMATCH)
                        return r;
                if (ret->fell_back)
                        return failure_set(
                                failure, -EPROTO,
                                "the master's listing is refused: it does not add up to its own digest");
                ret->fell_back = true;
                log_warning("the tree of %s does not have the digest its master states: asking for it again, "
                            "in full",
                            session_get_source(session)->text);
        }
}
