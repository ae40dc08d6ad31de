/* What a worker asks, through the checks of the master's handlers: requests for a listing, wants of contents, reports, and the learned list on the disk. */
#include <assert.h>
#include <string.h>

#include "base/path.h"
#include "proto/fetch_frame.h"
#include "server/fetch_queue.h"
#include "server/learned_list.h"
#include "server/sync_request.h"
#include "tests/fuzz/driver.h"

static void ask(const uint8_t *data, size_t len)
{
        struct sync_request request = { 0 };

        if (sync_request_read(&request, data, len) < 0) {
                assert(!request.spider);
                return;
        }
        assert(request.own || (!request.has_known && request.resume_offset == 0));
        if (sync_request_check(&request) == 0) {
                assert(!strchr(request.spider, '/') && strcmp(request.spider, "..") != 0);
                assert(path_check(request.path, strlen(request.path)) == 0);
        }
        sync_request_clear(&request);
}

static void serve(struct fetch_queue *queue)
{
        struct fetch_item *item;
        uint64_t ticket;

        while ((item = fetch_queue_take(queue, &ticket))) {
                if (!item->refused) {
                        /* A range that begins beyond the end is answered as such. */
                        assert(item->begin > item->size ||
                               (item->begin <= item->end && item->end <= item->size));
                        assert(path_check(item->path, strlen(item->path)) == 0 && item->path[0]);
                        assert(item->content.algorithm != HASH_NONE);
                }
                fetch_queue_finish(queue, item);
        }
        assert(fetch_queue_count(queue) == 0);
}

static void want(const uint8_t *data, size_t len)
{
        struct fetch_request_reader reader = fetch_request_open(data, len);
        struct fetch_request_item item;
        struct rpc_peers *peers = rpc_peers_new(NULL);
        struct rpc_peer *peer = rpc_peer_get(peers, "ipv4:192.0.2.1:1");
        struct fetch_queue *queue;
        int kind;

        assert(fetch_queue_new(peer, &queue) == 0);
        while ((kind = fetch_request_next(&reader, &item)) > 0)
                if (kind == FETCH_WANT)
                        (void)fetch_queue_add(queue, &item.want);
                else if (kind == FETCH_CANCEL)
                        fetch_queue_cancel(queue, item.id);
        serve(queue);
        fetch_queue_free(queue);
        assert(rpc_peer_charged(peer, RPC_WANTS) == 0);
        rpc_peer_unref(peer);
        rpc_peers_free(peers);
}

/* What was read can be written, and reads as the same. */
static void learn(const uint8_t *data, size_t len)
{
        _cleanup_buffer_ struct buffer text = { 0 }, again = { 0 };
        struct learned_list list = { 0 }, copy = { 0 };

        if (learned_list_read(&list, (const char *)data, len) < 0) {
                assert(list.n == 0);
                return;
        }
        for (size_t i = 0; i < list.n; i++)
                assert(path_check(list.entries[i]->path, list.entries[i]->len) == 0);
        assert(learned_list_write(&list, &text) == 0 && text.len <= LEARNED_LIST_TEXT_MAX);
        assert(learned_list_read(&copy, text.data, text.len) == 0 && copy.n == list.n);
        assert(learned_list_write(&copy, &again) == 0);
        assert(again.len == text.len && memcmp(again.data, text.data, text.len) == 0);
        learned_list_release(&list);
        learned_list_release(&copy);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        ask(data, len);
        want(data, len);
        learn(data, len);
}
