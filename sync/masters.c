#include "sync/masters.h"

#include <stdatomic.h>

#include "base/backoff.h"
#include "base/lock.h"
#include "base/util.h"

#define QUIET_MS  5000 /* nothing has come for so long: asked */
#define ANSWER_MS 5000 /* no answer for so long: away */
#define PATIENCE  3    /* neither is more than such a part of a read's time-out */
#define RETURN_MS                                                                                            \
        1000 /* between two questions to one that would be returned to; longer each time that it is away */
#define RETURN_MAX_MS 15000
#define BEHIND_MS     30000 /* between two questions to one behind the one in use */
#define TRUST_MS      5000  /* one that was away is returned to when it has been well for so long; */
#define TRUST_MAX_MS  300000
#define FICKLE_MS     60000 /* longer each time if it was lost within so long of its return */
#define DOUBTS_MAX    3

struct state {
        struct master_health health;
        bool doubtful;
        unsigned doubts;     /* in a row */
        int64_t asked_ns;    /* when it was last asked by the thread */
        int64_t interval_ms; /* until it is asked again, not being in use */
        int64_t used_ns;     /* since when it is, or was, in use */
        int64_t trust_ms;
};

struct masters {
        struct masters_options options;
        int64_t quiet_ms;
        int answer_ms;
        _Atomic size_t current; /* written under the lock */
        struct mutex lock;
        struct condition wake; /* stopping */
        bool stopping TSA_GUARDED(lock);
        struct state states[MASTERS_MAX] TSA_GUARDED(lock);
        pthread_t thread;
};

bool masters_is_away(int error)
{
        return error == -EHOSTUNREACH || error == -ECONNREFUSED || error == -ETIMEDOUT;
}

/* ---- what is known ---- */

static void set_state(struct state *s, enum master_state state, int error)
{
        s->health.error = error;
        if (s->health.state == state)
                return;
        s->health.state = state;
        s->health.since_ns = clock_monotonic_ns();
}

/* Those beside I are asked next: one of them is needed. */
static void make_due(struct masters *m, size_t i) TSA_REQUIRES(m->lock)
{
        for (size_t k = 0; k < m->options.n; k++)
                if (k != i)
                        m->states[k].asked_ns = 0;
}

/* It is away, and will not be trusted for a while. */
static void set_away(struct masters *m, size_t i, int error) TSA_REQUIRES(m->lock)
{
        struct state *s = &m->states[i];
        bool lost = s->health.state != MASTER_AWAY && i == atomic_load(&m->current);

        if (lost && clock_monotonic_ns() - s->used_ns < FICKLE_MS * NSEC_PER_MSEC)
                s->trust_ms = MIN(s->trust_ms * 2, (int64_t)TRUST_MAX_MS);
        else if (lost)
                s->trust_ms = TRUST_MS;
        if (lost) {
                s->interval_ms = RETURN_MS;
                make_due(m, i);
        }
        s->doubts = 0;
        set_state(s, MASTER_AWAY, error);
}

static void note(struct masters *m, size_t i, int error) TSA_REQUIRES(m->lock)
{
        m->states[i].doubtful = error != 0;
        if (error == 0)
                set_state(&m->states[i], MASTER_WELL, 0);
        else
                set_away(m, i, error);
}

void masters_note(struct masters *masters, size_t i, int error)
{
        mutex_lock(&masters->lock);
        note(masters, i, error);
        mutex_unlock(&masters->lock);
}

void masters_doubt(struct masters *masters, size_t i)
{
        struct state *s = &masters->states[i];

        mutex_lock(&masters->lock);
        s->doubtful = true;
        if (++s->doubts >= DOUBTS_MAX)
                set_away(masters, i, -EHOSTUNREACH);
        mutex_unlock(&masters->lock);
}

void masters_note_heard(struct masters *masters, size_t i)
{
        mutex_lock(&masters->lock);
        masters->states[i].doubts = 0;
        note(masters, i, 0);
        mutex_unlock(&masters->lock);
}

size_t masters_current(const struct masters *masters)
{
        return atomic_load(&masters->current);
}

bool masters_is_sure(struct masters *masters)
{
        size_t i = atomic_load(&masters->current);
        bool sure;

        mutex_lock(&masters->lock);
        sure = i != MASTERS_NONE && !masters->states[i].doubtful;
        mutex_unlock(&masters->lock);
        return sure;
}

size_t masters_order(struct masters *masters, size_t ret[MASTERS_MAX])
{
        size_t n = 0;

        mutex_lock(&masters->lock);
        for (int away = 0; away <= 1; away++)
                for (size_t i = 0; i < masters->options.n; i++)
                        if ((masters->states[i].health.state == MASTER_AWAY) == away)
                                ret[n++] = i;
        mutex_unlock(&masters->lock);
        return n;
}

size_t masters_use(struct masters *masters, size_t i)
{
        size_t before;

        mutex_lock(&masters->lock);
        before = atomic_exchange(&masters->current, i);
        note(masters, i, 0);
        if (before != i)
                masters->states[i].used_ns = clock_monotonic_ns();
        mutex_unlock(&masters->lock);
        return before;
}

void masters_get(struct masters *masters, size_t i, struct master_health *ret)
{
        mutex_lock(&masters->lock);
        *ret = masters->states[i].health;
        mutex_unlock(&masters->lock);
        ret->used = i == atomic_load(&masters->current);
}

/* ---- the thread ---- */

