#include "server/versions.h"

#include "server/md5_batch.h"
#include "server/stock.h"
#include "tests/fault/interpose.h"
#include "tests/unit/scan_fixture.h"

static int nameless_error; /* of opening with O_TMPFILE; 0: none */

PUBLIC int open(const char *path, int flags, ...)
{
        mode_t mode = MODE_AFTER(flags);

        if (nameless_error == 0 || (flags & O_TMPFILE) != O_TMPFILE)
                return REAL(open)(path, flags, mode);
        errno = nameless_error;
        return -1;
}

static void begin(struct fixture *f, enum watcher_kind watch)
{
        char dir[96];

        snprintf(dir, sizeof(dir), "%s/index", f->dir);
        assert_int_equal(versions_new(&(struct versions_options){ .root = f->root,
                                                                  .pool = f->pool,
                                                                  .dir = dir,
                                                                  .watch = watch,
                                                                  .stat_pass_ms = 600000 },
                                      &f->versions),
                         0);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        fixture_folder(f, "test_versions");
        begin(f, WATCHER_OFF);
        *state = f;
        return 0;
}

static void end(struct fixture *f)
{
        versions_stop(f->versions);
        pool_free(f->pool);
        versions_free(f->versions);
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        end(f);
        fixture_remove(f);
        return 0;
}

/* As after a restart of the server, with another way to watch and THREADS. */
static void begin_again(struct fixture *f, enum watcher_kind watch, unsigned threads)
{
        end(f);
        assert_int_equal(pool_new(threads, &f->pool), 0);
        begin(f, watch);
}

static void ask(struct fixture *f, const char *spider, enum versions_freshness freshness, struct answer *a)
{
        answer_init(a);
        assert_int_equal(versions_get(f->versions, spider, freshness, 60000, &a->request), 0);
}

static struct tree_view *view_of(struct fixture *f, const char *spider)
{
        struct tree_view *view = NULL;

        assert_int_equal(versions_view(f->versions, spider, &view), TREE_OK);
        return view;
}

static int get(struct fixture *f, const char *spider, enum versions_freshness freshness,
               struct tree_version *ret)
{
        struct tree_view *view;
        struct answer a;
        int r;

        ask(f, spider, freshness, &a);
        r = answer_wait(&a);
        if (r < 0)
                return r;
        view = view_of(f, spider);
        if (ret)
                *ret = *tree_view_version(view);
        tree_view_put(view);
        return r;
}

static uint64_t walks(void)
{
        return metrics_get(METRIC_STAT_PASSES);
}

static void test_one_pass_for_all(void **state)
{
        struct fixture *f = *state;
        uint64_t scans = metrics_get(METRIC_SCANS), passes = walks();
        struct answer answers[50];

        write_file(f, "a", "1");
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
                ask(f, "sp", VERSIONS_FRESH, &answers[i]);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
                assert_int_equal(answer_wait(&answers[i]), 0);
        assert_int_equal(metrics_get(METRIC_SCANS), scans + 1);
        assert_true(walks() <= passes + ARRAY_SIZE(answers));
}

/* A job that holds its thread until it is let go. */
struct gate {
        struct pool_job job;
        struct mutex lock;
        struct condition change;
        bool reached, open;
};

static void gate_run(struct pool_job *job)
{
        struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, job));

        mutex_lock(&gate->lock);
        gate->reached = true;
        condition_broadcast(&gate->change);
        while (!gate->open)
                condition_wait(&gate->change, &gate->lock);
        mutex_unlock(&gate->lock);
}

static void gate_submit(struct gate *gate, struct pool *pool)
{
        *gate = (struct gate){ .job.run = gate_run };
        mutex_init(&gate->lock);
        condition_init(&gate->change);
        pool_submit(pool, &gate->job);
}

static void gate_wait_reached(struct gate *gate)
{
        mutex_lock(&gate->lock);
        while (!gate->reached)
                condition_wait(&gate->change, &gate->lock);
        mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
        mutex_lock(&gate->lock);
        gate->open = true;
        condition_broadcast(&gate->change);
        mutex_unlock(&gate->lock);
}

