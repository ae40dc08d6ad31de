#include <string.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * Small contents were verified in memory, and whoever waited has them. What is left is to keep them: a file costs more to make than to send, so
 * that is done here, beside the stream. The job stays until the blob is there, so that whoever wants the content meanwhile finds it.
 */

void fetch_store(struct fetch *f, struct fetch_job *job)
{
        job->state = JOB_STORING;
        DL_APPEND(f->storing, job);
        f->n_storing++;
        f->storing_bytes += job->size;
        condition_signal(&f->stored);
}

static void write_content(const struct fetch_job *job)
{
        char name[HASH_TEXT_MAX];
        int r = store_write(job->writer, job->content->data, job->content->len);

        if (r == 0)
                r = store_write_commit(job->writer);
        else
                store_write_abort(job->writer);
        if (r != 0)
                log_limited(LOG_LEVEL_WARNING, "fetch-store", "cannot keep %s in the cache: %s",
                            content_id_format(&job->key.content, name),
                            r < 0 ? strerror(-r) : "it changed in memory");
}

void *fetch_storer_main(void *fetch)
{
        struct fetch *f = fetch;

        thread_name("fetch-store");
        mutex_lock(&f->lock);
        for (;;) {
                struct fetch_job *job = f->storing;

                if (!job) {
                        if (f->senders_gone)
                                break;
                        condition_wait(&f->stored, &f->lock);
                        continue;
                }
                DL_DELETE(f->storing, job);
                mutex_unlock(&f->lock);
                write_content(job);
                mutex_lock(&f->lock);
                HASH_DEL(f->jobs, job);
                if (--f->n_storing == 0)
                        condition_broadcast(&f->settled);
                f->storing_bytes -= job->size;
                condition_signal(&f->send); /* the window has room */
                fetch_content_unref(job->content);
                free(job);
        }
        mutex_unlock(&f->lock);
        return NULL;
}
