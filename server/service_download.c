#include "server/service_download.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/pieces.h"
#include "proto/rpc_peer.h"
#include "proto/sync_service.pb-c.h"
#include "proto/wire.h"
#include "server/content.h"
#include "server/filehash.h"
#include "server/master.h"
#include "server/metrics.h"
#include "server/reply.h"
#include "server/turns.h"

#define REQUEST_MAX       65536
#define STOCK_CHUNK_BYTES ((size_t)64 * 1024)

/*
 * One call. Its event thread owns all fields, except that a hashing job, while there is one, writes `error`, `hashed` and `list` before
 * it sets `answered`, and reads `fd`. Freed when neither the call nor the job needs it any more.
 */
struct download {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct worker *worker;

        /* The request. */
        bool own;
        char *spider, *path; /* owned */
        uint64_t offset, length;
        struct content_id expected; /* HASH_NONE: whatever the file holds */

        int fd;            /* -1: not open; charged as RPC_FILES while it is */
        size_t list_bytes; /* charged as RPC_LISTS */
        bool parked;       /* until there may be room for the two */
        struct parked_call parked_call;
        struct stat st; /* when the file was opened, or found to hold `expected` */

        struct turn job;
        atomic_bool closed; /* the call is over: the job is in vain */
        atomic_bool answered;
        int error;
        struct file_state hashed;
        struct buffer
                list; /* of the pieces of a large content that is expected; the job's until it has answered */

        /* Sending. */
        uint64_t end;  /* offset behind the last byte to send */
        bool complete; /* the last chunk is on its way */
};

static void close_file(struct download *d)
{
        struct rpc_peer *peer = rpc_call_account(d->call);

        if (d->fd < 0)
                return;
        close(take_fd(&d->fd));
        rpc_peer_discharge(peer, RPC_FILES, 1);
        rpc_peer_discharge(peer, RPC_LISTS, d->list_bytes);
        d->list_bytes = 0;
}

static void download_unref(struct download *d)
{
        if (atomic_fetch_sub(&d->refs, 1) != 1)
                return;
        close_file(d);
        buffer_release(&d->list);
        workers_leave(d->master->workers, d->worker);
        rpc_call_unref(d->call);
        free(d->spider);
        free(d->path);
        free(d);
}

static int download_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct download *d = calloc(1, sizeof(*d));

        if (!d)
                return -ENOMEM;
        d->refs = 1;
        d->fd = -1;
        d->call = d->parked_call.call = rpc_call_ref(call);
        d->master = service;
        rpc_call_receive(call);
        *ret_state = d;
        return 0;
}

/* ---- failing ---- */

static void fail(struct download *d, enum rpc_code code, const char *text)
{
        Grpc__FileDownloadChunk chunk = GRPC__FILE_DOWNLOAD_CHUNK__INIT;
        uint8_t packed[REPLY_MAX + 16];
        size_t len;

        log_limited(LOG_LEVEL_INFO, "download", "download for %s failed: %s", rpc_call_peer(d->call), text);
        if (d->own) {
                rpc_call_finish(d->call, code, text);
                return;
        }
        chunk.error = (char *)text;
        chunk.is_complete = true;
        len = grpc__file_download_chunk__pack(&chunk, packed);
        d->complete = true;
        rpc_call_send(d->call, &(struct rpc_frame){ .head = packed, .head_len = len });
}

static void fail_errno(struct download *d, int error)
{
        char text[REPLY_MAX];

        reply_explain(d->master->root, d->spider, d->path, error, text);
        fail(d, reply_code(error), text);
}

/* The file is not, or no longer, what the worker has in its catalog: it will list again. */
static void fail_stale(struct download *d, const char *why)
{
        char text[REPLY_MAX];

        snprintf(text, sizeof(text), "stale: %s", why);
        fail(d, RPC_FAILED_PRECONDITION, text);
}

/* ---- sending ---- */

