/*
 * Fence: who shows a version of a workspace, or a later one, and who does not yet.
 *
 * The version is settled first, by a look at the workspace as it is now. From then on each change in the fleet has the answer made and sent anew, until
 * everybody shows it. Those that mount a folder within the workspace are judged by that folder: what changed elsewhere is nothing to them.
 */
#include "server/service_fence.h"

#include <string.h>

#include "base/log.h"
#include "proto/control.pb-c.h"
#include "proto/wire.h"
#include "server/asking.h"
#include "server/master.h"
#include "server/reply.h"

#define REQUEST_MAX 4096 /* unpacked */
#define ROWS_MAX    1000

/* Owned by its event thread, but for what `asking` says. Freed when neither the call nor its question needs it. */
struct fence_call {
        atomic_uint refs;
        struct rpc_call *call; /* referenced */
        struct master *master;
        struct fleet_watcher watcher;
        struct asking asking;
        char spider[PATH_NAME_MAX + 1];
        bool settled;               /* it is known which version is meant: */
        bool given;                 /* it was named, otherwise it is the present one */
        uint8_t digest[HASH_BYTES]; /* that */
        uint64_t revision;          /* the workspace's when it was settled */
        bool changed, sending, done, ended;
};

static void fence_unref(struct fence_call *f)
{
        if (atomic_fetch_sub(&f->refs, 1) != 1)
                return;
        asking_put_view(&f->asking);
        rpc_call_unref(f->call);
        free(f);
}

static void question_let_go(struct asking *asking)
{
        fence_unref((struct fence_call *)((char *)asking - offsetof(struct fence_call, asking)));
}

static int fence_start(struct rpc_call *call, void *service, void **ret_state)
{
        struct fence_call *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        f->refs = 1;
        f->call = f->watcher.call = f->asking.call = rpc_call_ref(call);
        f->master = service;
        f->asking.let_go = question_let_go;
        fleet_watch(f->master->fleet, &f->watcher);
        rpc_call_receive(call);
        *ret_state = f;
        return 0;
}

static void fail(struct fence_call *f, int error)
{
        char text[REPLY_MAX];

        reply_explain(f->master->root, f->spider, "", error, text);
        rpc_call_finish(f->call, reply_code(error), text);
        f->ended = true;
}

/* ---- who shows it ---- */

static bool shows(const struct fence_call *f, const struct fleet_mount *m)
{
        uint8_t present[HASH_BYTES];

        if (!m->shows)
                return false;
        if (m->path[0] == '\0' && versions_follows(f->master->versions, f->spider, f->digest, m->digest))
                return true;
        /* By what lies in its folder, which says nothing of a version that is not the present one. */
        return !f->given && versions_find_root(f->master->versions, f->spider, m->path, present) == TREE_OK &&
               memcmp(present, m->digest, HASH_BYTES) == 0;
}