/* Who asks before a pass begins to read shares it; who asks later gets one of their own, all together. */
static void test_fresh(void **state)
{
        struct fixture *f = *state;
        struct answer answers[4];
        struct gate before, during;
        uint64_t passes = walks();

        begin_again(f, WATCHER_OFF, 1); /* one thread: the order of its jobs is certain */
        gate_submit(&before, f->pool);
        gate_wait_reached(&before);
        ask(f, "sp", VERSIONS_FRESH, &answers[0]);
        ask(f, "sp", VERSIONS_FRESH, &answers[1]);
        gate_submit(&during, f->pool); /* runs once the pass has begun, before it walks */
        gate_open(&before);
        gate_wait_reached(&during);
        ask(f, "sp", VERSIONS_FRESH, &answers[2]);
        ask(f, "sp", VERSIONS_FRESH, &answers[3]);
        gate_open(&during);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
                assert_int_equal(answer_wait(&answers[i]), 0);
        assert_int_equal(walks(), passes + 2);
}

static void test_recent_and_expired(void **state)
{
        struct fixture *f = *state;
        struct tree_version a, b, c, d;
        uint64_t passes;

        write_file(f, "a", "1");
        assert_int_equal(get(f, "sp", VERSIONS_RECENT, &a), 0);
        passes = walks();
        write_file(f, "a", "2");
        assert_int_equal(get(f, "sp", VERSIONS_RECENT, &b), 0); /* an old one will do */
        assert_int_equal(b.revision, a.revision);
        assert_int_equal(walks(), passes);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &c), 0);
        assert_int_equal(c.revision, a.revision + 1);
        versions_expire(f->versions, -1000); /* forgotten by memory, not by the tree on disk */
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &d), 0);
        assert_int_equal(d.revision, c.revision);
}

/* A view that somebody still has keeps its tree open. */
static void test_expire_with_view(void **state)
{
        struct fixture *f = *state;
        struct tree_view *view;
        struct tree_row row;

        write_file(f, "a", "1");
        assert_int_equal(versions_view(f->versions, "sp", &view), TREE_NONE);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        view = view_of(f, "sp");
        usleep(20 * 1000);
        versions_expire(f->versions, -1000);
        assert_int_equal(tree_view_find(view, "a", 1, &row), TREE_OK);
        tree_view_put(view);
        do /* the pass's thread may not be quite done with it */
                versions_expire(f->versions, -1000);
        while (versions_find(f->versions, "sp", "a", &row) == TREE_OK);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(versions_find(f->versions, "sp", "a", &row), TREE_OK);
}

static void test_restart_hashes_nothing(void **state)
{
        struct fixture *f = *state;
        struct tree_version before, after;
        uint64_t hashed;

        write_file(f, "a", "1");
        let_age();
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &before), 0);
        hashed = metrics_get(METRIC_FILES_HASHED);
        begin_again(f, WATCHER_OFF, 4);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &after), 0);
        assert_int_equal(after.revision, before.revision);
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed);
}

/* Fresh answers of a watched workspace need no walk, and are fresh all the same. */
static void watched(struct fixture *f, enum watcher_kind kind)
{
        struct tree_version last, now;
        uint64_t passes;

        begin_again(f, kind, 4);
        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &last), 0);
        passes = walks();
        for (unsigned i = 0; i < 50; i++) {
                char name[32];
                snprintf(name, sizeof(name), i % 3 ? "d/f%u" : "f%u", i / 2);
                write_file(f, name, name);
                assert_int_equal(get(f, "sp", VERSIONS_FRESH, &now), 0);
                assert_int_equal(now.revision, last.revision + 1);
                assert_int_equal(get(f, "sp", VERSIONS_FRESH, &last), 0);
                assert_int_equal(now.revision, last.revision);
        }
        assert_int_equal(walks(), passes);
        assert_int_equal(get(f, "sp", VERSIONS_STAT_PASS, &now), 0);
        assert_int_equal(walks(), passes + 1);
        assert_int_equal(now.revision, last.revision);
}

static void test_watched_inotify(void **state)
{
        watched(*state, WATCHER_INOTIFY);
}

static void test_watched_fanotify(void **state)
{
        if (geteuid() != 0)
                unit_skip("fanotify needs root");
        watched(*state, WATCHER_FANOTIFY);
}

struct listener {
        struct versions_subscriber subscriber;
        struct mutex lock;
        struct condition change;
        unsigned calls;
};

static void listener_changed(struct versions_subscriber *subscriber)
{
        struct listener *l = (struct listener *)((char *)subscriber - offsetof(struct listener, subscriber));

        mutex_lock(&l->lock);
        l->calls++;
        condition_signal(&l->change);
        mutex_unlock(&l->lock);
}

