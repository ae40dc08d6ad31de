#include "sync/fetch.h"

#include "sync/fetch_private.h"

#define STORERS 2 /* threads that write small contents and pieces to the store */

static int start_threads(struct fetch *f)
{
        int r = -pthread_create(&f->timer, NULL, fetch_timer_main, f);

        f->timer_runs = r == 0;
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
        condition_broadcast(&f->send);
        mutex_unlock(&f->lock);
        store_interrupt(f->options.store);
        for (unsigned i = 0; i < f->n_threads; i++)
                pthread_join(f->threads[i], NULL);
        if (f->sender_runs)
                pthread_join(f->sender, NULL);
        stop_storers(f);
        if (f->timer_runs)
                pthread_join(f->timer, NULL);
}

void fetch_stop(struct fetch *fetch) TSA_NONE
{
        struct fetch_job *job, *next;

        if (!fetch || fetch->stopped)
                return;
        fetch->stopped = true;
        stop_threads(fetch);
        mutex_lock(&fetch->lock);
        HASH_ITER (hh, fetch->jobs, job, next) {
                fetch_end_waits(fetch, job, -ECANCELED, NULL);
                fetch_free_job(fetch, job);
        }
        mutex_unlock(&fetch->lock);
}

void fetch_free(struct fetch *fetch)
{
        if (!fetch)
                return;
        fetch_stop(fetch);
        condition_release(&fetch->work);
        condition_release(&fetch->tick);
        condition_release(&fetch->send);
        condition_release(&fetch->stored);
        condition_release(&fetch->settled);
        mutex_release(&fetch->lock);
        free(fetch->threads);
        free(fetch->storers);
        free(fetch);
}
