/*
 * Contents by pieces as several threads and processes see them: one brings each piece, all read it, one publishes, and any may die at any step.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>

#include "cache/pieces_private.h"
#include "tests/unit/pieces_fixture.h"

/* ---- a process of its own, with a store of its own, led by the test ---- */

struct child {
        pid_t pid;
        int ready, go; /* it says where it is; closed: it goes on */
};

struct child_call {
        struct fixture *fixture;
        struct store *store;
        int ready, go;
};

static void say_and_wait(const struct child_call *call)
{
        char byte;

        if (write(call->ready, "r", 1) != 1 || read(call->go, &byte, 1) != 1)
                _exit(99);
}

static struct child start_child(struct fixture *f, int (*body)(const struct child_call *call))
{
        int ready[2], go[2];
        struct child child;

        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(go), 0);
        child.pid = fork();
        if (child.pid == 0) {
                struct child_call call = { .fixture = f, .ready = ready[1], .go = go[0] };
                close(go[1]);
                close(ready[0]);
                if (store_open(f->dir, &call.store) < 0)
                        _exit(98);
                _exit(body(&call));
        }
        close(go[0]);
        close(ready[1]);
        child.ready = ready[0];
        child.go = go[1];
        return child;
}

static void await_child(const struct child *child)
{
        char byte;

        assert_int_equal(read(child->ready, &byte, 1), 1);
}

static void let_go(const struct child *child)
{
        assert_int_equal(write(child->go, "g", 1), 1);
}

static void end_child(struct child *child, int signal_number, int expected_status)
{
        int status;

        if (signal_number)
                kill(child->pid, signal_number);
        assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
        assert_int_equal(status, expected_status);
        close(child->ready);
        close(child->go);
}

/* Claims piece 0, and brings it when told to. */
static int claim_and_bring(const struct child_call *call)
{
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(call->store, c);

        if (store_pieces_claim(pieces, 0, false) != STORE_OK)
                return 1;
        say_and_wait(call);
        if (put_claimed(pieces, c, 0) != STORE_OK)
                return 2;
        say_and_wait(call);
        store_pieces_unref(pieces);
        return 0;
}

/* ---- threads that wait for a claim ---- */

struct waiter {
        struct store_pieces *pieces;
        uint64_t index;
        pthread_t thread;
        int result;
};

static void *wait_for_claim(void *arg)
{
        struct waiter *w = arg;

        w->result = store_pieces_claim(w->pieces, w->index, true);
        if (w->result == STORE_OK)
                store_pieces_give_up(w->pieces, w->index);
        return NULL;
}

static void start_waiter(struct waiter *w, struct store_pieces *pieces, uint64_t index)
{
        *w = (struct waiter){ .pieces = pieces, .index = index, .result = -1 };
        assert_int_equal(pthread_create(&w->thread, NULL, wait_for_claim, w), 0);
}

static int end_waiter(struct waiter *w)
{
        pthread_join(w->thread, NULL);
        return w->result;
}

extern atomic_uint valgrind_shim_waits __attribute__((weak)); /* tests/unit/valgrind_shim.c */

/* Until somebody sleeps for an OFD lock, as /proc/locks shows by its arrow. */
static void await_blocked_claim(void)
{
        for (int i = 0; i < 5000; i++) {
                _cleanup_buffer_ struct buffer locks = { 0 };
                assert_int_equal(io_read_file(AT_FDCWD, "/proc/locks", 1 << 20, &locks), 0);
                if ((locks.data && strstr(locks.data, "-> OFDLCK")) ||
                    (&valgrind_shim_waits && atomic_load(&valgrind_shim_waits) > 0))
                        return;
                usleep(1000);
        }
        fail_msg("nobody waits");
}

/* P3 */
static void test_claims_of_threads(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct waiter w;

        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_OK);
        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_BUSY);
        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        start_waiter(&w, pieces, 0);
        assert_int_equal(put_claimed(pieces, c, 0), STORE_OK);
        assert_int_equal(end_waiter(&w), STORE_HAVE);
        start_waiter(&w, pieces, 1);
        store_pieces_give_up(pieces, 1);
        assert_int_equal(end_waiter(&w), STORE_OK);
        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        store_pieces_give_up(pieces, 1);
        store_pieces_unref(pieces);
}

