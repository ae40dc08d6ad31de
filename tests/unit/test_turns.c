/* Whose jobs are run when: no peer has all threads, nobody all of them, and peers take turns. */
#include "server/turns.h"

#include <string.h>

#include "base/lock.h"
#include "tests/unit/unit.h"

#define THREADS     4
#define PEER_SHARE  2
#define ALL         3
#define JOBS_MAX    64
#define PEERS       3
#define DEADLINE_NS (60 * NSEC_PER_SEC)

struct fixture;

/* One that reads until it is told to end. */
struct job {
        struct turn turn;
        struct fixture *f;
        char name[4];
        unsigned peer; /* which */
        bool begun, end, ended;
};

struct fixture {
        struct rpc_peers *peers;
        struct rpc_peer *peer[PEERS];
        struct pool *pool;
        struct turns *turns;
        struct mutex lock;
        struct condition change;
        struct job jobs[JOBS_MAX]; /* what is below, and all of a job but `turn`, is guarded by `lock` */
        unsigned n_jobs, running, running_of[PEERS];
        unsigned most, most_of[PEERS];
        char order[256]; /* names of those that have begun */
        bool walked;
};

static void set_up_with(struct fixture *f, struct rpc_share share, unsigned threads)
{
        struct rpc_share shares[RPC_SCARCE_N] = { [RPC_HASHINGS] = share };
        char address[32];

        memset(f, 0, sizeof(*f));
        f->peers = rpc_peers_new(shares);
        for (unsigned i = 0; i < PEERS; i++) {
                snprintf(address, sizeof(address), "ipv4:192.0.2.%u:1", i);
                f->peer[i] = rpc_peer_get(f->peers, address);
        }
        assert_int_equal(pool_new(threads, &f->pool), 0);
        assert_int_equal(turns_new(f->pool, RPC_HASHINGS, &f->turns), 0);
        mutex_init(&f->lock);
        condition_init(&f->change);
}

static void tear_down(struct fixture *f)
{
        pool_free(f->pool);
        turns_free(f->turns);
        for (unsigned i = 0; i < PEERS; i++) {
                assert_int_equal(rpc_peer_charged(f->peer[i], RPC_HASHINGS), 0);
                rpc_peer_unref(f->peer[i]);
        }
        rpc_peers_free(f->peers);
        condition_release(&f->change);
        mutex_release(&f->lock);
}

static void begin_locked(struct fixture *f, struct job *job) TSA_REQUIRES(f->lock)
{
        job->begun = true;
        strcat(f->order, job->name);
        f->running++;
        f->running_of[job->peer]++;
        f->most = MAX(f->most, f->running);
        f->most_of[job->peer] = MAX(f->most_of[job->peer], f->running_of[job->peer]);
        condition_broadcast(&f->change);
}

static void job_run(struct pool_job *pool_job)
{
        struct job *job = (struct job *)((char *)pool_job - offsetof(struct job, turn.job));
        struct fixture *f = job->f;

        mutex_lock(&f->lock);
        begin_locked(f, job);
        while (!job->end)
                condition_wait(&f->change, &f->lock);
        f->running--;
        f->running_of[job->peer]--;
        mutex_unlock(&f->lock);
        turns_end(f->turns, &job->turn);
        mutex_lock(&f->lock);
        job->ended = true;
        condition_broadcast(&f->change);
        mutex_unlock(&f->lock);
}

/* NAME: the peer, 'a' to 'c', and which of its jobs. */
static struct job *submit(struct fixture *f, const char *name)
{
        struct job *job = &f->jobs[f->n_jobs++];

        assert_true(f->n_jobs <= JOBS_MAX);
        job->f = f;
        job->peer = (unsigned)(name[0] - 'a');
        strcpy(job->name, name);
        job->turn.job.run = job_run;
        turns_submit(f->turns, &job->turn, f->peer[job->peer]);
        return job;
}

static void wait_for(struct fixture *f, const bool *what)
{
        const int64_t until_ns = clock_monotonic_ns() + DEADLINE_NS;

        mutex_lock(&f->lock);
        while (!*what)
                if (condition_wait_until(&f->change, &f->lock, until_ns) < 0)
                        break;
        mutex_unlock(&f->lock);
        assert_true(*what);
}

static void end(struct fixture *f, struct job *job)
{
        mutex_lock(&f->lock);
        job->end = true;
        condition_broadcast(&f->change);
        mutex_unlock(&f->lock);
}

static void end_all(struct fixture *f)
{
        for (unsigned i = 0; i < f->n_jobs; i++)
                end(f, &f->jobs[i]);
        for (unsigned i = 0; i < f->n_jobs; i++)
                wait_for(f, &f->jobs[i].ended);
}

