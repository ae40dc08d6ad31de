#include <string.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * What the master sends, on the receiving thread. A small content or a piece is whole in one part: it is verified in memory, given to whoever waits, and
 * only then written. A piece may come with the list of all pieces' hashes before it. A master that is at fault costs a content another try by itself
 * (fetch_run.c), which also knows how to say what is wrong.
 */

/* The job that PART belongs to, from now on ours; NULL: nobody wants it any more. */
static struct fetch_job *claim(struct fetch *f, const struct fetch_part *part)
{
        struct fetch_job *job;

        mutex_lock(&f->lock);
        HASH_FIND(hh_id, f->asked, &part->id, sizeof(part->id), job);
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
        bool wants_list = job->lists && !store_pieces_listed(job->large->pieces);

        fetch_let_go(job);
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        job->refused = true;
        /* No list, but maybe the content: that counts as no try of the piece. */
        job->verdict = wants_list && verdict != -ESTALE ? 0 : verdict;
        fetch_hand_over(f, job);
        mutex_unlock(&f->lock);
}

/* ---- the list ---- */

static int take_list(struct fetch *f, struct fetch_job *job, const struct fetch_part *part)
{
        struct store_pieces *pieces = job->lists ? job->large->pieces : NULL;
        uint64_t len = pieces ? pieces_count(job->large->size) * hash_len(job->key.content.algorithm) : 0;
        int r;

        if (part->last || part->data_len == 0 || part->offset != job->list.len ||
            part->data_len > len - job->list.len) {
                refuse(f, job, -EPROTO);
                return -EPROTO;
        }
        if (buffer_append(&job->list, part->data, part->data_len) < 0) {
                refuse(f, job, 0);
                return 0;
        }
        if (job->list.len == len) {
                r = store_pieces_set_list(pieces, (const uint8_t *)job->list.data, len);
                if (r != STORE_OK) {
                        refuse(f, job, r == STORE_MISMATCH ? -EBADMSG : 0);
                        return 0;
                }
                mutex_lock(&f->lock);
                fetch_ungate(f);
                mutex_unlock(&f->lock);
        }
        unclaim(f, job);
        return 0;
}

/* The list is here, and that was all that was asked for: now it shows whether the piece is needed. */
static void go_on_with_list(struct fetch *f, struct fetch_job *job)
{
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        fetch_place(f, job);
        mutex_unlock(&f->lock);
}

/* ---- the bytes ---- */

void fetch_count(struct fetch *f, const struct fetch_job *job)
{
        if (!job->large || !atomic_exchange(&job->large->counted, true))
                atomic_fetch_add(&f->files, 1);
        atomic_fetch_add(&f->bytes, job->size);
}

/* The hash that JOB's bytes must have; NULL: it is not known, as the list is not here. */
static const uint8_t *expected_hash(const struct fetch_job *job)
{
        if (!job->large)
                return job->key.content.bytes;
        return store_pieces_listed(job->large->pieces)
                       ? store_pieces_hash(job->large->pieces, job->key.piece - 1)
                       : NULL;
}

/* What fills its message takes it over, being the last that is read of it; the rest is copied, for it would keep all of the message. */
static struct fetch_content *content_of(struct channel_message *message, const struct fetch_part *part)
{
        return part->data_len > message->len / 2 &&
                               part->data + part->data_len == message->data + message->len
                       ? fetch_content_take(message, part->data, part->data_len)
                       : fetch_content_new(part->data, part->data_len);
}

static void take_whole(struct fetch *f, struct fetch_job *job, const struct fetch_part *part,
                       struct channel_message *message)
{
        const uint8_t *expected = expected_hash(job);
        struct fetch_content *content;

        if (!expected ||
            !hash_proves(hash_base(job->key.content.algorithm), part->data, part->data_len, expected)) {
                refuse(f, job, expected ? -EBADMSG : -EPROTO);
                return;
        }
        content = content_of(message, part);
        if (!content) {
                refuse(f, job, 0);
                return;
        }
        fetch_count(f, job);
        atomic_store(&f->proved, true);
        mutex_lock(&f->lock);
        fetch_forget_asked(f, job);
        job->state = JOB_RUNNING;
        job->content = content;
        fetch_end_waits(f, job, 0, content);
        fetch_store(f, job);
        mutex_unlock(&f->lock);
}

/* Whether PART is all that is still owed for JOB. */
static bool is_whole(const struct fetch_job *job, const struct fetch_part *part)
{
        if (job->list_only)
                return part->last && part->data_len == 1 && part->offset == job->large->size - 1 &&
                       store_pieces_listed(job->large->pieces);
        return part->last && part->offset == job->offset && part->data_len == job->size;
}

static int take_part(struct fetch *f, struct fetch_job *job, const struct fetch_part *part,
                     struct channel_message *message)
{
        fetch_note_progress(part->data_len, job);
        fetch_note_away(f, job, 0);
        if (part->status != 0) {
                refuse(f, job, part->status == RPC_FAILED_PRECONDITION ? -ESTALE : 0);
                return 0;
        }
        if (part->list)
                return take_list(f, job, part);
        if (!is_whole(job, part)) {
                refuse(f, job, -EPROTO);
                return -EPROTO;
        }
        if (job->list_only)
                go_on_with_list(f, job);
        else
                take_whole(f, job, part, message);
        return 0;
}

int fetch_take_message(struct channel_message *message, void *fetch)
{
        struct fetch *f = fetch;
        struct wire_reader reader = fetch_reply_open(message->data, message->len);
        struct fetch_part part;
        int r;

        session_note_heard(f->options.session);
        while ((r = fetch_reply_next(&reader, &part)) > 0) {
                struct fetch_job *job = claim(f, &part);

                if (job)
                        r = take_part(f, job, &part, message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? -EPROTO : 0;
}