/* P3 */
static void test_claims_of_processes(void **state)
{
        struct fixture *f = *state;
        struct child child = start_child(f, claim_and_bring);
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct waiter w;

        await_child(&child);
        pieces = open_pieces(f->store, c);
        assert_true(store_pieces_listed(pieces)); /* another's serves as well */
        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_BUSY);
        assert_int_equal(bring(pieces, c, 1), STORE_OK);
        start_waiter(&w, pieces, 0);
        await_blocked_claim();
        let_go(&child);
        assert_int_equal(end_waiter(&w), STORE_HAVE);
        assert_piece(pieces, c, 0);
        await_child(&child);
        let_go(&child);
        end_child(&child, 0, 0);
        store_pieces_unref(pieces);
}

/* A claim needs no list; and one that has come while the handle was open it finds. */
static void test_list_of_another_process(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct child child;

        pieces = open_pieces(f->store, c);
        assert_false(store_pieces_listed(pieces));
        child = start_child(f, claim_and_bring);
        await_child(&child);
        assert_int_equal(store_pieces_claim(pieces, 2, false), STORE_OK);
        assert_true(store_pieces_listed(pieces));
        store_pieces_give_up(pieces, 2);
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_MISSING);
        let_go(&child);
        await_child(&child);
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_HERE);
        assert_piece(pieces, c, 0);
        let_go(&child);
        end_child(&child, 0, 0);
        store_pieces_unref(pieces);
}

/* P3: a dead process's claims are nobody's, also for who waits already. */
static void test_killed_claimer(void **state)
{
        struct fixture *f = *state;
        struct child child = start_child(f, claim_and_bring);
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct waiter w;

        await_child(&child);
        pieces = open_pieces(f->store, c);
        start_waiter(&w, pieces, 0);
        await_blocked_claim();
        end_child(&child, SIGKILL, SIGKILL);
        assert_int_equal(end_waiter(&w), STORE_OK);
        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        store_pieces_unref(pieces);
}

/* Stopped, for all that anybody can see. */
static void test_claimer_that_does_nothing(void **state)
{
        struct fixture *f = *state;
        struct child child = start_child(f, claim_and_bring);
        struct store_pieces *pieces;

        await_child(&child);
        f->store->patience.most_ns = 100 * NSEC_PER_MSEC;
        pieces = open_pieces(f->store, content_of(1));
        assert_int_equal(store_pieces_claim(pieces, 0, true), -EBUSY);
        f->store->patience.most_ns = INT64_MAX / 2;
        assert_int_equal(store_pieces_claim(pieces, 0, true), -EBUSY); /* it is not waited for again */
        f->store->patience.vain_ns = 0;
        let_go(&child);
        assert_int_equal(store_pieces_claim(pieces, 0, true), STORE_HAVE);
        await_child(&child);
        let_go(&child);
        end_child(&child, 0, 0);
        store_pieces_unref(pieces);
}

static int keep_count_locked(const struct child_call *call)
{
        const unsigned shard = usage_shard_of(&content_of(1)->id);
        struct usage_turn turn = usage_begin(call->store, shard);

        if (!turn.locked)
                return 1;
        say_and_wait(call);
        usage_end(call->store, shard, turn, 0, 0);
        say_and_wait(call);
        return 0;
}

static struct store_usage usage_of(struct store *store)
{
        struct store_usage usage;

        store_get_usage(store, &usage);
        return usage;
}

static void count_missing(struct store *store)
{
        static const atomic_bool never = false;

        assert_int_equal(usage_count_missing(store, &never), 0);
}

