/*
 * Read-ahead within a large file: who gets a window, how it grows, and that it ends.
 */
#include "base/pieces.h"
#include "sync/window.h"
#include "tests/unit/unit.h"

#define MIB  ((uint64_t)1 << 20)
#define SIZE (UINT64_C(1) << 30)

static void assert_range(struct window_range range, uint64_t begin, uint64_t end)
{
        assert_int_equal(range.begin, begin);
        assert_int_equal(range.end, end);
}

static bool is_empty(struct window_range range)
{
        return range.begin == range.end;
}

static void test_grows(void **state)
{
        struct window w = { 0 };
        uint64_t ahead = 0, widest = 0;

        assert_true(is_empty(window_note(&w, 0, 4096, SIZE, WINDOW_MAX_PIECES)));
        assert_range(window_note(&w, 4096, 4096, SIZE, WINDOW_MAX_PIECES), 1, 1 + WINDOW_FIRST_PIECES);
        for (uint64_t at = 8192; at + (128 << 10) <= SIZE; at += 128 << 10) {
                struct window_range range = window_note(&w, at, 128 << 10, SIZE, WINDOW_MAX_PIECES);
                uint64_t behind = (at + (128 << 10) - 1) / PIECE_BYTES + 1;

                assert_true(range.end >= range.begin);
                assert_true(is_empty(range) || range.begin >= ahead); /* nothing is wanted twice */
                ahead = MAX(ahead, range.end);
                assert_true(ahead <= behind + WINDOW_MAX_PIECES);
                widest = MAX(widest, is_empty(range) ? 0 : ahead - behind);
        }
        assert_int_equal(ahead, pieces_count(SIZE));
        assert_int_equal(widest, WINDOW_MAX_PIECES);
}

static void test_never_empty_handed(void **state)
{
        struct window w = { 0 };
        uint64_t ahead = 5;

        window_note(&w, 0, 1 << 20, SIZE, WINDOW_MAX_PIECES);
        /* Whoever reads on finds the next pieces wanted already, from the second read on. */
        for (uint64_t at = MIB; at < SIZE - 32 * MIB; at += MIB) {
                struct window_range range = window_note(&w, at, 1 << 20, SIZE, WINDOW_MAX_PIECES);

                ahead = MAX(ahead, range.end);
                assert_true(ahead * PIECE_BYTES > at + MIB);
        }
}

static void test_random(void **state)
{
        struct window w = { 0 };
        uint64_t random = 12345, wanted = 0;

        for (int i = 0; i < 10000; i++) {
                struct window_range range;

                random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                range = window_note(&w, (random >> 20) % (SIZE / 4096) * 4096, 4096, SIZE, WINDOW_MAX_PIECES);
                wanted += range.end - range.begin;
        }
        assert_true(wanted < 100); /* some follow each other by chance */
}

static void test_backwards_and_strides(void **state)
{
        struct window w = { 0 };

        for (uint64_t at = SIZE - 4096; at > SIZE - 200 * 4096; at -= 4096)
                assert_true(is_empty(window_note(&w, at, 4096, SIZE, WINDOW_MAX_PIECES)));
        for (uint64_t at = 0; at < 200 * 64 * 1024; at += 64 * 1024)
                assert_true(is_empty(window_note(&w, at, 4096, SIZE, WINDOW_MAX_PIECES)));
}

/* The kernel's own read-ahead sends large requests, which threads take out of order. */
static void test_overtaken(void **state)
{
        struct window w = { 0 };
        uint64_t ahead = 0;

        for (uint64_t at = 0; at < 64 * MIB; at += 2 * MIB) {
                struct window_range second = window_note(&w, at + MIB, 1 << 20, SIZE, WINDOW_MAX_PIECES);
                struct window_range first = window_note(&w, at, 1 << 20, SIZE, WINDOW_MAX_PIECES);

                ahead = MAX(ahead, MAX(first.end, second.end));
        }
        assert_true(ahead * PIECE_BYTES >= 64 * MIB + WINDOW_MAX_PIECES / 2 * PIECE_BYTES);
}

