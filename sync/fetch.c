#include "sync/fetch.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include <uthash.h>
#include <utlist.h>

#include "base/lock.h"
#include "base/log.h"
#include "sync/download.h"
#include "sync/folder.h"

#define SMALL_BYTES      (UINT64_C(1) << 20)
#define SMALL_SHARE      4 /* one thread in so many takes small contents only: large ones must not hold them up */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   2000
#define GRACE_MS         1000 /* the least that a want waits, so that each gives an absent master one more chance */
#define DAMAGED_TRIES    2 /* a content that does not match its hash is fetched once more */

/* What a job brings: a content, whichever file holds it; or what is in one folder, named by its digest. Padding counts: zeroed first. */
struct fetch_key {
        struct content_id content;
        uint64_t folder; /* its inode number; 0: a file's content */
};

/* A content on its way. Made by the first want, ended (and freed) by the thread that worked on it. */
struct fetch_job {
        struct fetch_key key;
        uint64_t size, ino; /* of the file that was asked for first */
        struct fetch *fetch;
        struct fetch_waiter *waiters; /* guarded by fetch->lock */
        int64_t asked_ns;             /* when it was first wanted */
        _Atomic int64_t progress_ns;  /* when its turn or its bytes last came; 0: neither yet */
        uint64_t partial_bytes; /* of another process's download, at the last look; guarded by fetch->lock */
        _Atomic bool local;     /* in the store when it was wanted: no master is waited for, so no deadline */
        _Atomic bool writing;   /* this process is downloading it */
        bool gave_up;           /* the last try ended because nobody waited; owned by its thread */
        _Atomic int last_error; /* of the last try, for waits that end by their deadline */
        struct fetch_job *prev, *next; /* in the queue */
        UT_hash_handle hh;
};

struct fetch {
        struct fetch_options options;
        struct mutex lock;
        struct condition work;                     /* the queue has a job, or stopping */
        struct condition tick;                     /* the deadlines changed, or stopping */
        struct fetch_job *jobs TSA_GUARDED(lock);  /* by content: queued and running */
        struct fetch_job *queue TSA_GUARDED(lock); /* not begun, first come first served */
        struct fetch_waiter *deadlines TSA_GUARDED(lock);
        _Atomic int64_t progress_ns;   /* when bytes of any content last came */
        _Atomic int64_t away_since_ns; /* the master has given nothing since; 0: it is there */
        bool stopping TSA_GUARDED(lock);
        struct condition backoff; /* wakes those that wait for their next try, when stopping */
        pthread_t *threads;       /* owned; options.threads of them */
        unsigned n_threads;
        unsigned n_small TSA_GUARDED(lock); /* threads that have chosen what they take */
        pthread_t timer;
        _Atomic uint64_t files, bytes, failures;
};

/* ---- waits ---- */

static void unlink_waiter(struct fetch *f, struct fetch_waiter *w) TSA_REQUIRES(f->lock)
{
        DL_DELETE(w->job->waiters, w);
        DL_DELETE2(f->deadlines, w, deadline_prev, deadline_next);
        w->ending = true;
}

static void end_wait(struct fetch *f, struct fetch_waiter *w, int error)
{
        if (error < 0 && error != -EINTR)
                atomic_fetch_add(&f->failures, 1);
        w->done(w, error);
}

static int64_t timeout_ns(const struct fetch *f)
{
        return (int64_t)f->options.timeout_ms * NSEC_PER_MSEC;
}

/* Puts W where its deadline belongs: nearly always at the end. */
static void insert_deadline(struct fetch *f, struct fetch_waiter *w, int64_t deadline_ns)
        TSA_REQUIRES(f->lock)
{
        struct fetch_waiter *before = f->deadlines ? f->deadlines->deadline_prev : NULL; /* the last one */

        w->deadline_ns = deadline_ns;
        while (before && before->deadline_ns > deadline_ns)
                before = before == f->deadlines ? NULL : before->deadline_prev;
        if (before)
                DL_APPEND_ELEM2(f->deadlines, before, w, deadline_prev, deadline_next);
        else
                DL_PREPEND2(f->deadlines, w, deadline_prev, deadline_next);
        if (f->deadlines == w)
                condition_signal(&f->tick);
}

