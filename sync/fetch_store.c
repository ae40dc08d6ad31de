#include <string.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * Small contents and pieces were verified in memory, and whoever waited has them. What is left is to keep them: a file costs more to make than to send, so
 * that is done here, beside the stream. The job stays until the store has it, so that whoever wants the content meanwhile finds it.
 *
 * What the store cannot take, because the disk is full, is kept in memory for a while: otherwise each request of a task that reads the file would fetch it
 * anew.
 */

#define KEPT_BYTES_MAX                                                                                       \
        (UINT64_C(16) << 20) /* with what keeps them: contents may be of a few bytes, and many */
#define KEPT_NS (10 * NSEC_PER_SEC)

void fetch_store(struct fetch *f, struct fetch_job *job)
{
        job->state = JOB_STORING;
        DL_APPEND(f->storing, job);
        f->n_storing++;
        f->storing_bytes += job->size;
        condition_signal(&f->stored);
}

/* ---- what could not be written ---- */

static uint64_t kept_cost(const struct fetch_job *job)
{
        return sizeof(*job) + sizeof(*job->content) + job->size;
}

static void drop_kept(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        DL_DELETE(f->kept, job);
        f->kept_bytes -= kept_cost(job);
        fetch_free_job(f, job);
}

static void keep(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        job->state = JOB_KEPT;
        job->kept_ns = clock_monotonic_ns();
        DL_APPEND(f->kept, job);
        f->kept_bytes += kept_cost(job);
        while (f->kept_bytes > KEPT_BYTES_MAX)
                drop_kept(f, f->kept);
}

struct fetch_content *fetch_at_hand(struct fetch *f, struct fetch_job *job)
{
        if (job->state == JOB_STORING)
                return job->content;
        if (job->state != JOB_KEPT)
                return NULL;
        if (clock_monotonic_ns() - job->kept_ns <= KEPT_NS)
                return job->content;
        drop_kept(f, job); /* maybe there is room by now */
        return NULL;
}

/* ---- writing ---- */

static int write_small(struct fetch_job *job)
{
        struct store_writer *writer = TAKE_PTR(job->writer);
        int r;

        r = store_write(writer, job->content->data, job->content->len);
        if (r == 0)
                return store_write_commit(writer);
        store_write_abort(writer);
        return r;
}

static int write_piece(struct fetch_job *job)
{
        job->claimed = false;
        return store_pieces_put_verified(job->large->pieces, job->key.piece - 1, job->content->data);
}

static int write_content(struct fetch_job *job)
{
        char name[HASH_TEXT_MAX];
        int r = job->unstored ? job->unstored : job->large ? write_piece(job) : write_small(job);

        if (r != 0)
                log_limited(LOG_LEVEL_WARNING, "fetch-store", "cannot keep %s in the cache: %s",
                            content_id_format(&job->key.content, name),
                            r < 0 ? strerror(-r) : "it changed in memory");
        return r;
}

/* JOB is out of the queue, and RESULT came of writing it. */
static void finish(struct fetch *f, struct fetch_job *job, int result) TSA_REQUIRES(f->lock)
{
        if (--f->n_storing == 0)
                condition_broadcast(&f->settled);
        f->storing_bytes -= job->size;
        condition_signal(&f->send); /* the window has room */
        if (result < 0)
                keep(f, job);
        else
                fetch_free_job(f, job);
}

void *fetch_storer_main(void *fetch)
{
        struct fetch *f = fetch;

        thread_name("fetch-store");
        mutex_lock(&f->lock);
        for (;;) {
                struct fetch_job *job = f->storing;
                int r;

                if (!job) {
                        if (f->senders_gone)
                                break;
                        condition_wait(&f->stored, &f->lock);
                        continue;
                }
                DL_DELETE(f->storing, job);
                mutex_unlock(&f->lock);
                r = write_content(job);
                mutex_lock(&f->lock);
                finish(f, job, r);
        }
        mutex_unlock(&f->lock);
        return NULL;
}
