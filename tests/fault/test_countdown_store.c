/*
 * The store when the n-th call fails (tests/fault/countdown.h): whatever it was doing, nothing wrong is served, nothing is left behind, the accounts are
 * right, and the next attempt goes well.
 */
#include <dirent.h>

#include "tests/fault/countdown.h"
#include "tests/unit/pieces_fixture.h"

#define PROMISED "no wrong byte, nothing left behind, accounts right"

static const char *const texts[] = { "alpha", "beta", "gamma", "delta" };

static struct countdown_result total;

struct world {
        struct fixture f;
        struct content_id ids[ARRAY_SIZE(texts)];
        const struct content *large;
};

static int set_up_world(void **state)
{
        struct world *w = calloc(1, sizeof(*w));

        assert_non_null(w);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                w->ids[i] = id_of_text(texts[i]);
        w->large = content_of(1);
        countdown_begin(w->f.dir);
        *state = w;
        return 0;
}

static int tear_down_world(void **state)
{
        struct world *w = *state;

        countdown_where();
        tempdir_remove(w->f.dir);
        free(w);
        return 0;
}

/* ---- what holds after every run ---- */

static void check_bytes(struct store *store, const struct content_id *id, const void *data, size_t len)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        _cleanup_close_ int fd = -1;
        int r = store_get(store, id, &fd);

        assert_true(r == STORE_OK || r == STORE_MISS);
        if (r == STORE_MISS)
                return;
        assert_int_equal(io_read_to_end(fd, 1 << 24, &got), 0);
        assert_int_equal(got.len, len);
        assert_memory_equal(got.data, data, len);
}

static void check_pieces(struct world *w)
{
        struct store_pieces *pieces;
        int r = store_pieces_open(w->f.store, &w->large->id, SIZE, false, &pieces);

        assert_true(r == STORE_OK || r == STORE_MISS || r == STORE_HAVE);
        if (r != STORE_OK)
                return;
        for (unsigned i = 0; i < PIECES; i++)
                if (store_pieces_state(pieces, i) == PIECE_HERE)
                        assert_piece(pieces, w->large, i);
        store_pieces_unref(pieces);
}

static unsigned count_names(const struct world *w, const char *folder, const char *suffix)
{
        char path[128];
        struct dirent *de;
        unsigned n = 0;
        DIR *dir;

        snprintf(path, sizeof(path), "%s/%s", w->f.dir, folder);
        dir = opendir(path);
        assert_non_null(dir);
        while ((de = readdir(dir))) {
                size_t len = strlen(de->d_name);
                n += de->d_name[0] != '.' && len >= strlen(suffix) &&
                     strcmp(de->d_name + len - strlen(suffix), suffix) == 0;
        }
        closedir(dir);
        return n;
}

/* S7: what is said to be counted is what a count finds, and nothing is reserved. Of the folders that there may be alone: a walk of all is slow. */
static void check_accounts(const struct world *w)
{
        struct store *store = w->f.store;
        struct store_usage before, after;

        store_get_usage(store, &before);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                assert_int_equal(usage_count(store, usage_shard_of(&w->ids[i]), NULL, NULL), 0);
        assert_int_equal(usage_count(store, usage_shard_of(&w->large->id), NULL, NULL), 0);
        store_get_usage(store, &after);
        assert_int_equal(after.reserved, 0);
        if (!before.counted)
                return;
        assert_int_equal(before.bytes, after.bytes);
        assert_int_equal(before.blobs, after.blobs);
}

static uint64_t count_blobs(const struct world *w)
{
        uint64_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                n += store_has(w->f.store, &w->ids[i]);
        return n + store_has(w->f.store, &w->large->id);
}

static void check_store(struct world *w, bool part_is_right)
{
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                check_bytes(w->f.store, &w->ids[i], texts[i], strlen(texts[i]));
        check_bytes(w->f.store, &w->large->id, w->large->data, SIZE);
        if (part_is_right)
                check_pieces(w);
        check_accounts(w);
}

