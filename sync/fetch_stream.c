#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "sync/fetch_private.h"

/*
 * The sending thread: takes jobs from the channel's queues, what tasks wait for first, and asks for them within a window. It alone opens
 * and closes the stream; when that breaks, what was asked for goes back to the head of the queue, with what has come of it.
 */

#define BAD_STREAMS_MAX 3 /* streams in a row that ended badly and brought nothing */

struct sender {
        struct buffer message; /* owned */
        bool begun;            /* the stream has had its first message */
        int64_t tried_ns;      /* when the stream was last opened */
        int64_t not_before_ns; /* it is not opened again earlier */
        unsigned backoff_ms;
        unsigned bad_streams;
        bool expired; /* the stream was told to end, because the master is silent */
};

/* ---- jobs that leave the queue ---- */

/* REFUSED: the channel does not bring it. Otherwise it may, once what is in the way has been waited for. */
static void hand_over(struct fetch *f, struct fetch_job *job, bool refused) TSA_REQUIRES(f->lock)
{
        fetch_let_go(job);
        job->refused = refused;
        fetch_hand_over(f, job);
}

static void hand_over_queued(struct fetch *f) TSA_REQUIRES(f->lock)
{
        for (int class = 0; class < FETCH_CLASSES; class ++) {
                while (f->queued[class]) {
                        struct fetch_job *job = f->queued[class];
                        DL_DELETE(f->queued[class], job);
                        hand_over(f, job, true);
                }
        }
}

/* ---- asking ---- */

/* JOB, of the batch, has its want in the message, or goes another way. */
static void ask_one(struct fetch *f, struct sender *s, struct fetch_job *job)
{
        enum fetch_ask_result result;

        job->id = ++f->last_id;
        result = fetch_ask(f, job, &s->message);
        mutex_lock(&f->lock);
        if (result == ASK_SENT && fetch_add_asked(f, job) < 0)
                result = ASK_THREAD; /* what comes for it nobody knows */
        if (result != ASK_SENT)
                fetch_forget_list(f, job);
        if (result == ASK_HAVE)
                fetch_end_job(f, job, 0);
        else if (result == ASK_BUSY && job->class != FETCH_READ)
                fetch_end_job(f, job, -EBUSY);
        else if (result != ASK_SENT)
                hand_over(f, job, result == ASK_THREAD);
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

static void free_abandoned(struct fetch *f, struct fetch_job **queue) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next;

        DL_FOREACH_SAFE (*queue, job, next) {
                if (job->waiters)
                        continue;
                DL_DELETE(*queue, job);
                fetch_free_job(f, job);
        }
}

/* Takes back what nobody waits for any more: the file it was to be written to is locked, and others may want it. */
static void cancel_abandoned(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next;

        f->abandoned = false;
        for (int class = 0; class < FETCH_CLASSES; class ++)
                free_abandoned(f, &f->queued[class]);
        free_abandoned(f, &f->gated);
        HASH_ITER (hh_id, f->asked, job, next) {
                if (job->waiters || job->busy)
                        continue;
                if (fetch_ask_cancel(job->id, &s->message) < 0)
                        continue;
                fetch_forget_asked(f, job);
                fetch_free_job(f, job);
        }
}

/* Tells the master which of those that were asked for ahead a task waits for by now: it may have megabytes to send before. */
static void hurry(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next;

        f->hurried = false;
        HASH_ITER (hh_id, f->asked, job, next)
                if (fetch_has_to_hurry(f, job) && fetch_ask_hurry(job->id, &s->message) == 0)
                        fetch_make_urgent(f, job);
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
        s->not_before_ns = backoff_next_ns(&s->backoff_ms, FETCH_BACKOFF_MAX_MS);
        f->fresh = false;
        note_all_away(f, error);
}

static void give_up_channel(struct fetch *f, const char *why) TSA_REQUIRES(f->lock)
{
        atomic_store(&f->no_channel, true);
        hand_over_queued(f);
        log_debug("contents are fetched one by one: %s", why);
}

