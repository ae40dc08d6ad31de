/* Which master is used and when each is asked, with masters that are played. */
#include "sync/masters.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "tests/unit/unit.h"

#define TIMEOUT_MS  30 /* a third of it is the time after which one is asked */
#define PATIENCE_NS (60 * NSEC_PER_SEC)

struct play {
        struct masters *masters;
        _Atomic int answer[MASTERS_MAX]; /* of `ask` */
        _Atomic int64_t heard[MASTERS_MAX];
        atomic_uint asked[MASTERS_MAX], lost[MASTERS_MAX], moved[MASTERS_MAX];
};

static int play_ask(size_t i, int timeout_ms, void *arg)
{
        struct play *p = arg;

        assert_true(timeout_ms <= TIMEOUT_MS / 3);
        atomic_fetch_add(&p->asked[i], 1);
        return atomic_load(&p->answer[i]);
}

static int64_t play_heard(size_t i, void *arg)
{
        struct play *p = arg;

        return atomic_load(&p->heard[i]);
}

static void play_lost(size_t i, void *arg)
{
        struct play *p = arg;

        atomic_store(&p->heard[i], 0);
        atomic_fetch_add(&p->lost[i], 1);
}

static void play_move(size_t i, void *arg)
{
        struct play *p = arg;

        masters_use(p->masters, i);
        atomic_fetch_add(&p->moved[i], 1);
}

static void play_init(struct play *p, size_t n)
{
        const struct masters_options options = {
                .n = n,
                .timeout_ms = TIMEOUT_MS,
                .ask = play_ask,
                .heard_ns = play_heard,
                .lost = play_lost,
                .move = play_move,
                .arg = p,
        };

        *p = (struct play){ 0 };
        assert_int_equal(masters_new(&options, &p->masters), 0);
        assert_int_equal(masters_current(p->masters), MASTERS_NONE);
        assert_false(masters_is_sure(p->masters));
}

static void wait_count(atomic_uint *count, unsigned least)
{
        int64_t until = clock_monotonic_ns() + PATIENCE_NS;

        while (atomic_load(count) < least) {
                assert_true(clock_monotonic_ns() < until);
                usleep(1000);
        }
}

static enum master_state state_of(struct play *p, size_t i)
{
        struct master_health health;

        masters_get(p->masters, i, &health);
        return health.state;
}

static void wait_state(struct play *p, size_t i, enum master_state state)
{
        int64_t until = clock_monotonic_ns() + PATIENCE_NS;

        while (state_of(p, i) != state) {
                assert_true(clock_monotonic_ns() < until);
                usleep(1000);
        }
}

static void expect_order(struct play *p, const char *expected)
{
        char text[MASTERS_MAX + 1] = { 0 };
        size_t order[MASTERS_MAX], n = masters_order(p->masters, order);

        for (size_t i = 0; i < n; i++)
                text[i] = (char)('0' + order[i]);
        assert_string_equal(text, expected);
}

static void test_silent_one_is_lost(void **state _unused_)
{
        struct play p;

        play_init(&p, 1);
        masters_use(p.masters, 0);
        atomic_store(&p.heard[0], clock_monotonic_ns());
        wait_count(&p.asked[0], 2); /* it answers, and is asked again and again */
        assert_int_equal(atomic_load(&p.lost[0]), 0);
        atomic_store(&p.answer[0], -EACCES); /* it is there, whatever it thinks of us */
        wait_count(&p.asked[0], atomic_load(&p.asked[0]) + 2);
        assert_int_equal(atomic_load(&p.lost[0]), 0);
        assert_int_equal(state_of(&p, 0), MASTER_WELL);
        atomic_store(&p.answer[0], -ETIMEDOUT);
        wait_count(&p.lost[0], 1);
        assert_int_equal(state_of(&p, 0), MASTER_AWAY);
        assert_false(masters_is_sure(p.masters));
        atomic_store(&p.answer[0], 0); /* it is asked on although nothing is open any more */
        wait_state(&p, 0, MASTER_WELL);
        masters_free(p.masters);
}

static void test_order(void **state _unused_)
{
        struct play p;

        play_init(&p, 3);
        expect_order(&p, "012");
        masters_note(p.masters, 0, -ECONNREFUSED);
        expect_order(&p, "120");
        assert_int_equal(masters_use(p.masters, 1), MASTERS_NONE);
        assert_true(masters_is_sure(p.masters));
        masters_doubt(p.masters, 1);
        assert_false(masters_is_sure(p.masters)); /* to be asked, but not away */
        expect_order(&p, "120");
        assert_int_equal(masters_use(p.masters, 1), 1);
        assert_true(masters_is_sure(p.masters));
        masters_doubt(p.masters, 1);
        masters_doubt(p.masters, 1); /* the third in a row, though it was asked in between */
        assert_int_equal(state_of(&p, 1), MASTER_AWAY);
        expect_order(&p, "201");
        masters_note_heard(p.masters, 1);
        masters_doubt(p.masters, 1);
        masters_doubt(p.masters, 1);
        assert_int_equal(state_of(&p, 1), MASTER_WELL); /* the count began anew */
        masters_free(p.masters);
}

static void test_lost_without_anybody_asking(void **state _unused_)
{
        struct play p;

        play_init(&p, 2);
        masters_use(p.masters, 0);
        atomic_store(&p.answer[0], -EHOSTUNREACH);
        atomic_store(&p.heard[0], clock_monotonic_ns());
        wait_count(&p.lost[0], 1);
        wait_count(&p.moved[1], 1); /* the other one is well: used, although nobody wants anything now */
        assert_int_equal(masters_current(p.masters), 1);
        masters_free(p.masters);
}

static void test_return(void **state _unused_)
{
        struct play p;
        int64_t well_ns;

        play_init(&p, 2);
        atomic_store(&p.answer[0], -ECONNREFUSED);
        masters_note(p.masters, 0, -ECONNREFUSED);
        masters_use(p.masters, 1);
        wait_count(&p.asked[0], 1);
        well_ns = clock_monotonic_ns();
        atomic_store(&p.answer[0], 0);
        wait_count(&p.moved[0], 1);
        assert_true(clock_monotonic_ns() - well_ns >= 4 * NSEC_PER_SEC); /* not for one good answer */
        assert_int_equal(masters_current(p.masters), 0);
        assert_int_equal(atomic_load(&p.moved[1]), 0);
        masters_free(p.masters);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_one_is_lost),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lost_without_anybody_asking),
        cmocka_unit_test(test_return),
};

UNIT_MAIN(tests)
