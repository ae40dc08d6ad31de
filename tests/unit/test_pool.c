/* In which order jobs are run, and that none waits for ever. */
#include "server/pool.h"

#include <string.h>

#include "base/lock.h"
#include "tests/unit/unit.h"

#define THREADS     4
#define STEPS       3
#define DEADLINE_NS (60 * NSEC_PER_SEC)

struct fixture;

struct job {
        struct pool_job job;
        struct fixture *f;
        char name;
};

struct fixture {
        struct pool *pool;
        struct mutex lock;
        struct condition change;
        unsigned steps TSA_GUARDED(lock); /* of a walk */
        bool ended TSA_GUARDED(lock);
        struct pool_walk walks[2];
        char order[16]; /* of one thread's jobs */
};

static void set_up(struct fixture *f, unsigned threads)
{
        memset(f, 0, sizeof(*f));
        mutex_init(&f->lock);
        condition_init(&f->change);
        assert_int_equal(pool_new(threads, &f->pool), 0);
}

static void tear_down(struct fixture *f)
{
        condition_release(&f->change);
        mutex_release(&f->lock);
}

static void note_run(struct pool_job *job)
{
        struct job *self = (struct job *)job;

        strncat(self->f->order, &self->name, 1);
}

/* Queues two that are submitted, three of one walk and two of another, while nothing else can run. */
static void queue_run(struct pool_job *job)
{
        static const char names[] = "abcxysS";
        static struct job jobs[ARRAY_SIZE(names) - 1];
        struct fixture *f = ((struct job *)job)->f;

        for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
                jobs[i] = (struct job){ .job.run = note_run, .f = f, .name = names[i] };
                if (i < 5)
                        pool_push(f->pool, &f->walks[i / 3], &jobs[i].job);
                else
                        pool_submit(f->pool, &jobs[i].job);
        }
}

static void test_order(void **state)
{
        struct fixture f;
        struct job first = { .job.run = queue_run, .f = &f };

        set_up(&f, 1);
        pool_submit(f.pool, &first.job);
        pool_free(f.pool);
        assert_string_equal(f.order, "sScybxa");
        tear_down(&f);
}

/* As peers that ask for the next thing whenever they are given one. */
static void again_run(struct pool_job *job)
{
        struct fixture *f = ((struct job *)job)->f;
        bool ended;

        mutex_lock(&f->lock);
        ended = f->ended;
        mutex_unlock(&f->lock);
        if (!ended)
                pool_submit(f->pool, job);
}

static void step_run(struct pool_job *job)
{
        struct fixture *f = ((struct job *)job)->f;
        bool more;

        mutex_lock(&f->lock);
        more = ++f->steps < STEPS;
        condition_broadcast(&f->change);
        mutex_unlock(&f->lock);
        if (more)
                pool_push(f->pool, &f->walks[0], job);
}

static void test_walk_in_a_flood(void **state)
{
        const int64_t until_ns = clock_monotonic_ns() + DEADLINE_NS;
        struct job flood[2 * THREADS], walk;
        struct fixture f;
        unsigned steps;

        set_up(&f, THREADS);
        for (size_t i = 0; i < ARRAY_SIZE(flood); i++) {
                flood[i] = (struct job){ .job.run = again_run, .f = &f };
                pool_submit(f.pool, &flood[i].job);
        }
        walk = (struct job){ .job.run = step_run, .f = &f };
        pool_push(f.pool, &f.walks[0], &walk.job);
        mutex_lock(&f.lock);
        while (f.steps < STEPS)
                if (condition_wait_until(&f.change, &f.lock, until_ns) < 0)
                        break;
        steps = f.steps;
        f.ended = true;
        mutex_unlock(&f.lock);
        pool_free(f.pool);
        assert_int_equal(steps, STEPS);
        tear_down(&f);
}

static void end_run(struct pool_job *job)
{
        struct fixture *f = ((struct job *)job)->f;

        mutex_lock(&f->lock);
        f->ended = true;
        mutex_unlock(&f->lock);
}

#define PATIENCE 1000 /* steps */

static void endless_run(struct pool_job *job)
{
        struct fixture *f = ((struct job *)job)->f;
        bool more;

        mutex_lock(&f->lock);
        more = !f->ended && ++f->steps < PATIENCE;
        mutex_unlock(&f->lock);
        if (more)
                pool_push(f->pool, &f->walks[1], job);
}

static void begin_both_run(struct pool_job *job)
{
        static struct job step, endless;
        struct fixture *f = ((struct job *)job)->f;

        step = (struct job){ .job.run = end_run, .f = f };
        endless = (struct job){ .job.run = endless_run, .f = f };
        pool_push(f->pool, &f->walks[0], &step.job);
        pool_push(f->pool, &f->walks[1], &endless.job);
}

/* A walk that comes later, and is long, does not hold up the one before. */
static void test_walks_take_turns(void **state)
{
        struct fixture f;
        struct job first = { .job.run = begin_both_run, .f = &f };

        set_up(&f, 1);
        pool_submit(f.pool, &first.job);
        pool_free(f.pool);
        assert_true(f.ended && f.steps <= 1);
        tear_down(&f);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_walk_in_a_flood),
        cmocka_unit_test(test_walks_take_turns),
};

UNIT_MAIN(tests)
