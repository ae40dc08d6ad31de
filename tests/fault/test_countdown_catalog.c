/*
 * The catalog when the n-th call of its own, of SQLite below it or of either for memory fails (tests/fault/countdown.h): readers see the version of
 * before or the new one and nothing else, nothing is taken for damaged that is not, and the next attempt goes well.
 */
#include "tests/fault/countdown.h"
#include "tests/unit/catalog_fixture.h"

#include <fcntl.h>

#include "cache/catalogs.h"

#define FILES     40            /* so many that folders need pages of their own */
#define LOG_BYTES (1024 * 4096) /* of a log that the next version has moved */

static struct countdown_result total;

struct world {
        struct fixture f;
        struct catalog_version before,
                after; /* of `f.catalog`, and of `f.catalog` when the update is in it */
        struct catalog_claim claim;
        struct entry root; /* of what is loaded */
        uint64_t retired;  /* an entry of long ago */
        struct fixture long_log;
        struct catalog_version long_before; /* the one in it */
};

static int set_up_world(void **state)
{
        struct world *w = calloc(1, sizeof(*w));

        assert_non_null(w);
        countdown_begin(w->f.dir);
        *state = w;
        return 0;
}

static int tear_down_world(void **state)
{
        struct world *w = *state;

        countdown_where();
        tempdir_remove(w->f.dir);
        tempdir_remove(w->long_log.dir);
        free(w);
        return 0;
}

/* ---- two versions ---- */

static int put_files(struct catalog_update *update, unsigned first, uint64_t content)
{
        int r = 0;

        for (unsigned i = first; r >= 0 && i < first + FILES; i++) {
                char path[32];
                struct entry entry;
                snprintf(path, sizeof(path), "d/file%03u", i);
                entry = file(path, content + i);
                r = catalog_update_put(update, &entry);
        }
        return r;
}

static int put_version(struct catalog_update *update, unsigned number)
{
        const struct entry entries[] = { whole(""), folder("d"), link_to("link", number == 1 ? "one" : "two"),
                                         file("same", 5) };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(entries); i++)
                r = catalog_update_put(update, &entries[i]);
        return r < 0 ? r : put_files(update, number * FILES / 2, number * 1000);
}

/* Leaves whatever was there as it was, or version NUMBER. */
static int take_version(struct catalog *catalog, unsigned number)
{
        struct catalog_changes changes;
        struct catalog_update *update;
        int r = catalog_update_begin(catalog, &update);

        if (r < 0)
                return r;
        r = put_version(update, number);
        if (r < 0) {
                catalog_update_abort(update);
                return r;
        }
        r = catalog_update_commit(update, NULL, number, &changes);
        if (r == CATALOG_OK)
                catalog_changes_release(&changes);
        return r;
}

static bool is_version(const struct catalog_version *a, const struct catalog_version *b)
{
        return a->valid == b->valid && a->revision == b->revision &&
               memcmp(a->digest, b->digest, HASH_BYTES) == 0;
}

/* ---- what holds after every run ---- */

static bool is_set_aside(const struct world *w)
{
        static const char *const suffixes[] = { ".db.damaged", ".suspect" };
        char path[256];
        bool found = false;

        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                slot_path(&w->f, suffixes[i], path);
                found |= access(path, F_OK) == 0;
        }
        return found;
}

/* C7: what the disk does not give back is damage, now or when the catalog is opened next. Then a new version can be had, as the caller will see. */
static bool begins_anew(struct world *w)
{
        char path[256];

        if (!countdown_cannot_read() || !is_set_aside(w))
                return false;
        reopen(&w->f);
        w->before = version_of(w->f.catalog);
        slot_path(&w->f, ".suspect", path);
        assert_int_not_equal(access(path, F_OK), 0);
        return true;
}

