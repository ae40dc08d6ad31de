/*
 * What nobody holds any more of older versions (C3) goes, and nothing else.
 */
#include "cache/catalog.h"

#include "tests/unit/catalog_fixture.h"

/* Who holds what, and how many were asked for. */
struct holder {
        uint64_t held[4];
        size_t asked;
};

static bool is_held(uint64_t ino, void *arg)
{
        struct holder *holder = arg;

        holder->asked++;
        for (size_t i = 0; i < ARRAY_SIZE(holder->held); i++)
                if (holder->held[i] == ino)
                        return true;
        return false;
}

/* All that was retired so far, but what HOLDER holds. How many were asked for. */
static size_t forget(struct catalog *catalog, struct holder holder)
{
        assert_int_equal(catalog_forget(catalog, version_of(catalog).generation, is_held, &holder), 0);
        return holder.asked;
}

static bool is_known(struct catalog *catalog, uint64_t ino)
{
        struct catalog_entry e;
        int r = catalog_get(catalog, ino, &e);

        assert_true(r == CATALOG_OK || r == CATALOG_NONE);
        return r == CATALOG_OK;
}

static void test_unheld_goes_with_the_next_version(void **state)
{
        struct fixture *f = *state;
        uint64_t open, closed, live, later;

        VERSION(f->catalog, NULL, file("open", 1), file("closed", 1), file("live", 1), file("later", 1));
        open = ino_of(f->catalog, "open");
        closed = ino_of(f->catalog, "closed");
        live = ino_of(f->catalog, "live");
        later = ino_of(f->catalog, "later");
        DIFFERENCE(f->catalog, NULL, gone("closed"), file("open", 2));
        assert_int_equal(forget(f->catalog, (struct holder){ .held = { open } }), 2);
        assert_true(is_known(f->catalog, closed)); /* nothing is written for it alone */
        DIFFERENCE(f->catalog, NULL, gone("later"));
        assert_false(is_known(f->catalog, closed));
        assert_true(is_known(f->catalog, open));
        assert_true(is_known(f->catalog, live));
        assert_true(is_known(f->catalog, later)); /* retired, but after what was asked about */
        assert_lists(f->catalog, 1, 0, "live,open,");
        /* Let go of by now; found again. */
        assert_int_equal(forget(f->catalog, (struct holder){ 0 }), 2);
        DIFFERENCE(f->catalog, NULL, file("new", 1));
        assert_false(is_known(f->catalog, open));
        assert_false(is_known(f->catalog, later));
        assert_lists(f->catalog, 1, 0, "live,new,open,");
        assert_int_equal(forget(f->catalog, (struct holder){ 0 }), 0);
}

/* Only as old as was said. */
static void test_newer_ones_stay(void **state)
{
        struct fixture *f = *state;
        struct holder nobody = { 0 };
        uint64_t first, second;

        VERSION(f->catalog, NULL, file("a", 1));
        first = ino_of(f->catalog, "a");
        DIFFERENCE(f->catalog, NULL, file("a", 2));
        second = ino_of(f->catalog, "a");
        DIFFERENCE(f->catalog, NULL, file("a", 3));
        assert_int_equal(catalog_forget(f->catalog, version_of(f->catalog).generation - 1, is_held, &nobody),
                         0);
        assert_int_equal(nobody.asked, 1);
        DIFFERENCE(f->catalog, NULL, file("b", 1));
        assert_false(is_known(f->catalog, first));
        assert_true(is_known(f->catalog, second));
}

/* Whose path is asked for needs the folders on the way. */
static void test_folder_stays_with_what_is_in_it(void **state)
{
        struct fixture *f = *state;
        struct buffer path = { 0 };
        uint64_t outer, inner, held;

        VERSION(f->catalog, NULL, folder("d"), folder("d/e"), file("d/e/f", 1), file("d/e/g", 1));
        outer = ino_of(f->catalog, "d");
        inner = ino_of(f->catalog, "d/e");
        held = ino_of(f->catalog, "d/e/f");
        DIFFERENCE(f->catalog, NULL, gone("d"));
        assert_int_equal(forget(f->catalog, (struct holder){ .held = { held } }), 4);
        DIFFERENCE(f->catalog, NULL, file("x", 1));
        assert_true(is_known(f->catalog, inner) && is_known(f->catalog, outer));
        assert_int_equal(catalog_path(f->catalog, held, &path), CATALOG_OK);
        assert_string_equal(path.data, "d/e/f");
        buffer_release(&path);
        assert_int_equal(forget(f->catalog, (struct holder){ 0 }), 3);
        DIFFERENCE(f->catalog, NULL, file("y", 1));
        assert_false(is_known(f->catalog, held) || is_known(f->catalog, inner) ||
                     is_known(f->catalog, outer));
}

