/*
 * What is kept of waits: the ring and its gaps, whose a wait is, sums and the hottest files of a task, and the bounds of all of these.
 */
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/util.h"
#include "fs/trace.h"
#include "tests/unit/unit.h"

static struct trace *make(void)
{
        struct trace *trace;

        assert_int_equal(trace_new(&trace), 0);
        return trace;
}

/* One wait of thread TID from its beginning to its end. */
static void wait_once(struct trace *trace, pid_t tid, struct trace_wait wait)
{
        trace_begin(trace, tid, &wait);
        trace_end(trace, &wait);
}

static struct trace_event last_event(struct trace *trace)
{
        struct trace_event event;
        unsigned waiting;

        assert_int_equal(trace_get(trace, trace_last(trace, &waiting) - 1, &event, 1), 1);
        return event;
}

static void test_event(void **state)
{
        struct trace *trace = make();
        struct trace_event event;

        thread_name("reader"); /* this process's, too */
        wait_once(
                trace, getpid(),
                (struct trace_wait){ .ino = 7, .offset = 3, .size = 11, .why = TRACE_PIECE, .error = -EIO });
        event = last_event(trace);
        assert_int_equal(event.number, 1);
        assert_int_equal(event.pid, getpid());
        assert_string_equal(event.command, "reader");
        assert_int_equal(event.ino, 7);
        assert_int_equal(event.offset, 3);
        assert_int_equal(event.size, 11);
        assert_int_equal(event.error, -EIO);
        assert_string_equal(trace_why_name(event.why), "piece");
        trace_free(trace);
}

/* Who has lost events sees it by their numbers; what was never begun is no event. */
static void test_ring(void **state)
{
        struct trace *trace = make();
        struct trace_event *events = calloc(TRACE_EVENTS_MAX, sizeof(*events));
        struct trace_wait never = { 0 };
        unsigned waiting;

        trace_end(trace, &never);
        assert_int_equal(trace_last(trace, &waiting), 0);
        for (uint64_t i = 1; i <= TRACE_EVENTS_MAX + 10; i++)
                wait_once(trace, 0, (struct trace_wait){ .ino = i });
        assert_int_equal(trace_get(trace, 0, events, TRACE_EVENTS_MAX), TRACE_EVENTS_MAX);
        for (uint64_t i = 0; i < TRACE_EVENTS_MAX; i++) {
                assert_int_equal(events[i].number, i + 11);
                assert_int_equal(events[i].ino, i + 11);
        }
        assert_int_equal(trace_get(trace, TRACE_EVENTS_MAX + 8, events, TRACE_EVENTS_MAX), 2);
        assert_int_equal(trace_get(trace, TRACE_EVENTS_MAX + 10, events, TRACE_EVENTS_MAX), 0);
        free(events);
        trace_free(trace);
}

/* What came once and is missed again was evicted; what could not be had was not. */
static void test_evicted(void **state)
{
        struct trace *trace = make();

        wait_once(trace, 0, (struct trace_wait){ .ino = 5, .error = -EHOSTUNREACH });
        wait_once(trace, 0, (struct trace_wait){ .ino = 5 });
        assert_int_equal(last_event(trace).why, TRACE_MISS);
        wait_once(trace, 0, (struct trace_wait){ .ino = 5 });
        assert_int_equal(last_event(trace).why, TRACE_EVICTED);
        wait_once(trace, 0, (struct trace_wait){ .ino = 5, .why = TRACE_STALE });
        assert_int_equal(last_event(trace).why, TRACE_STALE);
        trace_free(trace);
}

/* Two waits at the same time block their task once. */
static void test_sums(void **state)
{
        struct trace *trace = make();
        struct trace_sums *tasks = calloc(TRACE_TASKS_MAX, sizeof(*tasks)), *s = tasks;
        struct trace_wait a = { .ino = 2, .size = 100 }, b = { .ino = 3, .size = 10, .listed = true };
        unsigned waiting;

        trace_begin(trace, getpid(), &a);
        trace_begin(trace, getpid(), &b);
        trace_last(trace, &waiting);
        assert_int_equal(waiting, 2);
        usleep(2000);
        trace_end(trace, &b);
        trace_end(trace, &a);
        wait_once(trace, getpid(),
                  (struct trace_wait){ .ino = 4, .size = 1, .why = TRACE_AHEAD, .error = -EIO });
        assert_int_equal(trace_get_tasks(trace, tasks), 1);
        assert_int_equal(s->pid, getpid());
        assert_int_equal(s->waits, 3);
        assert_int_equal(s->failed, 1);
        assert_int_equal(s->bytes, 110);
        assert_int_equal(s->by_why[TRACE_MISS], 2);
        assert_int_equal(s->by_why[TRACE_AHEAD], 1);
        assert_true(s->blocked_ns >= 2000000 && s->blocked_ns < s->wait_ns);
        assert_true(s->unlisted_ns >= 2000000 && s->unlisted_ns < s->wait_ns);
        free(tasks);
        trace_free(trace);
}

/* The file that was waited for longest stays, however many others come. */
static void test_files(void **state)
{
        struct trace *trace = make();
        struct trace_sums *tasks = calloc(TRACE_TASKS_MAX, sizeof(*tasks));
        struct trace_wait slow = { .ino = 1000 };

        trace_begin(trace, 0, &slow);
        usleep(20000);
        trace_end(trace, &slow);
        for (uint64_t i = 1; i <= 100; i++)
                wait_once(trace, 0, (struct trace_wait){ .ino = i });
        wait_once(trace, 0, (struct trace_wait){ .ino = 1000, .why = TRACE_DAMAGED });
        assert_int_equal(trace_get_tasks(trace, tasks), 1);
        assert_int_equal(tasks[0].files[0].ino, 1000);
        assert_int_equal(tasks[0].files[0].reads, 2);
        assert_int_equal(tasks[0].files[0].whys, 1u << TRACE_MISS | 1u << TRACE_DAMAGED);
        for (int i = 1; i < TRACE_FILES_MAX; i++) {
                assert_true(tasks[0].files[i].reads > 0);
                assert_true(tasks[0].files[i].wait_ns <= tasks[0].files[i - 1].wait_ns);
        }
        free(tasks);
        trace_free(trace);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_event), cmocka_unit_test(test_ring),  cmocka_unit_test(test_evicted),
                cmocka_unit_test(test_sums),  cmocka_unit_test(test_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
