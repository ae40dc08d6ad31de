/* The order in which the wants of a Fetch call are served. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "base/pieces.h"
#include "server/fetch_queue.h"

#define WANTS_BYTES ((size_t)4 << 20) /* of one peer */

static struct fetch_want want_of(uint64_t id, bool urgent)
{
        return (struct fetch_want){
                .id = id,
                .path = (const uint8_t *)"a/b",
                .path_len = 3,
                .hash_algorithm = HASH_XXH3,
                .digest = (const uint8_t *)"0123456789abcdef",
                .digest_len = 16,
                .size = 100,
                .urgent = urgent,
        };
}

static struct rpc_peers *peers;
static struct rpc_peer *peer;

static int new_peer(void **state)
{
        peers = rpc_peers_new((const struct rpc_share[RPC_SCARCE_N]){
                [RPC_WANTS] = { .peer = WANTS_BYTES, .all = 2 * WANTS_BYTES } });
        peer = peers ? rpc_peer_get(peers, "ipv4:192.0.2.1:1") : NULL;
        return peer ? 0 : -1;
}

/* All that was charged was given back. */
static int free_peer(void **state)
{
        size_t left = rpc_peer_charged(peer, RPC_WANTS);

        rpc_peer_unref(peer);
        rpc_peers_free(peers);
        return left == 0 ? 0 : -1;
}

static struct fetch_queue *queue_of(uint64_t n)
{
        struct fetch_queue *queue;

        assert_int_equal(fetch_queue_new(peer, &queue), 0);
        for (uint64_t id = 1; id <= n; id++) {
                struct fetch_want want = want_of(id, false);

                assert_int_equal(fetch_queue_add(queue, &want), 0);
        }
        return queue;
}

static struct fetch_item *take(struct fetch_queue *queue, uint64_t id)
{
        uint64_t ticket;
        struct fetch_item *item = fetch_queue_take(queue, &ticket);

        assert_non_null(item);
        assert_true(item->id == id);
        return item;
}

static void serve(struct fetch_queue *queue, uint64_t id)
{
        fetch_queue_finish(queue, take(queue, id));
}

static void end(struct fetch_queue *queue)
{
        uint64_t ticket;

        assert_null(fetch_queue_take(queue, &ticket));
        assert_false(fetch_queue_is_ready(queue));
        assert_int_equal(fetch_queue_count(queue), 0);
        fetch_queue_free(queue);
}

static void test_urgent_first_then_in_order(void **state)
{
        struct fetch_queue *queue = queue_of(2);

        for (uint64_t id = 3; id <= 4; id++) {
                struct fetch_want want = want_of(id, true);

                assert_int_equal(fetch_queue_add(queue, &want), 0);
        }
        serve(queue, 3);
        serve(queue, 4);
        serve(queue, 1);
        serve(queue, 2);
        end(queue);
}

static void test_giving_way(void **state)
{
        struct fetch_queue *queue = queue_of(3);

        fetch_queue_put_last(queue, take(queue, 1));
        fetch_queue_put_first(queue, take(queue, 2));
        serve(queue, 2);
        serve(queue, 3);
        serve(queue, 1);
        end(queue);
}

static void test_held_until_released(void **state)
{
        struct fetch_queue *queue = queue_of(4);
        uint64_t ticket;

        for (uint64_t id = 1; id <= 3; id++) {
                struct fetch_item *item = fetch_queue_take(queue, &ticket);

                fetch_queue_hold(queue, item, ticket);
        }
        assert_int_equal(fetch_queue_count(queue), 4);
        fetch_queue_release_one(queue);
        serve(queue, 1);
        serve(queue, 4);
        assert_false(fetch_queue_is_ready(queue));
        fetch_queue_release_all(queue);
        serve(queue, 2);
        serve(queue, 3);
        end(queue);
}

/* What it waits for came to its end between the look and the hold: nobody else would release it. */
static void test_released_before_it_was_held(void **state)
{
        struct fetch_queue *queue = queue_of(1);
        uint64_t ticket;
        struct fetch_item *item = fetch_queue_take(queue, &ticket);

        fetch_queue_release_all(queue);
        fetch_queue_hold(queue, item, ticket);
        serve(queue, 1);
        end(queue);
}

