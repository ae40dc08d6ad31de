#include "sync/syncer.h"

#include <stdatomic.h>

#include "base/lock.h"
#include "base/log.h"

struct syncer {
        struct syncer_options options;
        struct mutex lock;
        struct condition work;             /* a sync is wanted, or stopping */
        struct condition outcome;          /* a sync has ended */
        uint64_t wanted TSA_GUARDED(lock); /* tickets given out */
        uint64_t ended TSA_GUARDED(lock);  /* tickets answered */
        int result TSA_GUARDED(lock);      /* of the last sync */
        struct failure failure TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
        pthread_t thread;
        bool started;
        _Atomic uint64_t syncs, full_scans, delta_entries, fetched_files, fetched_bytes;
};

void syncer_count(struct syncer *syncer, const struct scan_result *result)
{
        const struct catalog_changes *c = &result->changes;

        atomic_fetch_add(&syncer->syncs, 1);
        atomic_fetch_add(&syncer->full_scans, result->fell_back);
        atomic_fetch_add(&syncer->delta_entries, c->added + c->removed + c->modified);
        atomic_fetch_add(&syncer->fetched_files, result->fetched_files);
        atomic_fetch_add(&syncer->fetched_bytes, result->fetched_bytes);
}

static int sync_now(struct syncer *s, struct failure *failure)
{
        const char *name = session_get_source(s->options.session)->text;
        struct scan_result result;
        int r = scan_run(s->options.session, s->options.catalog, s->options.store, &result, failure);

        if (r < 0) {
                log_limited(LOG_LEVEL_WARNING, "sync", "%s: no new version: %s; the one mounted stays", name,
                            failure_text(failure, r));
                return r;
        }
        syncer_count(s, &result);
        if (!result.unchanged)
                log_info("%s: new version: %lu added, %lu removed, %lu modified", name, result.changes.added,
                         result.changes.removed, result.changes.modified);
        s->options.on_changes(&result.changes, s->options.on_changes_arg);
        catalog_changes_release(&result.changes);
        return 0;
}

/* Sleeps until a sync is due: true, or stopping: false. */
static bool wait_for_work(struct syncer *s, int64_t due_ns) TSA_REQUIRES(s->lock)
{
        while (!s->stopping && s->wanted == s->ended) {
                if (s->options.refresh_sec == 0)
                        condition_wait(&s->work, &s->lock);
                else if (condition_wait_until(&s->work, &s->lock, due_ns) == -ETIMEDOUT)
                        break;
        }
        return !s->stopping;
}

static void *syncer_main(void *arg)
{
        struct syncer *s = arg;

        thread_name("sync");
        mutex_lock(&s->lock);
        while (wait_for_work(s, clock_monotonic_ns() + s->options.refresh_sec * NSEC_PER_SEC)) {
                uint64_t tickets = s->wanted;
                struct failure failure = { 0 };
                int r;

                mutex_unlock(&s->lock);
                r = sync_now(s, &failure);
                mutex_lock(&s->lock);
                s->ended = tickets;
                s->result = r;
                s->failure = failure;
                condition_broadcast(&s->outcome);
        }
        s->ended = s->wanted;
        s->result = -ECANCELED;
        condition_broadcast(&s->outcome);
        mutex_unlock(&s->lock);
        return NULL;
}

int syncer_run(struct syncer *syncer, struct failure *failure)
{
        uint64_t ticket;
        int r;

        mutex_lock(&syncer->lock);
        ticket = ++syncer->wanted;
        condition_signal(&syncer->work);
        while (syncer->ended < ticket && !syncer->stopping)
                condition_wait(&syncer->outcome, &syncer->lock);
        r = syncer->stopping ? -ECANCELED : syncer->result;
        *failure = syncer->failure;
        mutex_unlock(&syncer->lock);
        return r;
}

void syncer_get_stats(struct syncer *syncer, struct syncer_stats *ret)
{
        ret->syncs = atomic_load(&syncer->syncs);
        ret->full_scans = atomic_load(&syncer->full_scans);
        ret->delta_entries = atomic_load(&syncer->delta_entries);
        ret->fetched_files = atomic_load(&syncer->fetched_files);
        ret->fetched_bytes = atomic_load(&syncer->fetched_bytes);
}

int syncer_new(const struct syncer_options *options, struct syncer **ret)
{
        struct syncer *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->options = *options;
        mutex_init(&s->lock);
        condition_init(&s->work);
        condition_init(&s->outcome);
        r = -pthread_create(&s->thread, NULL, syncer_main, s);
        s->started = r == 0;
        if (r < 0) {
                syncer_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void syncer_stop(struct syncer *syncer)
{
        mutex_lock(&syncer->lock);
        syncer->stopping = true;
        condition_signal(&syncer->work);
        condition_broadcast(&syncer->outcome);
        mutex_unlock(&syncer->lock);
        if (syncer->started)
                pthread_join(syncer->thread, NULL);
        syncer->started = false;
}

void syncer_free(struct syncer *syncer)
{
        if (!syncer)
                return;
        syncer_stop(syncer);
        condition_release(&syncer->work);
        condition_release(&syncer->outcome);
        mutex_release(&syncer->lock);
        free(syncer);
}
