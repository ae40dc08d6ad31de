#include "base/io.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FIRST_LINE_MAX   65536
#define OPEN_FILES_MAX   65536
#define OPEN_FILES_LEAST 1024

int io_write_all(int fd, const void *data, size_t len)
{
        const char *p = data;

        while (len > 0) {
                ssize_t n = write(fd, p, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                len -= (size_t)n;
        }
        return 0;
}

int io_pwrite_all(int fd, const void *data, size_t len, off_t offset)
{
        const char *p = data;

        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                offset += n;
                len -= (size_t)n;
        }
        return 0;
}

ssize_t io_pread_all(int fd, void *data, size_t len, off_t offset)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n = pread(fd, (char *)data + done, len - done, offset + (off_t)done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

int io_read_to_end(int fd, size_t limit, struct buffer *ret)
{
        size_t start = ret->len;

        for (;;) {
                ssize_t n;
                int r = buffer_reserve(ret, 4096);
                if (r < 0)
                        return r;
                n = read(fd, ret->data + ret->len, 4096);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                ret->len += (size_t)n;
                ret->data[ret->len] = '\0';
                if (ret->len - start > limit)
                        return -EFBIG;
        }
}

int io_read_file(int dirfd, const char *path, size_t limit, struct buffer *ret)
{
        _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return io_read_to_end(fd, limit, ret);
}

int io_open_nameless(const char *dir)
{
        _cleanup_free_ char *name = NULL;
        int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
                return fd < 0 ? -errno : fd;
        /* The file system knows no such files. */
        if (asprintf(&name, "%s/nameless.XXXXXX", dir) < 0) {
                name = NULL;
                return -ENOMEM;
        }
        fd = mkostemp(name, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        unlink(name);
        return fd;
}

int io_read_first_line(const char *path, struct buffer *ret)
{
        size_t len;
        int r = io_read_file(AT_FDCWD, path, FIRST_LINE_MAX, ret);

        if (r < 0)
                return r;
        len = ret->data ? strcspn(ret->data, "\n") : 0;
        while (len > 0 && isspace((unsigned char)ret->data[len - 1]))
                len--;
        if (len == 0)
                return -EINVAL;
        buffer_truncate(ret, len);
        return 0;
}

void io_reserve_standard_fds(void)
{
        int fd;

        do
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                close(fd);
}

unsigned io_raise_open_files(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return OPEN_FILES_LEAST;
        limit.rlim_cur = MAX(limit.rlim_cur, MIN(limit.rlim_max, (rlim_t)OPEN_FILES_MAX));
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                getrlimit(RLIMIT_NOFILE, &limit);
        return (unsigned)MIN(limit.rlim_cur, (rlim_t)OPEN_FILES_MAX);
}

int io_mkdir_parents(const char *path, mode_t mode)
{
        _cleanup_free_ char *copy = strdup(path);
        struct stat st;

        if (!copy)
                return -ENOMEM;
        for (char *p = copy + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                *p = '/';
        }
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
                return -errno;
        if (stat(copy, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
