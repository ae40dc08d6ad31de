#include "server/workspace.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/path.h"

#define TRIES 128 /* beside somebody who renames all the time one in a hundred is in vain */

struct workspace_root {
        int fd;
        char *path; /* owned; absolute */
};

int workspace_root_open(const char *path, struct workspace_root **ret)
{
        struct workspace_root *root;
        _cleanup_free_ char *absolute = realpath(path, NULL);
        _cleanup_close_ int fd = -1;

        if (!absolute)
                return -errno;
        fd = open(absolute, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        root = calloc(1, sizeof(*root));
        if (!root)
                return -ENOMEM;
        root->fd = take_fd(&fd);
        root->path = TAKE_PTR(absolute);
        *ret = root;
        return 0;
}

void workspace_root_free(struct workspace_root *root)
{
        if (!root)
                return;
        close(root->fd);
        free(root->path);
        free(root);
}

const char *workspace_root_path(const struct workspace_root *root)
{
        return root->path;
}

static int open_beneath(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
        struct open_how how = {
                .flags = flags | O_RDONLY | O_CLOEXEC,
                .resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
        };
        unsigned tries = 0;
        long fd;

        /* EAGAIN: something was renamed, anywhere, while a link led through "..", and the kernel cannot tell any more that this stayed beneath. */
        do
                fd = syscall(SYS_openat2, dirfd, path[0] ? path : ".", &how, sizeof(how));
        while (fd < 0 && errno == EAGAIN && ++tries < TRIES);
        return fd < 0 ? -errno : (int)fd;
}

static int open_spider(const struct workspace_root *root, const char *spider)
{
        int r = path_check_name(spider, strlen(spider));

        return r < 0 ? r : open_beneath(root->fd, spider, O_DIRECTORY, RESOLVE_NO_SYMLINKS);
}

bool workspace_has_spider(const struct workspace_root *root, const char *spider)
{
        _cleanup_close_ int fd = open_spider(root, spider);

        return fd >= 0;
}

int workspace_open_folder(const struct workspace_root *root, const char *spider, const char *path,
                          int *ret_fd)
{
        _cleanup_close_ int spider_fd = -1;
        int fd, r = path_check(path, strlen(path));

        if (r < 0)
                return r;
        spider_fd = open_spider(root, spider);
        if (spider_fd < 0)
                return spider_fd;
        if (path[0] == '\0') {
                *ret_fd = take_fd(&spider_fd);
                return 0;
        }
        /* A second step, not one longer path: the spider's name does not count against the path's length. */
        fd = open_beneath(spider_fd, path, O_DIRECTORY, RESOLVE_NO_SYMLINKS);
        if (fd < 0)
                return fd;
        *ret_fd = fd;
        return 0;
}

static int open_regular(int dirfd, const char *path, uint64_t flags, uint64_t resolve, struct stat *ret_st)
{
        _cleanup_close_ int fd = -1;
        int r = path_check(path, strlen(path));

        if (r < 0)
                return r;
        /* O_NONBLOCK: a fifo that took the file's place must not hold us. */
        fd = open_beneath(dirfd, path, flags | O_NONBLOCK | O_NOCTTY, resolve);
        if (fd < 0)
                return fd;
        if (fstat(fd, ret_st) < 0)
                return -errno;
        return S_ISREG(ret_st->st_mode) ? take_fd(&fd) : -ENOENT;
}

int workspace_open_file(int fd, const char *path, int *ret_fd, struct stat *ret_st)
{
        struct stat st;
        int file = open_regular(fd, path, O_NOFOLLOW, RESOLVE_NO_SYMLINKS, &st);

        if (file < 0)
                return file;
        *ret_fd = file;
        *ret_st = st;
        return 0;
}

int workspace_open_file_following(int fd, const char *path, int *ret_fd, struct stat *ret_st)
{
        struct stat st;
        int file = open_regular(fd, path, 0, 0, &st);

        if (file < 0)
                return file;
        *ret_fd = file;
        *ret_st = st;
        return 0;
}