/* Sends LEN bytes of BLOCK (NULL: none), which is given away. */
static void send_block(struct download *d, struct block *block, size_t len, bool complete)
{
        uint8_t head[WIRE_DOWNLOAD_HEAD_MAX];
        struct rpc_frame frame = {
                .head = head,
                .head_len = wire_download_head(head, len, complete, d->st.st_size),
        };

        if (block) {
                frame.body = block->data;
                frame.body_len = len;
                frame.release = blocks_put;
                frame.release_arg = block;
        }
        d->offset += len;
        d->complete = complete;
        metrics_add(METRIC_BYTES_SENT, len);
        rpc_call_send(d->call, &frame);
}

/* True if each piece of what is sent can be verified. */
static bool is_proved(const struct download *d)
{
        return hash_is_base(hash_base(d->expected.algorithm));
}

/* The file does not hold what is expected, perhaps without a stamp that says so: somebody writes through a mapping. That is noted
 * before the worker asks for a new listing, or it would get the old hash again. */
static void fail_other_content(struct download *d)
{
        content_missed(d->master->versions, d->spider, d->path, &d->expected);
        fail_stale(d, "the file holds another content now");
}

static void send_proved(struct download *d)
{
        struct content_piece piece = content_piece_at((uint64_t)d->st.st_size, d->offset);
        uint64_t end = MIN(d->end, piece.begin + piece.len);
        size_t len = (size_t)(end - d->offset);
        struct block *block = blocks_take(d->master->blocks, piece.len);
        int r = block ? content_read_piece(d->fd, &d->expected, &d->list, &piece, block->data) : -ENOMEM;

        if (r == 0 && len > 0)
                memmove(block->data, block->data + (d->offset - piece.begin), len);
        else if (block)
                blocks_put(TAKE_PTR(block));
        if (r == 0)
                send_block(d, block, len, end == d->end);
        else if (r == -ESTALE)
                fail_other_content(d);
        else
                fail_errno(d, r);
}

static void send_own(struct download *d, struct block *block, size_t len, size_t wanted)
{
        bool last = d->offset + len == d->end;

        if (len == wanted && (!last || content_unchanged(d->fd, &d->st))) {
                send_block(d, block, len, last);
                return;
        }
        if (block)
                blocks_put(block);
        fail_stale(d, "the file changed while it was sent");
}

/* Stock masters send what there is, then an empty chunk; a change shows as a hash that does not match. */
static void send_stock(struct download *d, struct block *block, size_t len)
{
        if (len == 0 && block)
                blocks_put(TAKE_PTR(block));
        send_block(d, block, len, len == 0);
}

static void send_unproved(struct download *d)
{
        size_t wanted = (size_t)MIN(d->end - d->offset, d->own ? BLOCK_BYTES : STOCK_CHUNK_BYTES);
        struct block *block = NULL;
        ssize_t len = 0;

        if (wanted > 0) {
                block = blocks_take(d->master->blocks, wanted);
                if (!block) {
                        fail_errno(d, -ENOMEM);
                        return;
                }
                len = io_pread_all(d->fd, block->data, wanted, (off_t)d->offset);
        }
        if (len < 0) {
                blocks_put(block);
                fail_errno(d, (int)len);
        } else if (d->own) {
                send_own(d, block, (size_t)len, wanted);
        } else {
                send_stock(d, block, (size_t)len);
        }
}

static void send_next(struct download *d)
{
        if (is_proved(d))
                send_proved(d);
        else
                send_unproved(d);
}

/* The file holds what was asked for, as far as is known, or nothing certain was asked for. */
static void begin_sending(struct download *d)
{
        uint64_t size = (uint64_t)d->st.st_size;

        if (d->offset > size) {
                fail(d, RPC_OUT_OF_RANGE, "the offset lies beyond the end of the file");
                return;
        }
        d->end = d->length > 0 && d->length < size - d->offset ? d->offset + d->length : size;
        metrics_add(METRIC_DOWNLOADS, 1);
        send_next(d);
}