/* When something last moved for JOB; while it stands in the queue, for those before it. 0: nothing did. */
static int64_t last_progress(const struct fetch *f, const struct fetch_job *job)
{
        int64_t own = atomic_load(&job->progress_ns);

        return own > 0 ? own : atomic_load(&f->progress_ns);
}

/*
 * When a new wait for JOB ends if nothing moves: the time-out counts from when the master last gave something, not from each want
 * afresh. A kernel that repeats a failed read, or a task that goes on to the next file, must not wait for it all over again.
 */
static int64_t first_deadline(const struct fetch *f, const struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        int64_t now = clock_monotonic_ns(), since = MAX(job->asked_ns, last_progress(f, job));
        int64_t away_since = atomic_load(&f->away_since_ns);

        if (away_since > 0)
                since = MIN(since, away_since);
        return MAX(since + timeout_ns(f), now + MIN(timeout_ns(f), GRACE_MS * NSEC_PER_MSEC));
}

/* Another process of this machine may be fetching the content: then its partial grows. */
static bool grows_elsewhere(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        uint64_t bytes = store_partial_size(f->options.store, &job->key.content);
        bool grows = bytes > job->partial_bytes;

        job->partial_bytes = bytes;
        return grows && !atomic_load(&job->writing);
}

/* A wait whose time has come may go on if its content has made progress since. */
static bool extend_deadline(struct fetch *f, struct fetch_waiter *w) TSA_REQUIRES(f->lock)
{
        int64_t deadline = last_progress(f, w->job) + timeout_ns(f);

        if (w->interrupted)
                return false;
        if (deadline <= w->deadline_ns) {
                if (!atomic_load(&w->job->local) && !grows_elsewhere(f, w->job))
                        return false;
                deadline = clock_monotonic_ns() + timeout_ns(f);
        }
        DL_DELETE2(f->deadlines, w, deadline_prev, deadline_next);
        insert_deadline(f, w, deadline);
        return true;
}

/* The first wait that is over by interrupt or deadline, taken out; NULL: none now. */
static struct fetch_waiter *take_expired(struct fetch *f, int *ret_error) TSA_REQUIRES(f->lock)
{
        for (;;) {
                struct fetch_waiter *w = f->deadlines;
                int error;

                if (!w || w->deadline_ns > clock_monotonic_ns())
                        return NULL;
                if (extend_deadline(f, w))
                        continue;
                error = atomic_load(&w->job->last_error);
                *ret_error = w->interrupted ? -EINTR : error < 0 ? error : -ETIMEDOUT;
                unlink_waiter(f, w);
                return w;
        }
}

static void *timer_main(void *arg)
{
        struct fetch *f = arg;

        thread_name("fetch-timer");
        mutex_lock(&f->lock);
        while (!f->stopping) {
                int error = 0;
                struct fetch_waiter *w = take_expired(f, &error);

                if (w) {
                        mutex_unlock(&f->lock);
                        end_wait(f, w, error);
                        mutex_lock(&f->lock);
                } else if (f->deadlines) {
                        condition_wait_until(&f->tick, &f->lock, f->deadlines->deadline_ns);
                } else {
                        condition_wait(&f->tick, &f->lock);
                }
        }
        mutex_unlock(&f->lock);
        return NULL;
}

void fetch_interrupt(struct fetch *fetch, struct fetch_waiter *waiter)
{
        mutex_lock(&fetch->lock);
        waiter->interrupted = true;
        if (waiter->job && !waiter->ending) {
                DL_DELETE2(fetch->deadlines, waiter, deadline_prev, deadline_next);
                insert_deadline(fetch, waiter, 0);
        }
        mutex_unlock(&fetch->lock);
}

/* ---- one content ---- */

static void note_progress(size_t bytes, void *arg)
{
        struct fetch_job *job = arg;
        int64_t now = clock_monotonic_ns();

        atomic_store(&job->progress_ns, now);
        atomic_store(&job->fetch->progress_ns, now);
        atomic_store(&job->fetch->away_since_ns, 0);
}

