/*
 * Versions that come as differences: what is put, what is gone, and folders that come whole.
 */
#include "cache/catalog.h"

#include "tests/unit/catalog_fixture.h"

static void make_tree(struct catalog *catalog)
{
        VERSION(catalog, NULL, folder("a"), file("a/f", 1), folder("a/sub"), file("a/sub/x", 2),
                file("a/sub/y", 3), folder("b"), file("b/f", 4), file("z", 5));
}

/* The digest must be that of the same tree listed in full. */
static void assert_same_as(struct catalog *catalog, const struct entry *entries, size_t n)
{
        struct catalog_changes changes;
        struct catalog_update *update = begin(catalog);

        for (size_t i = 0; i < n; i++)
                put(update, entries[i]);
        assert_int_equal(catalog_update_commit(update, version_of(catalog).digest, 7, &changes), CATALOG_OK);
        assert_int_equal(changes.count, 0);
        assert_int_equal(changes.added + changes.removed + changes.modified, 0);
        assert_int_equal(catalog_check_digest(catalog), CATALOG_OK);
}

#define SAME_AS(catalog, ...)                                                                                \
        do {                                                                                                 \
                const struct entry entries_[] = { whole(""), ##__VA_ARGS__ };                                \
                assert_same_as(catalog, entries_, ARRAY_SIZE(entries_));                                     \
        } while (0)

static void test_what_is_not_put_stays(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t y, old, sub;

        make_tree(f->catalog);
        y = ino_of(f->catalog, "a/sub/y");
        sub = ino_of(f->catalog, "a/sub");
        old = ino_of(f->catalog, "a/sub/x");
        DIFFERENCE(f->catalog, &changes, file("a/sub/x", 20), gone("b/f"), file("b/g", 6));
        assert_int_equal(changes.added, 1);
        assert_int_equal(changes.removed, 1);
        assert_int_equal(changes.modified, 1);
        assert_int_equal(count_op(&changes, CHANGE_ENTRY), 4);
        assert_true(has_change(&changes, CHANGE_ENTRY, old));
        assert_int_equal(count_op(&changes, CHANGE_LISTING), 2);
        assert_true(has_change(&changes, CHANGE_LISTING, sub));
        catalog_changes_release(&changes);
        assert_int_equal(ino_of(f->catalog, "a/sub/y"), y);
        assert_int_equal(version_of(f->catalog).files, 5);
        SAME_AS(f->catalog, folder("a"), file("a/f", 1), folder("a/sub"), file("a/sub/x", 20),
                file("a/sub/y", 3), folder("b"), file("b/g", 6), file("z", 5));
}

static void test_nothing_written_for_equal_entries(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t generation;

        make_tree(f->catalog);
        generation = version_of(f->catalog).generation;
        DIFFERENCE(f->catalog, &changes, file("a/f", 1), folder("b"), gone("nowhere"), gone("a/f/below"),
                   gone("no/such/folder"));
        assert_int_equal(changes.count + changes.modified, 0);
        assert_int_equal(version_of(f->catalog).generation, generation);
        DIFFERENCE(f->catalog, &changes);
        assert_int_equal(version_of(f->catalog).generation, generation);
}

static void test_gone_takes_all_below(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t a, x;

        make_tree(f->catalog);
        a = ino_of(f->catalog, "a");
        x = ino_of(f->catalog, "a/sub/x");
        DIFFERENCE(f->catalog, &changes, gone("a"));
        assert_int_equal(changes.removed, 5);
        assert_true(has_change(&changes, CHANGE_ENTRY, a));
        assert_true(has_change(&changes, CHANGE_ENTRY, x));
        assert_int_equal(count_op(&changes, CHANGE_LISTING), 1);
        catalog_changes_release(&changes);
        assert_lists(f->catalog, 1, 0, "b,z,");
        assert_int_equal(version_of(f->catalog).directories, 2);
        assert_int_equal(version_of(f->catalog).files, 2);
        assert_int_equal(version_of(f->catalog).bytes, 9);
        SAME_AS(f->catalog, folder("b"), file("b/f", 4), file("z", 5));
}

static void test_gone_then_put(void **state)
{
        struct fixture *f = *state;
        uint64_t a, y;

        make_tree(f->catalog);
        a = ino_of(f->catalog, "a");
        y = ino_of(f->catalog, "a/sub/y");
        DIFFERENCE(f->catalog, NULL, gone("a"), folder("a"), folder("a/sub"), file("a/sub/y", 3), gone("z"),
                   folder("z"), file("z/z", 1));
        assert_true(ino_of(f->catalog, "a") > a);
        assert_true(ino_of(f->catalog, "a/sub/y") > y); /* what was gone and came is another one */
        assert_lists(f->catalog, ino_of(f->catalog, "a"), 0, "sub,");
        SAME_AS(f->catalog, folder("a"), folder("a/sub"), file("a/sub/y", 3), folder("b"), file("b/f", 4),
                folder("z"), file("z/z", 1));
}

static void test_folder_to_file_and_back(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t a;

        make_tree(f->catalog);
        a = ino_of(f->catalog, "a");
        DIFFERENCE(f->catalog, &changes, file("a", 9));
        assert_int_equal(changes.modified, 1);
        assert_int_equal(changes.removed, 4);
        catalog_changes_release(&changes);
        SAME_AS(f->catalog, file("a", 9), folder("b"), file("b/f", 4), file("z", 5));
        DIFFERENCE(f->catalog, &changes, whole("a"), file("a/f", 1));
        assert_int_equal(changes.modified, 1);
        assert_int_equal(changes.added, 1);
        catalog_changes_release(&changes);
        assert_true(ino_of(f->catalog, "a") > a);
        SAME_AS(f->catalog, folder("a"), file("a/f", 1), folder("b"), file("b/f", 4), file("z", 5));
}

static void test_whole_folder(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t a, sub, y;

        make_tree(f->catalog);
        a = ino_of(f->catalog, "a");
        sub = ino_of(f->catalog, "a/sub");
        y = ino_of(f->catalog, "a/sub/y");
        /* Whole within whole, and one that is new. */
        DIFFERENCE(f->catalog, &changes, whole("a"), whole("a/sub"), file("a/sub/y", 3), whole("a/new"),
                   file("a/new/n", 1));
        assert_int_equal(changes.removed, 2);
        assert_int_equal(changes.added, 2);
        assert_false(has_change(&changes, CHANGE_ENTRY, ino_of(f->catalog, "a/new/n")));
        catalog_changes_release(&changes);
        assert_int_equal(ino_of(f->catalog, "a"), a);
        assert_int_equal(ino_of(f->catalog, "a/sub"), sub);
        assert_int_equal(ino_of(f->catalog, "a/sub/y"), y);
        SAME_AS(f->catalog, folder("a"), folder("a/sub"), file("a/sub/y", 3), folder("a/new"),
                file("a/new/n", 1), folder("b"), file("b/f", 4), file("z", 5));
        /* A folder that is whole and has nothing. */
        DIFFERENCE(f->catalog, NULL, whole("a"));
        assert_lists(f->catalog, a, 0, "");
        SAME_AS(f->catalog, folder("a"), folder("b"), file("b/f", 4), file("z", 5));
}

/* C5 within what is whole, and beside it. */
static void test_unknown(void **state)
{
        struct fixture *f = *state;
        uint64_t x;

        make_tree(f->catalog);
        x = ino_of(f->catalog, "a/sub/x");
        DIFFERENCE(f->catalog, NULL, whole("a"), unknown(ENTRY_UNKNOWN, "a/sub"));
        assert_int_equal(ino_of(f->catalog, "a/sub/x"), x);
        assert_false(is_there(f->catalog, "a/f"));
        assert_int_equal(version_of(f->catalog).unknown, 1);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        DIFFERENCE(f->catalog, NULL, unknown(ENTRY_DIRECTORY, "b"));
        assert_true(is_there(f->catalog, "b/f"));
        assert_int_equal(version_of(f->catalog).unknown, 2);
        /* A full listing keeps them just so. */
        VERSION(f->catalog, NULL, folder("a"), unknown(ENTRY_UNKNOWN, "a/sub"),
                unknown(ENTRY_DIRECTORY, "b"));
        assert_int_equal(ino_of(f->catalog, "a/sub/x"), x);
        assert_true(is_there(f->catalog, "b/f"));
        assert_false(is_there(f->catalog, "z"));
        /* What is said to be gone goes, unknown or not. */
        DIFFERENCE(f->catalog, NULL, gone("a"));
        assert_false(is_there(f->catalog, "a"));
        assert_int_equal(version_of(f->catalog).unknown, 1);
        /* Known again. */
        DIFFERENCE(f->catalog, NULL, whole("b"), file("b/new", 1));
        assert_lists(f->catalog, ino_of(f->catalog, "b"), 0, "new,");
        SAME_AS(f->catalog, folder("b"), file("b/new", 1));
}

static void test_errors(void **state)
{
        struct fixture *f = *state;
        struct entry odd = file("w", 1);

        odd.whole = true;
        const struct {
                struct entry first, second;
                int error;
        } table[] = {
                { file("b/f", 4), gone(""), -EINVAL },
                { file("b/f", 4), gone("/a"), -EINVAL },
                { file("b/f", 4), odd, -EINVAL },
                { file("b/f", 4), file("b/f", 4), -EEXIST },
                { file("b/f", 4), gone("b/f"), -EEXIST },
                { gone("a"), file("a/f", 1), -ENOENT },
                { gone("a"), file("a/sub/new", 1), -ENOENT },
                { whole("a"), file("a/sub/x", 2), -ENOENT },
                { whole("a"), file("a/none/x", 2), -ENOENT },
                { file("a", 1), file("a/f", 2), -ENOTDIR },
                { folder("a"), file("z/below", 2), -ENOTDIR },
                { folder("a"), file("none/below", 2), -ENOENT },
        };

        make_tree(f->catalog);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct catalog_version before = version_of(f->catalog), after;
                struct catalog_update *update = begin(f->catalog);
                struct catalog_changes changes;
                put(update, table[i].first);
                assert_int_equal(catalog_update_put(update, &table[i].second), table[i].error);
                assert_int_equal(catalog_update_commit(update, NULL, 1, &changes), table[i].error);
                after = version_of(f->catalog);
                assert_memory_equal(&before, &after, sizeof(before));
        }
        SAME_AS(f->catalog, folder("a"), file("a/f", 1), folder("a/sub"), file("a/sub/x", 2),
                file("a/sub/y", 3), folder("b"), file("b/f", 4), file("z", 5));
}

