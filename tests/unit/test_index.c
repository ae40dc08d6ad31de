#include "server/index.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

struct fixture {
        char dir[64];
        char file[96];
        struct index *index;
};

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/test_index.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->file, sizeof(f->file), "%s/index.db", f->dir);
        assert_int_equal(index_open(f->file, &f->index), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;
        char command[128];

        index_close(f->index);
        snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

static void reopen(struct fixture *f)
{
        index_close(f->index);
        f->index = NULL;
        assert_int_equal(index_open(f->file, &f->index), 0);
}

static struct index_stamp stamp(uint64_t inode)
{
        return (struct index_stamp){
                .device = 7, .inode = inode, .size = 100, .mtime_ns = -5, .ctime_ns = 1234567891
        };
}

static void store(struct fixture *f, struct index_stamp s, enum hash_algorithm algorithm, uint8_t fill)
{
        struct content_id id = { .algorithm = algorithm };

        memset(id.bytes, fill, HASH_BYTES);
        assert_int_equal(index_store(f->index, &s, &id), 0);
}

/* The first byte of the hash, or -1. */
static int lookup(struct fixture *f, struct index_stamp s, enum hash_algorithm algorithm)
{
        struct index_query query = { .stamp = s, .algorithm = algorithm };

        index_lookup(f->index, &query, 1);
        return query.known ? query.digest[0] : -1;
}

static void test_lookup(void **state)
{
        struct fixture *f = *state;
        struct index_stamp other;

        assert_int_equal(lookup(f, stamp(1), HASH_XXH3), -1);
        store(f, stamp(1), HASH_XXH3, 0xaa);
        assert_int_equal(index_flush(f->index), 0);
        assert_int_equal(lookup(f, stamp(1), HASH_XXH3), 0xaa);
        assert_int_equal(lookup(f, stamp(1), HASH_MD5), -1);
        assert_int_equal(lookup(f, stamp(2), HASH_XXH3), -1);
        other = stamp(1), other.size++;
        assert_int_equal(lookup(f, other, HASH_XXH3), -1);
        other = stamp(1), other.mtime_ns++;
        assert_int_equal(lookup(f, other, HASH_XXH3), -1);
        other = stamp(1), other.ctime_ns++;
        assert_int_equal(lookup(f, other, HASH_XXH3), -1);
        other = stamp(1), other.device++;
        assert_int_equal(lookup(f, other, HASH_XXH3), -1);
}

static void test_two_algorithms(void **state)
{
        struct fixture *f = *state;
        struct index_stamp later = stamp(UINT64_MAX);

        store(f, stamp(UINT64_MAX), HASH_XXH3, 1);
        store(f, stamp(UINT64_MAX), HASH_MD5, 2);
        assert_int_equal(index_flush(f->index), 0);
        assert_int_equal(lookup(f, stamp(UINT64_MAX), HASH_XXH3), 1);
        assert_int_equal(lookup(f, stamp(UINT64_MAX), HASH_MD5), 2);
        later.ctime_ns++;
        store(f, later, HASH_MD5, 3);
        assert_int_equal(index_flush(f->index), 0);
        assert_int_equal(lookup(f, later, HASH_MD5), 3);
        assert_int_equal(lookup(f, later, HASH_XXH3), -1); /* it belonged to the former state */
        assert_int_equal(lookup(f, stamp(UINT64_MAX), HASH_XXH3), -1);
}

static void test_restart(void **state)
{
        struct fixture *f = *state;

        store(f, stamp(1), HASH_XXH3, 9); /* closing writes what is gathered */
        reopen(f);
        assert_int_equal(lookup(f, stamp(1), HASH_XXH3), 9);
}

/* More than is held in memory. */
static void test_many(void **state)
{
        struct fixture *f = *state;

        for (uint64_t i = 0; i < 70000; i++)
                store(f, stamp(i), HASH_XXH3, (uint8_t)i);
        assert_int_equal(lookup(f, stamp(500), HASH_XXH3), 500 & 255); /* written on the way */
        assert_int_equal(index_flush(f->index), 0);
        assert_int_equal(lookup(f, stamp(69999), HASH_XXH3), 69999 & 255);
}

/* Invariant 1. */
static void test_racy(void **state)
{
        const int64_t now = 1700000000 * NSEC_PER_SEC + 500 * NSEC_PER_MSEC;
        struct index_stamp s = { .mtime_ns = now - 21 * NSEC_PER_MSEC, .ctime_ns = now - 21 * NSEC_PER_MSEC };

        assert_false(index_stamp_racy(&s, now));
        s.ctime_ns = now - 19 * NSEC_PER_MSEC;
        assert_true(index_stamp_racy(&s, now));
        s.ctime_ns = now - 21 * NSEC_PER_MSEC, s.mtime_ns = now;
        assert_true(index_stamp_racy(&s, now));
        s.mtime_ns = now + NSEC_PER_SEC; /* from the future: never certain */
        assert_true(index_stamp_racy(&s, now));
        s.mtime_ns = s.ctime_ns = 1699999999 * NSEC_PER_SEC; /* a file system that keeps whole seconds */
        assert_true(index_stamp_racy(&s, now));
        s.mtime_ns = s.ctime_ns = 1699999998 * NSEC_PER_SEC;
        assert_false(index_stamp_racy(&s, now));
}

static uint64_t revision(struct fixture *f, const char *path, uint8_t fill)
{
        uint8_t digest[HASH_BYTES];
        uint64_t ret = 0;

        memset(digest, fill, sizeof(digest));
        assert_int_equal(index_revision(f->index, "sp", path, digest, &ret), 0);
        return ret;
}

/* Invariant 2. */
static void test_revision(void **state)
{
        struct fixture *f = *state;
        int64_t begun = clock_wall_sec();
        uint64_t first = revision(f, "", 1), now;

        assert_true(first >= (uint64_t)begun);
        assert_int_equal(revision(f, "", 1), first);
        assert_int_equal(revision(f, "", 2), first + 1);
        assert_int_equal(revision(f, "", 1), first + 2); /* back to the old tree is a new version */
        revision(f, "sub", 5);
        reopen(f);
        assert_int_equal(revision(f, "", 1), first + 2);
        index_close(f->index);
        f->index = NULL;
        assert_int_equal(unlink(f->file), 0);
        assert_int_equal(index_open(f->file, &f->index), 0);
        now = revision(f, "", 1);
        assert_true(now >= (uint64_t)begun);
}

static void damage(struct fixture *f, off_t offset, size_t len)
{
        int fd;
        char junk[8192];

        index_close(f->index);
        f->index = NULL;
        memset(junk, 'j', sizeof(junk));
        fd = open(f->file, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, junk, len, offset), len);
        close(fd);
        assert_int_equal(index_open(f->file, &f->index), 0);
}