static bool worth_retrying(int error)
{
        return error == -EHOSTUNREACH || error == -ECONNREFUSED || error == -ETIMEDOUT ||
               error == -ECANCELED || error == -EAGAIN || error == -EBUSY;
}

/* A try has failed because the master is away, or, with ERROR 0, has shown that it is there. */
static void note_away(struct fetch *f, struct fetch_job *job, int error)
{
        int64_t none = 0;

        atomic_store(&job->last_error, error);
        if (error == 0)
                atomic_store(&f->away_since_ns, 0);
        else
                atomic_compare_exchange_strong(&f->away_since_ns, &none,
                                               MAX(job->asked_ns, last_progress(f, job)));
}

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
                .progress = note_progress,
                .progress_arg = job,
        };
        struct catalog_entry entry;
        int r;

        if (catalog_get(f->options.catalog, job->ino, &entry) == CATALOG_OK && !entry.pending)
                return 0;
        if (f->options.offline)
                return failure_set(failure, -EHOSTUNREACH, "not in the catalog, and mounted with 'offline'");
        r = folder_run(f->options.session, f->options.catalog, &request, failure);
        note_away(f, job, worth_retrying(r) ? r : 0);
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
                .progress = note_progress,
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
        note_away(f, job, worth_retrying(r) ? r : 0);
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
        *ms = MIN(*ms * 2, (unsigned)BACKOFF_MAX_MS);
        mutex_lock(&f->lock);
        while (!f->stopping && job->waiters && condition_wait_until(&f->backoff, &f->lock, until) == 0)
                continue;
        go_on = !f->stopping && job->waiters;
        mutex_unlock(&f->lock);
        return go_on;
}

static int fetch_content(struct fetch *f, struct fetch_job *job, struct buffer *path, struct failure *failure)
{
        unsigned backoff_ms = BACKOFF_FIRST_MS;
        bool looked_elsewhere = false;
        int damaged = 0, r;

        job->gave_up = false;
        buffer_truncate(path, 0);
        r = catalog_path(f->options.catalog, job->ino, path);
        if (r != CATALOG_OK)
                return r < 0 ? r : -ESTALE;
        for (;;) {
                r = fetch_from(f, job, path, failure);
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
                } else if (worth_retrying(r) && !f->options.offline) {
                        job->gave_up = !back_off(f, job, &backoff_ms);
                        if (job->gave_up)
                                return r;
                } else {
                        return r;
                }
        }
}

/* What a task's read fails with: what it can act on stays, the rest is an I/O error whose story is in the
 * log. */
static int read_error(int error)
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
        r = f->stopping ? -ECANCELED : read_error(r);
        while (job->waiters) {
                struct fetch_waiter *w = job->waiters;
                unlink_waiter(f, w);
                mutex_unlock(&f->lock);
                end_wait(f, w, r);
                mutex_lock(&f->lock);
        }
        mutex_unlock(&f->lock);
        if (r < 0 && r != -ECANCELED)
                log_limited(LOG_LEVEL_ERROR, "fetch", "cannot fetch '%s' (%s): %s",
                            path.data ? path.data : "?", content_id_format(&job->key.content, name),
                            r == -ESTALE ? "the master no longer has this content"
                                         : failure_text(&failure, r));
        free(job);
}

/* The next job for a thread that takes all, or for one that is kept for small contents; what is here already comes first. NULL: none. */
static struct fetch_job *next_job(struct fetch *f, bool small_only) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;

        DL_FOREACH (f->queue, job)
                if (atomic_load(&job->local))
                        return job;
        DL_FOREACH (f->queue, job)
                if (!small_only || job->size <= SMALL_BYTES)
                        return job;
        return NULL;
}

static void *fetch_main(void *arg)
{
        struct fetch *f = arg;
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
                DL_DELETE(f->queue, job);
                if (!job->waiters) { /* all of them gave up before its turn came */
                        HASH_DEL(f->jobs, job);
                        free(job);
                        continue;
                }
                /* Its turn is progress, unless the master is known to be away. */
                atomic_store(&job->progress_ns, atomic_load(&f->away_since_ns) == 0
                                                        ? clock_monotonic_ns()
                                                        : MAX(job->asked_ns, atomic_load(&f->progress_ns)));
                mutex_unlock(&f->lock);
                run_job(f, job);
                mutex_lock(&f->lock);
        }
        mutex_unlock(&f->lock);
        return NULL;
}

