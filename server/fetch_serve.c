#include "server/fetch_serve.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "base/pieces.h"
#include "server/content.h"
#include "server/metrics.h"
#include "server/reply.h"

#define FAILURE_MAX (REPLY_MAX + FETCH_PART_HEAD_MAX) /* bytes of a part that says why */

static_assert(BLOCK_BYTES == PIECE_BYTES, "a piece fills a block, and a message");

/* ---- parts ---- */

static enum fetch_served fail(struct fetch_serving *s, const struct fetch_item *item, enum rpc_code code,
                              const char *text)
{
        struct fetch_message *m = s->message;

        log_limited(LOG_LEVEL_INFO, "fetch", "fetch for %s failed: %s", s->peer, text);
        fetch_part_append(m->block->data, m->block->size, &m->len,
                          &(struct fetch_part){
                                  .id = item->id,
                                  .status = code,
                                  .text = text,
                                  .text_len = strlen(text),
                                  .last = true,
                          });
        return FETCH_SERVED_DONE;
}

/* The file does not, or does no longer, hold what the worker has in its catalog: it will list again. */
static enum fetch_served fail_stale(struct fetch_serving *s, const struct fetch_item *item, const char *why)
{
        char text[REPLY_MAX];

        content_missed(s->master->versions, s->files->spider, item->path, &item->content);
        snprintf(text, sizeof(text), "stale: %s", why);
        return fail(s, item, RPC_FAILED_PRECONDITION, text);
}

static enum fetch_served fail_errno(struct fetch_serving *s, const struct fetch_item *item, int error)
{
        char text[REPLY_MAX];

        if (reply_code(error) == RPC_NOT_FOUND)
                return fail_stale(s, item, "there is no such file any more");
        reply_explain(s->master->root, s->files->spider, item->path, error, text);
        return fail(s, item, reply_code(error), text);
}

static size_t room(const struct fetch_serving *s)
{
        return s->message->block->size - s->message->len;
}

/* Where the bytes of a part are to be put, and its head is already. */
struct place {
        uint8_t *data;
        size_t before,
                apart; /* bytes of the head: before the data in the block, or in the message's own head */
};

/* Makes a place for PART and for NEEDED bytes, no fewer than its own: behind what is in the block, or the block alone if they fill it. False: they do not fit. */
static bool reserve(struct fetch_serving *s, const struct fetch_part *part, size_t needed, struct place *ret)
{
        struct fetch_message *m = s->message;

        *ret = (struct place){ .data = m->block->data + m->len };
        if (needed + FETCH_PART_HEAD_MAX <= room(s)) {
                ret->before = fetch_part_head(ret->data, part);
                ret->data += ret->before;
                return true;
        }
        if (m->len > 0)
                return false;
        ret->apart = fetch_part_head(m->head, part);
        return true;
}

/* The LEN bytes at PLACE are to be sent. */
static void commit(struct fetch_serving *s, struct fetch_item *item, const struct place *place, size_t len)
{
        struct fetch_message *m = s->message;

        m->len += place->before + len;
        m->head_len = place->apart;
        if (!item->counted)
                metrics_add(METRIC_DOWNLOADS, 1);
        item->counted = true;
        metrics_add(METRIC_BYTES_SENT, len);
}

/* ---- pieces ---- */

/* A want's next piece, and what of it is wanted. */
struct run {
        struct fetch_item *item;
        struct content_piece piece;
        struct content_key key;
        size_t skipped; /* bytes of the piece before those that are sent */
        struct fetch_part part;
};

static struct run next_run(const struct fetch_serving *s, struct fetch_item *item)
{
        struct content_piece piece = content_piece_at(item->size, item->offset);
        uint64_t end = MIN(item->end, piece.begin + piece.len);
        const struct buffer *list = item->file ? &item->file->list : NULL;

        return (struct run){
                .item = item,
                .piece = piece,
                .key = { .spider = s->files->spider,
                         .hash = content_piece_hash(&item->content, list, &piece),
                         .base = hash_base(item->content.algorithm),
                         .len = piece.len },
                .skipped = (size_t)(item->offset - piece.begin),
                .part = { .id = item->id,
                          .offset = item->offset,
                          .last = end == item->end,
                          .data_len = (size_t)(end - item->offset) },
        };
}

static enum fetch_served sent(const struct run *run)
{
        run->item->offset += run->part.data_len;
        return run->part.last ? FETCH_SERVED_DONE : FETCH_SERVED_PIECE;
}

/* Sends what is wanted of KEPT, a reference: from where it is, if it fills the message anyway. */
static enum fetch_served send_kept(struct fetch_serving *s, const struct run *run, struct content_run *kept)
{
        struct place place;

        if (!reserve(s, &run->part, run->part.data_len, &place)) {
                content_cache_unref(kept);
                return FETCH_SERVED_FULL;
        }
        if (place.apart > 0) {
                s->message->run = kept;
                s->message->body = kept->data + run->skipped;
        } else {
                memcpy(place.data, kept->data + run->skipped, run->part.data_len);
                content_cache_unref(kept);
        }
        metrics_add(METRIC_BYTES_FROM_MEMORY, run->part.data_len);
        commit(s, run->item, &place, run->part.data_len);
        return sent(run);
}

/*
 * Reads RUN from FD into BUF, so that it is what is wanted. That needs no hash if the file has, after it was read, the stamp under which it was found to hold
 * just that: as far as stamps tell, nobody wrote in between. Where they do not, the worker finds out.
 */
