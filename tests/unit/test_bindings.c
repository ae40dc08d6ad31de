#include "fs/bindings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fs/blobs.h"
#include "tests/unit/unit.h"

static void test_own_content(void **state)
{
        struct bindings *b;

        assert_int_equal(bindings_new(&b), 0);
        assert_int_equal(bindings_get(b, 7), 7);
        assert_int_equal(bindings_fix(b, 7, 7), 0);
        assert_int_equal(bindings_fix(b, 7, 7), 0);
        assert_int_equal(bindings_fix(b, 7, 8), -EAGAIN);
        assert_int_equal(bindings_move(b, 7, 8), -ESTALE); /* a byte was served */
        assert_int_equal(bindings_get(b, 7), 7);
        bindings_free(b);
}

static void test_moved(void **state)
{
        struct bindings *b;

        assert_int_equal(bindings_new(&b), 0);
        assert_int_equal(bindings_move(b, 1000000, 2000000), 0);
        assert_int_equal(bindings_get(b, 1000000), 2000000);
        assert_int_equal(bindings_fix(b, 1000000, 1000000), -EAGAIN); /* too late for its own */
        assert_int_equal(bindings_move(b, 1000000, 3000000), 0);      /* still nothing served */
        assert_int_equal(bindings_fix(b, 1000000, 2000000), -EAGAIN);
        assert_int_equal(bindings_fix(b, 1000000, 3000000), 0);
        assert_int_equal(bindings_move(b, 1000000, 4000000), -ESTALE);
        assert_int_equal(bindings_get(b, 1000000), 3000000);
        assert_int_equal(bindings_get(b, 999999), 999999);
        bindings_free(b);
        bindings_free(NULL);
}

#define BLOBS_MAX 64

static int open_text(const char *text)
{
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        return fd;
}

static void test_blob_reads(void **state)
{
        struct blobs *blobs;
        struct blob *one, *same;
        char data[16];
        int late;

        assert_int_equal(blobs_new(BLOBS_MAX, &blobs), 0);
        assert_null(blobs_get(blobs, 5));
        one = blobs_put(blobs, 5, open_text("content"), 7);
        assert_non_null(one);
        late = open_text("another");
        same = blobs_put(blobs, 5, late, 7); /* who comes second gets the first one's */
        assert_ptr_equal(one, same);
        assert_int_equal(fcntl(late, F_GETFD), -1);
        assert_int_equal(blob_read(one, data, sizeof(data), 0), 7);
        assert_memory_equal(data, "content", 7);
        assert_int_equal(blob_read(one, data, 3, 4), 3);
        assert_int_equal(blob_read(one, data, sizeof(data), 7), 0);
        assert_int_equal(blob_read(one, data, sizeof(data), 1 << 30), 0);
        blobs_unref(blobs, one);
        blobs_unref(blobs, same);
        blobs_free(blobs);
}

static void test_blob_limit(void **state)
{
        struct blobs *blobs;
        struct blob *used;
        char byte;

        assert_int_equal(blobs_new(BLOBS_MAX, &blobs), 0);
        used = blobs_put(blobs, 1, open_text("u"), 1);
        for (uint64_t ino = 2; ino < 2 + BLOBS_MAX; ino++)
                blobs_unref(blobs, blobs_put(blobs, ino, open_text("x"), 1));
        assert_null(blobs_get(blobs, 2));                  /* the least recently used went */
        assert_int_equal(blob_read(used, &byte, 1, 0), 1); /* what is in use stays */
        assert_ptr_equal(blobs_get(blobs, 1), used);
        blobs_unref(blobs, used);
        blobs_drop_idle(blobs);
        assert_null(blobs_get(blobs, 1 + BLOBS_MAX));
        assert_int_equal(blob_read(used, &byte, 1, 0), 1);
        blobs_unref(blobs, used);
        blobs_free(blobs);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_content),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_blob_reads),
        cmocka_unit_test(test_blob_limit),
};

UNIT_MAIN(tests)
