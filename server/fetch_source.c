#include "server/fetch_source.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "server/content.h"
#include "server/fetch_file.h"
#include "server/metrics.h"
#include "server/reply.h"

#define FAILURE_MAX (REPLY_MAX + FETCH_PART_HEAD_MAX) /* bytes of a part that says why */
#define FILL_NS     (2 * NSEC_PER_MSEC) /* what is there by then does not wait for a slow disk */

struct fetch_source {
        atomic_uint refs;
        atomic_bool closed;
        struct master *master;
        struct rpc_call *call;     /* a reference */
        struct fetch_queue *queue; /* owned */
        struct fetch_files files;
        char spider[];
};

/* One message being filled. */
struct filling {
        struct fetch_source *source;
        struct fetch_message *message;
        int folder; /* the spider's */
        uint64_t ticket;
};

/* What became of the want that was taken. */
enum served {
        SERVED_DONE,  /* nothing more is owed */
        SERVED_PIECE, /* there is more to come */
        SERVED_FULL,  /* it did not fit into what is left of the message */
        SERVED_HELD,  /* others go first */
};

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
        fetch_source_unref(source);
}

int fetch_source_new(struct master *master, struct rpc_call *call, const char *spider,
                     struct fetch_source **ret)
{
        size_t len = strlen(spider);
        struct fetch_source *source = calloc(1, sizeof(*source) + len + 1);
        int r;

        if (!source)
                return -ENOMEM;
        r = fetch_queue_new(&source->queue);
        if (r < 0) {
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
                .hold = source_ref_for_job,
                .let_go = job_ended,
        };
        *ret = source;
        return 0;
}

void fetch_source_close(struct fetch_source *source)
{
        atomic_store(&source->closed, true);
}

void fetch_source_unref(struct fetch_source *source)
{
        if (!source || atomic_fetch_sub(&source->refs, 1) != 1)
                return;
        fetch_queue_free(source->queue);
        fetch_files_release(&source->files);
        rpc_call_unref(source->call);
        free(source);
}

const char *fetch_source_spider(const struct fetch_source *source)
{
        return source->spider;
}

struct fetch_queue *fetch_source_queue(struct fetch_source *source)
{
        return source->queue;
}

/* ---- parts ---- */

static enum served fail(struct filling *f, const struct fetch_item *item, enum rpc_code code,
                        const char *text)
{
        struct fetch_message *m = f->message;

        log_limited(LOG_LEVEL_INFO, "fetch", "fetch for %s failed: %s", rpc_call_peer(f->source->call), text);
        fetch_part_append(m->block->data, m->block->size, &m->len,
                          &(struct fetch_part){
                                  .id = item->id,
                                  .status = code,
                                  .text = text,
                                  .text_len = strlen(text),
                                  .last = true,
                          });
        return SERVED_DONE;
}

/* The file does not, or does no longer, hold what the worker has in its catalog: it will list again. */
static enum served fail_stale(struct filling *f, const struct fetch_item *item, const char *why)
{
        struct fetch_source *source = f->source;
        char text[REPLY_MAX];

        content_missed(source->master->versions, source->spider, item->path, &item->content);
        snprintf(text, sizeof(text), "stale: %s", why);
        return fail(f, item, RPC_FAILED_PRECONDITION, text);
}

static enum served fail_errno(struct filling *f, const struct fetch_item *item, int error)
{
        struct fetch_source *source = f->source;
        char text[REPLY_MAX];

        if (reply_code(error) == RPC_NOT_FOUND)
                return fail_stale(f, item, "there is no such file any more");
        reply_explain(source->master->root, source->spider, item->path, error, text);
        return fail(f, item, reply_code(error), text);
}

static size_t room(const struct filling *f)
{
        return f->message->block->size - f->message->len;
}

/* Where the bytes of a part are to be read to, and its head is already. */
struct place {
        uint8_t *data;
        size_t before,
                apart; /* bytes of the head: before the data in the block, or in the message's own head */
};

/* Makes a place for LEN bytes of ITEM: behind what is in the block, or the block alone if they fill it. False: they do not fit. */
static bool reserve(struct filling *f, const struct fetch_item *item, size_t len, struct place *ret)
{
        struct fetch_message *m = f->message;
        struct fetch_part part = {
                .id = item->id,
                .offset = item->offset,
                .last = item->offset + len == item->end,
                .data_len = len,
        };

        *ret = (struct place){ .data = m->block->data + m->len };
        if (len + FETCH_PART_HEAD_MAX <= room(f)) {
                ret->before = fetch_part_head(ret->data, &part);
                ret->data += ret->before;
                return true;
        }
        if (m->len > 0)
                return false;
        ret->apart = fetch_part_head(m->head, &part);
        return true;
}

/* The LEN bytes at PLACE are to be sent. */
static enum served commit(struct filling *f, struct fetch_item *item, const struct place *place, size_t len)
{
        struct fetch_message *m = f->message;

        m->len += place->before + len;
        m->head_len = place->apart;
        item->offset += len;
        if (!item->counted)
                metrics_add(METRIC_DOWNLOADS, 1);
        item->counted = true;
        metrics_add(METRIC_BYTES_SENT, len);
        return item->offset == item->end ? SERVED_DONE : SERVED_PIECE;
}

/* ---- small contents ---- */

static enum served serve_small(struct filling *f, struct fetch_item *item)
{
        size_t len = (size_t)item->size;
        struct content_id found = { .algorithm = HASH_XXH3 };
        _cleanup_close_ int fd = -1;
        struct place place;
        struct stat st;
        ssize_t n;
        int r;