/* C1, C4: one of the two versions, whole, as whoever opens the catalog anew sees it, too. */
static void check_version(struct world *w)
{
        if (begins_anew(w))
                return;
        for (int opened = 0; opened < 2; opened++) {
                struct catalog_version version = version_of(w->f.catalog);
                bool is_after = is_version(&version, &w->after);

                assert_true(is_after || is_version(&version, &w->before));
                if (version.valid) {
                        assert_int_equal(catalog_check_digest(w->f.catalog), CATALOG_OK);
                        assert_int_equal(is_there(w->f.catalog, "d/file070"), is_after);
                        assert_int_equal(is_there(w->f.catalog, "d/file020"), !is_after);
                        assert_true(is_there(w->f.catalog, "same"));
                }
                if (opened == 0)
                        reopen(&w->f);
        }
        assert_false(is_set_aside(w));
}

static void end(struct world *w)
{
        struct catalog_verified verified;

        catalog_free(TAKE_PTR(w->f.catalog));
        assert_int_equal(catalog_verify_all(w->f.dir, false, NULL, NULL, &verified), 0);
        assert_int_equal(verified.damaged, 0);
}

static int run_open(void *arg)
{
        struct world *w = arg;

        return catalog_open(w->f.dir, SOURCE, &w->f.catalog);
}

/* ---- what there is before a run ---- */

/* The second version is in BEFORE's place for a moment, so that its digest is known. */
static void learn_versions(struct world *w)
{
        struct catalog_version empty = { 0 };

        if (w->after.valid)
                return;
        assert_int_equal(tempdir_empty(w->f.dir), 0);
        assert_int_equal(catalog_open(w->f.dir, SOURCE, &w->f.catalog), 0);
        assert_int_equal(take_version(w->f.catalog, 2), CATALOG_OK);
        w->after = version_of(w->f.catalog);
        catalog_free(TAKE_PTR(w->f.catalog));
        w->before = empty;
}

static void prepare_none(void *arg)
{
        struct world *w = arg;

        learn_versions(w);
        assert_int_equal(tempdir_empty(w->f.dir), 0);
        w->before = (struct catalog_version){ 0 };
}

static void prepare_empty(void *arg)
{
        struct world *w = arg;

        prepare_none(w);
        assert_int_equal(catalog_open(w->f.dir, SOURCE, &w->f.catalog), 0);
}

static void prepare_version(void *arg)
{
        struct world *w = arg;

        prepare_empty(w);
        assert_int_equal(take_version(w->f.catalog, 1), CATALOG_OK);
        w->before = version_of(w->f.catalog);
}

static void prepare_closed(void *arg)
{
        struct world *w = arg;

        prepare_version(w);
        catalog_free(TAKE_PTR(w->f.catalog));
}

/* As its process left it when it died, but for the memory. */
static void prepare_left(void *arg)
{
        struct world *w = arg;

        prepare_version(w);
        catalog_get_claim(w->f.catalog, &w->claim);
        w->claim.lock_fd = dup(w->claim.lock_fd);
        catalog_free(TAKE_PTR(w->f.catalog));
}

/*
 * The log is so long that the next version has it moved into the database (and synced). It takes many versions, so one such folder is kept beside, and
 * each run begins with a copy.
 */
static off_t log_bytes(const struct world *w)
{
        char path[256];
        struct stat st;

        slot_path(&w->f, ".db-wal", path);
        assert_int_equal(stat(path, &st), 0);
        return st.st_size;
}

static void copy_file(const struct fixture *from, const struct fixture *to, const char *suffix)
{
        _cleanup_buffer_ struct buffer bytes = { 0 };
        _cleanup_close_ int fd = -1;
        char path[256];

        slot_path(from, suffix, path);
        assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 24, &bytes), 0);
        slot_path(to, suffix, path);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(io_write_all(fd, bytes.data, bytes.len), 0);
}