static ProtobufCBinaryData bytes_of(const char *text)
{
        return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

static void add_row(Fsyncfs__V1__FenceReply *reply, Fsyncfs__V1__FenceMount *row)
{
        if (reply->n_behind < ROWS_MAX)
                reply->behind[reply->n_behind++] = row;
        reply->n_behind_in_all++;
}

static void add_mount(Fsyncfs__V1__FenceReply *reply, Fsyncfs__V1__FenceMount *row, struct fleet_mount *m)
{
        fsyncfs__v1__fence_mount__init(row);
        row->node = bytes_of(m->node);
        row->address = bytes_of(m->address);
        row->path = bytes_of(m->path);
        row->digest = (ProtobufCBinaryData){ m->shows ? HASH_BYTES : 0, m->digest };
        row->revision = m->revision;
        add_row(reply, row);
}

static void add_stock(Fsyncfs__V1__FenceReply *reply, Fsyncfs__V1__FenceMount *row,
                      const struct workers_stock *w)
{
        fsyncfs__v1__fence_mount__init(row);
        row->node = bytes_of(w->key);
        row->address = bytes_of(w->address);
        row->stock = true;
        add_row(reply, row);
}

/* ---- the answer ---- */

static void send(struct fence_call *f, const Fsyncfs__V1__FenceReply *reply)
{
        size_t len = fsyncfs__v1__fence_reply__get_packed_size(reply);
        uint8_t *data = malloc(len);

        if (!data) {
                fail(f, -ENOMEM);
                return;
        }
        fsyncfs__v1__fence_reply__pack(reply, data);
        f->sending = true;
        f->done = reply->done;
        rpc_call_send(f->call, &(struct rpc_frame){
                                       .body = data, .body_len = len, .release = free, .release_arg = data });
}

/* Stock workers that asked for the workspace: of so many the first N. */
struct stock_list {
        struct workers_stock *rows;
        size_t n, all;
};

/* The lists are the caller's; what is sent borrows from them meanwhile. */
static void judge(struct fence_call *f, struct fleet_mount *mounts, size_t n, const struct stock_list *stock)
{
        Fsyncfs__V1__FenceReply reply = FSYNCFS__V1__FENCE_REPLY__INIT;
        _cleanup_free_ Fsyncfs__V1__FenceMount *rows = calloc(n + stock->n + 1, sizeof(*rows));
        _cleanup_free_ Fsyncfs__V1__FenceMount **behind = calloc(ROWS_MAX, sizeof(*behind));

        if (!rows || !behind) {
                fail(f, -ENOMEM);
                return;
        }
        reply.digest = (ProtobufCBinaryData){ HASH_BYTES, f->digest };
        reply.revision = f->revision;
        reply.behind = behind;
        for (size_t i = 0; i < n; i++)
                if (shows(f, &mounts[i]))
                        reply.showing++;
                else
                        add_mount(&reply, &rows[i], &mounts[i]);
        for (size_t i = 0; i < stock->n; i++)
                add_stock(&reply, &rows[n + i], &stock->rows[i]);
        reply.n_behind_in_all += (uint32_t)(stock->all - stock->n);
        reply.done = reply.n_behind_in_all == 0;
        send(f, &reply);
}

static void answer(struct fence_call *f)
{
        _cleanup_free_ struct workers_stock *rows = calloc(ROWS_MAX, sizeof(*rows));
        struct stock_list stock = { .rows = rows };
        struct fleet_mount *mounts = NULL;
        int n = rows ? fleet_list(f->master->fleet, f->spider, SIZE_MAX, &mounts, NULL) : -ENOMEM;

        if (n < 0) {
                fail(f, n);
                return;
        }
        stock.n = workers_list_stock(f->master->workers, f->spider, ROWS_MAX, rows, &stock.all);
        judge(f, mounts, (size_t)n, &stock);
        fleet_list_free(mounts, (size_t)n);
}

/* The workspace as it is now has come. */
static void settle(struct fence_call *f)
{
        if (f->asking.error < 0) {
                fail(f, f->asking.error);
                return;
        }
        f->revision = tree_view_version(f->asking.view)->revision;
        if (!f->given)
                memcpy(f->digest, tree_view_version(f->asking.view)->digest, HASH_BYTES);
        asking_put_view(&f->asking);
        f->settled = f->changed = true;
}

static void step(struct fence_call *f)
{
        if (f->ended)
                return;
        if (asking_take(&f->asking))
                settle(f);
        if (f->ended || !f->settled || !f->changed || f->sending || f->done)
                return;
        f->changed = false;
        answer(f);
}

/* ---- events ---- */

static void fence_message(struct rpc_call *call, void *state, const uint8_t *data, size_t len)
{
        struct fence_call *f = state;
        const Fsyncfs__V1__FenceRequest *request;
        struct wire_arena arena;
        int r = -EINVAL;

        wire_arena_init(&arena, REQUEST_MAX);
        request = (const Fsyncfs__V1__FenceRequest *)wire_unpack(&fsyncfs__v1__fence_request__descriptor,
                                                                 &arena.allocator, data, len);
        if (request && (request->digest.len == 0 || request->digest.len == HASH_BYTES))
                r = path_check_name(request->spider_id, strlen(request->spider_id));
        if (r == 0) {
                strcpy(f->spider, request->spider_id);
                f->given = request->digest.len > 0;
                if (f->given)
                        memcpy(f->digest, request->digest.data, HASH_BYTES);
                atomic_fetch_add(&f->refs, 1);
                r = asking_start(&f->asking, f->master->versions, f->spider, VERSIONS_FRESH, ASKING_ANY_AGE);
                if (r < 0)
                        fence_unref(f);
        }
        wire_arena_release(&arena);
        if (r < 0)
                fail(f, r);
}

static void fence_half_close(struct rpc_call *call, void *state)
{
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "no request was sent");
}

static void fence_writable(struct rpc_call *call, void *state)
{
        struct fence_call *f = state;

        f->sending = false;
        if (f->done)
                rpc_call_finish(call, RPC_OK, NULL);
        else
                step(f);
}

static void fence_wake(struct rpc_call *call, void *state)
{
        struct fence_call *f = state;

        f->changed = true;
        step(f);
}

static void fence_closed(struct rpc_call *call, void *state)
{
        struct fence_call *f = state;

        fleet_unwatch(f->master->fleet, &f->watcher);
        fence_unref(f);
}

const struct rpc_call_ops service_fence_ops = {
        .start = fence_start,
        .message = fence_message,
        .half_close = fence_half_close,
        .writable = fence_writable,
        .wake = fence_wake,
        .closed = fence_closed,
};