static void test_hurry(void **state)
{
        struct fetch_queue *queue = queue_of(5);
        struct fetch_item *taken, *held;
        uint64_t ticket;

        taken = take(queue, 1);
        held = fetch_queue_take(queue, &ticket);
        fetch_queue_hold(queue, held, ticket);
        fetch_queue_hurry(queue, 4); /* in its line */
        fetch_queue_hurry(queue, 1); /* taken */
        fetch_queue_hurry(queue, 2); /* held */
        fetch_queue_hurry(queue, 4);
        fetch_queue_hurry(queue, 99);
        fetch_queue_put_last(queue, taken);
        serve(queue, 4);
        fetch_queue_release_all(queue);
        serve(queue, 2);
        serve(queue, 1);
        serve(queue, 3);
        serve(queue, 5);
        end(queue);
}

static void test_cancel(void **state)
{
        struct fetch_queue *queue = queue_of(4);
        struct fetch_item *taken, *held;
        uint64_t ticket;

        taken = take(queue, 1);
        held = fetch_queue_take(queue, &ticket);
        fetch_queue_hold(queue, held, ticket);
        for (uint64_t id = 1; id <= 3; id++)
                fetch_queue_cancel(queue, id);
        fetch_queue_cancel(queue, 3);
        fetch_queue_cancel(queue, 99);
        assert_int_equal(fetch_queue_count(queue), 2); /* the one taken, and 4 */
        assert_false(taken->dropped);
        fetch_queue_put_first(queue, taken);
        taken = take(queue, 1);
        assert_true(taken->dropped);
        fetch_queue_finish(queue, taken);
        serve(queue, 4);
        end(queue);
}

/* A want that was begun has a file, which only the one who serves it can let go. */
static void test_cancel_what_was_begun(void **state)
{
        struct fetch_queue *queue = queue_of(1);
        struct fetch_item *item = take(queue, 1);

        item->file = (struct fetch_file *)queue; /* anything */
        fetch_queue_put_last(queue, item);
        fetch_queue_cancel(queue, 1);
        item = take(queue, 1);
        assert_true(item->dropped);
        item->file = NULL;
        fetch_queue_finish(queue, item);
        end(queue);
}

/* It waits for a file to be read that nobody wants any more: whoever serves it must hear of that now. */
static void test_cancel_what_is_held(void **state)
{
        struct fetch_queue *queue = queue_of(2);
        uint64_t ticket;
        struct fetch_item *item = fetch_queue_take(queue, &ticket);

        item->file = (struct fetch_file *)queue; /* anything */
        fetch_queue_hold(queue, item, ticket);
        fetch_queue_cancel(queue, 1);
        item = take(queue, 1);
        assert_true(item->dropped);
        item->file = NULL;
        fetch_queue_finish(queue, item);
        serve(queue, 2);
        end(queue);
}

/* The size says by which algorithm: what a worker says otherwise, no file could hold. */
static void test_algorithms(void **state)
{
        static const struct {
                uint64_t size;
                uint32_t algorithm;
                bool refused;
        } cases[] = {
                { 0, HASH_XXH3, false },
                { PIECE_BYTES, HASH_XXH3, false },
                { PIECE_BYTES, HASH_XXH3_PIECES, true },
                { PIECE_BYTES + 1, HASH_XXH3_PIECES, false },
                { PIECE_BYTES + 1, HASH_XXH3, true },
                { 5, HASH_MD5, true },
                { 5, HASH_NONE, true },
                { 5, 99, true },
        };
        struct fetch_queue *queue = queue_of(0);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct fetch_want want = want_of(i + 1, false);
                struct fetch_item *item;

                want.size = cases[i].size;
                want.hash_algorithm = cases[i].algorithm;
                want.list = true;
                assert_int_equal(fetch_queue_add(queue, &want), 0);
                item = take(queue, i + 1);
                assert_int_equal(item->refused != NULL, cases[i].refused);
                assert_int_equal(item->list, !cases[i].refused && cases[i].size > PIECE_BYTES);
                fetch_queue_finish(queue, item);
        }
        end(queue);
}