/* What comes is kept, and counted when the lock can be had: who had it does not say that nothing has changed. */
static void test_count_that_stays_locked(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct child child;

        count_missing(f->store);
        child = start_child(f, keep_count_locked);
        await_child(&child);
        pieces = open_listed(f->store, c);
        for (uint64_t i = 0; i + 1 < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        assert_true(has_part(f, c));
        let_go(&child);
        await_child(&child);
        assert_false(usage_of(f->store).counted);
        count_missing(f->store);
        assert_counted(f->store);
        let_go(&child);
        end_child(&child, 0, 0);
}

/* The last piece makes it a blob, which is not evicted as long as the lock cannot be had. */
static void test_count_that_stays_locked_over_a_part(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_evicted evicted = { 0 };
        struct child child;

        for (uint64_t i = 0; i + 1 < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        child = start_child(f, keep_count_locked);
        await_child(&child);
        pieces = open_pieces(f->store, c);
        assert_piece(pieces, c, 0);
        assert_int_equal(bring(pieces, c, PIECES - 1), STORE_OK);
        store_pieces_unref(pieces);
        assert_false(has_part(f, c));
        assert_int_equal(store_pin(f->store, &c->id), -EBUSY);
        assert_int_equal(store_unpin(f->store, &c->id), STORE_OK);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_int_equal(stats_of(f->store).blobs, 1);
        assert_blob(f->store, c);
        let_go(&child);
        await_child(&child);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_false(store_has(f->store, &c->id));
        let_go(&child);
        end_child(&child, 0, 0);
        assert_counted(f->store);
}

/* Who counts, and is overtaken by a change that it may have seen or not. */
static void test_count_that_is_passed(void **state)
{
        struct fixture *f = *state;
        const unsigned shard = usage_shard_of(&content_of(1)->id);
        struct usage_turn turn;
        struct child child;

        count_missing(f->store);
        child = start_child(f, keep_count_locked);
        await_child(&child);
        turn = usage_begin(f->store, shard);
        assert_false(turn.locked || turn.counted);
        let_go(&child);
        await_child(&child);
        count_missing(f->store);
        assert_true(usage_of(f->store).counted);
        usage_end(f->store, shard, turn, 4096, 1);
        assert_false(usage_of(f->store).counted);
        count_missing(f->store);
        assert_int_equal(usage_of(f->store).bytes, 0);
        assert_int_equal(usage_of(f->store).blobs, 0);
        let_go(&child);
        end_child(&child, 0, 0);
        assert_counted(f->store);
}

static int look_whether_open(const struct child_call *call)
{
        char path[256];
        int fd;

        path_of_part(call->fixture, content_of(1), path);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        signal(SIGIO, SIG_IGN);
        if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
                return 1;
        say_and_wait(call);
        return 0;
}

/* Who evicts, and is stopped right before, has the part taken away by who wants it. */
static void test_look_that_does_not_end(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct child child;

        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        store_pieces_unref(pieces);
        child = start_child(f, look_whether_open);
        await_child(&child);
        f->store->patience.most_ns = 100 * NSEC_PER_MSEC;
        pieces = open_listed(f->store, c);
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_MISSING);
        let_go(&child);
        end_child(&child, 0, 0);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

static void test_interrupt(void **state)
{
        struct fixture *f = *state;
        struct child child = start_child(f, claim_and_bring);
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct waiter of_process, of_thread;

        await_child(&child);
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        start_waiter(&of_process, pieces, 0);
        start_waiter(&of_thread, pieces, 1);
        await_blocked_claim();
        store_interrupt(f->store);
        assert_int_equal(end_waiter(&of_process), -EINTR);
        assert_int_equal(end_waiter(&of_thread), -EINTR);
        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_BUSY);
        store_pieces_give_up(pieces, 1);
        store_pieces_unref(pieces);
        end_child(&child, SIGKILL, SIGKILL);
}

static void test_interrupted_wait_for_thread(void **state)
{
        struct fixture *f = *state;
        struct store_pieces *pieces = open_listed(f->store, content_of(1));
        struct waiter w;

        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        start_waiter(&w, pieces, 1);
        usleep(50000); /* so that it sleeps; if it does not yet, it never will */
        store_interrupt(f->store);
        assert_int_equal(end_waiter(&w), -EINTR);
        store_pieces_give_up(pieces, 1);
        store_pieces_unref(pieces);
}

/* S6, of another process */
static void test_in_use_elsewhere(void **state)
{
        struct fixture *f = *state;
        struct child child = start_child(f, claim_and_bring);
        struct store_evicted evicted = { 0 };
        const struct content *c = content_of(1);

        await_child(&child);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_true(has_part(f, c));
        let_go(&child);
        await_child(&child);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_true(has_part(f, c));
        let_go(&child);
        end_child(&child, 0, 0);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_false(has_part(f, c));
        assert_int_equal(evicted.blobs, 1);
        assert_counted(f->store);
}

static int bring_all(const struct child_call *call)
{
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(call->store, c);

        for (uint64_t i = 0; i < PIECES; i++)
                if (bring(pieces, c, i) < 0)
                        return 1;
        store_pieces_unref(pieces);
        return 0;
}

/* P4: who has it open sees that it has become a blob, and S2: does nothing to it. */
static void test_published_by_another(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct child child;
        struct stat before;

        pieces = open_listed(f->store, c);
        assert_int_equal(bring(pieces, c, 3), STORE_OK);
        child = start_child(f, bring_all);
        end_child(&child, 0, 0);
        before = blob_stat(f, &c->id);
        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_HAVE);
        for (uint64_t i = 0; i < PIECES; i++) {
                assert_int_equal(store_pieces_state(pieces, i), PIECE_HERE);
                assert_int_equal(bring(pieces, c, i), STORE_HAVE);
                assert_piece(pieces, c, i);
        }
        assert_int_equal(store_pieces_present(pieces), SIZE);
        store_pieces_unref(pieces);
        assert_int_equal(blob_stat(f, &c->id).st_size, SIZE);
        assert_int_equal(blob_stat(f, &c->id).st_mtim.tv_nsec, before.st_mtim.tv_nsec);
        assert_blob(f->store, c);
        (void)stats_of(f->store);
        assert_counted(f->store);
}

