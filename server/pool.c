#include "server/pool.h"

#include <stdatomic.h>

#include <utlist.h>

#include "base/lock.h"

#define POOL_THREADS_MAX 4

struct pool {
        struct mutex lock;
        struct condition work;                      /* a job was queued, or `stopping` */
        struct pool_walk *walks TSA_GUARDED(&lock); /* whose turn was longest ago first */
        struct pool_job *first TSA_GUARDED(&lock);  /* oldest first */
        struct pool_job **last TSA_GUARDED(&lock);  /* where the next submitted job goes */
        bool has_walker TSA_GUARDED(&lock);         /* a thread takes what was pushed first */
        bool stopping TSA_GUARDED(&lock);
        unsigned running TSA_GUARDED(&lock); /* jobs being run: they may queue more */
        atomic_bool cancelled;               /* a hint that jobs poll without the lock */
        pthread_t threads[POOL_THREADS_MAX]; /* written before they start, read by pool_free */
        unsigned n_threads;
};

static struct pool_job *take_submitted_locked(struct pool *pool) TSA_REQUIRES(pool->lock)
{
        struct pool_job *job = pool->first;

        if (!job)
                return NULL;
        pool->first = job->next;
        if (!pool->first)
                pool->last = &pool->first;
        return job;
}

static struct pool_job *take_pushed_locked(struct pool *pool) TSA_REQUIRES(pool->lock)
{
        struct pool_walk *walk = pool->walks;
        struct pool_job *job;

        if (!walk)
                return NULL;
        job = walk->newest;
        walk->newest = job->next;
        DL_DELETE(pool->walks, walk);
        if (walk->newest)
                DL_APPEND(pool->walks, walk);
        return job;
}

static struct pool_job *take_job_locked(struct pool *pool, bool walker) TSA_REQUIRES(pool->lock)
{
        struct pool_job *job = walker ? take_pushed_locked(pool) : take_submitted_locked(pool);

        if (job)
                return job;
        return walker ? take_submitted_locked(pool) : take_pushed_locked(pool);
}

static void *worker_main(void *arg)
{
        struct pool *pool = arg;
        bool walker;

        thread_name("pool");
        mutex_lock(&pool->lock);
        walker = !pool->has_walker;
        pool->has_walker = true;
        for (;;) {
                struct pool_job *job = take_job_locked(pool, walker);
                if (!job) {
                        if (pool->stopping && pool->running == 0)
                                break;
                        condition_wait(&pool->work, &pool->lock);
                        continue;
                }
                pool->running++;
                mutex_unlock(&pool->lock);
                job->run(job);
                mutex_lock(&pool->lock);
                pool->running--;
        }
        /* The last job may have ended while others waited for what it might queue. */
        condition_broadcast(&pool->work);
        mutex_unlock(&pool->lock);
        return NULL;
}

int pool_new(unsigned threads, struct pool **ret)
{
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        struct pool *pool = calloc(1, sizeof(*pool));

        if (!pool)
                return -ENOMEM;
        if (threads == 0)
                threads = cores > 0 ? MAX((unsigned)cores * 2, POOL_THREADS_MIN) : POOL_THREADS_MIN;
        threads = MIN(threads, POOL_THREADS_MAX);
        mutex_init(&pool->lock);
        condition_init(&pool->work);
        pool->last = &pool->first;
        pool->has_walker = threads == 1; /* so to speak: one alone keeps to the order */
        for (; pool->n_threads < threads; pool->n_threads++) {
                int r = pthread_create(&pool->threads[pool->n_threads], NULL, worker_main, pool);
                if (r != 0) {
                        pool_free(pool);
                        return -r;
                }
        }
        *ret = pool;
        return 0;
}

unsigned pool_threads(const struct pool *pool)
{
        return pool->n_threads;
}

void pool_free(struct pool *pool)
{
        if (!pool)
                return;
        mutex_lock(&pool->lock);
        pool->stopping = true;
        condition_broadcast(&pool->work);
        mutex_unlock(&pool->lock);
        for (unsigned i = 0; i < pool->n_threads; i++)
                pthread_join(pool->threads[i], NULL);
        condition_release(&pool->work);
        mutex_release(&pool->lock);
        free(pool);
}

void pool_cancel(struct pool *pool)
{
        atomic_store(&pool->cancelled, true);
}

bool pool_cancelled(struct pool *pool)
{
        return atomic_load_explicit(&pool->cancelled, memory_order_relaxed);
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
        mutex_lock(&pool->lock);
        job->next = NULL;
        *pool->last = job;
        pool->last = &job->next;
        condition_signal(&pool->work);
        mutex_unlock(&pool->lock);
}

void pool_push(struct pool *pool, struct pool_walk *walk, struct pool_job *job)
{
        mutex_lock(&pool->lock);
        if (!walk->newest)
                DL_APPEND(pool->walks, walk);
        job->next = walk->newest;
        walk->newest = job;
        condition_signal(&pool->work);
        mutex_unlock(&pool->lock);
}
