#include "server/fetch_source.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "server/fetch_file.h"
#include "server/fetch_serve.h"

#define FILL_NS (2 * NSEC_PER_MSEC) /* what is there by then does not wait for a slow disk */

struct fetch_source {
        atomic_uint refs;
        struct master *master;
        struct rpc_call *call; /* a reference */
        char *peer; /* owned: the call's own goes when it is closed, while a message may still be filled */
        struct fetch_queue *queue; /* owned */
        struct fetch_files files;
        char spider[];
};

static void source_unref(struct fetch_source *source)
{
        if (atomic_fetch_sub(&source->refs, 1) != 1)
                return;
        fetch_queue_free(source->queue);
        fetch_files_release(&source->files);
        rpc_call_unref(source->call);
        free(source->peer);
        free(source);
}

static void source_ref_for_job(struct fetch_files *files)
{
        struct fetch_source *source =
                (struct fetch_source *)((char *)files - offsetof(struct fetch_source, files));

        atomic_fetch_add(&source->refs, 1);
}

static void job_ended(struct fetch_files *files)
{
        struct fetch_source *source =
                (struct fetch_source *)((char *)files - offsetof(struct fetch_source, files));

        fetch_queue_release_all(source->queue);
        rpc_call_wake(source->call);
        source_unref(source);
}

int fetch_source_new(struct master *master, struct rpc_call *call, const char *spider,
                     struct fetch_source **ret)
{
        size_t len = strlen(spider);
        struct fetch_source *source = calloc(1, sizeof(*source) + len + 1);
        int r;

        if (!source)
                return -ENOMEM;
        source->peer = strdup(rpc_call_peer(call));
        r = source->peer ? fetch_queue_new(rpc_call_account(call), &source->queue) : -ENOMEM;
        if (r < 0) {
                free(source->peer);
                free(source);
                return r;
        }
        source->refs = 1;
        source->master = master;
        source->call = rpc_call_ref(call);
        memcpy(source->spider, spider, len);
        source->files = (struct fetch_files){
                .master = master,
                .spider = source->spider,
                .peer = rpc_call_account(call),
                .hold = source_ref_for_job,
                .let_go = job_ended,
        };
        *ret = source;
        return 0;
}

void fetch_source_close(struct fetch_source *source)
{
        atomic_store(&source->files.closed, true);
}

void fetch_source_unref(struct fetch_source *source)
{
        if (!source)
                return;
        fetch_files_withdraw(&source->files);
        source_unref(source);
}

const char *fetch_source_spider(const struct fetch_source *source)
{
        return source->spider;
}

struct fetch_queue *fetch_source_queue(struct fetch_source *source)
{
        return source->queue;
}

void fetch_source_try_again(struct fetch_source *source)
{
        if (!source->files.short_of)
                return;
        source->files.short_of = false;
        fetch_queue_release_all(source->queue);
}

/* ---- the message ---- */

void fetch_message_release(struct fetch_message *message)
{
        if (message->block)
                blocks_put(message->block);
        if (message->run)
                content_cache_unref(message->run);
        *message = (struct fetch_message){ 0 };
}

/* Nobody owes ITEM anything any more. Others may have been waiting for it. */
static void finish(struct fetch_source *source, struct fetch_item *item)
{
        bool large = !item->refused && !fetch_item_is_small(item);

        fetch_files_detach(&source->files, item);
        fetch_queue_finish(source->queue, item);
        if (large)
                fetch_queue_release_one(source->queue);
}

enum filled {
        FILLED_SOME,    /* there is room for more */
        FILLED_ENOUGH,  /* the message is to go as it is */
        FILLED_NO_DISK, /* what comes next is not in memory */
};

/* Serves the next want. */
static enum filled fill_one(struct fetch_source *source, struct fetch_serving *serving)
{
        uint64_t ticket;
        struct fetch_item *item = fetch_queue_take(source->queue, &ticket);
        enum fetch_served served;

        if (!item)
                return FILLED_ENOUGH;
        served = fetch_serve(serving, item);
        switch (served) {
        case FETCH_SERVED_DONE:
                finish(source, item);
                return serving->message->head_len == 0 ? FILLED_SOME : FILLED_ENOUGH;
        case FETCH_SERVED_PIECE:
                fetch_queue_put_last(source->queue, item);
                return FILLED_ENOUGH;
        case FETCH_SERVED_LIST:
                fetch_queue_put_first(source->queue, item);
                return FILLED_SOME;
        case FETCH_SERVED_FULL:
        case FETCH_SERVED_NO_DISK:
                fetch_queue_put_first(source->queue, item);
                return served == FETCH_SERVED_FULL ? FILLED_ENOUGH : FILLED_NO_DISK;
        default:
                fetch_queue_hold(source->queue, item, ticket);
                return FILLED_SOME;
        }
}

/* Fills MESSAGE; FOLDER as in fetch_serving. */
static enum filled fill(struct fetch_source *source, int folder, struct fetch_message *message)
{
        struct fetch_serving serving = {
                .master = source->master,
                .peer = source->peer,
                .files = &source->files,
                .message = message,
                .folder = folder,
        };
        int64_t until_ns = clock_monotonic_ns() + FILL_NS;
        enum filled filled = FILLED_SOME;

        while (filled == FILLED_SOME && !atomic_load_explicit(&source->files.closed, memory_order_relaxed)) {
                filled = fill_one(source, &serving);
                if (message->len > 0 && clock_monotonic_ns() > until_ns)
                        break;
        }
        return filled;
}

/* MESSAGE is to be sent, if there is anything in it. */
static void close_message(struct fetch_message *message)
{
        if (message->run)
                blocks_put(TAKE_PTR(message->block));
        else if (message->len > 0)
                message->body = message->block->data;
        else
                fetch_message_release(message);
}

static bool has_block(struct fetch_source *source, struct fetch_message *message)
{
        if (!message->block)
                message->block = blocks_take(source->master->blocks, BLOCK_BYTES);
        return message->block;
}

bool fetch_source_fill_from_memory(struct fetch_source *source, struct fetch_message *message)
{
        if (!has_block(source, message) || fill(source, -1, message) == FILLED_NO_DISK)
                return true;
        close_message(message);
        return false;
}

int fetch_source_fill(struct fetch_source *source, struct fetch_message *message)
{
        _cleanup_close_ int folder = -1;
        int r = workspace_open_folder(source->master->root, source->spider, "", &folder);

        if (r >= 0 && !has_block(source, message))
                r = -ENOMEM;
        if (r < 0) {
                fetch_message_release(message);
                return r;
        }
        (void)fill(source, folder, message);
        close_message(message);
        return 0;
}