/* S2: so does who reads its pieces again meanwhile (store_verify), and has claimed the next one only now. */
static void test_published_while_verified(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct child child;

        assert_int_equal(bring(pieces, c, 3), STORE_OK);
        child = start_child(f, bring_all);
        end_child(&child, 0, 0);
        assert_int_equal(pieces_claim_any(pieces, 3, false), STORE_OK);
        assert_int_equal(pieces_look(pieces, 3), PIECE_HERE);
        assert_int_equal(pieces_reread(pieces, 3), STORE_OK);
        pieces_release(pieces, 3);
        assert_int_equal(blob_stat(f, &c->id).st_size, SIZE);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* ---- crowds ---- */

enum { CONTENTS = 16, THREADS = 3 };

struct filler {
        struct store_pieces *pieces;
        const struct content *content;
        unsigned seed, brought;
        pthread_t thread;
};

static void *fill(void *arg)
{
        struct filler *filler = arg;

        for (uint64_t i = 0; i < PIECES; i++) {
                uint64_t index = (i + filler->seed) % PIECES;
                int r = bring(filler->pieces, filler->content, index);
                assert_true(r == STORE_OK || r == STORE_HAVE);
                filler->brought += r == STORE_OK;
                assert_piece(filler->pieces, filler->content, index);
        }
        return NULL;
}

/* How many pieces of each content this process brought, by several threads. */
static int fill_all(const struct child_call *call)
{
        unsigned brought = 0;

        for (unsigned number = 0; number < CONTENTS; number++) {
                struct filler fillers[THREADS];
                const struct content *c = content_of(number);
                struct store_pieces *pieces;
                int r = store_pieces_open(call->store, &c->id, SIZE, true, &pieces);
                if (r == STORE_HAVE)
                        continue;
                if (r != STORE_OK || store_pieces_set_list(pieces, c->list, sizeof(c->list)) != STORE_OK)
                        return 255;
                for (unsigned i = 0; i < THREADS; i++) {
                        fillers[i] = (struct filler){ .pieces = pieces,
                                                      .content = c,
                                                      .seed = (unsigned)getpid() + i * 2 };
                        if (pthread_create(&fillers[i].thread, NULL, fill, &fillers[i]) != 0)
                                return 254;
                }
                for (unsigned i = 0; i < THREADS; i++) {
                        pthread_join(fillers[i].thread, NULL);
                        brought += fillers[i].brought;
                }
                store_pieces_unref(pieces);
        }
        store_free(call->store);
        return (int)brought;
}

/* P3, P4: three processes of three threads each: every piece is brought once, and all become blobs. */
static void test_crowd(void **state)
{
        struct fixture *f = *state;
        struct child children[3];
        unsigned brought = 0;

        (void)stats_of(f->store);
        for (unsigned i = 0; i < ARRAY_SIZE(children); i++)
                children[i] = start_child(f, fill_all);
        for (unsigned i = 0; i < ARRAY_SIZE(children); i++) {
                int status;
                assert_int_equal(waitpid(children[i].pid, &status, 0), children[i].pid);
                assert_true(WIFEXITED(status));
                brought += (unsigned)WEXITSTATUS(status);
                close(children[i].ready);
                close(children[i].go);
        }
        assert_int_equal(brought, CONTENTS * PIECES);
        for (unsigned number = 0; number < CONTENTS; number++) {
                assert_false(has_part(f, content_of(number)));
                assert_blob(f->store, content_of(number));
        }
        assert_counted(f->store);
        assert_int_equal(stats_of(f->store).quarantined, 0);
}

/* ---- death ---- */

/* Stops, to be led from one call of the kernel to the next, then brings what is missing. */
static int bring_traced(const struct child_call *call)
{
        const struct content *c = content_of(1);
        struct store_pieces *pieces;

        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
                return SKIPPED;
        raise(SIGSTOP);
        if (store_pieces_open(call->store, &c->id, SIZE, true, &pieces) != STORE_OK ||
            store_pieces_set_list(pieces, c->list, sizeof(c->list)) != STORE_OK)
                return 1;
        for (uint64_t i = 0; i < PIECES; i++)
                if (bring(pieces, c, i) < 0)
                        return 2;
        store_pieces_unref(pieces);
        return 0;
}

/* Kills the child at its STEPth entry to or exit from the kernel. False: it ended before, well. */
static bool run_until(struct child *child, unsigned step)
{
        int status;

        assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
                unit_skip("needs the right to trace a process");
        for (unsigned i = 0; WIFSTOPPED(status) && i < step; i++) {
                assert_int_equal(ptrace(PTRACE_SYSCALL, child->pid, NULL, NULL), 0);
                assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
        }
        if (WIFSTOPPED(status)) {
                kill(child->pid, SIGKILL);
                assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
                assert_int_equal(status, SIGKILL);
        } else {
                assert_int_equal(status, 0);
        }
        close(child->ready);
        close(child->go);
        return status == SIGKILL;
}

/* Whatever the dead one left: what is said to be here is right (P1, P2), the count is (S7), and it becomes whole. */
static void assert_sound(struct fixture *f, const struct content *c)
{
        struct store_pieces *pieces = NULL;
        struct store_usage usage;
        struct store_stats stats;
        int r;

        store_get_usage(f->store, &usage);
        assert_int_equal(usage.reserved, 0);
        if (usage.counted)
                assert_counted(f->store);
        else
                (void)stats_of(f->store);
        r = store_pieces_open(f->store, &c->id, SIZE, true, &pieces);
        if (r == STORE_OK) {
                for (uint64_t i = 0; i < PIECES; i++)
                        if (store_pieces_state(pieces, i) == PIECE_HERE)
                                assert_piece(pieces, c, i);
                assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
                for (uint64_t i = 0; i < PIECES; i++)
                        assert_true(bring(pieces, c, i) >= 0);
                store_pieces_unref(pieces);
        } else {
                assert_int_equal(r, STORE_HAVE);
        }
        assert_blob(f->store, c);
        stats = stats_of(f->store);
        assert_counted(f->store);
        assert_int_equal(stats.quarantined, 0);
        assert_int_equal(stats.partials, 0);
}

/* Killed at every single call of the kernel, when the first HERE pieces are here before. */
static void kill_at_every_step(struct fixture *f, uint64_t here)
{
        const struct content *c = content_of(1);
        bool killed = true;
        unsigned step;

        (void)stats_of(f->store);
        for (step = 0; killed; step++) {
                struct store_evicted evicted = { 0 };
                struct child child;
                if (here > 0) {
                        struct store_pieces *pieces = open_listed(f->store, c);
                        for (uint64_t i = 0; i < here; i++)
                                assert_int_equal(bring(pieces, c, i), STORE_OK);
                        store_pieces_unref(pieces);
                }
                child = start_child(f, bring_traced);
                killed = run_until(&child, step);
                assert_sound(f, c);
                assert_int_equal(store_evict(f->store, 0, &evicted), 0);
                assert_false(store_has(f->store, &c->id));
                assert_counted(f->store);
        }
        assert_true(step > 50);
}

static void test_killed_at_every_step(void **state)
{
        kill_at_every_step(*state, 0);
}

static void test_killed_at_every_step_of_the_end(void **state)
{
        kill_at_every_step(*state, PIECES - 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_claims_of_threads),
                TEST(test_claims_of_processes),
                TEST(test_list_of_another_process),
                TEST(test_killed_claimer),
                TEST(test_claimer_that_does_nothing),
                TEST(test_count_that_stays_locked),
                TEST(test_count_that_stays_locked_over_a_part),
                TEST(test_count_that_is_passed),
                TEST(test_look_that_does_not_end),
                TEST(test_interrupt),
                TEST(test_interrupted_wait_for_thread),
                TEST(test_in_use_elsewhere),
                TEST(test_published_by_another),
                TEST(test_published_while_verified),
                TEST(test_crowd),
                TEST(test_killed_at_every_step),
                TEST(test_killed_at_every_step_of_the_end),
        };

        log_setup("test_pieces_shared", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
