#include <string.h>

#include "base/path.h"
#include "sync/fetch_private.h"

/*
 * Jobs become wants of a message. A content's partial file is locked before it is asked for, or the piece claimed, so that it comes once to a
 * machine however many mounts want it.
 */

#define FIELD_SPIDER 1 /* of a FetchRequest */
#define FIELD_NODE   2
#define FIELD_CANCEL 4
#define FIELD_HURRY  5

static int append_text(struct buffer *message, uint32_t field, const char *text)
{
        uint8_t head[2 * WIRE_VARINT_MAX], *end;
        size_t len = strlen(text);
        int r;

        end = wire_write_varint(head, WIRE_TAG(field, WIRE_BYTES));
        end = wire_write_varint(end, len);
        r = buffer_append(message, head, (size_t)(end - head));
        return r < 0 ? r : buffer_append(message, text, len);
}

int fetch_ask_begin(struct fetch *f, struct buffer *message)
{
        int r = append_text(message, FIELD_SPIDER, session_get_source(f->options.session)->spider);

        return r < 0 ? r : append_text(message, FIELD_NODE, session_get_node(f->options.session));
}

static int append_id(uint32_t number, uint64_t id, struct buffer *message)
{
        uint8_t field[2 * WIRE_VARINT_MAX], *end = wire_write_number(field, number, id);

        return buffer_append(message, field, (size_t)(end - field));
}

int fetch_ask_cancel(uint64_t id, struct buffer *message)
{
        return append_id(FIELD_CANCEL, id, message);
}

int fetch_ask_hurry(uint64_t id, struct buffer *message)
{
        return append_id(FIELD_HURRY, id, message);
}

static int append_want(const struct fetch_job *job, const struct buffer *path, struct buffer *message)
{
        struct fetch_want want = {
                .id = job->id,
                .path = (const uint8_t *)path->data,
                .path_len = path->len,
                .raw = !path_is_utf8(path->data, path->len),
                .hash_algorithm = job->key.content.algorithm,
                .digest = job->key.content.bytes,
                .digest_len = hash_len(job->key.content.algorithm),
                .size = job->size,
                .urgent = job->urgent,
                .list = job->lists,
        };
        uint8_t *at;
        int r = buffer_reserve(message, FETCH_WANT_MAX(path->len));

        if (r < 0)
                return r;
        if (job->large) {
                want.size = job->large->size;
                want.offset = job->list_only ? want.size - 1
                                             : job->offset; /* no bytes at all cannot be asked for */
                want.length = job->list_only ? 1 : job->size;
        }
        at = (uint8_t *)message->data + message->len;
        message->len += (size_t)(fetch_want_write(at, &want) - at);
        return 0;
}

/* The path of JOB's file within the workspace: ASK_THREAD if the catalog does not know it any more. */
static int find_path(struct fetch *f, const struct fetch_job *job, struct buffer *ret)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        int r = catalog_path(f->options.catalog, atomic_load(&job->ino), &path);

        if (r == CATALOG_OK)
                r = source_join(session_get_source(f->options.session), path.data, path.len, ret);
        return r == 0 ? ASK_SENT : ASK_THREAD;
}

static int lock_content(struct fetch *f, struct fetch_job *job)
{
        return job->writer ? STORE_OK
                           : store_write_try(f->options.store, &job->key.content, job->size, &job->writer);
}

static int lock(struct fetch *f, struct fetch_job *job)
{
        int r = job->unstored ? STORE_OK : job->large ? fetch_claim_piece(job, false) : lock_content(f, job);

        if (r == STORE_OK)
                return ASK_SENT;
        return r == STORE_HAVE ? ASK_HAVE : r == STORE_BUSY ? ASK_BUSY : ASK_THREAD;
}

enum fetch_ask_result fetch_ask(struct fetch *f, struct fetch_job *job, struct buffer *message)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        int r = lock(f, job);

        if (r == ASK_SENT)
                r = find_path(f, job, &path);
        if (r == ASK_SENT && append_want(job, &path, message) < 0)
                r = ASK_THREAD;
        return (enum fetch_ask_result)r;
}
