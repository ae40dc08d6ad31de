#include <string.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * The threads that take one job each, and what becomes of a job after a try. A job that has to wait for its next try rests, and holds no thread.
 */

#define SMALL_BYTES   (UINT64_C(1) << 20)
#define SMALL_SHARE   4 /* one thread in so many takes small contents only */
#define DAMAGED_TRIES 2 /* a content that does not match its hash is fetched once more */

/* ---- one job ---- */

/* What is to become of a job. */
enum next {
        NEXT_END,   /* it is over */
        NEXT_AGAIN, /* another try at once */
        NEXT_REST,  /* another try later */
};

/* The job's file is to be had under another number from now on. */
static void move_to(struct fetch_job *job, uint64_t ino)
{
        atomic_store(&job->ino, ino);
        if (job->large)
                atomic_store(&job->large->ino, ino);
}

/* 0: another file of the catalog has the content, and that is where to look; -ESTALE. */
static int find_other_file(struct fetch *f, struct fetch_job *job)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct catalog_entry entry;

        if (catalog_find_content(f->options.catalog, &job->key.content, &path) != CATALOG_OK ||
            catalog_find_path(f->options.catalog, path.data, path.len, &entry) != CATALOG_OK)
                return -ESTALE;
        move_to(job, entry.ino);
        return 0;
}

/*
 * The master's file has moved on: bring the catalog up to date and look for another file with this content. 0, -ESTALE; -EAGAIN: a first version is on its
 * way, which must be here before the next one: waiting for it here would keep the threads from those that can be had; or the master in use is behind
 * this version, and another one may have the content.
 */
static int find_elsewhere(struct fetch *f, struct fetch_job *job)
{
        struct catalog_version version;
        int r;

        catalog_get_version(f->options.catalog, &version);
        if (version.loading)
                return -EAGAIN;
        r = f->options.refresh ? f->options.refresh(f->options.refresh_arg) : -ESTALE;
        if (r < 0)
                return r == -EAGAIN ? r : -ESTALE;
        return job->key.folder ? 0 : find_other_file(f, job); /* of a folder the sync has brought all */
}

static enum next after_stale(struct fetch *f, struct fetch_job *job)
{
        int r;

        if (job->looked_elsewhere) {
                if (!job->refused || job->looked_twice)
                        return NEXT_END;
                job->looked_twice = true;
                return NEXT_AGAIN;
        }
        r = find_elsewhere(f, job);
        if (r == -EAGAIN)
                return NEXT_REST;
        job->looked_elsewhere = true;
        job->refused = false;
        return r < 0 ? NEXT_END : NEXT_AGAIN;
}

/* After a try that ended with ERROR; may wait for a sync. */
static enum next after_failure(struct fetch *f, struct fetch_job *job, int error)
{
        switch (error) {
        case -EBADMSG:
        case -EPROTO:
                return ++job->damaged == DAMAGED_TRIES ? NEXT_END : NEXT_AGAIN;
        case -ESTALE:
                return after_stale(f, job);
        default:
                return fetch_worth_retrying(error) && !f->options.offline ? NEXT_REST : NEXT_END;
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

/* One try; PATH is where the content is to be had. */
static int try_once(struct fetch *f, struct fetch_job *job, struct buffer *path, struct failure *failure)
{
        int r;

        buffer_truncate(path, 0);
        r = catalog_path(f->options.catalog, atomic_load(&job->ino), path);
        if (r != CATALOG_OK)
                return r < 0 ? r : -ESTALE;
        r = job->verdict < 0 ? job->verdict : fetch_try(f, job, path, failure);
        job->verdict = 0;
        /* A stock master cannot say that a file has changed since its scan: it shows as a wrong hash. */
        if (r == -EBADMSG && !job->looked_elsewhere &&
            session_get_dialect(f->options.session) == SESSION_STOCK)
                return -ESTALE;
        return r;
}

/* JOB is over with RESULT, and not here if that is negative. */
static void end_job(struct fetch *f, struct fetch_job *job, int result, const char *path,
                    const struct failure *failure) TSA_REQUIRES(f->lock)
{
        struct content_id content = job->key.content;
        char name[HASH_TEXT_MAX];
        int r = f->stopping ? -ECANCELED : fetch_read_error(result);

        if (r == 0 && job->content) {
                fetch_end_waits(f, job, 0, job->content);
                fetch_store(f, job);
                return;
        }
        fetch_end_job(f, job, r);
        if (r < 0 && r != -ECANCELED)
                log_limited(LOG_LEVEL_ERROR, "fetch", "cannot fetch '%s' (%s): %s", path ? path : "?",
                            content_id_format(&content, name),
                            r == -ESTALE ? "the master no longer has this content"
                                         : failure_text(failure, r));
}

static void run_job(struct fetch *f, struct fetch_job *job)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct failure failure = { 0 };
        enum next next = NEXT_END;
        int r;

        do {
                r = try_once(f, job, &path, &failure);
                if (r < 0)
                        next = after_failure(f, job, r);
        } while (r < 0 && next == NEXT_AGAIN);
        mutex_lock(&f->lock);
        if (r == TRIED_CHANNEL) {
                job->refused = false;
                fetch_place(f, job);
        } else if (r == TRIED_WHOLE) {
                fetch_want_whole_instead(f, job);
        } else if (r < 0 && next == NEXT_REST && !f->stopping) {
                fetch_let_go(job);
                fetch_rest(f, job);
        } else {
                end_job(f, job, r, path.data, &failure);
        }
        mutex_unlock(&f->lock);
}

/* ---- the threads ---- */

/* What a thread is there for: what waits for no master must not wait for those that do, nor small contents for large ones. */
enum takes {
        TAKES_LOCAL, /* only what is here and has to be verified */
        TAKES_SMALL, /* that, and contents that are not large */
        TAKES_ALL,
};

/* What a thread may take of one class; what is here already comes first. */
static struct fetch_job *next_of(struct fetch_job *queue, enum takes takes)
{
        struct fetch_job *job;

        DL_FOREACH (queue, job)
                if (atomic_load(&job->local))
                        return job;
        if (takes == TAKES_LOCAL)
                return NULL;
        DL_FOREACH (queue, job)
                if (takes == TAKES_ALL || job->size <= SMALL_BYTES)
                        return job;
        return NULL;
}

static struct fetch_job *next_job(struct fetch *f, enum takes takes) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = NULL;

        for (int class = 0; class < FETCH_CLASSES && !job; class ++)
                job = next_of(f->waiting[class], takes);
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
        enum takes takes;
        unsigned n;

        thread_name("fetch");
        mutex_lock(&f->lock);
        n = f->n_started++;
        takes = n == 0 && f->options.threads > 1        ? TAKES_LOCAL
                : n <= f->options.threads / SMALL_SHARE ? TAKES_SMALL
                                                        : TAKES_ALL;
        while (!f->stopping) {
                struct fetch_job *job = next_job(f, takes);

                if (!job) {
                        condition_wait(&f->work, &f->lock);
                        continue;
                }
                DL_DELETE(f->waiting[job->class], job);
                if (!job->waiters) { /* all of them gave up before its turn came */
                        fetch_free_job(f, job);
                        continue;
                }
                job->state = JOB_RUNNING;
                if (job->backoff_ms == FETCH_BACKOFF_FIRST_MS) /* a try after a rest is no progress */
                        fetch_note_turn(f, job);
                mutex_unlock(&f->lock);
                run_job(f, job);
                mutex_lock(&f->lock);
        }
        mutex_unlock(&f->lock);
        return NULL;
}