static void test_subscribers(void **state)
{
        struct fixture *f = *state;
        struct listener l = { .subscriber.changed = listener_changed };
        struct tree_version before, after;
        unsigned calls;

        mutex_init(&l.lock);
        condition_init(&l.change);
        begin_again(f, WATCHER_INOTIFY, 4);
        assert_int_equal(versions_subscribe(f->versions, "sp", &l.subscriber), 0);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &before), 0);
        mutex_lock(&l.lock);
        while (l.calls == 0)
                condition_wait(&l.change, &l.lock);
        calls = l.calls;
        mutex_unlock(&l.lock);
        write_file(f, "pushed", "x"); /* nobody asks */
        mutex_lock(&l.lock);
        while (l.calls == calls)
                condition_wait(&l.change, &l.lock);
        mutex_unlock(&l.lock);
        assert_int_equal(get(f, "sp", VERSIONS_RECENT, &after), 0);
        assert_true(after.revision > before.revision);
        versions_unsubscribe(f->versions, "sp", &l.subscriber);
        calls = l.calls;
        write_file(f, "pushed", "y");
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(l.calls, calls);
        mutex_release(&l.lock);
        condition_release(&l.change);
}

static void test_no_such_spider(void **state)
{
        struct fixture *f = *state;
        char command[192];

        assert_int_equal(get(f, "none", VERSIONS_FRESH, NULL), -ENOENT);
        assert_int_equal(get(f, "..", VERSIONS_FRESH, NULL), -EINVAL);
        snprintf(command, sizeof(command), "test ! -e '%s/index' || rmdir '%s/index'", f->dir, f->dir);
        assert_int_equal(system(command), 0); /* nothing was made for it */
}

/* A spider's folder that is gone, and then another one. */
static void test_replaced_spider(void **state)
{
        struct fixture *f = *state;
        struct tree_version before, after;
        char from[96], to[96];

        begin_again(f, WATCHER_AUTO, 4);
        write_file(f, "old", "1");
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &before), 0);
        snprintf(from, sizeof(from), "%s/ws/sp", f->dir);
        snprintf(to, sizeof(to), "%s/ws/away", f->dir);
        assert_int_equal(rename(from, to), 0);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), -ENOENT);
        assert_int_equal(mkdir(from, 0755), 0);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, &after), 0);
        assert_int_equal(after.entries, 1);
        assert_int_equal(after.revision, before.revision + 1);
        assert_int_equal(get(f, "away", VERSIONS_FRESH, &after), 0);
        assert_int_equal(after.files, 1);
}

/* What is suspected is read by the next pass, even after one that failed. */
static void test_suspect(void **state)
{
        struct fixture *f = *state;
        char from[96], to[96];
        uint64_t hashed;

        begin_again(f, WATCHER_AUTO, 4);
        write_file(f, "file", "1");
        let_age();
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        hashed = metrics_get(METRIC_FILES_HASHED);
        versions_suspect(f->versions, "sp", "file");
        snprintf(from, sizeof(from), "%s/ws/sp", f->dir);
        snprintf(to, sizeof(to), "%s/ws/away", f->dir);
        assert_int_equal(rename(from, to), 0);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), -ENOENT);
        assert_int_equal(rename(to, from), 0);
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed + 1);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed + 1);
}

/* How many were stored: one or none. */
static size_t store_md5(struct fixture *f, const char *path, const struct tree_stamp *stamp,
                        const uint8_t md5[HASH_MD5_BYTES])
{
        struct versions_md5 item = { .path = path, .stamp = *stamp };
        size_t stored;

        memcpy(item.md5, md5, HASH_MD5_BYTES);
        assert_int_equal(versions_store_md5s(f->versions, "sp", &item, 1, &stored), 0);
        return stored;
}

static void test_md5(void **state)
{
        struct fixture *f = *state;
        uint8_t md5[HASH_MD5_BYTES] = { 1, 2, 3 };
        struct tree_stamp stamp;
        struct tree_row row;

        write_file(f, "file", "1");
        let_age();
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(versions_find(f->versions, "sp", "file", &row), TREE_OK);
        assert_false(row.has_md5);
        stamp = row.stamp;
        assert_int_equal(store_md5(f, "file", &stamp, md5), 1);
        assert_int_equal(versions_find(f->versions, "sp", "file", &row), TREE_OK);
        assert_true(row.has_md5);
        assert_memory_equal(row.md5, md5, HASH_MD5_BYTES);
        stamp.mtime_ns++;
        assert_int_equal(store_md5(f, "file", &stamp, md5), 0);
        assert_int_equal(store_md5(f, "nothing", &stamp, md5), 0);
        write_file(f, "file", "2");
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        assert_int_equal(versions_find(f->versions, "sp", "file", &row), TREE_OK);
        assert_false(row.has_md5);
}

