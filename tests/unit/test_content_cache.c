/* What is kept of contents that many want at once: who finds what, what enters, and what leaves. */
#include "tests/unit/unit.h"

#include <string.h>

#include "server/content_cache.h"

#define LEN   ((size_t)10000)
#define COUNT 100

/* Contents that are told apart by a number. */
struct sample {
        uint8_t data[LEN], hash[HASH_BYTES];
        struct content_key key;
};

static struct sample *sample_of(unsigned number)
{
        static struct sample sample;

        memset(sample.data, 'x', LEN);
        memcpy(sample.data, &number, sizeof(number));
        hash_bytes(HASH_XXH3, sample.data, LEN, sample.hash);
        sample.key = (struct content_key){ .spider = "sp", .hash = sample.hash, .len = LEN };
        return &sample;
}

static struct content_cache *cache_of(size_t bytes_max)
{
        struct content_cache *cache;

        assert_int_equal(content_cache_new(bytes_max, &cache), 0);
        return cache;
}

static void put(struct content_cache *cache, unsigned number)
{
        const struct sample *s = sample_of(number);

        content_cache_put(cache, &s->key, s->data);
}

static bool has(struct content_cache *cache, unsigned number)
{
        const struct sample *s = sample_of(number);
        struct content_run *run = content_cache_get(cache, &s->key);

        if (!run)
                return false;
        assert_int_equal(run->len, LEN);
        assert_memory_equal(run->data, s->data, LEN);
        content_cache_unref(run);
        return true;
}

static bool note_read(struct content_cache *cache, unsigned number)
{
        return content_cache_note_read(cache, &sample_of(number)->key);
}

static void test_found(void **state)
{
        struct content_cache *cache = cache_of(LEN * 2 * COUNT);

        for (unsigned i = 0; i < COUNT; i++) {
                assert_false(has(cache, i));
                put(cache, i);
                put(cache, i); /* as two threads may */
        }
        for (unsigned i = 0; i < COUNT; i++)
                assert_true(has(cache, i));
        assert_false(has(cache, COUNT));
        content_cache_free(cache);
}

static void test_not_found_by_others(void **state)
{
        struct content_cache *cache = cache_of(LEN * 10);
        struct content_key key = sample_of(1)->key;

        put(cache, 1);
        key.spider = "s";
        assert_null(content_cache_get(cache, &key));
        key.spider = "sp2";
        assert_null(content_cache_get(cache, &key));
        content_cache_put(cache, &key, sample_of(1)->data); /* each has its own */
        content_cache_unref(content_cache_get(cache, &key));
        assert_true(has(cache, 1));
        key = sample_of(1)->key;
        key.len--;
        assert_null(content_cache_get(cache, &key));
        content_cache_free(cache);
}

static void test_empty(void **state)
{
        struct content_cache *cache = cache_of(LEN);
        uint8_t hash[HASH_BYTES];
        const struct content_key key = { .spider = "sp", .hash = hash };
        struct content_run *run;

        hash_bytes(HASH_XXH3, "", 0, hash);
        content_cache_put(cache, &key, (const uint8_t *)"");
        run = content_cache_get(cache, &key);
        assert_non_null(run);
        assert_int_equal(run->len, 0);
        content_cache_unref(run);
        content_cache_free(cache);
}

/* Only what is read twice is worth a copy, and only if it would still be here the second time. */
static void test_second_read(void **state)
{
        struct content_cache *cache = cache_of(LEN * 10);

        for (unsigned i = 0; i < 10; i++)
                assert_false(note_read(cache, i));
        for (unsigned i = 0; i < 10; i++)
                assert_true(note_read(cache, i));
        for (unsigned i = 10; i < COUNT; i++)
                assert_false(note_read(cache, i));
        assert_false(note_read(cache, 0)); /* too much was read in between */
        assert_true(note_read(cache, 0));
        content_cache_free(cache);
}

static void test_bounded(void **state)
{
        struct content_cache *cache = cache_of(LEN * 4 + LEN / 2);

        for (unsigned i = 0; i < 4; i++)
                put(cache, i);
        assert_true(has(cache, 0)); /* used, and so 1 is now the one used longest ago */
        put(cache, 4);
        assert_false(has(cache, 1));
        for (unsigned i = 2; i <= 4; i++)
                assert_true(has(cache, i));
        assert_true(has(cache, 0));
        for (unsigned i = 5; i < COUNT; i++)
                put(cache, i);
        for (unsigned i = 0; i < COUNT - 4; i++)
                assert_false(has(cache, i));
        content_cache_free(cache);
        cache = cache_of(LEN - 1);
        put(cache, 1);
        assert_false(has(cache, 1));
        content_cache_free(cache);
}

/* What somebody is being sent outlives its leaving, and the cache. */
static void test_referenced(void **state)
{
        struct content_cache *cache = cache_of(LEN + LEN / 2);
        struct content_run *first, *second;

        put(cache, 1);
        first = content_cache_get(cache, &sample_of(1)->key);
        put(cache, 2);
        assert_false(has(cache, 1));
        second = content_cache_get(cache, &sample_of(2)->key);
        content_cache_free(cache);
        assert_memory_equal(first->data, sample_of(1)->data, LEN);
        assert_memory_equal(second->data, sample_of(2)->data, LEN);
        content_cache_unref(first);
        content_cache_unref(second);
}

static void test_expired(void **state)
{
        struct content_cache *cache = cache_of(LEN * 10);

        assert_int_equal(content_cache_get_bytes(cache), 0);
        put(cache, 1);
        content_cache_expire(cache, 60000);
        assert_true(has(cache, 1));
        assert_in_range(content_cache_get_bytes(cache), LEN, LEN * 2);
        content_cache_expire(cache, 0);
        assert_false(has(cache, 1));
        assert_int_equal(content_cache_get_bytes(cache), 0);
        put(cache, 1); /* and there is room again */
        assert_true(has(cache, 1));
        content_cache_free(cache);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),   cmocka_unit_test(test_not_found_by_others),
        cmocka_unit_test(test_empty),   cmocka_unit_test(test_second_read),
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_referenced),
        cmocka_unit_test(test_expired),
};

UNIT_MAIN(tests)
