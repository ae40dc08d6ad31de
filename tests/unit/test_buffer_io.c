#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/unit.h"

static void test_buffer_grows(void **state)
{
        _cleanup_buffer_ struct buffer b = { 0 };

        for (int i = 0; i < 10000; i++)
                assert_int_equal(buffer_append(&b, "0123456789", 10), 0);
        assert_int_equal(b.len, 100000);
        assert_int_equal(b.data[b.len], '\0');
        for (size_t i = 0; i < b.len; i++)
                assert_int_equal(b.data[i], '0' + (int)(i % 10));
        buffer_truncate(&b, 3);
        assert_string_equal(b.data, "012");
        buffer_release(&b);
        assert_int_equal(b.len, 0);
        assert_int_equal(buffer_append(&b, "again", 5), 0);
        assert_string_equal(b.data, "again");
}

static void test_buffer_printf(void **state)
{
        _cleanup_buffer_ struct buffer b = { 0 };

        assert_int_equal(buffer_printf(&b, "%s-%d", "x", 42), 0);
        assert_int_equal(buffer_printf(&b, "%0500d", 7), 0);
        assert_int_equal(b.len, 4 + 500);
        assert_memory_equal(b.data, "x-420000", 8);
        assert_int_equal(b.data[b.len - 1], '7');
}

static void test_buffer_too_large(void **state)
{
        _cleanup_buffer_ struct buffer b = { 0 };

        assert_int_equal(buffer_append(&b, "kept", 4), 0);
        assert_int_equal(buffer_reserve(&b, SIZE_MAX), -ENOMEM);
        assert_int_equal(buffer_reserve(&b, SIZE_MAX / 2), -ENOMEM);
        assert_int_equal(b.len, 4);
        assert_string_equal(b.data, "kept");
}

/* An anonymous file with LEN bytes of a pattern. */
static int pattern_file(size_t len)
{
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        _cleanup_free_ char *data = malloc(len + 1);

        assert_true(fd >= 0);
        assert_non_null(data);
        for (size_t i = 0; i < len; i++)
                data[i] = (char)(i % 251);
        assert_int_equal(io_write_all(fd, data, len), 0);
        return fd;
}

static void test_io(void **state)
{
        _cleanup_close_ int fd = pattern_file(100000);
        _cleanup_buffer_ struct buffer b = { 0 };
        char data[1000];

        assert_int_equal(io_pread_all(fd, data, sizeof(data), 50000), sizeof(data));
        assert_int_equal((unsigned char)data[1], 50001 % 251);
        assert_int_equal(io_pread_all(fd, data, sizeof(data), 99990), 10);
        assert_int_equal(io_pread_all(fd, data, sizeof(data), 100000), 0);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(io_read_to_end(fd, 100000, &b), 0);
        assert_int_equal(b.len, 100000);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        buffer_truncate(&b, 0);
        assert_int_equal(io_read_to_end(fd, 99999, &b), -EFBIG);
        assert_int_equal(io_pread_all(-1, data, sizeof(data), 0), -EBADF);
        assert_int_equal(io_write_all(-1, data, 1), -EBADF);
}

static void test_io_full(void **state)
{
        _cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, "x", 1), -ENOSPC);
}

static void test_folders_and_files(void **state)
{
        char folder[] = "/tmp/fsyncfs-unit-XXXXXX", path[PATH_MAX];
        _cleanup_buffer_ struct buffer b = { 0 };
        struct stat st;

        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/a/b/c", folder);
        assert_int_equal(io_mkdir_parents(path, 0700), 0);
        assert_int_equal(io_mkdir_parents(path, 0700), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(io_read_file(AT_FDCWD, "/no such file", 10, &b), -ENOENT);
        assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/comm", 100, &b), 0);
        assert_true(b.len > 1 && b.data[b.len - 1] == '\n');
        for (int i = 0; i < 3; i++) {
                assert_int_equal(rmdir(path), 0);
                *strrchr(path, '/') = '\0';
        }
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(io_mkdir_parents("/proc/self/comm/x", 0700), -ENOTDIR);
}

static void test_clock(void **state)
{
        struct timespec ts = clock_timespec(-1);

        assert_int_equal(ts.tv_sec, -1);
        assert_int_equal(ts.tv_nsec, 999999999);
        ts = clock_timespec(-NSEC_PER_SEC);
        assert_int_equal(ts.tv_sec, -1);
        assert_int_equal(ts.tv_nsec, 0);
        ts = clock_timespec(INT64_C(1600000000123456789));
        assert_int_equal(ts.tv_sec, 1600000000);
        assert_int_equal(ts.tv_nsec, 123456789);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer_grows),
        cmocka_unit_test(test_buffer_printf),
        cmocka_unit_test(test_buffer_too_large),
        cmocka_unit_test(test_io),
        cmocka_unit_test(test_io_full),
        cmocka_unit_test(test_folders_and_files),
        cmocka_unit_test(test_clock),
};

UNIT_MAIN(tests)