/* More than go into one transaction; those of files that are gone or have changed do no harm. */
static void test_md5_batch(void **state)
{
        struct fixture *f = *state;
        struct md5_batch *batch = calloc(1, sizeof(*batch));
        const struct tree_stamp never = { .inode = 1 };
        uint8_t md5[HASH_MD5_BYTES] = { 0 };
        struct tree_row row;
        char name[16];

        assert_non_null(batch);
        for (int i = 0; i < MD5_BATCH_MAX + 50; i++) {
                snprintf(name, sizeof(name), "%d", i);
                write_file(f, name, name);
        }
        let_age();
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        batch->versions = f->versions;
        batch->spider = "sp";
        assert_int_equal(md5_batch_add(batch, "gone", &never, md5), 0);
        assert_int_equal(md5_batch_add(batch, "7", &never, md5), 0);
        for (int i = 0; i < MD5_BATCH_MAX + 50; i++) {
                snprintf(name, sizeof(name), "%d", i);
                assert_int_equal(versions_find(f->versions, "sp", name, &row), TREE_OK);
                assert_false(row.has_md5);
                memcpy(md5, &i, sizeof(i));
                assert_int_equal(md5_batch_add(batch, name, &row.stamp, md5), 0);
        }
        md5_batch_store(batch);
        md5_batch_store(batch); /* nothing is left */
        for (int i = 0; i < MD5_BATCH_MAX + 50; i++) {
                snprintf(name, sizeof(name), "%d", i);
                assert_int_equal(versions_find(f->versions, "sp", name, &row), TREE_OK);
                assert_true(row.has_md5);
                memcpy(md5, &i, sizeof(i));
                assert_memory_equal(row.md5, md5, HASH_MD5_BYTES);
        }
        md5_batch_release(batch);
        free(batch);
}

struct stock_answer {
        struct stock_request request;
        struct answer answer;
        struct stock_view *view;
};

static void take_stock_view(struct stock_request *request, int error, struct stock_view *view)
{
        struct stock_answer *a = (struct stock_answer *)request;

        a->view = view;
        answer_set(&a->answer, error, NULL);
}

/* Stock workers' views of SP, asked for by two peers. */
struct stock_fixture {
        struct rpc_peers *peers;
        struct rpc_peer *peer, *other;
        struct turns *hashings;
        struct stock_views *views;
};

static struct stock_fixture stock_begin(struct fixture *f)
{
        const struct rpc_share shares[RPC_SCARCE_N] = { [RPC_HASHINGS] = { .peer = 1, .all = 2 } };
        struct stock_fixture s = { .peers = rpc_peers_new(shares) };

        s.peer = rpc_peer_get(s.peers, "ipv4:192.0.2.1:1");
        s.other = rpc_peer_get(s.peers, "ipv4:192.0.2.2:1");
        assert_int_equal(turns_new(f->pool, RPC_HASHINGS, &s.hashings), 0);
        assert_int_equal(stock_views_new(&(struct stock_views_options){ .root = f->root,
                                                                        .pool = f->pool,
                                                                        .hashings = s.hashings,
                                                                        .versions = f->versions,
                                                                        .dir = f->dir },
                                         &s.views),
                         0);
        return s;
}

static void stock_end(struct stock_fixture *s)
{
        stock_views_free(s->views);
        turns_free(s->hashings);
        rpc_peer_unref(s->peer);
        rpc_peer_unref(s->other);
        rpc_peers_free(s->peers);
}

/* As if a job of PEER's were run, until turns_end. */
static void take_turn(struct turn *turn, struct rpc_peer *peer)
{
        *turn = (struct turn){ .peer = rpc_peer_ref(peer) };
        assert_true(rpc_peer_charge(peer, RPC_HASHINGS, 1));
}

static void stock_ask(struct fixture *f, struct stock_fixture *s, struct rpc_peer *peer, const char *path,
                      struct stock_answer *a)
{
        int r;

        *a = (struct stock_answer){ .request.done = take_stock_view, .request.peer = peer };
        answer_init(&a->answer);
        r = stock_views_get(s->views, "sp", path, view_of(f, "sp"), &a->request);
        if (r < 0)
                take_stock_view(&a->request, r, NULL);
}

/* What stock workers are sent is gathered in a file without a name: also where the file system knows none. */
static void test_stock(void **state)
{
        static const int errors[] = { 0, EOPNOTSUPP, EISDIR };
        struct fixture *f = *state;
        struct stock_fixture s = stock_begin(f);

        write_file(f, "file", "1");
        for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
                struct stock_answer stock;

                assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
                nameless_error = errors[i];
                stock_ask(f, &s, s.peer, "", &stock);
                assert_int_equal(answer_wait(&stock.answer), 0);
                nameless_error = 0;
                assert_int_equal(stock_view_count(stock.view), 2); /* the folder itself, and the file */
                stock_view_put(stock.view);
        }
        stock_end(&s);
}

