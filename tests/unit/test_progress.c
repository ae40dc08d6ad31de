#include "fs/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define READ 15u

static bool is_fresh(const struct progress_report *report, pid_t thread)
{
        for (uint32_t i = 0; i < report->n_fresh; i++)
                if (report->fresh[i] == thread)
                        return true;
        return false;
}

/* What the last of N looks sees. Who looks counts as fresh, so the tests work in another thread. */
static struct progress_report look(unsigned n)
{
        struct progress_report report = { 0 };

        while (n-- > 0)
                progress_look(&report);
        return report;
}

/* A thread that does what it is told: one step after each other, each done when `step` returns. */
struct worker {
        pthread_t thread;
        pthread_barrier_t begin, done;
        void (*step)(void);
        pid_t id;
};

static void *work(void *arg)
{
        struct worker *w = arg;

        w->id = gettid();
        for (;;) {
                pthread_barrier_wait(&w->begin);
                if (!w->step)
                        return NULL;
                w->step();
                pthread_barrier_wait(&w->done);
        }
}

static void start(struct worker *w)
{
        pthread_barrier_init(&w->begin, NULL, 2);
        pthread_barrier_init(&w->done, NULL, 2);
        assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
}

static void step(struct worker *w, void (*what)(void))
{
        w->step = what;
        pthread_barrier_wait(&w->begin);
        if (what)
                pthread_barrier_wait(&w->done);
}

static void end(struct worker *w)
{
        step(w, NULL);
        pthread_join(w->thread, NULL);
        pthread_barrier_destroy(&w->begin);
        pthread_barrier_destroy(&w->done);
}

static void begin_read(void)
{
        progress_begin(READ);
}

static void begin_reply(void)
{
        progress_begin(PROGRESS_REPLY);
}

static void test_ages_by_looks(void **state)
{
        struct worker w;
        struct progress_report report;

        start(&w);
        step(&w, begin_read);
        report = look(1);
        assert_int_equal(report.thread, 0);
        assert_true(is_fresh(&report, w.id));
        report = look(9);
        assert_int_equal(report.thread, w.id);
        assert_int_equal(report.opcode, READ);
        assert_int_equal(report.looks, 9);
        assert_false(is_fresh(&report, w.id));
        step(&w, progress_end);
        report = look(9);
        assert_int_equal(report.thread, 0);
        end(&w);
}

static void test_another_request_is_new(void **state)
{
        struct worker w;

        start(&w);
        step(&w, begin_read);
        look(9);
        step(&w, progress_end);
        step(&w, begin_read);
        assert_int_equal(look(1).thread, 0);
        assert_int_equal(look(4).looks, 4);
        end(&w);
}

static void test_the_outermost_counts(void **state)
{
        struct worker w;

        start(&w);
        step(&w, begin_read);
        look(5);
        step(&w, begin_reply);
        step(&w, progress_end);
        assert_int_equal(look(1).looks, 5);
        assert_int_equal(look(1).opcode, READ);
        step(&w, progress_end);
        step(&w, progress_end); /* one too many is nothing */
        assert_int_equal(look(5).thread, 0);
        end(&w);
}

static void test_oldest_of_many(void **state)
{
        struct worker a, b;
        struct progress_report report;

        start(&a);
        start(&b);
        step(&a, begin_reply);
        look(3);
        step(&b, begin_read);
        report = look(5);
        assert_int_equal(report.thread, a.id);
        assert_int_equal(report.opcode, PROGRESS_REPLY);
        step(&a, progress_end);
        report = look(1);
        assert_int_equal(report.thread, b.id);
        assert_false(is_fresh(&report, a.id)); /* it has other work, of which nothing is known */
        end(&a);
        end(&b);
}

static void test_a_thread_that_has_ended(void **state)
{
        struct worker w;

        for (int i = 0; i < 2 * PROGRESS_THREADS; i++) {
                start(&w);
                step(&w, begin_read);
                end(&w);
        }
        assert_int_equal(look(5).thread, 0);
}

static void test_too_many(void **state)
{
        struct worker workers[PROGRESS_THREADS + 2];
        struct progress_report report;

        for (size_t i = 0; i < PROGRESS_THREADS + 2; i++) {
                start(&workers[i]);
                step(&workers[i], begin_read);
        }
        report = look(1);
        assert_int_equal(report.n_fresh, PROGRESS_THREADS + 1);
        for (size_t i = 0; i < PROGRESS_THREADS + 2; i++) {
                step(&workers[i], progress_end);
                end(&workers[i]);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ages_by_looks),           cmocka_unit_test(test_another_request_is_new),
        cmocka_unit_test(test_the_outermost_counts),    cmocka_unit_test(test_oldest_of_many),
        cmocka_unit_test(test_a_thread_that_has_ended), cmocka_unit_test(test_too_many),
};

UNIT_MAIN(tests)