static void make_long_log(struct world *w)
{
        off_t before = 0, grows = 0;

        prepare_version(w);
        while (log_bytes(w) + grows < LOG_BYTES) {
                before = log_bytes(w);
                assert_int_equal(take_version(w->f.catalog, 2), CATALOG_OK);
                assert_int_equal(take_version(w->f.catalog, 1), CATALOG_OK);
                grows = log_bytes(w) - before;
        }
        w->before = version_of(w->f.catalog);
        countdown_begin(w->long_log.dir);
        assert_int_equal(catalog_open(w->long_log.dir, SOURCE, &w->long_log.catalog), 0);
        catalog_free(TAKE_PTR(w->long_log.catalog));
        catalog_free(TAKE_PTR(w->f.catalog));
        copy_file(&w->f, &w->long_log, ".db");
        copy_file(&w->f, &w->long_log, ".db-wal");
        w->long_before = w->before;
}

static void prepare_long_log(void *arg)
{
        struct world *w = arg;

        if (!w->long_before.valid)
                make_long_log(w);
        assert_int_equal(tempdir_empty(w->f.dir), 0);
        assert_int_equal(run_open(w), 0);
        catalog_free(TAKE_PTR(w->f.catalog));
        copy_file(&w->long_log, &w->f, ".db");
        copy_file(&w->long_log, &w->f, ".db-wal");
        assert_int_equal(run_open(w), 0);
        w->before = w->long_before;
}

static int run_long_log(void *arg)
{
        struct world *w = arg;
        int r = take_version(w->f.catalog, 2);

        return r < 0 ? r : take_version(w->f.catalog, 2);
}

/* ---- paths ---- */

static void check_open(void *arg, int r)
{
        struct world *w = arg;

        if (r < 0)
                assert_int_equal(run_open(w), 0);
        check_version(w);
        assert_int_equal(take_version(w->f.catalog, 2), CATALOG_OK);
        check_version(w);
        end(w);
}

static void check_long_log(void *arg, int r)
{
        check_open(arg, 0);
}

static int run_take_over(void *arg)
{
        struct world *w = arg;

        return catalog_take_over(w->f.dir, SOURCE, &w->claim, &w->f.catalog);
}

static void check_take_over(void *arg, int r)
{
        struct world *w = arg;

        if (r < 0)
                assert_int_equal(run_take_over(w), 0);
        close(w->claim.lock_fd);
        check_version(w);
        end(w);
}

static int run_update(void *arg)
{
        struct world *w = arg;

        return take_version(w->f.catalog, 2);
}

/* C4: what failed changed nothing, what did not is there. */
static void check_update(void *arg, int r)
{
        struct world *w = arg;
        struct catalog_version version = version_of(w->f.catalog);

        assert_true(is_version(&version, r < 0 ? &w->before : &w->after));
        check_version(w);
        assert_int_equal(take_version(w->f.catalog, 2), CATALOG_OK);
        check_version(w);
        end(w);
}

static void prepare_retired(void *arg)
{
        struct world *w = arg;

        prepare_version(w);
        w->retired = ino_of(w->f.catalog, "d/file020");
        assert_int_equal(take_version(w->f.catalog, 2), CATALOG_OK);
        assert_int_equal(take_version(w->f.catalog, 1), CATALOG_OK);
        w->before = version_of(w->f.catalog);
}

static bool is_held(uint64_t ino, void *arg)
{
        return false;
}

static int run_forget(void *arg)
{
        struct world *w = arg;
        int r = catalog_forget(w->f.catalog, version_of(w->f.catalog).generation, is_held, NULL);

        return r < 0 ? r : take_version(w->f.catalog, 2);
}

/* C3, C4: it goes with a version that comes, and stays with one that does not. */
static void check_forget(void *arg, int r)
{
        struct world *w = arg;
        struct catalog_entry entry;

        if (!countdown_cannot_read())
                assert_int_equal(catalog_get(w->f.catalog, w->retired, &entry),
                                 r < 0 ? CATALOG_OK : CATALOG_NONE);
        check_update(w, r);
}