/* A listing that began in a version of which rows are gone must not miss what took their place. */
static void test_listing_goes_on_in_the_present(void **state)
{
        struct fixture *f = *state;
        struct names first = { .limit = 2 }, rest = { 0 }, none = { 0 };
        uint64_t stands_at;

        VERSION(f->catalog, NULL, file("a", 1), file("b", 1), file("c", 1), file("d", 1));
        stands_at = ino_of(f->catalog, "b");
        assert_int_equal(catalog_list(f->catalog, 1, 0, add_name, &first), 0);
        DIFFERENCE(f->catalog, NULL, file("b", 2), file("c", 2), file("cc", 1));
        assert_lists(f->catalog, 1, first.last_cookie, "c,d,");
        (void)forget(f->catalog, (struct holder){ .held = { stands_at } });
        assert_int_equal(catalog_list(f->catalog, 1, first.last_cookie, add_name, &rest), 0);
        assert_string_equal(rest.text.data, "c,cc,d,");
        assert_true(rest.current);
        DIFFERENCE(f->catalog, NULL, gone("d"));
        assert_lists(f->catalog, 1, first.last_cookie, "c,cc,");
        /* The entry it stands at itself: its place in the order is not known any more. */
        (void)forget(f->catalog, (struct holder){ 0 });
        DIFFERENCE(f->catalog, NULL, file("e", 1));
        assert_int_equal(catalog_list(f->catalog, 1, first.last_cookie, add_name, &none), -ESTALE);
        buffer_release(&first.text);
        buffer_release(&rest.text);
}

/* So it is for who takes over, who is told how far the one before may have got. */
static void test_listing_after_a_take_over(void **state)
{
        struct fixture *f = *state;
        struct names first = { .limit = 1 };
        struct catalog_claim claim;

        VERSION(f->catalog, NULL, file("a", 1), file("b", 1));
        assert_int_equal(catalog_list(f->catalog, 1, 0, add_name, &first), 0);
        DIFFERENCE(f->catalog, NULL, file("b", 2));
        (void)forget(f->catalog, (struct holder){ 0 });
        DIFFERENCE(f->catalog, NULL, file("c", 1));
        catalog_get_claim(f->catalog, &claim);
        claim.lock_fd = dup(claim.lock_fd);
        catalog_free(TAKE_PTR(f->catalog));
        assert_int_equal(catalog_take_over(f->dir, SOURCE, &claim, &f->catalog), 0);
        close(claim.lock_fd);
        catalog_set_forgotten(f->catalog, version_of(f->catalog).generation - 1);
        assert_lists(f->catalog, 1, first.last_cookie, "b,c,");
        buffer_release(&first.text);
}

/* C4: what an update that fails was to remove is there as before, and is found again. */
static void test_update_that_fails(void **state)
{
        static const uint8_t other[HASH_BYTES] = { 1 };
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_update *update;
        uint64_t before;

        VERSION(f->catalog, NULL, file("a", 1));
        before = ino_of(f->catalog, "a");
        DIFFERENCE(f->catalog, NULL, file("a", 2));
        (void)forget(f->catalog, (struct holder){ 0 });
        update = begin(f->catalog);
        put(update, file("b", 1));
        assert_int_equal(catalog_update_commit(update, other, 7, &changes), CATALOG_MISMATCH);
        assert_true(is_known(f->catalog, before));
        catalog_update_abort(begin(f->catalog));
        assert_true(is_known(f->catalog, before));
        assert_int_equal(forget(f->catalog, (struct holder){ 0 }), 1);
        DIFFERENCE(f->catalog, NULL, file("b", 1));
        assert_false(is_known(f->catalog, before));
}

static int count_known(struct catalog *catalog, uint64_t from, uint64_t to)
{
        int n = 0;

        for (uint64_t ino = from; ino < to; ino++)
                n += is_known(catalog, ino);
        return n;
}

/* More than one commit takes. */
static void test_many(void **state)
{
        enum { REST = 100, N = CATALOG_FORGET_MAX + REST };
        struct fixture *f = *state;
        struct catalog_update *update = begin(f->catalog);
        char name[16];

        put(update, whole(""));
        for (int i = 0; i < N; i++) {
                snprintf(name, sizeof(name), "%06d", i);
                put(update, file(name, 1));
        }
        commit(update, NULL);
        VERSION(f->catalog, NULL, file("a", 1));
        assert_int_equal(forget(f->catalog, (struct holder){ 0 }), N);
        assert_int_equal(count_known(f->catalog, 2, 2 + N), N);
        DIFFERENCE(f->catalog, NULL, file("a", 2));
        assert_int_equal(count_known(f->catalog, 2, 2 + N), REST);
        DIFFERENCE(f->catalog, NULL, file("a", 3));
        assert_int_equal(count_known(f->catalog, 2, 2 + N), 0);
        assert_lists(f->catalog, 1, 0, "a,");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_unheld_goes_with_the_next_version),
                TEST(test_newer_ones_stay),
                TEST(test_folder_stays_with_what_is_in_it),
                TEST(test_listing_goes_on_in_the_present),
                TEST(test_listing_after_a_take_over),
                TEST(test_update_that_fails),
                TEST(test_many),
        };

        log_setup("test_catalog_forget", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