/* When the one in use, I, is to be asked if nothing comes; INT64_MAX: nothing is open. */
static int64_t current_due(struct masters *m, size_t i)
{
        int64_t heard = m->options.heard_ns(i, m->options.arg), due;

        mutex_lock(&m->lock);
        due = heard > 0 ? MAX(heard, m->states[i].asked_ns) + m->quiet_ms * NSEC_PER_MSEC : INT64_MAX;
        mutex_unlock(&m->lock);
        return due;
}

static void ask_current(struct masters *m, size_t i)
{
        int64_t before = m->options.heard_ns(i, m->options.arg), after;
        int r = m->options.ask(i, m->answer_ms, m->options.arg);
        bool gone;

        after = m->options.heard_ns(i, m->options.arg);
        gone = masters_is_away(r) && after == before; /* what it is busy with may have come meanwhile */
        mutex_lock(&m->lock);
        m->states[i].asked_ns = clock_monotonic_ns();
        if (gone)
                note(m, i, r);
        mutex_unlock(&m->lock);
        if (gone)
                m->options.lost(i, m->options.arg);
}

static int64_t other_due(struct masters *m, size_t i)
{
        int64_t due;

        mutex_lock(&m->lock);
        due = m->states[i].asked_ns + m->states[i].interval_ms * NSEC_PER_MSEC;
        mutex_unlock(&m->lock);
        return due;
}

/* With jitter: many workers lose a master in the same moment. */
static int64_t jittered(int64_t ms)
{
        return ms * 3 / 4 + random_below((uint32_t)ms / 2);
}

/* The answer of I, not in use or away: true if it is to be used from now on. */
static bool take_answer(struct masters *m, size_t i, int error) TSA_REQUIRES(m->lock)
{
        struct state *s = &m->states[i];
        int64_t now = clock_monotonic_ns();
        size_t current = atomic_load(&m->current);
        bool was_well = s->health.state == MASTER_WELL;
        bool needed = i != current && m->states[current].health.state == MASTER_AWAY;

        note(m, i, error);
        s->asked_ns = now;
        if (i > current && !needed)
                s->interval_ms = jittered(BEHIND_MS);
        else if (error == 0)
                s->interval_ms = RETURN_MS;
        else
                s->interval_ms = jittered(MIN(s->interval_ms * 2, (int64_t)RETURN_MAX_MS));
        if (error < 0 || i == current)
                return false;
        return needed || (i < current && was_well && now - s->health.since_ns >= s->trust_ms * NSEC_PER_MSEC);
}

static void ask_other(struct masters *m, size_t i)
{
        int r = m->options.ask(i, m->answer_ms, m->options.arg);
        bool move;

        mutex_lock(&m->lock);
        move = take_answer(m, i, r) && !m->stopping;
        mutex_unlock(&m->lock);
        if (move)
                m->options.move(i, m->options.arg);
}

static bool is_away(struct masters *m, size_t i)
{
        struct master_health health;

        masters_get(m, i, &health);
        return health.state == MASTER_AWAY;
}

/* Asks who is due, the one in use first; when the next one will be. */
static int64_t look_round(struct masters *m)
{
        size_t current = atomic_load(&m->current);
        int64_t next = clock_monotonic_ns() + m->quiet_ms * NSEC_PER_MSEC, due;

        if (current == MASTERS_NONE)
                return next;
        if (current_due(m, current) <= clock_monotonic_ns())
                ask_current(m, current);
        due = current_due(m, current);
        next = MIN(next, due);
        for (size_t i = 0; i < m->options.n && current_due(m, current) > clock_monotonic_ns(); i++) {
                if (i == current && !is_away(m, i))
                        continue;
                if (other_due(m, i) <= clock_monotonic_ns())
                        ask_other(m, i);
                due = other_due(m, i);
                next = MIN(next, due);
        }
        return next;
}

static void *masters_main(void *arg)
{
        struct masters *m = arg;

        thread_name("masters");
        mutex_lock(&m->lock);
        while (!m->stopping) {
                int64_t next;

                mutex_unlock(&m->lock);
                next = look_round(m);
                mutex_lock(&m->lock);
                while (!m->stopping && condition_wait_until(&m->wake, &m->lock, next) == 0)
                        continue;
        }
        mutex_unlock(&m->lock);
        return NULL;
}

int masters_new(const struct masters_options *options, struct masters **ret)
{
        struct masters *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->options = *options;
        m->quiet_ms = MIN(QUIET_MS, options->timeout_ms / PATIENCE);
        m->answer_ms = MIN(ANSWER_MS, options->timeout_ms / PATIENCE);
        atomic_store(&m->current, MASTERS_NONE);
        for (size_t i = 0; i < MASTERS_MAX; i++)
                m->states[i] = (struct state){ .interval_ms = RETURN_MS, .trust_ms = TRUST_MS };
        mutex_init(&m->lock);
        condition_init(&m->wake);
        r = -pthread_create(&m->thread, NULL, masters_main, m);
        if (r < 0) {
                condition_release(&m->wake);
                mutex_release(&m->lock);
                free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void masters_free(struct masters *masters)
{
        if (!masters)
                return;
        mutex_lock(&masters->lock);
        masters->stopping = true;
        condition_signal(&masters->wake);
        mutex_unlock(&masters->lock);
        pthread_join(masters->thread, NULL);
        condition_release(&masters->wake);
        mutex_release(&masters->lock);
        free(masters);
}