static void test_turns(void **state)
{
        struct fixture f;
        struct job *first;

        set_up_with(&f, (struct rpc_share){ .peer = 1, .all = 1 }, 2);
        first = submit(&f, "a1");
        wait_for(&f, &first->begun);
        submit(&f, "a2");
        submit(&f, "a3");
        submit(&f, "b1");
        submit(&f, "c1");
        submit(&f, "b2");
        submit(&f, "a4");
        end_all(&f);
        assert_string_equal(f.order, "a1a2b1c1a3b2a4");
        assert_int_equal(f.most, 1);
        tear_down(&f);
}

struct walk {
        struct pool_job job;
        struct fixture *f;
};

static void walk_run(struct pool_job *job)
{
        struct fixture *f = ((struct walk *)job)->f;

        mutex_lock(&f->lock);
        f->walked = true;
        condition_broadcast(&f->change);
        mutex_unlock(&f->lock);
}

/* However much is asked for, by one or by all, there are threads for others and for all else. */
static void test_shares(void **state)
{
        struct fixture f;
        struct walk walk = { .job.run = walk_run, .f = &f };
        struct pool_walk pool_walk = { 0 };
        struct job *other;

        set_up_with(&f, (struct rpc_share){ .peer = PEER_SHARE, .all = ALL }, THREADS);
        for (unsigned i = 0; i < 20; i++)
                submit(&f, "a");
        for (unsigned i = 0; i < PEER_SHARE; i++)
                wait_for(&f, &f.jobs[i].begun);
        other = submit(&f, "b");
        wait_for(&f, &other->begun);
        for (unsigned i = 0; i < 20; i++)
                submit(&f, "c");
        pool_push(f.pool, &pool_walk, &walk.job);
        wait_for(&f, &f.walked);
        assert_int_equal(rpc_peer_charged(f.peer[0], RPC_HASHINGS), PEER_SHARE);
        assert_int_equal(rpc_peer_charged(f.peer[2], RPC_HASHINGS), 0);
        end(&f, other);
        wait_for(&f, &f.jobs[21].begun); /* c's: a has its share */
        assert_string_equal(f.order, "aabc");
        end_all(&f);
        assert_int_equal(f.most, ALL);
        for (unsigned i = 0; i < PEERS; i++)
                assert_true(f.most_of[i] <= PEER_SHARE);
        tear_down(&f);
}

static void test_withdrawn(void **state)
{
        struct turn never = { 0 };
        struct fixture f;
        struct job *first, *gone, *follower, *last;

        set_up_with(&f, (struct rpc_share){ .peer = 1, .all = 1 }, 2);
        first = submit(&f, "a1");
        wait_for(&f, &first->begun);
        gone = submit(&f, "a2");
        follower = submit(&f, "a3");
        submit(&f, "b1");
        last = submit(&f, "a4");
        assert_false(turns_withdraw(f.turns, &never));
        assert_false(turns_withdraw(f.turns, &first->turn)); /* it runs */
        assert_true(turns_withdraw(f.turns, &follower->turn));
        assert_true(turns_withdraw(f.turns, &gone->turn)); /* the first of its peer's */
        assert_false(turns_withdraw(f.turns, &gone->turn));
        for (unsigned i = 0; i < f.n_jobs; i++)
                end(&f, &f.jobs[i]);
        wait_for(&f, &last->ended);
        wait_for(&f, &f.jobs[3].ended);
        assert_false(turns_withdraw(f.turns, &first->turn)); /* it ran */
        assert_string_equal(f.order, "a1b1a4");
        tear_down(&f);
}

/* What others want as well does not wait for who asks for much. */
static void test_shared(void **state)
{
        struct fixture f;
        struct job *first, *wanted;

        set_up_with(&f, (struct rpc_share){ .peer = 1, .all = 1 }, 2);
        first = submit(&f, "a1");
        wait_for(&f, &first->begun);
        submit(&f, "a2");
        submit(&f, "a3");
        wanted = submit(&f, "a4");
        submit(&f, "b1");
        turns_share(f.turns, &first->turn, f.peer[1]);  /* it runs */
        turns_share(f.turns, &wanted->turn, f.peer[0]); /* it is his */
        turns_share(f.turns, &wanted->turn, f.peer[1]);
        submit(&f, "c1");
        turns_share(f.turns, &wanted->turn, f.peer[2]); /* and goes no further back */
        end_all(&f);
        assert_string_equal(f.order, "a1a2b1a4c1a3");
        tear_down(&f);
}

/* Nor for what is done for him. */
static void test_shared_at_once(void **state)
{
        struct fixture f;
        struct job *first, *wanted;

        set_up_with(&f, (struct rpc_share){ .peer = 1, .all = 2 }, 3);
        first = submit(&f, "a1");
        wait_for(&f, &first->begun);
        wanted = submit(&f, "a2");
        turns_share(f.turns, &wanted->turn, f.peer[1]);
        end(&f, wanted);
        wait_for(&f, &wanted->ended);
        end(&f, first);
        wait_for(&f, &first->ended);
        tear_down(&f);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),     cmocka_unit_test(test_shares),
        cmocka_unit_test(test_shared),    cmocka_unit_test(test_shared_at_once),
        cmocka_unit_test(test_withdrawn),
};

UNIT_MAIN(tests)