/* A stream has ended that brought nothing: if that happens again and again it is not for want of a connection. */
static void count_bad_stream(struct fetch *f, struct sender *s, int error, const struct failure *failure)
        TSA_REQUIRES(f->lock)
{
        if (++s->bad_streams < BAD_STREAMS_MAX)
                return;
        log_warning("the master's Fetch does not work: %s", failure_text(failure, error));
        give_up_channel(f, "it does not work");
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
        if (error != -EACCES && error != -ENOENT)
                count_bad_stream(f, s, error, failure);
}

/* What was asked for on the stream that broke, to the head of the queue in its order, or to the threads. */
static void take_back(struct fetch *f, bool retry) TSA_REQUIRES(f->lock)
{
        struct fetch_job *job, *next, *back[FETCH_CLASSES] = { 0 };

        HASH_ITER (hh_id, f->asked, job, next) {
                fetch_forget_asked(f, job);
                if (!job->waiters) {
                        fetch_free_job(f, job);
                } else if (retry) {
                        job->state = JOB_QUEUED;
                        DL_APPEND(back[job->class], job);
                } else {
                        hand_over(f, job, true);
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
        bool owes;
        int r;

        mutex_unlock(&f->lock);
        r = channel_close(TAKE_PTR(f->channel), &failure);
        mutex_lock(&f->lock);
        owes = r == 0 && f->asked; /* it closed the stream properly, and before its time */
        if (owes)
                r = failure_set(&failure, -EHOSTUNREACH, "it ends the stream before all has come");
        f->broken = false;
        s->begun = s->expired = false;
        take_back(f, fetch_worth_retrying(r));
        if (owes && !atomic_load(&f->proved) && !f->stopping)
                count_bad_stream(f, s, r, &failure);
        judge(f, s, r, &failure);
}

/* Another master is in use by now, and what was asked for is still to come over this stream: what else is wanted waits for it. */
static bool is_draining(const struct fetch *f) TSA_REQUIRES(f->lock)
{
        return f->channel && f->asked && channel_is_outdated(f->channel);
}

/* The stream is sound, and goes to a master that is not the one to use. */
static void leave_stream(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        mutex_unlock(&f->lock);
        channel_close(TAKE_PTR(f->channel), NULL);
        mutex_lock(&f->lock);
        f->broken = false;
        s->begun = s->expired = false;
        s->backoff_ms = FETCH_BACKOFF_FIRST_MS;
        s->bad_streams = 0;
}

static int open_stream(struct fetch *f, struct failure *failure)
{
        const struct channel_callbacks callbacks = {
                .message = fetch_take_message,
                .ended = stream_ended,
                .arg = f,
        };
        int r = session_connect(f->options.session, failure);

        if (r == 0 && !session_fetches(f->options.session))
                r = -EOPNOTSUPP;
        return r < 0 ? r : channel_open(f->options.session, &callbacks, &f->channel, failure);
}

/* False: there is no stream now. */
static bool need_stream(struct fetch *f, struct sender *s) TSA_REQUIRES(f->lock)
{
        struct failure failure = { 0 };
        int r;

        /* It may have become so a moment ago: what was asked for over it is still to come. */
        if (f->channel && !f->asked && channel_is_outdated(f->channel))
                leave_stream(f, s);
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
        bool may_ask = fetch_may_ask(f) && !is_draining(f);
        int64_t until = may_ask ? next_try(f, s) : s->expired ? 0 : silence_ends(f);

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
        batch = fetch_take_batch(f);
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
                } else if (f->hurried) {
                        hurry(f, &s);
                        send_message(f, &s);
                } else if (f->ungated) {
                        fetch_ungate(f);
                } else if (fetch_may_ask(f) && !is_draining(f) && next_try(f, &s) <= clock_monotonic_ns()) {
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