static void download_writable(struct rpc_call *call, void *state)
{
        struct download *d = state;

        if (d->complete)
                rpc_call_finish(call, RPC_OK, NULL);
        else
                send_next(d);
}

/* ---- what does the file hold? ---- */

static void compare(struct download *d, const struct content_id *found)
{
        if (content_id_equal(found, &d->expected))
                begin_sending(d);
        else
                fail_other_content(d);
}

static bool is_unwanted(void *arg)
{
        struct download *d = arg;

        return atomic_load(&d->closed);
}

/* What was found out, for the next who asks. What cannot be kept is found out again. */
static void keep_found(struct download *d)
{
        const struct file_state *found = &d->hashed;
        struct versions_md5 item = { .path = d->path, .stamp = tree_stamp_of(&found->st) };

        if (hash_by_pieces(found->id.algorithm))
                (void)versions_store_list(d->master->versions, d->spider, &found->id,
                                          (const uint8_t *)d->list.data, d->list.len);
        if (found->id.algorithm != HASH_MD5 || found->racy)
                return;
        memcpy(item.md5, found->id.bytes, HASH_MD5_BYTES);
        (void)versions_store_md5s(d->master->versions, d->spider, &item, 1, NULL);
}

static void hash_run(struct pool_job *job)
{
        struct download *d = (struct download *)((char *)job - offsetof(struct download, job.job));
        const struct file_hash_asker asker = { .pool = d->master->pool, .unwanted = is_unwanted, .arg = d };

        d->error = file_hash(d->fd, hash_base(d->expected.algorithm), &asker, &d->hashed, &d->list);
        if (d->error >= 0)
                keep_found(d);
        turns_end(d->master->hashings, &d->job);
        atomic_store(&d->answered, true);
        rpc_call_wake(d->call);
        download_unref(d);
}

static void take_answer(struct download *d)
{
        if (!atomic_exchange(&d->answered, false))
                return;
        if (d->error == -EAGAIN) {
                fail_stale(d, "the file keeps changing");
        } else if (d->error < 0) {
                fail_errno(d, d->error);
        } else {
                d->st = d->hashed.st;
                compare(d, &d->hashed.id);
        }
}

/* Has the file hashed, since nobody knows yet what proves that it holds what is expected. */
static void begin_hashing(struct download *d)
{
        atomic_fetch_add(&d->refs, 1);
        d->job.job.run = hash_run;
        turns_submit(d->master->hashings, &d->job, rpc_call_account(d->call));
}

static void check_content(struct download *d)
{
        uint64_t size = (uint64_t)d->st.st_size;
        struct versions *versions = d->master->versions;
        struct content_id known;

        if (d->expected.algorithm == HASH_MD5 &&
            content_known(versions, d->spider, d->path, &d->st, HASH_MD5, &known))
                compare(d, &known);
        else if (is_proved(d) &&
                 d->expected.algorithm != content_algorithm(hash_base(d->expected.algorithm), size))
                fail_other_content(d);
        else if (hash_is_base(d->expected.algorithm) ||
                 (is_proved(d) &&
                  versions_find_list(versions, d->spider, &d->expected, size, &d->list) == TREE_OK))
                begin_sending(d);
        else if (content_known_other(versions, d->spider, d->path, &d->st, &d->expected, &known))
                fail_other_content(d);
        else
                begin_hashing(d);
}

static int open_path(struct download *d)
{
        _cleanup_close_ int folder = -1;
        int r = path_check(d->path, strlen(d->path));

        if (r >= 0 && d->path[0] == '\0')
                r = -EINVAL;
        if (r >= 0)
                r = workspace_open_folder(d->master->root, d->spider, "", &folder);
        if (r < 0)
                return r;
        if (d->own)
                return workspace_open_file(folder, d->path, &d->fd, &d->st);
        return workspace_open_file_following(folder, d->path, &d->fd, &d->st);
}