/* Of readers of their own: none is idle yet. */
static int run_query(void *arg)
{
        struct world *w = arg;
        struct buffer target = { 0 };
        struct catalog_entry entry;
        int r = find(w->f.catalog, "d/file020", &entry);

        if (r == CATALOG_OK)
                r = find(w->f.catalog, "link", &entry);
        if (r == CATALOG_OK)
                r = catalog_readlink(w->f.catalog, entry.ino, &target);
        buffer_release(&target);
        return r == CATALOG_NONE ? -ENOENT
                                 : r; /* a fault is not told as what is not there: the check sees to that */
}

static void check_query(void *arg, int r)
{
        struct world *w = arg;

        assert_int_not_equal(r, -ENOENT);
        check_version(w);
        assert_int_equal(run_query(w), w->before.valid ? CATALOG_OK : -ENOENT);
        end(w);
}

static int run_load(void *arg)
{
        struct world *w = arg;
        const struct entry entries[] = { w->root, file("same", 5) };
        struct catalog_load_target target = { .hash = HASH_XXH3, .revision = 9 };
        struct catalog_load *load;
        int r;

        memcpy(target.digest, w->after.digest, HASH_BYTES);
        r = catalog_load_begin(w->f.catalog, &target, &load);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(entries); i++) {
                r = catalog_load_put(load, &entries[i]);
                if (r >= 0 && i == 0)
                        r = catalog_load_save(load, 10);
                if (r < 0)
                        catalog_load_free(load);
        }
        return r < 0 ? r : catalog_load_finish(load);
}

static void prepare_load(void *arg)
{
        struct world *w = arg;
        struct catalog_entry root;

        assert_int_equal(tempdir_empty(w->f.dir), 0);
        assert_int_equal(run_open(w), 0);
        VERSION(w->f.catalog, NULL, file("same", 5));
        assert_int_equal(catalog_get(w->f.catalog, CATALOG_ROOT_INO, &root), CATALOG_OK);
        w->after = version_of(w->f.catalog);
        w->root = folder("");
        w->root.content = root.content;
        w->root.content.algorithm = HASH_XXH3;
        catalog_free(TAKE_PTR(w->f.catalog));
        assert_int_equal(tempdir_empty(w->f.dir), 0);
        assert_int_equal(run_open(w), 0);
}

/* C8, and a load that broke off goes on. */
static void check_load(void *arg, int r)
{
        struct world *w = arg;
        struct catalog_version version = version_of(w->f.catalog);

        if (r < 0) {
                assert_true(version.loading || !version.valid);
                reopen(&w->f);
                assert_int_equal(run_load(w), 0);
        }
        version = version_of(w->f.catalog);
        assert_memory_equal(version.digest, w->after.digest, HASH_BYTES);
        assert_int_equal(catalog_check_digest(w->f.catalog), CATALOG_OK);
        assert_true(is_there(w->f.catalog, "same"));
        assert_true(countdown_cannot_read() || !is_set_aside(w));
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

TEST(open_new, prepare_none, run_open, check_open)
TEST(open, prepare_closed, run_open, check_open)
TEST(take_over, prepare_left, run_take_over, check_take_over)
TEST(first_version, prepare_empty, run_update, check_update)
TEST(next_version, prepare_version, run_update, check_update)
TEST(forget, prepare_retired, run_forget, check_forget)
TEST(long_log, prepare_long_log, run_long_log, check_long_log)
TEST(query, prepare_version, run_query, check_query)
TEST(load, prepare_load, run_load, check_load)

static void test_report(void **state)
{
        assert_true(total.syncs > 0);
        countdown_report("Catalog: calls that fail",
                         "the version of before or the new one, whole; nothing begun anew", &total);
}

#define UNIT(label) cmocka_unit_test_setup_teardown(test_##label, set_up_world, tear_down_world)

static const struct CMUnitTest tests[] = {
        UNIT(open_new),     UNIT(open),   UNIT(long_log), UNIT(take_over), UNIT(first_version),
        UNIT(next_version), UNIT(forget), UNIT(query),    UNIT(load),      cmocka_unit_test(test_report),
};

UNIT_MAIN(tests)