static int read_run(struct fetch_serving *s, const struct run *run, int fd, uint8_t *buf)
{
        struct fetch_file *file = run->item->file;
        bool again = content_cache_note_read(s->master->contents, &run->key);
        int r = content_read_unproved(fd, &run->piece, buf);

        if (r < 0)
                return r;
        if (file && file->trusted && !again) {
                file->trusted = content_unchanged(fd, &file->st);
                if (file->trusted)
                        return 0;
        }
        if (!hash_proves(run->key.base, buf, run->piece.len, run->key.hash))
                return -ESTALE;
        if (again)
                content_cache_put(s->master->contents, &run->key, buf);
        return 0;
}

static enum fetch_served send_read(struct fetch_serving *s, const struct run *run, int fd)
{
        struct fetch_item *item = run->item;
        struct place place;
        int r;

        if (!reserve(s, &run->part, run->piece.len, &place))
                return FETCH_SERVED_FULL;
        r = read_run(s, run, fd, place.data);
        if (r == -ESTALE && item->file)
                item->file->dated = true;
        if (r < 0)
                return r == -ESTALE ? fail_stale(s, item, "the file holds another content now")
                                    : fail_errno(s, item, r);
        memmove(place.data, place.data + run->skipped, run->part.data_len);
        commit(s, item, &place, run->part.data_len);
        return sent(run);
}

/* The range that ends the content: there is nothing to verify. */
static enum fetch_served send_nothing(struct fetch_serving *s, const struct run *run)
{
        struct place place;

        if (!reserve(s, &run->part, 0, &place))
                return FETCH_SERVED_FULL;
        commit(s, run->item, &place, 0);
        return sent(run);
}

/* ---- contents ---- */

static enum fetch_served serve_small(struct fetch_serving *s, struct fetch_item *item)
{
        const struct run run = next_run(s, item);
        struct content_run *kept;
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        if (room(s) < item->size + FETCH_PART_HEAD_MAX && s->message->len > 0)
                return FETCH_SERVED_FULL; /* before it is opened in vain */
        kept = content_cache_get(s->master->contents, &run.key);
        if (kept)
                return send_kept(s, &run, kept);
        if (s->folder < 0)
                return FETCH_SERVED_NO_DISK;
        r = workspace_open_file(s->folder, item->path, &fd, &st);
        if (r < 0)
                return fail_errno(s, item, r);
        if ((uint64_t)st.st_size != item->size)
                return fail_stale(s, item, "the file has another size now");
        if (run.part.data_len == 0 && item->size > 0)
                return send_nothing(s, &run);
        return send_read(s, &run, fd);
}

/* Sends what fits of the list that comes before the content. */
static enum fetch_served serve_list(struct fetch_serving *s, struct fetch_item *item)
{
        const struct buffer *list = &item->file->list;
        size_t left = list->len - item->list_sent, most = room(s) - FETCH_PART_HEAD_MAX;
        size_t len = MIN(left, most);
        const struct fetch_part part = {
                .id = item->id, .offset = item->list_sent, .list = true, .data_len = len
        };
        struct place place;

        if (len < left && s->message->len > 0)
                return FETCH_SERVED_FULL;
        (void)reserve(s, &part, len, &place); /* it fits */
        memcpy(place.data, list->data + item->list_sent, len);
        commit(s, item, &place, len);
        item->list_sent += len;
        return len < left ? FETCH_SERVED_PIECE : FETCH_SERVED_LIST;
}

static enum fetch_served serve_piece(struct fetch_serving *s, struct fetch_item *item)
{
        const struct run run = next_run(s, item);
        struct content_run *kept;

        if (run.part.data_len == 0)
                return send_nothing(s, &run);
        kept = content_cache_get(s->master->contents, &run.key);
        if (kept)
                return send_kept(s, &run, kept);
        return s->folder < 0 ? FETCH_SERVED_NO_DISK : send_read(s, &run, item->file->fd);
}

static enum fetch_served serve_large(struct fetch_serving *s, struct fetch_item *item)
{
        const char *why = NULL;
        int r;

        if (s->folder < 0 && !item->file)
                return FETCH_SERVED_NO_DISK;
        r = fetch_files_attach(s->files, s->folder, item, &why);
        if (r < 0)
                return fail_errno(s, item, r);
        switch (r) {
        case FETCH_FILES_WAIT:
                return FETCH_SERVED_HELD;
        case FETCH_FILES_STALE:
                return fail_stale(s, item, why);
        default:
                return item->list && item->list_sent < item->file->list.len ? serve_list(s, item)
                                                                            : serve_piece(s, item);
        }
}

bool fetch_item_is_small(const struct fetch_item *item)
{
        return !hash_by_pieces(item->content.algorithm);
}

enum fetch_served fetch_serve(struct fetch_serving *s, struct fetch_item *item)
{
        if (item->dropped)
                return FETCH_SERVED_DONE;
        if (room(s) < FAILURE_MAX)
                return FETCH_SERVED_FULL;
        if (item->refused)
                return fail(s, item, RPC_INVALID_ARGUMENT, item->refused);
        if (item->begin > item->size)
                return fail(s, item, RPC_OUT_OF_RANGE, "the offset lies beyond the end of the file");
        return fetch_item_is_small(item) ? serve_small(s, item) : serve_large(s, item);
}