/* The same after a restart; S4: nothing temporary is left. */
static void check_reopened(struct world *w)
{
        store_free(TAKE_PTR(w->f.store));
        assert_int_equal(store_open(w->f.dir, &w->f.store), 0);
        check_store(w, true);
        assert_int_equal(count_names(w, "partial", ""), 0);
        assert_int_equal(count_names(w, "", ".new"), 0);
}

static void end(struct world *w)
{
        check_reopened(w);
        store_free(TAKE_PTR(w->f.store));
}

/* ---- what there is before a run ---- */

static void prepare_empty(void *arg)
{
        struct world *w = arg;

        assert_int_equal(tempdir_empty(w->f.dir), 0);
        assert_int_equal(store_open(w->f.dir, &w->f.store), 0);
}

/* All texts are blobs that no process has open. */
static void prepare_blobs(void *arg)
{
        struct world *w = arg;

        prepare_empty(w);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                put_text(w->f.store, texts[i]);
        reopen(&w->f);
}

static void prepare_pinned(void *arg)
{
        struct world *w = arg;

        prepare_blobs(w);
        assert_int_equal(store_pin(w->f.store, &w->ids[0]), 0);
}

static void prepare_part(struct world *w, unsigned pieces_here)
{
        struct store_pieces *pieces = open_listed(w->f.store, w->large);

        for (unsigned i = 0; i < pieces_here; i++)
                assert_int_equal(bring(pieces, w->large, i), STORE_OK);
        store_pieces_unref(pieces);
}

/* As a disk would: a byte is wrong, and nothing else tells of it but the time of the change. */
static void damage_blob(const struct world *w, size_t i)
{
        _cleanup_close_ int fd = -1;
        char path[256];

        blob_path(&w->f, &w->ids[i], path);
        assert_int_equal(chmod(path, 0600), 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "?", 1, 1), 1);
        assert_int_equal(fchmod(fd, 0400), 0);
}

static void doubt_blob(const struct world *w, size_t i)
{
        _cleanup_close_ int fd = -1;
        char path[256];

        blob_path(&w->f, &w->ids[i], path);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        store_doubt(fd);
}

/* One to be verified, one damaged, and a part with a piece that is right and one that is not. */
static void prepare_damaged(void *arg)
{
        struct world *w = arg;

        prepare_blobs(w);
        doubt_blob(w, 0);
        damage_blob(w, 1);
        prepare_part(w, 2);
        overwrite_at(&w->f, w->large, (off_t)PIECE_BYTES + 5);
}

static void prepare_leftovers(void *arg)
{
        static const char *const names[] = { "partial/xxh3-0123", "quarantine/xxh3-4567" };
        struct world *w = arg;
        char path[128];

        prepare_blobs(w);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                snprintf(path, sizeof(path), "%s/%s", w->f.dir, names[i]);
                close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        }
}

/* The next content has to wait for others to go. */
static void prepare_quota(void *arg)
{
        const struct store_limits limits = { .quota.bytes = (uint64_t)2 * STORE_CHARGE_BYTES };
        struct world *w = arg;

        prepare_empty(w);
        for (size_t i = 1; i < ARRAY_SIZE(texts); i++)
                put_text(w->f.store, texts[i]);
        reopen(&w->f);
        assert_int_equal(store_limit(w->f.store, &limits), 0);
}

/* ---- paths ---- */

static void prepare_nothing(void *arg)
{
        struct world *w = arg;

        assert_int_equal(tempdir_empty(w->f.dir), 0);
}

static int run_open(void *arg)
{
        struct world *w = arg;

        return store_open(w->f.dir, &w->f.store);
}

static void check_open(void *arg, int r)
{
        struct world *w = arg;

        if (r < 0)
                assert_int_equal(store_open(w->f.dir, &w->f.store), 0);
        check_store(w, true);
        put_text(w->f.store, "alpha");
        assert_holds(w->f.store, &w->ids[0], "alpha");
        end(w);
}