/* To gather it may be to read every file: who has others read already waits, and nobody else does. */
static void test_stock_share(void **state)
{
        struct fixture *f = *state;
        struct stock_fixture s = stock_begin(f);
        struct stock_answer first, second, third, others;
        struct turn taken;

        assert_int_equal(mkdirat(f->top, "folder", 0755), 0);
        write_file(f, "folder/file", "1");
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        take_turn(&taken, s.peer);
        stock_ask(f, &s, s.peer, "", &first);
        stock_ask(f, &s, s.peer, "", &second);
        stock_ask(f, &s, s.peer, "folder", &third);
        stock_ask(f, &s, s.other, "folder/nosuch", &others);
        assert_int_equal(answer_wait(&others.answer), -ENOENT);
        assert_int_equal(rpc_peer_charged(s.peer, RPC_HASHINGS), 1);
        assert_false(first.answer.done || third.answer.done);

        turns_end(s.hashings, &taken);
        assert_int_equal(answer_wait(&first.answer), 0);
        assert_int_equal(answer_wait(&second.answer), 0);
        assert_int_equal(answer_wait(&third.answer), 0);
        assert_ptr_equal(first.view, second.view);
        assert_int_equal(stock_view_count(third.view), 2);
        stock_view_put(first.view);
        stock_view_put(second.view);
        stock_view_put(third.view);
        assert_int_equal(rpc_peer_charged(s.peer, RPC_HASHINGS), 0);
        stock_end(&s);
}

/* What has come that is a view: it is put back. The number of those that did not get one. */
static unsigned stock_take_all(struct stock_answer *answers, size_t n)
{
        unsigned refused = 0;

        for (size_t i = 0; i < n; i++) {
                refused += answer_wait(&answers[i].answer) == -EMFILE;
                stock_view_put(answers[i].view);
        }
        return refused;
}

/* Each of them has descriptors: there are so many, and who has some already gets none of the second half. */
static void test_stock_many(void **state)
{
        struct fixture *f = *state;
        struct stock_fixture s = stock_begin(f);
        static struct stock_answer own[200], others[2];
        struct turn taken[2];
        char name[16];

        for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
                snprintf(name, sizeof(name), "%zu", i);
                assert_int_equal(mkdirat(f->top, name, 0755), 0);
        }
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), 0);
        take_turn(&taken[0], s.peer); /* nothing is made yet */
        take_turn(&taken[1], s.other);
        for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
                snprintf(name, sizeof(name), "%zu", i);
                stock_ask(f, &s, s.peer, name, &own[i]);
        }
        snprintf(name, sizeof(name), "%zu", ARRAY_SIZE(own) - 1);
        stock_ask(f, &s, s.other, name, &others[0]);
        stock_ask(f, &s, s.other, "0", &others[1]); /* is being made */
        turns_end(s.hashings, &taken[0]);
        turns_end(s.hashings, &taken[1]);
        assert_int_equal(stock_take_all(own, ARRAY_SIZE(own)), ARRAY_SIZE(own) - 128);
        assert_int_equal(stock_take_all(others, ARRAY_SIZE(others)), 0);
        assert_int_equal(rpc_peer_charged(s.peer, RPC_LISTINGS), 0);
        assert_int_equal(rpc_peer_charged(s.other, RPC_LISTINGS), 0);
        stock_end(&s);
}

static void test_cancel(void **state)
{
        struct fixture *f = *state;

        write_file(f, "file", "");
        pool_cancel(f->pool);
        assert_int_equal(get(f, "sp", VERSIONS_FRESH, NULL), -ECANCELED);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_one_pass_for_all),
        TEST(test_fresh),
        TEST(test_recent_and_expired),
        TEST(test_expire_with_view),
        TEST(test_restart_hashes_nothing),
        TEST(test_watched_inotify),
        TEST(test_watched_fanotify),
        TEST(test_subscribers),
        TEST(test_no_such_spider),
        TEST(test_replaced_spider),
        TEST(test_suspect),
        TEST(test_md5),
        TEST(test_md5_batch),
        TEST(test_stock),
        TEST(test_stock_share),
        TEST(test_stock_many),
        TEST(test_cancel),
};

UNIT_MAIN(tests)
