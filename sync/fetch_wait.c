
#include "base/backoff.h"
#include "sync/fetch_private.h"

#define GRACE_MS 1000 /* the least that a want waits, so that each gives an absent master one more chance */

void fetch_unlink_waiter(struct fetch *f, struct fetch_waiter *w)
{
        struct fetch_job *job = w->job;

        DL_DELETE(job->waiters, w);
        DL_DELETE2(f->deadlines, w, deadline_prev, deadline_next);
        w->ending = true;
        if (!job->waiters &&
            (job->state == JOB_ASKED || job->state == JOB_QUEUED || job->state == JOB_GATED)) {
                f->abandoned = true;
                condition_signal(&f->send);
        }
}

void fetch_end_wait(struct fetch *f, struct fetch_waiter *w, int error)
{
        if (error < 0 && error != -EINTR && w->class == FETCH_READ)
                atomic_fetch_add(&f->failures, 1);
        w->done(w, error);
}

void fetch_end_waits(struct fetch *f, struct fetch_job *job, int error, struct fetch_content *content)
{
        while (job->waiters) {
                struct fetch_waiter *w = job->waiters;

                fetch_unlink_waiter(f, w);
                w->content = content;
                mutex_unlock(&f->lock);
                fetch_end_wait(f, w, error);
                mutex_lock(&f->lock);
        }
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

/*
 * Whether JOB, asked for, still has others before it: on a slow link megabytes, so that what comes of them is progress for it. When all that was asked for
 * until then should be here it counts as if its turn came now, once: a master that sends everything else for ever must not hold its waits for ever.
 */
static bool has_others_before(const struct fetch *f, struct fetch_job *job)
{
        uint64_t due = atomic_load(&job->due);

        if (atomic_load(&f->received) < due)
                return true;
        if (due > 0 && atomic_compare_exchange_strong(&job->due, &due, 0))
                atomic_store(&job->progress_ns, clock_monotonic_ns());
        return false;
}

/* When something last moved for JOB, or for those that come before it. 0: nothing did. */
static int64_t last_progress(const struct fetch *f, struct fetch_job *job)
{
        bool waits = has_others_before(f, job);
        int64_t own = atomic_load(&job->progress_ns);

        return own == 0 || waits ? MAX(own, atomic_load(&f->progress_ns)) : own;
}

/*
 * When a new wait for JOB ends if nothing moves: the time-out counts from when the master last gave something, not from each want
 * afresh. A kernel that repeats a failed read, or a task that goes on to the next file, must not wait for it all over again.
 */
static int64_t first_deadline(const struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        int64_t now = clock_monotonic_ns(), since = MAX(job->asked_ns, last_progress(f, job));
        int64_t away_since = atomic_load(&f->away_since_ns);

        if (away_since > 0)
                since = MIN(since, away_since);
        return MAX(since + timeout_ns(f), now + MIN(timeout_ns(f), GRACE_MS * NSEC_PER_MSEC));
}

void fetch_link_waiter(struct fetch *f, struct fetch_job *job, struct fetch_waiter *w)
{
        w->job = job;
        w->content = NULL;
        w->ending = false;
        DL_APPEND(job->waiters, w);
        insert_deadline(f, w, first_deadline(f, job));
}

/*
 * Another process of this machine may be fetching the content: then there is more of it, and that is progress. Not if it is for us to bring: what was
 * asked for is locked or claimed, and that other pieces of it come must not hold the waits for one that does not.
 */
static bool may_grow_elsewhere(const struct fetch_waiter *w)
{
        struct fetch_job *job = w->job;

        return !w->interrupted && !job->key.folder && job->looked_ns < w->deadline_ns &&
               job->state != JOB_ASKED && job->state != JOB_STARTING && !atomic_load(&job->writing);
}

/* Looks, without the lock; JOB may be gone afterwards. */
static void look_elsewhere(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        const struct fetch_key key = job->key;
        struct fetch_large *large = job->large;
        uint64_t bytes;

        job->looked_ns = clock_monotonic_ns();
        if (large)
                large->refs++;
        mutex_unlock(&f->lock);
        bytes = large ? store_pieces_present(large->pieces)
                      : store_partial_size(f->options.store, &key.content);
        mutex_lock(&f->lock);
        HASH_FIND(hh, f->jobs, &key, sizeof(key), job);
        if (job && bytes > job->partial_bytes)
                atomic_store(&job->progress_ns, clock_monotonic_ns());
        if (job)
                job->partial_bytes = bytes;
        fetch_large_unref_locked(f, large);
}

/* A wait whose time has come may go on if its content has made progress since. */
static bool extend_deadline(struct fetch *f, struct fetch_waiter *w) TSA_REQUIRES(f->lock)
{
        int64_t deadline = last_progress(f, w->job) + timeout_ns(f);

        /* Who looks something up in a folder waits for the time-out in all, however much of it comes meanwhile (promise 2). */
        if (w->interrupted || w->job->key.folder)
                return false;
        if (deadline <= w->deadline_ns) {
                if (!atomic_load(&w->job->local))
                        return false;
                deadline = clock_monotonic_ns() + timeout_ns(f);
        }
        DL_DELETE2(f->deadlines, w, deadline_prev, deadline_next);
        insert_deadline(f, w, deadline);
        return true;
}

/* The first wait that is over by interrupt or deadline, taken out; NULL: none now. May release and take the lock. */
static struct fetch_waiter *take_expired(struct fetch *f, int *ret_error) TSA_REQUIRES(f->lock)
{
        for (;;) {
                struct fetch_waiter *w = f->deadlines;
                int error;

                if (!w || w->deadline_ns > clock_monotonic_ns())
                        return NULL;
                if (extend_deadline(f, w))
                        continue;
                if (may_grow_elsewhere(w)) {
                        look_elsewhere(f, w->job);
                        continue;
                }
                error = atomic_load(&w->job->last_error);
                *ret_error = w->interrupted ? -EINTR : error < 0 ? fetch_read_error(error) : -ETIMEDOUT;
                fetch_unlink_waiter(f, w);
                return w;
        }
}

/* ---- jobs that rest ---- */

void fetch_rest(struct fetch *f, struct fetch_job *job)
{
        job->rest_until_ns = backoff_next_ns(&job->backoff_ms, FETCH_BACKOFF_MAX_MS);
        job->state = JOB_RESTING;
        DL_APPEND(f->resting, job);
        condition_signal(&f->tick);
}

/* Gives those to the threads whose time has come; when the next one's will; INT64_MAX: there is none. */
static int64_t end_rests(struct fetch *f) TSA_REQUIRES(f->lock)
{
        int64_t now = clock_monotonic_ns(), first = INT64_MAX;
        struct fetch_job *job, *next;

        DL_FOREACH_SAFE (f->resting, job, next) {
                if (job->rest_until_ns > now) {
                        first = MIN(first, job->rest_until_ns);
                        continue;
                }
                DL_DELETE(f->resting, job);
                fetch_hand_over(f, job);
        }
        return first;
}

/* ---- the thread ---- */

void *fetch_timer_main(void *fetch)
{
        struct fetch *f = fetch;

        thread_name("fetch-timer");
        mutex_lock(&f->lock);
        while (!f->stopping) {
                int error = 0;
                struct fetch_waiter *w = take_expired(f, &error);
                int64_t until;

                if (w) {
                        mutex_unlock(&f->lock);
                        fetch_end_wait(f, w, error);
                        mutex_lock(&f->lock);
                        continue;
                }
                until = end_rests(f);
                if (f->deadlines)
                        until = MIN(until, f->deadlines->deadline_ns);
                if (until < INT64_MAX)
                        condition_wait_until(&f->tick, &f->lock, until);
                else
                        condition_wait(&f->tick, &f->lock);
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

/* ---- progress ---- */

void fetch_note_progress(size_t bytes, void *job)
{
        struct fetch_job *j = job;
        int64_t now = clock_monotonic_ns();

        atomic_store(&j->progress_ns, now);
        atomic_store(&j->fetch->progress_ns, now);
        atomic_fetch_add(&j->fetch->received, bytes);
        atomic_store(&j->fetch->away_since_ns, 0);
}

bool fetch_worth_retrying(int error)
{
        return error == -EHOSTUNREACH || error == -ECONNREFUSED || error == -ETIMEDOUT ||
               error == -ECANCELED || error == -EAGAIN || error == -EBUSY;
}

void fetch_note_away(struct fetch *f, struct fetch_job *job, int error)
{
        int64_t none = 0;

        atomic_store(&job->last_error, error);
        if (error == 0)
                atomic_store(&f->away_since_ns, 0);
        else
                atomic_compare_exchange_strong(&f->away_since_ns, &none,
                                               MAX(job->asked_ns, last_progress(f, job)));
}

void fetch_note_turn(struct fetch *f, struct fetch_job *job)
{
        atomic_store(&job->progress_ns, atomic_load(&f->away_since_ns) == 0
                                                ? clock_monotonic_ns()
                                                : MAX(job->asked_ns, atomic_load(&f->progress_ns)));
}
