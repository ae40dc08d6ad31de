#include "sync/fetch_private.h"

/*
 * The channel's queues, and how much of them may be asked for at a time.
 */

#define WINDOW_WANTS      2048 /* half of it: the whole of a program's start, in one round trip */
#define WINDOW_BYTES      (UINT64_C(16) << 20)
#define AHEAD_DIVISOR     2 /* of the window, for what no task waits for: so that a read is never far behind */
#define STORING_BYTES_MAX (UINT64_C(32) << 20)
#define STORING_MAX       1024
#define BATCH_MAX         64
#define HURRY_BYTES       (UINT64_C(1) << 20)
#define BATCH_AHEAD_MAX   32

static bool has_room(const struct fetch *f, enum fetch_class class) TSA_REQUIRES(f->lock)
{
        unsigned held_max = f->options.held_max > 0 ? f->options.held_max : UINT32_MAX;
        unsigned held = f->n_asked + f->n_storing;

        if (f->n_asked >= WINDOW_WANTS || f->asked_bytes >= WINDOW_BYTES || held >= held_max ||
            f->storing_bytes >= STORING_BYTES_MAX)
                return false;
        if (class == FETCH_READ)
                return true;
        return f->n_asked_ahead < WINDOW_WANTS / AHEAD_DIVISOR &&
               f->asked_ahead_bytes < WINDOW_BYTES / AHEAD_DIVISOR && held < held_max / AHEAD_DIVISOR &&
               f->n_storing < STORING_MAX && f->storing_bytes < STORING_BYTES_MAX / AHEAD_DIVISOR;
}

/* What is only wanted ahead comes in batches, not one for each that has come. */
bool fetch_may_ask(const struct fetch *f)
{
        if (f->queued[FETCH_READ])
                return has_room(f, FETCH_READ);
        return (f->queued[FETCH_AHEAD] || f->queued[FETCH_PREFETCH]) && has_room(f, FETCH_AHEAD) &&
               f->n_asked_ahead <= WINDOW_WANTS / AHEAD_DIVISOR - BATCH_AHEAD_MAX;
}

void fetch_wake_sender(struct fetch *f)
{
        if (fetch_may_ask(f))
                condition_signal(&f->send);
}

void fetch_enqueue(struct fetch *f, struct fetch_job *job)
{
        job->state = JOB_QUEUED;
        DL_APPEND(f->queued[job->class], job);
        if (job->class == FETCH_READ)
                f->fresh = true;
        fetch_wake_sender(f);
}

/* False: JOB, a piece taken from the queue, has to wait for the list that another one brings. */
static bool pass_gate(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        struct fetch_large *large = job->large;

        if (!large || store_pieces_listed(large->pieces))
                return true;
        if (large->lister) {
                job->state = JOB_GATED;
                DL_APPEND(f->gated, job);
                return false;
        }
        large->lister = job;
        job->lists = true;
        job->list_only = fetch_may_adopt(job);
        return true;
}

struct fetch_job *fetch_take_batch(struct fetch *f)
{
        struct fetch_job *batch = NULL;
        unsigned n = 0;

        for (int class = 0; class < FETCH_CLASSES && n == 0; class ++) {
                while (f->queued[class] && has_room(f, class) &&
                       n < (class == FETCH_READ ? BATCH_MAX : BATCH_AHEAD_MAX)) {
                        struct fetch_job *job = f->queued[class];

                        DL_DELETE(f->queued[class], job);
                        if (!job->waiters) { /* all of them gave up before its turn came */
                                fetch_free_job(f, job);
                                continue;
                        }
                        if (fetch_is_for_thread(job)) { /* the list has come while it was in the queue */
                                fetch_hand_over(f, job);
                                continue;
                        }
                        job->urgent = class == FETCH_READ;
                        if (!pass_gate(f, job))
                                continue;
                        job->state = JOB_STARTING;
                        DL_APPEND(batch, job);
                        n++;
                }
        }
        return batch;
}

int fetch_add_asked(struct fetch *f, struct fetch_job *job)
{
        HASH_ADD(hh_id, f->asked, id, sizeof(job->id), job);
        if (!job->hh_id.tbl)
                return -ENOMEM;
        job->state = JOB_ASKED;
        job->sent_ns = clock_monotonic_ns();
        f->n_asked++;
        f->asked_bytes += job->size;
        if (!job->urgent) {
                f->n_asked_ahead++;
                f->asked_ahead_bytes += job->size;
        }
        fetch_note_turn(f, job);
        atomic_store(&job->due, atomic_load(&f->received) + f->asked_bytes);
        f->abandoned = f->abandoned || !job->waiters;          /* all gave up a moment ago */
        f->hurried = f->hurried || fetch_has_to_hurry(f, job); /* a task came a moment ago */
        return 0;
}

bool fetch_has_to_hurry(const struct fetch *f, const struct fetch_job *job)
{
        return job->class == FETCH_READ && !job->urgent &&
               atomic_load(&job->due) > atomic_load(&f->received) + HURRY_BYTES;
}

void fetch_make_urgent(struct fetch *f, struct fetch_job *job)
{
        job->urgent = true;
        f->n_asked_ahead--;
        f->asked_ahead_bytes -= job->size;
}

void fetch_forget_list(struct fetch *f, struct fetch_job *job)
{
        if (!job->lists)
                return;
        job->lists = job->list_only = false;
        buffer_release(&job->list);
        job->large->lister = NULL;
        f->ungated = true;
        condition_signal(&f->send);
}

void fetch_forget_asked(struct fetch *f, struct fetch_job *job)
{
        HASH_DELETE(hh_id, f->asked, job);
        f->n_asked--;
        f->asked_bytes -= job->size;
        if (!job->urgent) {
                f->n_asked_ahead--;
                f->asked_ahead_bytes -= job->size;
        }
        job->id = 0;
        job->busy = false;
        atomic_store(&job->due, 0);
        fetch_forget_list(f, job);
        fetch_wake_sender(f);
}
