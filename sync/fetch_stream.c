#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * The sending thread: takes jobs from the channel's queues, what tasks wait for first, and asks for them within a window. It alone opens
 * and closes the stream; when that breaks, what was asked for goes back to the head of the queue, with what has come of it.
 */

#define WINDOW_WANTS      1024
#define WINDOW_BYTES      (UINT64_C(16) << 20)
#define AHEAD_DIVISOR     2 /* of the window, for what no task waits for: so that a read is never far behind */
#define SHARE_MAX         (UINT64_C(1) << 20) /* a large content shares the stream: it counts as its next piece */
#define STORING_BYTES_MAX (UINT64_C(32) << 20)
#define STORING_MAX       1024
#define BATCH_MAX         64
#define BATCH_AHEAD_MAX   32
#define BAD_STREAMS_MAX   3 /* streams in a row that ended badly and brought nothing */

struct sender {
        struct buffer message; /* owned */
        bool begun;            /* the stream has had its first message */
        int64_t tried_ns;      /* when the stream was last opened */
        int64_t not_before_ns; /* it is not opened again earlier */
        unsigned backoff_ms;
        unsigned bad_streams;
        bool expired; /* the stream was told to end, because the master is silent */
};

/* ---- the window ---- */

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

/* What may be asked for now; what is only wanted ahead comes in batches, not one for each that has come. */
static bool may_ask(const struct fetch *f) TSA_REQUIRES(f->lock)
{
        if (f->queued[FETCH_READ])
                return has_room(f, FETCH_READ);
        return (f->queued[FETCH_AHEAD] || f->queued[FETCH_PREFETCH]) && has_room(f, FETCH_AHEAD) &&
               f->n_asked_ahead <= WINDOW_WANTS / AHEAD_DIVISOR - BATCH_AHEAD_MAX;
}

static void wake_sender(struct fetch *f) TSA_REQUIRES(f->lock)
{
        if (may_ask(f))
                condition_signal(&f->send);
}

void fetch_enqueue(struct fetch *f, struct fetch_job *job)
{
        job->state = JOB_QUEUED;
        DL_APPEND(f->queued[job->class], job);
        if (job->class == FETCH_READ)
                f->fresh = true;
        wake_sender(f);
}

static void add_asked(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        job->state = JOB_ASKED;
        job->sent_ns = clock_monotonic_ns();
        job->share = MIN(job->size - job->received, SHARE_MAX);
        HASH_ADD(hh_id, f->asked, id, sizeof(job->id), job);
        f->n_asked++;
        f->asked_bytes += job->share;
        if (!job->urgent) {
                f->n_asked_ahead++;
                f->asked_ahead_bytes += job->share;
        }
        fetch_note_turn(f, job);
        f->abandoned = f->abandoned || !job->waiters; /* all gave up a moment ago */
}

void fetch_forget_asked(struct fetch *f, struct fetch_job *job)
{
        HASH_DELETE(hh_id, f->asked, job);
        f->n_asked--;
        f->asked_bytes -= job->share;
        if (!job->urgent) {
                f->n_asked_ahead--;
                f->asked_ahead_bytes -= job->share;
        }
        job->id = 0;
        job->busy = false;
        wake_sender(f);
}

/* ---- jobs that leave the queue ---- */

/* JOB, which is in no queue and which nobody waits for. */
static void forget_job(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        if (!job->dropped)
                HASH_DEL(f->jobs, job);
        store_write_abort(job->writer);
        free(job);
}

/* JOB, which is in no queue, is over without a thread. */
static void end_job(struct fetch *f, struct fetch_job *job, int error) TSA_REQUIRES(f->lock)
{
        job->state = JOB_RUNNING;
        HASH_DEL(f->jobs, job);
        fetch_end_waits(f, job, error, NULL);
        store_write_abort(job->writer);
        free(job);
}

static void hand_over(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock)
{
        store_write_abort(TAKE_PTR(job->writer));
        job->received = 0;
        fetch_hand_over(f, job);
}

static void hand_over_queued(struct fetch *f) TSA_REQUIRES(f->lock)
{
        for (int class = 0; class < FETCH_CLASSES; class ++) {
                while (f->queued[class]) {
                        struct fetch_job *job = f->queued[class];
                        DL_DELETE(f->queued[class], job);
                        hand_over(f, job);
                }
        }
}

/* ---- asking ---- */

/* The next jobs to ask for, as a list of at most BATCH_MAX: of the most urgent class that has any. */
static struct fetch_job *take_batch(struct fetch *f) TSA_REQUIRES(f->lock)
{
        struct fetch_job *batch = NULL;
        unsigned n = 0;

