/*
 * ListFolder: what is in one folder, for a worker that needs it before its turn in the snapshot has come.
 */
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"
#include "server/asking.h"
#include "server/master.h"
#include "server/reply.h"
#include "server/service_workspace.h"
#include "server/transfer.h"

#define REQUEST_MAX 65536

/* Owned by its event thread, but for what `asking` says. Freed when neither the call nor its question needs it. */
struct folder_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        char *spider, *path; /* owned */
        uint8_t digest[HASH_BYTES];
        struct asking asking;
        struct transfer transfer; /* has a spool once the folder is found */
        bool sending, last;
};

static void folder_unref(struct folder_call *f)
{
        if (atomic_fetch_sub(&f->refs, 1) != 1)
                return;
        asking_put_view(&f->asking);
        free(f->spider);
        free(f->path);
        rpc_call_unref(f->call);
        free(f);
}

static void question_let_go(struct asking *asking)
{
        folder_unref((struct folder_call *)((char *)asking - offsetof(struct folder_call, asking)));
}

static int folder_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct folder_call *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        f->refs = 1;
        f->call = f->asking.call = rpc_call_ref(call);
        f->asking.let_go = question_let_go;
        f->master = service;
        rpc_call_receive(call);
        *ret_state = f;
        return 0;
}

static void fail(struct folder_call *f, int error)
{
        char text[REPLY_MAX];

        if (error == -ESTALE) {
                rpc_call_finish(f->call, RPC_FAILED_PRECONDITION, "the folder has another digest now");
                return;
        }
        reply_explain(f->master->root, f->spider, f->path, error, text);
        log_limited(reply_level(error), "folder", "folder for %s failed: %s", rpc_call_peer(f->call), text);
        rpc_call_finish(f->call, reply_code(error), text);
}

/* ---- the answer ---- */

/* Takes over the question's view. */
static int begin_transfer(struct folder_call *f)
{
        struct tree_view *view = f->asking.view;
        struct spool_key key = { .spider = f->spider,
                                 .path = f->path,
                                 .form = SPOOL_CHILDREN,
                                 .peer = rpc_call_account(f->call) };
        struct tree_row row;
        struct spool *spool;
        int r = tree_view_find(view, f->path, strlen(f->path), &row);

        if (r < 0)
                return r;
        /* A folder that is gone is as stale as one that changed. */
        if (r != TREE_OK || row.kind != ENTRY_DIRECTORY || row.unknown ||
            memcmp(row.digest, f->digest, HASH_BYTES) != 0)
                return -ESTALE;
        key.revision = tree_view_version(view)->revision;
        r = spools_get(f->master->spools, &key, TAKE_PTR(f->asking.view), &spool);
        if (r >= 0)
                transfer_begin(&f->transfer, f->call, spool, 0, STRATEGY_AUTO);
        return r;
}

static void step(struct folder_call *f)
{
        int r = 0;

        if (f->sending)
                return;
        if (asking_take(&f->asking)) {
                r = f->asking.error;
                if (r >= 0)
                        r = begin_transfer(f);
        }
        if (r >= 0 && f->transfer.spool)
                r = transfer_send(&f->transfer);
        else if (r >= 0)
                return;
        if (r < 0) {
                fail(f, r);
        } else if (r != TRANSFER_WAIT) {
                f->sending = true;
                f->last = r == TRANSFER_LAST;
        }
}

static void folder_wake(struct rpc_call *call, void *state)
{
        step(state);
}

static void folder_writable(struct rpc_call *call, void *state)
{
        struct folder_call *f = state;

        f->sending = false;
        if (f->last)
                rpc_call_finish(call, RPC_OK, NULL);
        else
                step(f);
}

/* ---- the request ---- */

static int take_request(struct folder_call *f, const Fsyncfs__V1__FolderRequest *request)
{
        const ProtobufCBinaryData *raw = &request->raw_path;
        int r;

        if (hash_of_len(request->digest.len) == HASH_NONE || (raw->len > 0 && request->path[0]) ||
            (raw->len > 0 && memchr(raw->data, '\0', raw->len)))
                return -EBADMSG;
        hash_take(f->digest, request->digest.data, request->digest.len);
        f->spider = strdup(request->spider_id);
        f->path = raw->len > 0 ? strndup((const char *)raw->data, raw->len) : strdup(request->path);
        if (!f->spider || !f->path)
                return -ENOMEM;
        workers_leave(f->master->workers, workers_enter(f->master->workers, request->node_key));
        r = path_check_name(f->spider, strlen(f->spider));
        return r < 0 ? r : path_check(f->path, strlen(f->path));
}

static int read_request(struct folder_call *f, const uint8_t *data, size_t len)
{
        Fsyncfs__V1__FolderRequest *request;
        struct wire_arena arena;
        int r;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (Fsyncfs__V1__FolderRequest *)wire_unpack(&fsyncfs__v1__folder_request__descriptor,
                                                            &arena.allocator, data, len);
        r = request ? take_request(f, request) : -EBADMSG;
        wire_arena_release(&arena);
        return r;
}

static void folder_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct folder_call *f = state;
        int r = read_request(f, data, len);

        if (r == -EBADMSG) {
                rpc_call_finish(call, RPC_INVALID_ARGUMENT, "not a valid FolderRequest");
                return;
        }
        if (r == -ENOMEM) {
                rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        if (r >= 0) {
                atomic_fetch_add(&f->refs, 1);
                r = asking_start(&f->asking, f->master->versions, f->spider, VERSIONS_RECENT, ASKING_ANY_AGE);
                if (r < 0)
                        folder_unref(f);
        }
        if (r < 0)
                fail(f, r);
}

static void folder_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void folder_closed(struct rpc_call *call, void *state)
{
        struct folder_call *f = state;

        transfer_release(&f->transfer);
        folder_unref(f);
}

const struct rpc_call_ops service_folder_ops = {
        .start = folder_start,
        .message = folder_message,
        .half_close = folder_half_close,
        .writable = folder_writable,
        .wake = folder_wake,
        .closed = folder_closed,
};