        if (!reserve(f, item, len, &place))
                return SERVED_FULL;
        r = workspace_open_file(f->folder, item->path, &fd, &st);
        if (r < 0)
                return fail_errno(f, item, r);
        if ((uint64_t)st.st_size != item->size)
                return fail_stale(f, item, "the file has another size now");
        n = io_pread_all(fd, place.data, len, 0);
        if (n < 0)
                return fail_errno(f, item, (int)n);
        if ((size_t)n < len)
                return fail_stale(f, item, "the file changed while it was sent");
        hash_xxh3(place.data, len, found.bytes);
        if (!content_id_equal(&found, &item->content))
                return fail_stale(f, item, "the file holds another content now");
        return commit(f, item, &place, len);
}

/* ---- pieces of large ones ---- */

/* Hashing on the way costs next to nothing, and then not even a write within one tick of the clock slips through. */
static int begin_hasher(struct fetch_item *item)
{
        if (item->hasher || item->offset > 0 || item->end < item->size)
                return 0;
        return hasher_new(HASH_XXH3, &item->hasher);
}

/* All of a content was sent but for the LEN bytes at DATA: whether that is what is wanted. */
static bool is_whole(struct fetch_item *item, size_t len)
{
        struct content_id found;

        if (!item->hasher || item->offset + len < item->end)
                return true;
        hasher_final(item->hasher, &found);
        return content_id_equal(&found, &item->content);
}

static enum served serve_piece(struct filling *f, struct fetch_item *item)
{
        size_t len = (size_t)MIN(item->end - item->offset, f->message->block->size);
        struct fetch_file *file = item->file;
        struct place place;
        ssize_t n;

        if (!reserve(f, item, len, &place))
                return SERVED_FULL;
        if (begin_hasher(item) < 0)
                return fail_errno(f, item, -ENOMEM);
        n = io_pread_all(file->fd, place.data, len, (off_t)item->offset);
        if (n < 0)
                return fail_errno(f, item, (int)n);
        if ((size_t)n < len || !content_unchanged(file->fd, &file->st))
                return fail_stale(f, item, "the file changed while it was sent");
        if (item->hasher)
                hasher_update(item->hasher, place.data, len);
        if (!is_whole(item, len)) {
                file->dated = true;
                return fail_stale(f, item, "the file changed without a new time stamp");
        }
        return commit(f, item, &place, len);
}

static enum served serve_large(struct filling *f, struct fetch_item *item)
{
        const char *why = NULL;
        int r = fetch_files_attach(&f->source->files, f->folder, item, &why);

        if (r < 0)
                return fail_errno(f, item, r);
        switch (r) {
        case FETCH_FILES_WAIT:
                return SERVED_HELD;
        case FETCH_FILES_STALE:
                return fail_stale(f, item, why);
        default:
                return serve_piece(f, item);
        }
}

static bool is_small(const struct fetch_item *item)
{
        return item->size <= BLOCK_BYTES && item->begin == 0 && item->end == item->size;
}

/* ---- the message ---- */

static enum served serve(struct filling *f, struct fetch_item *item)
{
        if (item->dropped)
                return SERVED_DONE;
        if (room(f) < FAILURE_MAX)
                return SERVED_FULL;
        if (item->refused)
                return fail(f, item, RPC_INVALID_ARGUMENT, item->refused);
        if (item->begin > item->size)
                return fail(f, item, RPC_OUT_OF_RANGE, "the offset lies beyond the end of the file");
        return is_small(item) ? serve_small(f, item) : serve_large(f, item);
}

/* Nobody owes ITEM anything any more. Others may have been waiting for it. */
static void finish(struct fetch_source *source, struct fetch_item *item)
{
        bool large = !item->refused && !is_small(item);

        fetch_files_detach(&source->files, item);
        fetch_queue_finish(source->queue, item);
        if (large)
                fetch_queue_release_one(source->queue);
}

/* Serves the next want. False: the message is to go as it is. */
static bool fill_one(struct filling *f)
{
        struct fetch_source *source = f->source;
        struct fetch_item *item = fetch_queue_take(source->queue, &f->ticket);

        if (!item)
                return false;
        switch (serve(f, item)) {
        case SERVED_DONE:
                finish(source, item);
                return f->message->head_len == 0;
        case SERVED_PIECE:
                fetch_queue_put_last(source->queue, item);
                return false;
        case SERVED_FULL:
                fetch_queue_put_first(source->queue, item);
                return false;
        default:
                fetch_queue_hold(source->queue, item, f->ticket);
                return true;
        }
}

static void fill(struct filling *f)
{
        int64_t until_ns = clock_monotonic_ns() + FILL_NS;

        while (!atomic_load_explicit(&f->source->closed, memory_order_relaxed) && fill_one(f))
                if (f->message->len > 0 && clock_monotonic_ns() > until_ns)
                        return;
}

int fetch_source_fill(struct fetch_source *source, struct fetch_message *ret)
{
        _cleanup_close_ int folder = -1;
        struct filling filling = { .source = source, .message = ret };
        int r = workspace_open_folder(source->master->root, source->spider, "", &folder);

        *ret = (struct fetch_message){ 0 };
        if (r < 0)
                return r;
        ret->block = blocks_take(source->master->blocks, BLOCK_BYTES);
        if (!ret->block)
                return -ENOMEM;
        filling.folder = folder;
        fill(&filling);
        if (ret->len == 0)
                blocks_put(TAKE_PTR(ret->block));
        return 0;
}