        for (int class = 0; class < FETCH_CLASSES && n == 0; class ++) {
                while (f->queued[class] && has_room(f, class) &&
                       n < (class == FETCH_READ ? BATCH_MAX : BATCH_AHEAD_MAX)) {
                        struct fetch_job *job = f->queued[class];

                        DL_DELETE(f->queued[class], job);
                        if (!job->waiters) { /* all of them gave up before its turn came */
                                forget_job(f, job);
                                continue;
                        }
                        job->state = JOB_STARTING;
                        job->urgent = class == FETCH_READ;
                        DL_APPEND(batch, job);
                        n++;
                }
        }
        return batch;
}

/* JOB, of the batch, has its want in the message, or goes another way. */
static void ask_one(struct fetch *f, struct sender *s, struct fetch_job *job)
{
        enum fetch_ask_result result;

        job->id = ++f->last_id;
        result = fetch_ask(f, job, &s->message);
        mutex_lock(&f->lock);
        if (result == ASK_SENT)
                add_asked(f, job);
        else if (result == ASK_HAVE)
                end_job(f, job, 0);
        else if (result == ASK_BUSY && job->class != FETCH_READ)
                end_job(f, job, -EBUSY);
        else
                hand_over(f, job);
        mutex_unlock(&f->lock);
}

static void ask_batch(struct fetch *f, struct sender *s, struct fetch_job *batch)
{
        struct fetch_job *job, *next;

        DL_FOREACH_SAFE (batch, job, next) {
                DL_DELETE(batch, job);
                ask_one(f, s, job);
        }
}

/* Takes back what nobody waits for any more: the file it was to be written to is locked, and others may want it. */
static void cancel_abandoned(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next;

        f->abandoned = false;
        for (int class = 0; class < FETCH_CLASSES; class ++) {
                DL_FOREACH_SAFE (f->queued[class], job, next) {
                        if (job->waiters)
                                continue;
                        DL_DELETE(f->queued[class], job);
                        forget_job(f, job);
                }
        }
        HASH_ITER (hh_id, f->asked, job, next) {
                if (job->waiters || job->busy)
                        continue;
                if (fetch_ask_cancel(job->id, &s->message) < 0)
                        continue;
                fetch_forget_asked(f, job);
                forget_job(f, job);
        }
}

/* ---- the stream's life ---- */

static void stream_ended(void *arg)
{
        struct fetch *f = arg;

        mutex_lock(&f->lock);
        f->broken = true;
        condition_signal(&f->send);
        mutex_unlock(&f->lock);
}

static void note_all_away(struct fetch *f, int error) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job;

        for (int class = 0; class < FETCH_CLASSES; class ++)
                DL_FOREACH (f->queued[class], job)
                        fetch_note_away(f, job, error);
}

/* The master is away: the next try comes after a pause, with jitter. */
static void back_off(struct fetch *f, struct sender *s, int error) TSA_REQUIRES(f->lock)
{
        uint32_t random = 0;

        getrandom(&random, sizeof(random), 0);
        s->not_before_ns =
                clock_monotonic_ns() + (s->backoff_ms / 2 + random % s->backoff_ms) * NSEC_PER_MSEC;
        s->backoff_ms = MIN(s->backoff_ms * 2, (unsigned)FETCH_BACKOFF_MAX_MS);
        f->fresh = false;
        note_all_away(f, error);
}

static void give_up_channel(struct fetch *f, const char *why) TSA_REQUIRES(f->lock)
{
        atomic_store(&f->no_channel, true);
        hand_over_queued(f);
        log_debug("contents are fetched one by one: %s", why);
}

/* ERROR ended the stream, or kept it from being opened; what was asked for is in the queue again, or with the threads. */
static void judge(struct fetch *f, struct sender *s, int error, const struct failure *failure)
        TSA_REQUIRES(f->lock)
{
        if (atomic_exchange(&f->proved, false)) {
                s->backoff_ms = FETCH_BACKOFF_FIRST_MS;
                s->bad_streams = 0;
        }
        if (f->stopping || error == 0)
                return;
        if (fetch_worth_retrying(error)) {
                back_off(f, s, error);
                return;
        }
        if (error == -EOPNOTSUPP) {
                give_up_channel(f, "the master has no Fetch");
                return;
        }
        /* The threads say what is wrong, content by content. */
        hand_over_queued(f);
        if (error != -EACCES && error != -ENOENT && ++s->bad_streams >= BAD_STREAMS_MAX) {
                log_warning("the master's Fetch does not work: %s", failure_text(failure, error));
                give_up_channel(f, "it does not work");
        }
}

/* What was asked for on the stream that broke, to the head of the queue in its order, or to the threads. */
static void take_back(struct fetch *f, bool retry) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next, *back[FETCH_CLASSES] = { 0 };

        HASH_ITER (hh_id, f->asked, job, next) {
                fetch_forget_asked(f, job);
                if (job->dropped || !job->waiters) {
                        forget_job(f, job);
                } else if (retry) {
                        job->state = JOB_QUEUED;
                        DL_APPEND(back[job->class], job);
                } else {
                        hand_over(f, job);
                }
        }
        for (int class = 0; class < FETCH_CLASSES; class ++) {
                DL_CONCAT(back[class], f->queued[class]);
                f->queued[class] = back[class];
        }
}

