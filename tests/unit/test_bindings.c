#include "fs/bindings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/blobs.h"
#include "fs/handles.h"
#include "tests/unit/unit.h"

/* What lies in memory beyond a daemon's life. */
struct files {
        int fixed, moved;
};

static struct files make_files(void)
{
        struct files files = { memfd_create("fixed", MFD_CLOEXEC), memfd_create("moved", MFD_CLOEXEC) };

        assert_true(files.fixed >= 0 && files.moved >= 0);
        return files;
}

static void close_files(struct files files)
{
        close(files.fixed);
        close(files.moved);
}

static void test_own_content(void **state)
{
        struct files files = make_files();
        struct bindings *b;

        assert_int_equal(bindings_new(files.fixed, files.moved, &b), 0);
        assert_int_equal(bindings_get(b, 7), 7);
        assert_int_equal(bindings_fix(b, 7, 7), 0);
        assert_int_equal(bindings_fix(b, 7, 7), 0);
        assert_int_equal(bindings_fix(b, 7, 8), -EAGAIN);
        assert_int_equal(bindings_move(b, 7, 8), -ESTALE); /* a byte was served */
        assert_int_equal(bindings_get(b, 7), 7);
        bindings_free(b);
        close_files(files);
}

static void test_moved(void **state)
{
        struct files files = make_files();
        struct bindings *b;

        assert_int_equal(bindings_new(files.fixed, files.moved, &b), 0);
        assert_int_equal(bindings_move(b, 1000000, 2000000), 0);
        assert_int_equal(bindings_get(b, 1000000), 2000000);
        assert_int_equal(bindings_fix(b, 1000000, 1000000), -EAGAIN); /* too late for its own */
        assert_int_equal(bindings_move(b, 1000000, 3000000), 0);      /* still nothing served */
        assert_int_equal(bindings_fix(b, 1000000, 2000000), -EAGAIN);
        assert_int_equal(bindings_fix(b, 1000000, 3000000), 0);
        assert_int_equal(bindings_move(b, 1000000, 4000000), -ESTALE);
        assert_int_equal(bindings_get(b, 1000000), 3000000);
        assert_int_equal(bindings_get(b, 999999), 999999);
        assert_int_equal(bindings_find_bound(b, 3000000), 1000000);
        assert_int_equal(bindings_find_bound(b, 2000000), 0); /* not any more */
        assert_int_equal(bindings_find_bound(b, 1000000), 0);
        assert_int_equal(bindings_drop(b, 1000000), 0);
        assert_int_equal(bindings_drop(b, 7), 0); /* was not bound elsewhere */
        assert_int_equal(bindings_find_bound(b, 3000000), 0);
        assert_int_equal(bindings_get(b, 1000000), 1000000);
        bindings_free(b);
        bindings_free(NULL);
        close_files(files);
}

/* Who takes over knows what was served, and what from; the last record of a number counts, half a one does not. */
static void test_bindings_taken_over(void **state)
{
        struct files files = make_files();
        struct bindings *b;

        assert_int_equal(bindings_new(files.fixed, files.moved, &b), 0);
        assert_int_equal(bindings_fix(b, 7, 7), 0);
        assert_int_equal(bindings_fix(b, 5000000, 5000000), 0);
        assert_int_equal(bindings_move(b, 8, 9), 0);
        assert_int_equal(bindings_move(b, 8, 10), 0);
        assert_int_equal(lseek(files.moved, 0, SEEK_END), 32);
        assert_int_equal(write(files.moved, "half a", 6), 6);
        bindings_free(b);
        assert_int_equal(bindings_new(files.fixed, files.moved, &b), 0);
        assert_int_equal(bindings_move(b, 7, 8), -ESTALE);
        assert_int_equal(bindings_move(b, 5000000, 8), -ESTALE);
        assert_int_equal(bindings_get(b, 8), 10);
        assert_int_equal(bindings_fix(b, 8, 8), -EAGAIN);
        assert_int_equal(bindings_move(b, 11, 12), 0);
        assert_int_equal(bindings_move(b, 13, 12), 0);
        assert_int_equal(bindings_drop(b, 13), 0);
        bindings_free(b);
        assert_int_equal(bindings_new(files.fixed, files.moved, &b), 0);
        assert_int_equal(bindings_get(b, 8), 10);
        assert_int_equal(bindings_get(b, 11), 12);
        assert_int_equal(bindings_get(b, 13), 13);
        assert_int_equal(bindings_find_bound(b, 12), 11);
        bindings_free(b);
        close_files(files);
}

static int count_handle(const struct handle *handle, void *arg)
{
        (*(unsigned *)arg)++;
        return 0;
}

#define MANY 5000

/* A number is used once; who takes over knows the handles, and by which request each came. */
static void test_handles(void **state)
{
        int fd = memfd_create("handles", MFD_CLOEXEC);
        uint64_t numbers[MANY], again, number;
        struct handles *h;
        struct handle got;
        unsigned count = 0;

        assert_int_equal(handles_new(fd, &h), 0);
        for (unsigned i = 0; i < MANY; i++)
                assert_int_equal(
                        handles_add(h, &(struct handle){ .ino = i, .unique = 2 * i, .backing_id = (int)i },
                                    &numbers[i]),
                        0);
        assert_true(handles_remove(h, numbers[17], &got));
        assert_int_equal(got.ino, 17);
        assert_int_equal(handles_add(h, &(struct handle){ .ino = 99 }, &again), 0);
        assert_int_not_equal(again, numbers[17]);
        handles_free(h);
        assert_int_equal(handles_new(fd, &h), 0);
        assert_false(handles_remove(h, numbers[17], &got)); /* the close comes again */
        assert_false(handles_remove(h, 0, &got));
        assert_false(handles_remove(h, UINT64_MAX, &got));
        assert_int_equal(handles_each(h, count_handle, &count), 0);
        assert_int_equal(count, MANY);
        assert_true(handles_find(h, 2 * 18, &number, &got));
        assert_int_equal(number, numbers[18]);
        assert_int_equal(got.backing_id, 18);
        assert_false(handles_find(h, 2 * 17, &number, &got));
        assert_true(handles_remove(h, again, &got));
        assert_int_equal(got.ino, 99);
        handles_free(h);
        handles_free(NULL);
        close(fd);
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
        cmocka_unit_test(test_own_content),         cmocka_unit_test(test_moved),
        cmocka_unit_test(test_bindings_taken_over), cmocka_unit_test(test_handles),
        cmocka_unit_test(test_blob_reads),          cmocka_unit_test(test_blob_limit),
};

UNIT_MAIN(tests)