static void test_several_readers(void **state)
{
        struct window w = { 0 };
        uint64_t ahead[WINDOW_READERS] = { 0 };

        for (uint64_t at = 0; at < 32 * MIB; at += MIB)
                for (uint64_t i = 0; i < WINDOW_READERS; i++) {
                        struct window_range range =
                                window_note(&w, i * 200 * MIB + at, 1 << 20, SIZE, WINDOW_MAX_PIECES);
                        ahead[i] = MAX(ahead[i], range.end);
                }
        for (uint64_t i = 0; i < WINDOW_READERS; i++)
                assert_true(ahead[i] * PIECE_BYTES >= (i * 200 + 32) * MIB);
}

static void test_limit(void **state)
{
        struct window w = { 0 };

        for (uint64_t at = 0; at < 64 * MIB; at += MIB) {
                struct window_range range = window_note(&w, at, 1 << 20, SIZE, WINDOW_FIRST_PIECES);

                assert_true(range.end <= (at + MIB) / PIECE_BYTES + WINDOW_FIRST_PIECES);
        }
}

static void test_end(void **state)
{
        uint64_t size = SIZE + 1;
        struct window w = { 0 };

        window_note(&w, SIZE - 2 * MIB, 1 << 20, size, WINDOW_MAX_PIECES);
        assert_range(window_note(&w, SIZE - MIB, (1 << 20) - 4096, size, WINDOW_MAX_PIECES),
                     SIZE / PIECE_BYTES, SIZE / PIECE_BYTES + 1);
        assert_true(is_empty(window_note(&w, SIZE - 4096, 4096, size, WINDOW_MAX_PIECES)));
        assert_true(is_empty(window_note(&w, SIZE, 4096, size, WINDOW_MAX_PIECES))); /* beyond the end */
}

static void test_few_pieces(void **state)
{
        uint64_t size = WINDOW_WHOLE_PIECES * PIECE_BYTES;
        struct window w = { 0 }, larger = { 0 };

        assert_range(window_note(&w, 5 * PIECE_BYTES, 1, size, WINDOW_MAX_PIECES), 0, WINDOW_WHOLE_PIECES);
        assert_true(is_empty(window_note(&w, 0, 1, size, WINDOW_MAX_PIECES)));
        assert_true(is_empty(window_note(&larger, 5 * PIECE_BYTES, 1, size + 1, WINDOW_MAX_PIECES)));
}

/* Whoever has read on for a while gets all the rest, once, behind its window. */
static void test_rest(void **state)
{
        uint64_t size = 40 * MIB, rest = 0;
        struct window w = { 0 };

        for (uint64_t at = 0; at < size; at += MIB) {
                struct window_range range = window_note(&w, at, 1 << 20, size, WINDOW_MAX_PIECES);

                if (range.rest <= range.end)
                        continue;
                assert_int_equal(rest, 0);
                rest = range.rest;
                assert_true(at >= 3 * MIB && at <= 6 * MIB);
        }
        assert_int_equal(rest, pieces_count(size));
}

static void test_no_rest(void **state)
{
        struct window w = { 0 }, random = { 0 };

        /* too much is left, until it is no more than the window */
        for (uint64_t at = 0; at + WINDOW_REST_PIECES * PIECE_BYTES + 32 * MIB < SIZE; at += MIB) {
                struct window_range range = window_note(&w, at, 1 << 20, SIZE, WINDOW_MAX_PIECES);

                assert_true(range.rest <= range.end);
        }
        for (uint64_t at = 0; at < 40 * MIB; at += 3 * MIB) {
                struct window_range range = window_note(&random, at, 4096, 40 * MIB, WINDOW_MAX_PIECES);

                assert_true(range.rest <= range.end);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),      cmocka_unit_test(test_never_empty_handed),
        cmocka_unit_test(test_random),     cmocka_unit_test(test_backwards_and_strides),
        cmocka_unit_test(test_overtaken),  cmocka_unit_test(test_several_readers),
        cmocka_unit_test(test_limit),      cmocka_unit_test(test_end),
        cmocka_unit_test(test_few_pieces), cmocka_unit_test(test_rest),
        cmocka_unit_test(test_no_rest),
};

UNIT_MAIN(tests)
