#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "sync/download.h"
#include "sync/fetch_private.h"
#include "sync/folder.h"

#define SMALL_BYTES   (UINT64_C(1) << 20)
#define SMALL_SHARE   4 /* one thread in so many takes small contents only: large ones must not hold them up */
#define DAMAGED_TRIES 2 /* a content that does not match its hash is fetched once more */

/* Whether the content is here after all: verified now, if it was not since the machine started. */
static bool verify_local(struct fetch *f, const struct fetch_job *job)
{
        int fd;

        if (store_get(f->options.store, &job->key.content, &fd) != STORE_OK)
                return false;
        close(fd);
        return true;
}

/* Brings what is in a folder that is still pending. 0, or negative errno as folder_run. */
static int fetch_folder(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                        struct failure *failure)
{
        struct folder_request request = {
                .ino = job->ino,
                .path = path->data,
                .path_len = path->len,
                .digest = job->key.content.bytes,
                .progress = fetch_note_progress,
                .progress_arg = job,
        };
        int64_t progress_ns = atomic_load(&job->progress_ns);
        struct catalog_entry entry;
        int r;

        if (catalog_get(f->options.catalog, job->ino, &entry) == CATALOG_OK && !entry.pending)
                return 0;
        if (f->options.offline)
                return failure_set(failure, -EHOSTUNREACH, "not in the catalog, and mounted with 'offline'");
        r = folder_run(f->options.session, f->options.catalog, &request, failure);
        /* No load is open to take it: the master has done its part, and yet nothing has moved. */
        if (r == -EAGAIN)
                atomic_store(&job->progress_ns, progress_ns);
        else
                fetch_note_away(f, job, fetch_worth_retrying(r) ? r : 0);
        return r;
}

/* Begins to write the content and downloads it from PATH. 0, or negative errno as download_run. */
static int fetch_from(struct fetch *f, struct fetch_job *job, const struct buffer *path,
                      struct failure *failure)
{
        struct download_request request = {
                .path = path->data,
                .path_len = path->len,
                .content = job->key.content,
                .size = job->size,
                .progress = fetch_note_progress,
                .progress_arg = job,
        };
        struct store_writer *writer;
        int r;

        if (job->key.folder)
                return fetch_folder(f, job, path, failure);
        if (atomic_load(&job->local)) {
                if (verify_local(f, job))
                        return 0;
                atomic_store(&job->progress_ns,
                             clock_monotonic_ns()); /* from here on the master's time counts */
                atomic_store(&job->local, false);
        }
        if (f->options.offline)
                return failure_set(failure, -EHOSTUNREACH, "not in the cache, and mounted with 'offline'");
        r = store_write_begin(f->options.store, &job->key.content, job->size, &writer);
        if (r == STORE_HAVE)
                return 0;
        if (r < 0)
                return failure_set(failure, r, "cannot write to the cache: %s", strerror(-r));
        atomic_store(&job->writing, true);
        r = download_run(f->options.session, &request, writer, failure);
        atomic_store(&job->writing, false);
        fetch_note_away(f, job, fetch_worth_retrying(r) ? r : 0);
        if (r == 0) {
                atomic_fetch_add(&f->files, 1);
                atomic_fetch_add(&f->bytes, job->size);
        }
        return r;
}

/* The master's file has moved on: bring the catalog up to date and look for another file with this content.
 */
static int find_elsewhere(struct fetch *f, struct fetch_job *job, struct buffer *path)
{
        struct buffer found = { 0 };

        if (!f->options.refresh || f->options.refresh(f->options.refresh_arg) < 0)
                return -ESTALE;
        if (job->key.folder) /* the sync has brought it; if not, the next try fails again */
                return 0;
        if (catalog_find_content(f->options.catalog, &job->key.content, &found) != CATALOG_OK) {
                buffer_release(&found);
                return -ESTALE;
        }
        buffer_release(path);
        *path = found;
        return 0;
}

/* Waits before the next try, with jitter; false: nobody waits for the content any more, or stopping. */
static bool back_off(struct fetch *f, struct fetch_job *job, unsigned *ms)
{
        uint32_t random = 0;
        int64_t until;
        bool go_on;

        getrandom(&random, sizeof(random), 0);
        until = clock_monotonic_ns() + (*ms / 2 + random % *ms) * NSEC_PER_MSEC;
        *ms = MIN(*ms * 2, (unsigned)FETCH_BACKOFF_MAX_MS);
        mutex_lock(&f->lock);
        while (!f->stopping && job->waiters && condition_wait_until(&f->backoff, &f->lock, until) == 0)
                continue;
        go_on = !f->stopping && job->waiters;
        mutex_unlock(&f->lock);
        return go_on;
}

