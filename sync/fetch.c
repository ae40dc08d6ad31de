#include "sync/fetch.h"

#include <string.h>

#include "sync/fetch_private.h"

#define STORERS   2 /* threads that write small contents to the store */
#define SETTLE_MS 3000

/* ---- wanting ---- */

/* Whether KEY is one that the channel brings. */
static bool goes_by_channel(const struct fetch *f, const struct fetch_key *key, bool local)
{
        return !key->folder && !local && !f->options.offline && key->content.algorithm == HASH_XXH3 &&
               !atomic_load(&f->no_channel);
}

/* A new job for KEY in the queue where it belongs. NULL: out of memory. */
static struct fetch_job *add_job(struct fetch *f, const struct fetch_key *key,
                                 const struct catalog_entry *entry, const struct fetch_waiter *waiter)
        TSA_REQUIRES(f->lock)
{
        struct fetch_job *job = calloc(1, sizeof(*job));

        if (!job)
                return NULL;
        memcpy(&job->key, key, sizeof(*key));
        job->size = entry->size;
        job->ino = entry->ino;
        job->asked_ns = clock_monotonic_ns();
        job->fetch = f;
        job->class = waiter->class;
        HASH_ADD(hh, f->jobs, key, sizeof(job->key), job);
        return job;
}

/* A task waits for what was only wanted ahead: it goes to the end of the better queue. What is asked for already is on its way. */
static void upgrade(struct fetch *f, struct fetch_job *job, enum fetch_class class) TSA_REQUIRES(f->lock)
{
        if (class >= job->class)
                return;
        if (job->state == JOB_WAITING)
                DL_DELETE(f->waiting[job->class], job);
        else if (job->state == JOB_QUEUED)
                DL_DELETE(f->queued[job->class], job);
        job->class = class;
        if (job->state == JOB_WAITING)
                fetch_hand_over(f, job);
        else if (job->state == JOB_QUEUED)
                fetch_enqueue(f, job);
}

/* The job for ENTRY's content, the one under way or a new one, with WAITER among its waits. */
static int join_job(struct fetch *f, const struct catalog_entry *entry, bool local,
                    struct fetch_waiter *waiter) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;
        struct fetch_key key;

        memset(&key, 0, sizeof(key));
        key.content = entry->content;
        if (entry->kind == ENTRY_DIRECTORY)
                key.folder = entry->ino;
        HASH_FIND(hh, f->jobs, &key, sizeof(key), job);
        if (job) {
                upgrade(f, job, waiter->class);
                fetch_link_waiter(f, job, waiter);
                return 0;
        }
        if (waiter->class != FETCH_READ && !local && !goes_by_channel(f, &key, local))
                return -EOPNOTSUPP;
        job = add_job(f, &key, entry, waiter);
        if (!job)
                return -ENOMEM;
        job->local = local;
        fetch_link_waiter(f, job, waiter);
        if (goes_by_channel(f, &key, local))
                fetch_enqueue(f, job);
        else
                fetch_hand_over(f, job);
        return 0;
}

/* The bytes of CONTENT if they are here and only on their way to the disk; the job's. */
static struct fetch_content *get_storing(struct fetch *f, const struct content_id *content)
        TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;
        struct fetch_key key;

        memset(&key, 0, sizeof(key));
        key.content = *content;
        HASH_FIND(hh, f->jobs, &key, sizeof(key), job);
        return job && job->state == JOB_STORING ? job->content : NULL;
}

bool fetch_holds(struct fetch *fetch, const struct content_id *content)
{
        bool holds;

        mutex_lock(&fetch->lock);
        holds = get_storing(fetch, content) != NULL;
        mutex_unlock(&fetch->lock);
        return holds;
}

void fetch_settle(struct fetch *fetch)
{
        int64_t until = clock_monotonic_ns() + SETTLE_MS * NSEC_PER_MSEC;

        mutex_lock(&fetch->lock);
        while (fetch->n_storing > 0 && condition_wait_until(&fetch->settled, &fetch->lock, until) == 0)
                continue;
        mutex_unlock(&fetch->lock);
}