static void prepare_closed(void *arg)
{
        struct world *w = arg;

        prepare_pinned(w);
        prepare_part(w, 2);
        store_free(TAKE_PTR(w->f.store));
}

/* S8 apart, a fault costs nothing that was here before. */
static void check_open_again(void *arg, int r)
{
        struct world *w = arg;

        if (r < 0)
                assert_int_equal(store_open(w->f.dir, &w->f.store), 0);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                assert_holds(w->f.store, &w->ids[i], texts[i]);
        check_store(w, true);
        end(w);
}

static int run_put(void *arg)
{
        struct world *w = arg;
        struct store_writer *writer;
        int r = store_write_begin(w->f.store, &w->ids[0], strlen(texts[0]), &writer);

        if (r != STORE_OK)
                return r;
        r = store_write(writer, texts[0], strlen(texts[0]));
        if (r == 0)
                return store_write_commit(writer);
        store_write_abort(writer);
        return r;
}

static void check_put(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, true);
        assert_int_equal(store_has(w->f.store, &w->ids[0]), r == STORE_OK);
        r = run_put(w);
        assert_true(r == STORE_OK || r == STORE_HAVE);
        assert_int_equal(count_names(w, "partial", ""), 0);
        assert_holds(w->f.store, &w->ids[0], texts[0]);
        end(w);
}

/* What could not be removed while every call failed is removed later. */
static void check_put_quota(void *arg, int r)
{
        struct world *w = arg;

        r = run_put(w);
        assert_true(r == STORE_OK || r == STORE_HAVE);
        assert_holds(w->f.store, &w->ids[0], texts[0]);
        check_bytes(w->f.store, &w->ids[1], texts[1], strlen(texts[1]));
        store_interrupt(w->f.store);
        end(w);
}

static int run_pieces(void *arg)
{
        struct world *w = arg;
        struct store_pieces *pieces;
        int r = store_pieces_open(w->f.store, &w->large->id, SIZE, true, &pieces);

        if (r != STORE_OK)
                return r;
        r = store_pieces_set_list(pieces, w->large->list, sizeof(w->large->list));
        for (unsigned i = 0; r >= 0 && i < PIECES; i++)
                r = bring(pieces, w->large, i);
        store_pieces_unref(pieces);
        return r;
}

static void check_run_pieces(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, true);
        r = run_pieces(w);
        assert_true(r >= 0);
        assert_blob(w->f.store, w->large);
        assert_false(has_part(&w->f, w->large));
        end(w);
        assert_int_equal(access(w->f.dir, F_OK), 0);
}

static void prepare_old_part(void *arg)
{
        struct world *w = arg;

        prepare_empty(w);
        prepare_part(w, 3);
        age_marks(&w->f, w->large);
        reopen(&w->f);
}

static int run_evict(void *arg)
{
        struct world *w = arg;
        struct store_evicted evicted = { 0 };

        return store_evict(w->f.store, 0, &evicted);
}

/* S6 */
static void check_evict(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, true);
        assert_holds(w->f.store, &w->ids[0], texts[0]);
        assert_int_equal(run_evict(w), 0);
        assert_holds(w->f.store, &w->ids[0], texts[0]);
        assert_int_equal(count_blobs(w), 1);
        end(w);
}

static int run_pin(void *arg)
{
        struct world *w = arg;

        return store_pin(w->f.store, &w->ids[2]);
}

static void check_pin(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, true);
        if (r < 0)
                assert_int_equal(run_pin(w), 0);
        assert_int_equal(run_evict(w), 0);
        assert_holds(w->f.store, &w->ids[2], texts[2]);
        end(w);
}

static int run_unpin(void *arg)
{
        struct world *w = arg;

        return store_unpin(w->f.store, &w->ids[0]);
}