/* Entries whose folder comes later, and then as something else: refused or not, nothing may break. */
static void test_senseless_order(void **state)
{
        struct fixture *f = *state;

        make_tree(f->catalog);
        DIFFERENCE(f->catalog, NULL, file("a/sub/new", 1), file("a/sub", 1));
        SAME_AS(f->catalog, folder("a"), file("a/f", 1), file("a/sub", 1), folder("b"), file("b/f", 4),
                file("z", 5));
        DIFFERENCE(f->catalog, NULL, folder("a/deep"), file("a/deep/x", 1), file("b/g", 1), gone("z"),
                   whole("b"));
        assert_lists(f->catalog, ino_of(f->catalog, "b"), 0, "g,");
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

/* What a commit costs follows what changed: pages written, not pages there are. */
static void test_cost_follows_change(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update = begin(f->catalog);
        char path[256], name[64];
        struct stat before, after;

        put(update, whole(""));
        for (int d = 0; d < 200; d++) {
                snprintf(name, sizeof(name), "d%03d", d);
                put(update, folder(name));
                for (int i = 0; i < 200; i++) {
                        snprintf(name, sizeof(name), "d%03d/f%03d", d, i);
                        put(update, file(name, 5));
                }
        }
        commit(update, NULL);
        catalog_free(TAKE_PTR(f->catalog));
        checkpoint(f);
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        slot_path(f, ".db-wal", path);
        assert_true(stat(path, &before) < 0 || before.st_size == 0);
        assert_int_equal(catalog_touch(f->catalog, 8), 0);
        DIFFERENCE(f->catalog, NULL, file("d007/f007", 6), gone("d100/f100"));
        assert_int_equal(stat(path, &after), 0);
        assert_in_range(after.st_size, 1, 40 * 4096);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_what_is_not_put_stays),
                TEST(test_nothing_written_for_equal_entries),
                TEST(test_gone_takes_all_below),
                TEST(test_gone_then_put),
                TEST(test_folder_to_file_and_back),
                TEST(test_whole_folder),
                TEST(test_unknown),
                TEST(test_errors),
                TEST(test_senseless_order),
                TEST(test_cost_follows_change),
        };

        log_setup("test_catalog_difference", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
