/*
 * Answers to stock workers, exactly as a stock master gives them (docs/protocol.md).
 */
#include <string.h>

#include "base/path.h"
#include "server/metrics.h"
#include "server/sync_call.h"

static void send_batch(struct sync_call *s, struct scan_batch *batch, const struct scan_batch_tail *tail)
{
        size_t count = scan_batch_count(batch), len;
        uint8_t *data;

        if (scan_batch_pack(batch, tail, &data, &len) < 0) {
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        metrics_add(METRIC_ENTRIES_SENT, count);
        metrics_add(METRIC_METADATA_BYTES_SENT, len);
        sync_call_send(s, data, len, tail->is_complete);
}

void sync_stock_fail(struct sync_call *s, const char *text)
{
        struct scan_batch *batch;

        if (scan_batch_new(&batch) < 0) {
                rpc_call_finish(s->call, RPC_RESOURCE_EXHAUSTED, "no memory");
                return;
        }
        send_batch(s, batch, &(struct scan_batch_tail){ .is_complete = true, .error = text });
        scan_batch_free(batch);
}

void sync_stock_begin(struct sync_call *s)
{
        if (rpc_call_wants_gzip(s->call))
                rpc_call_use_gzip(s->call);
        sync_call_ask(s, VERSIONS_RECENT, s->master->scan_ttl_ms);
}

static int make_folder(struct sync_call *s)
{
        const struct sync_request *request = &s->request;
        const char *root = workspace_root_path(s->master->root);
        bool all = request->path[0] == '\0';

        if (asprintf(&s->folder, "%s/%s%s%s", strcmp(root, "/") == 0 ? "" : root, request->spider,
                     all ? "" : "/", request->path) < 0) {
                s->folder = NULL;
                return -ENOMEM;
        }
        /* full_path is for people: where it would not fit, the listing is refused rather than cut. */
        if (strlen(s->folder) > 2 * (size_t)PATH_BYTES_MAX || !path_is_utf8(s->folder, strlen(s->folder)))
                return -ENAMETOOLONG;
        return 0;
}

static void view_done(struct stock_request *request, int error, struct stock_view *view)
{
        struct sync_call *s =
                (struct sync_call *)((char *)request - offsetof(struct sync_call, stock_request));

        s->stock_error = error;
        s->stock_view = view;
        atomic_store(&s->stock_answered, true);
        rpc_call_wake(s->call);
        sync_call_unref(s);
}

void sync_stock_answered(struct sync_call *s)
{
        const struct sync_request *request = &s->request;
        int r = s->asking.error;

        if (r >= 0)
                r = make_folder(s);
        if (r >= 0) {
                s->stock_request.done = view_done;
                s->stock_request.peer = rpc_call_account(s->call);
                s->stock_pending = true;
                sync_call_ref(s);
                r = stock_views_get(s->master->stock, request->spider, request->path,
                                    TAKE_PTR(s->asking.view), &s->stock_request);
                if (r < 0)
                        sync_call_unref(s);
        }
        if (r < 0) {
                s->stock_pending = false;
                sync_call_fail(s, r);
        }
}

static int fill_batch(struct sync_call *s, struct scan_batch *batch)
{
        size_t total = stock_view_count(s->stock_view);

        while (!scan_batch_full(batch) && s->sent < total) {
                const struct stock_item *item;
                int r = stock_reader_next(s->stock_reader, &item);
                if (r < 0)
                        return r;
                if (!item)
                        return -EIO; /* the view holds less than it says: cannot be */
                scan_batch_add(batch, item, s->folder);
                s->sent++;
        }
        return 0;
}

static void send_entries(struct sync_call *s)
{
        struct scan_batch *batch;
        size_t total = stock_view_count(s->stock_view);
        int r = scan_batch_new(&batch);

        if (r >= 0) {
                r = fill_batch(s, batch);
                if (r >= 0)
                        send_batch(
                                s, batch,
                                &(struct scan_batch_tail){ .is_complete = s->sent == total, .total = total });
                scan_batch_free(batch);
        }
        if (r < 0)
                sync_call_fail(s, r);
}

void sync_stock_step(struct sync_call *s)
{
        int r;

        if (s->stock_pending) {
                if (!atomic_exchange(&s->stock_answered, false))
                        return;
                s->stock_pending = false;
                r = s->stock_error;
                if (r >= 0)
                        r = stock_reader_new(s->stock_view, &s->stock_reader);
                if (r < 0) {
                        sync_call_fail(s, r);
                        return;
                }
        }
        if (s->stock_reader)
                send_entries(s);
}

void sync_stock_clear(struct sync_call *s)
{
        stock_reader_free(TAKE_PTR(s->stock_reader));
        stock_view_put(TAKE_PTR(s->stock_view));
        free(TAKE_PTR(s->folder));
        s->sent = 0;
}