static void check_unpin(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, true);
        assert_int_equal(run_unpin(w), r < 0 ? STORE_OK : STORE_MISS);
        assert_int_equal(run_evict(w), 0);
        assert_int_equal(count_blobs(w), 0);
        end(w);
}

static int run_verify(void *arg)
{
        struct world *w = arg;
        struct store_stats stats;

        return store_verify(w->f.store, NULL, NULL, &stats);
}

static void check_verify(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, false);
        assert_int_equal(run_verify(w), 0);
        assert_false(store_has(w->f.store, &w->ids[1]));
        check_store(w, true); /* the damaged piece is missing now */
        end(w);
}

static int run_get(struct world *w, size_t i)
{
        _cleanup_close_ int fd = -1;

        return store_get(w->f.store, &w->ids[i], &fd);
}

static int run_get_unverified(void *arg)
{
        return run_get(arg, 0);
}

static int run_get_damaged(void *arg)
{
        return run_get(arg, 1);
}

/* S5; one that could not be read may have gone to quarantine, and comes again. */
static void check_get(void *arg, int r)
{
        struct world *w = arg;

        check_store(w, false);
        assert_int_equal(run_get_damaged(w), STORE_MISS);
        assert_int_equal(run_verify(w), 0);
        r = run_put(w);
        assert_true(r == STORE_OK || r == STORE_HAVE);
        assert_holds(w->f.store, &w->ids[0], texts[0]);
        end(w);
}

static int run_collect(void *arg)
{
        struct world *w = arg;
        struct store_evicted evicted = { 0 };

        return store_collect(w->f.store, &evicted);
}

static void check_collect(void *arg, int r)
{
        struct world *w = arg;

        assert_int_equal(run_collect(w), 0);
        assert_int_equal(count_names(w, "partial", ""), 0);
        assert_int_equal(count_names(w, "quarantine", ""), 0);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                assert_holds(w->f.store, &w->ids[i], texts[i]);
        end(w);
}

#define TEST(label, begins, runs, checks)                                                                    \
        static void test_##label(void **state)                                                               \
        {                                                                                                    \
                struct world *w = *state;                                                                    \
                const struct countdown_path path = {                                                         \
                        .name = #label, .prepare = begins, .run = runs, .check = checks, .arg = w            \
                };                                                                                           \
                countdown(&path, w->f.dir, &total);                                                          \
        }

TEST(open_new, prepare_nothing, run_open, check_open)
TEST(open, prepare_closed, run_open, check_open_again)
TEST(put, prepare_empty, run_put, check_put)
TEST(put_at_quota, prepare_quota, run_put, check_put_quota)
TEST(put_by_piece, prepare_empty, run_pieces, check_run_pieces)
TEST(go_on_by_piece, prepare_old_part, run_pieces, check_run_pieces)
TEST(evict, prepare_pinned, run_evict, check_evict)
TEST(pin, prepare_blobs, run_pin, check_pin)
TEST(unpin, prepare_pinned, run_unpin, check_unpin)
TEST(verify, prepare_damaged, run_verify, check_verify)
TEST(get, prepare_damaged, run_get_unverified, check_get)
TEST(quarantine, prepare_damaged, run_get_damaged, check_get)
TEST(collect, prepare_leftovers, run_collect, check_collect)

#define UNIT(label) cmocka_unit_test_setup_teardown(test_##label, set_up_world, tear_down_world)

static void test_report(void **state)
{
        countdown_report("Store: calls that fail", PROMISED, &total);
}

static const struct CMUnitTest tests[] = {
        UNIT(open_new),     UNIT(open),
        UNIT(put),          UNIT(put_at_quota),
        UNIT(put_by_piece), UNIT(go_on_by_piece),
        UNIT(evict),        UNIT(pin),
        UNIT(unpin),        UNIT(verify),
        UNIT(get),          UNIT(quarantine),
        UNIT(collect),      cmocka_unit_test(test_report),
};

UNIT_MAIN(tests)