static void mend(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct failure failure = { 0 };
        int r;

        mutex_unlock(&f->lock);
        r = channel_close(TAKE_PTR(f->channel), &failure);
        mutex_lock(&f->lock);
        if (r == 0 && f->asked) /* it closed the stream properly, but owes us something */
                r = -EHOSTUNREACH;
        f->broken = false;
        s->begun = s->expired = false;
        take_back(f, fetch_worth_retrying(r));
        judge(f, s, r, &failure);
}

static int open_stream(struct fetch *f, struct failure *failure)
{
        const struct channel_callbacks callbacks = {
                .message = fetch_take_message,
                .ended = stream_ended,
                .arg = f,
        };
        int r = session_connect(f->options.session, failure);

        if (r == 0 && session_get_dialect(f->options.session) == SESSION_STOCK)
                r = -EOPNOTSUPP;
        return r < 0 ? r : channel_open(f->options.session, &callbacks, &f->channel, failure);
}

/* False: there is no stream now. */
static bool need_stream(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct failure failure = { 0 };
        int r;

        if (f->channel)
                return true;
        s->tried_ns = clock_monotonic_ns();
        mutex_unlock(&f->lock);
        r = open_stream(f, &failure);
        mutex_lock(&f->lock);
        if (r < 0)
                judge(f, s, r, &failure);
        return r == 0;
}

/* ---- the thread ---- */

/* When the stream may be opened, if it has to be. What a task has asked for since the last try gets one of its own. */
static int64_t next_try(const struct fetch *f, const struct sender *s) TSA_REQUIRES(f->lock)
{
        if (f->channel)
                return 0;
        return f->fresh ? MIN(s->not_before_ns, s->tried_ns + FETCH_BACKOFF_FIRST_MS * NSEC_PER_MSEC)
                        : s->not_before_ns;
}

/* Until when the master may be silent; 0: for ever. */
static int64_t silence_ends(const struct fetch *f) TSA_REQUIRES(f->lock)
{
        if (!f->asked)
                return 0;
        return MAX(atomic_load(&f->progress_ns), f->asked->sent_ns) + f->options.timeout_ms * NSEC_PER_MSEC;
}

static bool is_silent(const struct fetch *f) TSA_REQUIRES(f->lock)
{
        int64_t ends = silence_ends(f);

        return ends > 0 && ends <= clock_monotonic_ns();
}

/* Nothing to do now: waits until there may be. */
static void wait_for_work(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        int64_t until = may_ask(f) ? next_try(f, s) : s->expired ? 0 : silence_ends(f);

        if (until == 0)
                condition_wait(&f->send, &f->lock);
        else
                condition_wait_until(&f->send, &f->lock, until);
}

static void send_message(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        if (s->message.len == 0)
                return;
        mutex_unlock(&f->lock);
        (void)channel_send(f->channel, s->message.data,
                           s->message.len); /* a failure shows as the stream's end */
        buffer_truncate(&s->message, 0);
        mutex_lock(&f->lock);
}

static void ask(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct fetch_job *batch;

        if (!need_stream(f, s))
                return;
        if (!s->begun && fetch_ask_begin(f, &s->message) < 0) {
                buffer_truncate(&s->message, 0);
                return;
        }
        s->begun = true;
        batch = take_batch(f);
        mutex_unlock(&f->lock);
        ask_batch(f, s, batch);
        mutex_lock(&f->lock);
        send_message(f, s);
}

void *fetch_sender_main(void *fetch)
{
        struct fetch *f = fetch;
        struct sender s = { .backoff_ms = FETCH_BACKOFF_FIRST_MS };

        thread_name("fetch-send");
        mutex_lock(&f->lock);
        while (!f->stopping) {
                if (f->broken) {
                        mend(f, &s);
                } else if (f->abandoned) {
                        cancel_abandoned(f, &s);
                        send_message(f, &s);
                } else if (may_ask(f) && next_try(f, &s) <= clock_monotonic_ns()) {
                        ask(f, &s);
                } else if (f->channel && !s.expired && is_silent(f)) {
                        s.expired = true;
                        channel_expire(f->channel);
                } else {
                        wait_for_work(f, &s);
                }
        }
        mutex_unlock(&f->lock);
        channel_close(TAKE_PTR(f->channel), NULL);
        mutex_lock(&f->lock);
        take_back(f, true);
        mutex_unlock(&f->lock);
        buffer_release(&s.message);
        return NULL;
}