/* 0, 1: this peer's calls, or all, have as many files open as they may, or lists of them; or a negative errno. */
static int open_file(struct download *d)
{
        struct rpc_peer *peer = rpc_call_account(d->call);
        size_t list_bytes;
        int r;

        if (!rpc_peer_charge(peer, RPC_FILES, 1))
                return 1;
        r = open_path(d);
        if (r < 0) {
                rpc_peer_discharge(peer, RPC_FILES, 1);
                return r;
        }
        list_bytes = hash_by_pieces(d->expected.algorithm)
                             ? pieces_count((uint64_t)d->st.st_size) * HASH_BYTES
                             : 0;
        if (!rpc_peer_charge(peer, RPC_LISTS, list_bytes)) {
                close_file(d);
                return 1;
        }
        d->list_bytes = list_bytes;
        return 0;
}

static void park(struct download *d, bool parked)
{
        if (parked == d->parked)
                return;
        d->parked = parked;
        if (parked)
                parked_add(d->master->parked, &d->parked_call);
        else
                parked_remove(d->master->parked, &d->parked_call);
}

/* Opens the file and begins to send it, or tries again with the next heartbeat. */
static void begin(struct download *d)
{
        int r = open_file(d);

        park(d, r > 0);
        if (r > 0)
                return;
        if (r < 0 && reply_code(r) == RPC_NOT_FOUND && d->expected.algorithm != HASH_NONE &&
            workspace_has_spider(d->master->root, d->spider))
                fail_stale(d, "there is no such file any more");
        else if (r < 0)
                fail_errno(d, r);
        else if (d->expected.algorithm != HASH_NONE)
                check_content(d);
        else
                begin_sending(d);
}

static void download_wake(struct rpc_call *call, void *state)
{
        struct download *d = state;

        if (d->parked)
                begin(d);
        else
                take_answer(d);
}

/* ---- the request ---- */

static int take_request(struct download *d, const Grpc__FileDownloadRequest *request)
{
        const ProtobufCBinaryData *raw = &request->raw_path;

        d->own = request->fsyncfs_protocol != 0;
        if (d->own && raw->len > 0) {
                if (memchr(raw->data, '\0', raw->len))
                        return -EBADMSG;
                d->path = strndup((const char *)raw->data, raw->len);
        } else {
                d->path = strdup(request->path);
        }
        d->spider = strdup(request->spider_id);
        if (!d->spider || !d->path)
                return -ENOMEM;
        d->worker = workers_enter(d->master->workers, request->node_key);
        if (!d->own)
                return 0;
        d->offset = request->offset;
        d->length = request->length;
        if (request->hash_algorithm == HASH_NONE)
                return 0;
        if (request->hash_algorithm >= HASH_ALGORITHMS ||
            request->digest.len != hash_len((enum hash_algorithm)request->hash_algorithm))
                return -EBADMSG;
        d->expected.algorithm = (enum hash_algorithm)request->hash_algorithm;
        hash_take(d->expected.bytes, request->digest.data, request->digest.len);
        return 0;
}

static void download_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct download *d = state;
        Grpc__FileDownloadRequest *request;
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (Grpc__FileDownloadRequest *)wire_unpack(&grpc__file_download_request__descriptor,
                                                           &arena.allocator, data, len);
        r = request ? take_request(d, request) : -EBADMSG;
        wire_arena_release(&arena);
        if (r < 0) {
                rpc_call_finish(call, r == -EBADMSG ? RPC_INVALID_ARGUMENT : RPC_RESOURCE_EXHAUSTED,
                                r == -EBADMSG ? "not a valid FileDownloadRequest" : "no memory");
                return;
        }
        begin(d);
}

static void download_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void download_closed(struct rpc_call *call, void *state)
{
        struct download *d = state;

        atomic_store(&d->closed, true);
        park(d, false);
        if (turns_withdraw(d->master->hashings, &d->job))
                download_unref(d); /* for the job, which is not run */
        download_unref(d);
}

const struct rpc_call_ops service_download_ops = {
        .start = download_start,
        .message = download_message,
        .half_close = download_half_close,
        .writable = download_writable,
        .wake = download_wake,
        .closed = download_closed,
};
