/*
 * Which large contents are asked for by the list of their pieces.
 */
#include "sync/fetch_private.h"
#include "tests/unit/pieces_fixture.h"

static void test_bounds(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_pieces(f->store, c);
        struct fetch_large large = { .pieces = pieces, .size = FETCH_LISTED_BYTES_MAX };

        assert_true(fetch_is_listable(&large));
        large.size++; /* what a master says a file has may be anything: its list would be kept in memory */
        assert_false(fetch_is_listable(&large));
        large.size = SIZE;
        atomic_store(&large.list_failures, FETCH_LIST_FAILURES_MAX);
        assert_false(fetch_is_listable(&large));
        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
        assert_true(fetch_is_listable(&large)); /* it is here, whoever brought it */
        store_pieces_unref(pieces);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down) };

        log_setup("test_listable", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