/* The job for ENTRY's content: the one under way, or a new one in the queue. NULL: out of memory. */
static struct fetch_job *get_job(struct fetch *f, const struct catalog_entry *entry, bool local)
        TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;
        struct fetch_key key;

        memset(&key, 0, sizeof(key));
        key.content = entry->content;
        if (entry->kind == ENTRY_DIRECTORY)
                key.folder = entry->ino;
        HASH_FIND(hh, f->jobs, &key, sizeof(key), job);
        if (job)
                return job;
        job = calloc(1, sizeof(*job));
        if (!job)
                return NULL;
        memcpy(&job->key, &key, sizeof(key));
        job->size = entry->size;
        job->ino = entry->ino;
        job->asked_ns = clock_monotonic_ns();
        job->local = local;
        job->fetch = f;
        HASH_ADD(hh, f->jobs, key, sizeof(job->key), job);
        DL_APPEND(f->queue, job);
        condition_broadcast(&f->work); /* not every thread takes every job */
        return job;
}

int fetch_want(struct fetch *fetch, const struct catalog_entry *entry, bool local,
               struct fetch_waiter *waiter)
{
        struct fetch_job *job;
        int r = 0;

        mutex_lock(&fetch->lock);
        if (waiter->interrupted || fetch->stopping) {
                r = waiter->interrupted ? -EINTR : -ECANCELED;
        } else if (!(job = get_job(fetch, entry, local))) {
                r = -ENOMEM;
        } else {
                waiter->job = job;
                waiter->ending = false;
                DL_APPEND(job->waiters, waiter);
                insert_deadline(fetch, waiter, first_deadline(fetch, job));
        }
        mutex_unlock(&fetch->lock);
        return r;
}

void fetch_get_stats(struct fetch *fetch, struct fetch_stats *ret)
{
        ret->files = atomic_load(&fetch->files);
        ret->bytes = atomic_load(&fetch->bytes);
        ret->failures = atomic_load(&fetch->failures);
}

/* ---- life ---- */

static int start_threads(struct fetch *f)
{
        int r = -pthread_create(&f->timer, NULL, timer_main, f);

        if (r < 0)
                return r;
        for (; f->n_threads < f->options.threads; f->n_threads++) {
                r = -pthread_create(&f->threads[f->n_threads], NULL, fetch_main, f);
                if (r < 0)
                        return r;
        }
        return 0;
}

int fetch_new(const struct fetch_options *options, struct fetch **ret)
{
        struct fetch *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return -ENOMEM;
        f->options = *options;
        mutex_init(&f->lock);
        condition_init(&f->work);
        condition_init(&f->tick);
        condition_init(&f->backoff);
        f->threads = calloc(options->threads, sizeof(*f->threads));
        r = f->threads ? start_threads(f) : -ENOMEM;
        if (r < 0) {
                fetch_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

static void stop_threads(struct fetch *f)
{
        mutex_lock(&f->lock);
        f->stopping = true;
        condition_broadcast(&f->work);
        condition_broadcast(&f->tick);
        condition_broadcast(&f->backoff);
        mutex_unlock(&f->lock);
        store_interrupt(f->options.store);
        for (unsigned i = 0; i < f->n_threads; i++)
                pthread_join(f->threads[i], NULL);
        if (f->timer)
                pthread_join(f->timer, NULL);
}

void fetch_free(struct fetch *fetch) TSA_NONE
{
        struct fetch_job *job, *next;

        if (!fetch)
                return;
        stop_threads(fetch);
        HASH_ITER (hh, fetch->jobs, job, next) {
                while (job->waiters) {
                        struct fetch_waiter *w = job->waiters;
                        unlink_waiter(fetch, w);
                        end_wait(fetch, w, -ECANCELED);
                }
                HASH_DEL(fetch->jobs, job);
                free(job);
        }
        condition_release(&fetch->work);
        condition_release(&fetch->tick);
        condition_release(&fetch->backoff);
        mutex_release(&fetch->lock);
        free(fetch->threads);
        free(fetch);
}