static void test_an_id_in_use_is_refused(void **state)
{
        struct fetch_queue *queue = queue_of(1);
        struct fetch_want again = want_of(1, false);
        struct fetch_item *first, *second;

        assert_int_equal(fetch_queue_add(queue, &again), 0);
        first = take(queue, 1);
        second = take(queue, 1);
        assert_null(first->refused);
        assert_non_null(second->refused);
        fetch_queue_finish(queue, first);
        fetch_queue_cancel(queue, 1); /* not the second: that is only about to fail */
        fetch_queue_finish(queue, second);
        end(queue);
}

static void test_full(void **state)
{
        struct fetch_queue *queue = queue_of(FETCH_QUEUE_MAX);
        struct fetch_want want = want_of(FETCH_QUEUE_MAX + 1, true);

        assert_int_equal(fetch_queue_add(queue, &want), -EBUSY);
        serve(queue, 1);
        assert_int_equal(fetch_queue_add(queue, &want), 0);
        serve(queue, FETCH_QUEUE_MAX + 1);
        fetch_queue_free(queue);
}

/* What several calls of one peer want together is bounded as well, by its bytes; another peer goes on. */
static void test_share(void **state)
{
        static uint8_t path[4000];
        struct rpc_peer *other = rpc_peer_get(peers, "ipv4:192.0.2.2:1");
        struct fetch_queue *first = queue_of(0), *second = queue_of(0), *others;
        struct fetch_want want = want_of(1, false);
        uint64_t n = 0;

        assert_non_null(other);
        memset(path, 'p', sizeof(path));
        for (size_t i = 200; i < sizeof(path); i += 200)
                path[i] = '/';
        want.path = path;
        want.path_len = sizeof(path);
        while (fetch_queue_add(n % 2 ? first : second, &want) == 0)
                want.id = ++n + 1;
        assert_in_range(n * sizeof(path), WANTS_BYTES * 8 / 10, WANTS_BYTES);
        assert_int_equal(fetch_queue_add(second, &want), -EBUSY);
        assert_int_equal(fetch_queue_new(other, &others), 0);
        assert_int_equal(fetch_queue_add(others, &want), 0);
        fetch_queue_cancel(second, 1);
        assert_int_equal(fetch_queue_add(first, &want), 0);
        fetch_queue_free(first);
        fetch_queue_free(second);
        fetch_queue_free(others);
        assert_int_equal(rpc_peer_charged(other, RPC_WANTS), 0);
        rpc_peer_unref(other);
}

static void test_ranges(void **state)
{
        static const struct {
                uint64_t offset, length, end;
        } ranges[] = {
                { 0, 0, 100 },   { 0, 100, 100 }, { 0, 101, 100 },         { 5, 10, 15 },
                { 99, 5, 100 },  { 100, 0, 100 }, { 50, UINT64_MAX, 100 }, { UINT64_MAX, UINT64_MAX, 100 },
                { 101, 1, 100 },
        };
        struct fetch_queue *queue = queue_of(0);

        for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
                struct fetch_want want = want_of(i + 1, false);
                struct fetch_item *item;

                want.offset = ranges[i].offset;
                want.length = ranges[i].length;
                assert_int_equal(fetch_queue_add(queue, &want), 0);
                item = take(queue, i + 1);
                assert_true(item->begin == ranges[i].offset && item->end == ranges[i].end);
                fetch_queue_finish(queue, item);
        }
        end(queue);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, new_peer, free_peer)

static const struct CMUnitTest tests[] = {
        TEST(test_urgent_first_then_in_order),
        TEST(test_giving_way),
        TEST(test_held_until_released),
        TEST(test_released_before_it_was_held),
        TEST(test_hurry),
        TEST(test_cancel),
        TEST(test_cancel_what_was_begun),
        TEST(test_cancel_what_is_held),
        TEST(test_algorithms),
        TEST(test_an_id_in_use_is_refused),
        TEST(test_full),
        TEST(test_share),
        TEST(test_ranges),
};

UNIT_MAIN(tests)