static void test_damaged(void **state)
{
        static const off_t offsets[] = { 0, 100, 4096, 3 * 4096 };
        struct fixture *f = *state;
        char aside[128];

        snprintf(aside, sizeof(aside), "%s.damaged", f->file);
        for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
                for (uint64_t inode = 0; inode < 1000; inode++)
                        store(f, stamp(inode), HASH_XXH3, 4);
                assert_int_equal(index_flush(f->index), 0);
                damage(f, offsets[i], 4096);
                assert_int_equal(access(aside, F_OK), 0);
                assert_int_equal(unlink(aside), 0);
                assert_int_equal(lookup(f, stamp(1), HASH_XXH3), -1);
                store(f, stamp(1), HASH_XXH3, 6);
                assert_int_equal(index_flush(f->index), 0);
                assert_int_equal(lookup(f, stamp(1), HASH_XXH3), 6);
        }
}

static void test_open_fails(void **state)
{
        struct index *index = NULL;

        assert_true(index_open("/nowhere/at/all/index.db", &index) < 0);
        assert_true(index_open("/tmp", &index) < 0);
        assert_null(index);
        index_close(NULL);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lookup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_algorithms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
        cmocka_unit_test(test_racy),
        cmocka_unit_test_setup_teardown(test_revision, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
        cmocka_unit_test(test_open_fails),
};

UNIT_MAIN(tests)
