/*
 * LD_PRELOAD library: calls of the chosen classes, on one file system, fail, take long or never return, as the file FSYNCFS_FAULTS says
 * (tests/fault/faults.h). A disk that fails, fills up or turns read-only, where the machine has no device that can be made to. Also
 * part of programs that inject into themselves (tests/fault/countdown.c), which then say so by faults_use.
 */
#include "tests/fault/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/interpose.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *block);

static struct faults *control;
static const char *own_begin, *own_end; /* the program's text, for FAULT_OWN_MEMORY */
static _Atomic int64_t live;            /* blocks of memory that are in use */

void faults_use(struct faults *faults, const char *text_begin, const char *text_end)
{
        own_begin = text_begin;
        own_end = text_end;
        control = faults;
}

int64_t faults_live_blocks(void)
{
        return live;
}

__attribute__((constructor)) static void load(void)
{
        const char *path = getenv("FSYNCFS_FAULTS");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *map =
                fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (fd >= 0)
                close(fd);
        if (map != MAP_FAILED)
                control = map;
}

/* True: this call fails, and errno is set. */
static bool strikes(void)
{
        const uint64_t delay_us = control->delay_us;
        int64_t left;

        control->seen++;
        if (delay_us > 0)
                nanosleep(&(struct timespec){ .tv_sec = (time_t)(delay_us / 1000000),
                                              .tv_nsec = (long)(delay_us % 1000000) * 1000 },
                          NULL);
        if (control->error == 0 || control->skip-- > 0)
                return false;
        left = control->times;
        if (left == 0)
                return false;
        if (left > 0)
                control->times--;
        control->failed++;
        while (control->stuck)
                pause();
        errno = (int)control->error;
        return true;
}

bool faults_strike(enum fault_class class)
{
        return control && (control->classes & class) && strikes();
}

static bool is_meant(enum fault_class class)
{
        return control && (control->classes & class) && control->device != 0;
}

static bool fails_fd(enum fault_class class, int fd)
{
        const int saved = errno;
        struct stat st;
        bool meant = is_meant(class) && fstat(fd, &st) == 0 && st.st_dev == control->device;

        errno = saved;
        return meant && strikes();
}

/* Of the folder that PATH lies in. */
static bool fails_path(enum fault_class class, int dirfd, const char *path)
{
        const int saved = errno;
        const char *slash = strrchr(path, '/');
        char folder[4096] = ".";
        struct stat st;
        bool meant;

        if (!is_meant(class))
                return false;
        if (slash)
                snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
        meant = fstatat(dirfd, folder, &st, 0) == 0 && st.st_dev == control->device;
        errno = saved;
        return meant && strikes();
}

/* ---- bytes ---- */

#define ON_FD(type, name, class, parameters, ...)                                                            \
        PUBLIC type name parameters                                                                          \
        {                                                                                                    \
                return fails_fd(class, fd) ? (type)-1 : REAL(name)(__VA_ARGS__);                             \
        }

ON_FD(ssize_t, read, FAULT_READ, (int fd, void *data, size_t len), fd, data, len)
ON_FD(ssize_t, pread, FAULT_READ, (int fd, void *data, size_t len, off_t at), fd, data, len, at)
ON_FD(ssize_t, pread64, FAULT_READ, (int fd, void *data, size_t len, off64_t at), fd, data, len, at)
ON_FD(ssize_t, preadv2, FAULT_READ, (int fd, const struct iovec *to, int n, off_t at, int flags), fd, to, n,
      at, flags)
ON_FD(ssize_t, preadv64v2, FAULT_READ, (int fd, const struct iovec *to, int n, off64_t at, int flags), fd, to,
      n, at, flags)
ON_FD(ssize_t, write, FAULT_WRITE, (int fd, const void *data, size_t len), fd, data, len)
ON_FD(ssize_t, pwrite, FAULT_WRITE, (int fd, const void *data, size_t len, off_t at), fd, data, len, at)
ON_FD(ssize_t, pwrite64, FAULT_WRITE, (int fd, const void *data, size_t len, off64_t at), fd, data, len, at)
ON_FD(int, fchmod, FAULT_WRITE, (int fd, mode_t mode), fd, mode)
ON_FD(int, futimens, FAULT_WRITE, (int fd, const struct timespec times[2]), fd, times)
ON_FD(int, fsync, FAULT_SYNC, (int fd), fd)
ON_FD(int, fdatasync, FAULT_SYNC, (int fd), fd)
ON_FD(int, ftruncate, FAULT_LENGTH, (int fd, off_t len), fd, len)
ON_FD(int, ftruncate64, FAULT_LENGTH, (int fd, off64_t len), fd, len)
ON_FD(int, fallocate, FAULT_LENGTH, (int fd, int mode, off_t at, off_t len), fd, mode, at, len)
ON_FD(int, fallocate64, FAULT_LENGTH, (int fd, int mode, off64_t at, off64_t len), fd, mode, at, len)