static int fetch_content(struct fetch *f, struct fetch_job *job, struct buffer *path, struct failure *failure)
{
        unsigned backoff_ms = FETCH_BACKOFF_FIRST_MS;
        bool looked_elsewhere = false;
        int damaged = 0, r;

        job->gave_up = false;
        buffer_truncate(path, 0);
        r = catalog_path(f->options.catalog, job->ino, path);
        if (r != CATALOG_OK)
                return r < 0 ? r : -ESTALE;
        for (;;) {
                r = job->verdict < 0 ? job->verdict : fetch_from(f, job, path, failure);
                job->verdict = 0;
                /* A stock master cannot say that a file has changed since its scan: it shows as a wrong hash.
                 */
                if (r == -EBADMSG && !looked_elsewhere &&
                    session_get_dialect(f->options.session) == SESSION_STOCK)
                        r = -ESTALE;
                if (r == -EBADMSG || r == -EPROTO) {
                        if (++damaged == DAMAGED_TRIES)
                                return r;
                } else if (r == -ESTALE && !looked_elsewhere) {
                        looked_elsewhere = true;
                        if (find_elsewhere(f, job, path) < 0)
                                return -ESTALE;
                } else if (fetch_worth_retrying(r) && !f->options.offline) {
                        job->gave_up = !back_off(f, job, &backoff_ms);
                        if (job->gave_up)
                                return r;
                } else {
                        return r;
                }
        }
}

int fetch_read_error(int error)
{
        switch (error) {
        case 0:
        case -ESTALE:
        case -ENOSPC:
        case -EACCES:
        case -EHOSTUNREACH:
        case -ETIMEDOUT:
        case -ECANCELED:
                return error;
        case -ECONNREFUSED:
                return -EHOSTUNREACH;
        case -EDQUOT:
                return -ENOSPC;
        default:
                return -EIO;
        }
}

static void run_job(struct fetch *f, struct fetch_job *job)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct failure failure = { 0 };
        char name[HASH_TEXT_MAX];
        int r;

        for (;;) {
                r = fetch_content(f, job, &path, &failure);
                mutex_lock(&f->lock);
                /* Somebody may want it again since nobody did. */
                if (f->stopping || !job->gave_up || !job->waiters)
                        break;
                mutex_unlock(&f->lock);
        }
        HASH_DEL(f->jobs, job);
        r = f->stopping ? -ECANCELED : fetch_read_error(r);
        fetch_end_waits(f, job, r, NULL);
        mutex_unlock(&f->lock);
        if (r < 0 && r != -ECANCELED)
                log_limited(LOG_LEVEL_ERROR, "fetch", "cannot fetch '%s' (%s): %s",
                            path.data ? path.data : "?", content_id_format(&job->key.content, name),
                            r == -ESTALE ? "the master no longer has this content"
                                         : failure_text(&failure, r));
        free(job);
}

/* What a thread may take of one class; what is here already comes first. */
static struct fetch_job *next_of(struct fetch_job *queue, bool small_only)
{
        struct fetch_job *job;

        DL_FOREACH (queue, job)
                if (atomic_load(&job->local))
                        return job;
        DL_FOREACH (queue, job)
                if (!small_only || job->size <= SMALL_BYTES)
                        return job;
        return NULL;
}

/* The next job for a thread that takes all, or for one that is kept for small contents. NULL: none. */
static struct fetch_job *next_job(struct fetch *f, bool small_only) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = NULL;

        for (int class = 0; class < FETCH_CLASSES && !job; class ++)
                job = next_of(f->waiting[class], small_only);
        return job;
}

void fetch_hand_over(struct fetch *f, struct fetch_job *job)
{
        job->state = JOB_WAITING;
        DL_APPEND(f->waiting[job->class], job);
        condition_broadcast(&f->work); /* not every thread takes every job */
}

void *fetch_thread_main(void *fetch)
{
        struct fetch *f = fetch;
        bool small_only;

        thread_name("fetch");
        mutex_lock(&f->lock);
        small_only = f->n_small++ < f->options.threads / SMALL_SHARE;
        while (!f->stopping) {
                struct fetch_job *job = next_job(f, small_only);

                if (!job) {
                        condition_wait(&f->work, &f->lock);
                        continue;
                }
                DL_DELETE(f->waiting[job->class], job);
                if (!job->waiters) { /* all of them gave up before its turn came */
                        HASH_DEL(f->jobs, job);
                        free(job);
                        continue;
                }
                job->state = JOB_RUNNING;
                fetch_note_turn(f, job);
                mutex_unlock(&f->lock);
                run_job(f, job);
                mutex_lock(&f->lock);
        }
        mutex_unlock(&f->lock);
        return NULL;
}
