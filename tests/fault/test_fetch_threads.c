/* A fetch that cannot have all its threads ends those that it has. */
#include "sync/fetch.h"

#include <pthread.h>

#include "cache/store.h"
#include "tests/tempdir.h"
#include "tests/unit/unit.h"

#define THREADS 3

static int allowed; /* threads that can be made; negative: all */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

/* In place of libc's (--wrap); one that cannot be made leaves something behind that is no thread, as there. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
        if (allowed == 0) {
                *thread = (pthread_t)1;
                return EAGAIN;
        }
        allowed -= allowed > 0;
        return __real_pthread_create(thread, attr, run, arg);
}

static void test_threads_that_fail(void **state _unused_)
{
        char dir[] = "/tmp/test_fetch.XXXXXX";
        struct fetch_options options = { .threads = THREADS, .timeout_ms = 1000 };
        struct fetch *fetch;
        int made = 0, r;

        allowed = -1;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(store_open(dir, &options.store), 0);
        do {
                allowed = made++;
                r = fetch_new(&options, &fetch);
                assert_true(r == 0 || r == -EAGAIN);
        } while (r < 0);
        assert_true(made > THREADS);
        fetch_free(fetch);
        allowed = -1;
        store_free(options.store);
        tempdir_remove(dir);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_that_fail),
};

UNIT_MAIN(tests)
