#include <string.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * What the master sends, on the receiving thread. A content that is whole in one part is verified in memory, given to whoever waits, and only then
 * written; of a larger one each piece is written as it comes. A master that is at fault costs a content another try by itself
 * (fetch_run.c), which also knows how to say what is wrong.
 */

/* The job that PART belongs to, from now on ours; NULL: nobody wants it any more. */
static struct fetch_job *claim(struct fetch *f, const struct fetch_part *part)
{
        struct fetch_job *job;

        mutex_lock(&f->lock);
        HASH_FIND(hh_id, f->asked, &part->id, sizeof(part->id), job);
        if (job && job->dropped)
                job = NULL;
        if (job)
                job->busy = true;
        mutex_unlock(&f->lock);
        return job;
}

/* More of it is to come. */
static void unclaim(struct fetch *f, struct fetch_job *job)
{
        mutex_lock(&f->lock);
        job->busy = false;
        if (!job->waiters) {
                f->abandoned = true;
                condition_signal(&f->send);
        }
        mutex_unlock(&f->lock);
}

/* The master is done with it, but it is not here: a thread tries again, with VERDICT for its first try. */
static void refuse(struct fetch *f, struct fetch_job *job, int verdict)
{
        store_write_abort(TAKE_PTR(job->writer));
        job->received = 0;
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        job->verdict = verdict;
        fetch_hand_over(f, job);
        mutex_unlock(&f->lock);
}

/* It is over, well (ERROR 0: it is in the store) or badly, and nothing more comes. */
static void end_job(struct fetch *f, struct fetch_job *job, int error)
{
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        job->state = JOB_RUNNING;
        HASH_DEL(f->jobs, job);
        fetch_end_waits(f, job, error, NULL);
        mutex_unlock(&f->lock);
        free(job);
}

/* It cannot be kept, and the master goes on sending: the sending thread takes it back. */
static void drop_job(struct fetch *f, struct fetch_job *job, int error)
{
        char name[HASH_TEXT_MAX];

        log_limited(LOG_LEVEL_ERROR, "fetch", "cannot write %s to the cache: %s",
                    content_id_format(&job->key.content, name), strerror(-error));
        store_write_abort(TAKE_PTR(job->writer));
        mutex_lock(&f->lock);
        job->dropped = true;
        HASH_DEL(f->jobs, job);
        fetch_end_waits(f, job, fetch_read_error(error), NULL);
        job->busy = false;
        f->abandoned = true;
        condition_signal(&f->send);
        mutex_unlock(&f->lock);
}

static void count_content(struct fetch *f, const struct fetch_job *job)
{
        atomic_fetch_add(&f->files, 1);
        atomic_fetch_add(&f->bytes, job->size);
        atomic_store(&f->proved, true);
}

/* ---- whole in one part ---- */

static struct fetch_content *content_new(const struct fetch_part *part)
{
        struct fetch_content *content = malloc(sizeof(*content) + part->data_len);

        if (!content)
                return NULL;
        atomic_init(&content->refs, 1);
        content->len = part->data_len;
        memcpy(content->data, part->data, part->data_len);
        return content;
}

static void take_whole(struct fetch *f, struct fetch_job *job, const struct fetch_part *part)
{
        struct fetch_content *content;
        uint8_t digest[HASH_BYTES];

        hash_xxh3(part->data, part->data_len, digest);
        if (memcmp(digest, job->key.content.bytes, HASH_BYTES) != 0) {
                refuse(f, job, -EBADMSG);
                return;
        }
        content = content_new(part);
        if (!content) {
                refuse(f, job, 0);
                return;
        }
        count_content(f, job);
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        job->state = JOB_RUNNING;
        job->content = content;
        fetch_end_waits(f, job, 0, content);
        fetch_store(f, job);
        mutex_unlock(&f->lock);
}

/* ---- piece by piece ---- */

static void finish_pieces(struct fetch *f, struct fetch_job *job)
{
        int r = store_write_commit(TAKE_PTR(job->writer));

        if (r == STORE_MISMATCH) {
                refuse(f, job, -EBADMSG);
                return;
        }
        if (r == 0)
                count_content(f, job);
        end_job(f, job, r == 0 ? 0 : fetch_read_error(r));
}

static int take_piece(struct fetch *f, struct fetch_job *job, const struct fetch_part *part)
{
        int r;

        if (part->offset != job->received || part->data_len > job->size - job->received ||
            (part->data_len == 0 && !part->last) ||
            (part->last && part->data_len != job->size - job->received)) {
                refuse(f, job, -EPROTO);
                return -EPROTO;
        }
        atomic_store(&job->writing, true);
        r = store_write(job->writer, part->data, part->data_len);
        if (r < 0) {
                drop_job(f, job, r);
                return 0;
        }
        job->received += part->data_len;
        if (part->last)
                finish_pieces(f, job);
        else
                unclaim(f, job);
        return 0;
}

static int take_part(struct fetch *f, struct fetch_job *job, const struct fetch_part *part)
{
        struct rpc_status status = { .code = part->status };

        fetch_note_progress(part->data_len, job);
        fetch_note_away(f, job, 0);
        if (part->status != 0) {
                refuse(f, job, status.code == RPC_FAILED_PRECONDITION ? -ESTALE : 0);
                return 0;
        }
        if (part->last && part->offset == 0 && job->received == 0 && part->data_len == job->size) {
                take_whole(f, job, part);
                return 0;
        }
        return take_piece(f, job, part);
}

int fetch_take_message(const uint8_t *message, size_t len, void *fetch)
{
        struct fetch *f = fetch;
        struct wire_reader reader = fetch_reply_open(message, len);
        struct fetch_part part;
        int r;

        session_note_heard(f->options.session);
        while ((r = fetch_reply_next(&reader, &part)) > 0) {
                struct fetch_job *job = claim(f, &part);

                if (job)
                        r = take_part(f, job, &part);
                if (r < 0)
                        return r;
        }
        return r < 0 ? -EPROTO : 0;
}