int fetch_want(struct fetch *fetch, const struct catalog_entry *entry, bool local,
               struct fetch_waiter *waiter)
{
        struct fetch_content *content = NULL;
        int r = 0;

        mutex_lock(&fetch->lock);
        if (waiter->interrupted || fetch->stopping)
                r = waiter->interrupted ? -EINTR : -ECANCELED;
        else if (entry->kind == ENTRY_FILE && (content = get_storing(fetch, &entry->content)))
                waiter->ending = true;
        else
                r = join_job(fetch, entry, local, waiter);
        if (content)
                fetch_content_ref(content);
        mutex_unlock(&fetch->lock);
        if (content) {
                waiter->content = content;
                fetch_end_wait(fetch, waiter, 0);
                fetch_content_unref(content);
        }
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
        int r = -pthread_create(&f->timer, NULL, fetch_timer_main, f);

        for (; r == 0 && f->n_threads < f->options.threads; f->n_threads += r == 0)
                r = -pthread_create(&f->threads[f->n_threads], NULL, fetch_thread_main, f);
        for (; r == 0 && f->n_storers < STORERS; f->n_storers += r == 0)
                r = -pthread_create(&f->storers[f->n_storers], NULL, fetch_storer_main, f);
        if (r == 0)
                r = -pthread_create(&f->sender, NULL, fetch_sender_main, f);
        f->sender_runs = r == 0;
        return r;
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
        condition_init(&f->send);
        condition_init(&f->stored);
        condition_init(&f->settled);
        f->threads = calloc(options->threads, sizeof(*f->threads));
        f->storers = calloc(STORERS, sizeof(*f->storers));
        r = f->threads && f->storers ? start_threads(f) : -ENOMEM;
        if (r < 0) {
                fetch_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

/* What is in memory is still written: it may never be had again, and another mount may be waiting for it. */
static void stop_storers(struct fetch *f)
{
        mutex_lock(&f->lock);
        f->senders_gone = true;
        condition_broadcast(&f->stored);
        mutex_unlock(&f->lock);
        for (unsigned i = 0; i < f->n_storers; i++)
                pthread_join(f->storers[i], NULL);
}

static void stop_threads(struct fetch *f)
{
        mutex_lock(&f->lock);
        f->stopping = true;
        condition_broadcast(&f->work);
        condition_broadcast(&f->tick);
        condition_broadcast(&f->backoff);
        condition_broadcast(&f->send);
        mutex_unlock(&f->lock);
        store_interrupt(f->options.store);
        for (unsigned i = 0; i < f->n_threads; i++)
                pthread_join(f->threads[i], NULL);
        if (f->sender_runs)
                pthread_join(f->sender, NULL);
        stop_storers(f);
        if (f->timer)
                pthread_join(f->timer, NULL);
}

void fetch_stop(struct fetch *fetch) TSA_NONE
{
        struct fetch_job *job, *next;

        if (!fetch || fetch->stopped)
                return;
        fetch->stopped = true;
        stop_threads(fetch);
        HASH_ITER (hh, fetch->jobs, job, next) {
                mutex_lock(&fetch->lock);
                fetch_end_waits(fetch, job, -ECANCELED, NULL);
                mutex_unlock(&fetch->lock);
                HASH_DEL(fetch->jobs, job);
                store_write_abort(job->writer);
                free(job);
        }
}

void fetch_free(struct fetch *fetch)
{
        if (!fetch)
                return;
        fetch_stop(fetch);
        condition_release(&fetch->work);
        condition_release(&fetch->tick);
        condition_release(&fetch->backoff);
        condition_release(&fetch->send);
        condition_release(&fetch->stored);
        condition_release(&fetch->settled);
        mutex_release(&fetch->lock);
        free(fetch->threads);
        free(fetch->storers);
        free(fetch);
}