PUBLIC int posix_fallocate(int fd, off_t at, off_t len)
{
        return fails_fd(FAULT_LENGTH, fd) ? errno : REAL(posix_fallocate)(fd, at, len);
}

PUBLIC int posix_fallocate64(int fd, off64_t at, off64_t len)
{
        return fails_fd(FAULT_LENGTH, fd) ? errno : REAL(posix_fallocate64)(fd, at, len);
}

PUBLIC void *mmap(void *where, size_t len, int protection, int flags, int fd, off_t at)
{
        return fd >= 0 && fails_fd(FAULT_MAP, fd) ? MAP_FAILED
                                                  : REAL(mmap)(where, len, protection, flags, fd, at);
}

PUBLIC void *mmap64(void *where, size_t len, int protection, int flags, int fd, off64_t at)
{
        return fd >= 0 && fails_fd(FAULT_MAP, fd) ? MAP_FAILED
                                                  : REAL(mmap64)(where, len, protection, flags, fd, at);
}

/* ---- names ---- */

#define ON_OPEN(name, dirfd, parameters, ...)                                                                \
        PUBLIC int name parameters                                                                           \
        {                                                                                                    \
                enum fault_class class =                                                                     \
                        flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? FAULT_MAKE : FAULT_OPEN;           \
                mode_t mode = MODE_AFTER(flags);                                                             \
                return fails_path(class, dirfd, path) ? -1 : REAL(name)(__VA_ARGS__, mode);                  \
        }

ON_OPEN(open, AT_FDCWD, (const char *path, int flags, ...), path, flags)
ON_OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags)
ON_OPEN(openat, dirfd, (int dirfd, const char *path, int flags, ...), dirfd, path, flags)
ON_OPEN(openat64, dirfd, (int dirfd, const char *path, int flags, ...), dirfd, path, flags)

PUBLIC int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
        return fails_path(FAULT_NAMES, to_fd, to) ? -1 : REAL(renameat)(from_fd, from, to_fd, to);
}

PUBLIC int unlinkat(int dirfd, const char *path, int flags)
{
        return fails_path(FAULT_NAMES, dirfd, path) ? -1 : REAL(unlinkat)(dirfd, path, flags);
}

PUBLIC int mkdirat(int dirfd, const char *path, mode_t mode)
{
        return fails_path(FAULT_NAMES, dirfd, path) ? -1 : REAL(mkdirat)(dirfd, path, mode);
}

PUBLIC int unlink(const char *path)
{
        return fails_path(FAULT_NAMES, AT_FDCWD, path) ? -1 : REAL(unlink)(path);
}

PUBLIC int mkdir(const char *path, mode_t mode)
{
        return fails_path(FAULT_NAMES, AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}

/* ---- memory ---- */

#ifndef FAULTS_NO_MEMORY

static bool fails_memory(const void *caller)
{
        const char *from = caller;

        if (!control)
                return false;
        if (control->classes & FAULT_MEMORY)
                return strikes();
        return (control->classes & FAULT_OWN_MEMORY) && from >= own_begin && from < own_end && strikes();
}

static void *counted(void *block)
{
        live += block != NULL;
        return block;
}

#define FAILS_MEMORY fails_memory(__builtin_return_address(0))

PUBLIC void *malloc(size_t size)
{
        return FAILS_MEMORY ? NULL : counted(__libc_malloc(size));
}

PUBLIC void *calloc(size_t n, size_t size)
{
        return FAILS_MEMORY ? NULL : counted(__libc_calloc(n, size));
}

PUBLIC void *realloc(void *old, size_t size)
{
        void *block;

        if (FAILS_MEMORY)
                return NULL;
        block = __libc_realloc(old, size);
        return old ? block : counted(block);
}

PUBLIC void free(void *block)
{
        live -= block != NULL;
        __libc_free(block);
}

#endif
