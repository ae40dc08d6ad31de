/*
 * For LD_PRELOAD under valgrind, what its 3.19 lacks.
 *
 * It knows no openat2(2) and answers ENOSYS: the same by openat(2), a component at a time, for RESOLVE_BENEATH with or without RESOLVE_NO_SYMLINKS. Its answers are the
 * kernel's as far as the units of the master ask; that nothing leads out of a workspace is not its business but that of the runs without valgrind.
 *
 * It does not know that fcntl(F_OFD_SETLKW) may wait, and stops all other threads meanwhile, who has the lock included: asked again and again instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/fault/interpose.h"

#define LINKS_MAX 40

struct walk {
        char rest[2 * PATH_MAX]; /* what is still to be resolved */
        int fd;                  /* the folder that was reached; owned */
        unsigned depth;          /* so many below the first one */
        unsigned links;          /* followed so far */
};

/* Puts what the symbolic link FD says before what is left: a negative errno, or 0. */
static int follow(struct walk *w, int fd, const char *left)
{
        char target[PATH_MAX], rest[sizeof(w->rest)];
        ssize_t len = readlinkat(fd, "", target, sizeof(target));

        if (len < 0)
                return -errno;
        if (++w->links > LINKS_MAX)
                return -ELOOP;
        if (target[0] == '/')
                return -EXDEV;
        if (snprintf(rest, sizeof(rest), "%.*s/%s", (int)len, target, left) >= (int)sizeof(w->rest))
                return -ENAMETOOLONG;
        strcpy(w->rest, rest);
        return 0;
}

/* Resolves the next component: -EAGAIN if more follow, else the descriptor that was asked for or a negative errno. */
static int step(struct walk *w, const struct open_how *how)
{
        size_t len = strcspn(w->rest, "/");
        const char *left = w->rest + len + strspn(w->rest + len, "/");
        char name[NAME_MAX + 1];
        bool last = !left[0];
        struct stat st;
        int fd, r;

        if (len > NAME_MAX)
                return -ENAMETOOLONG;
        memcpy(name, w->rest, len);
        name[len] = '\0';
        if (strcmp(name, "..") == 0 && w->depth-- == 0)
                return -EXDEV;
        fd = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0) {
                r = -errno;
        } else if (S_ISLNK(st.st_mode)) {
                bool refused = (how->resolve & RESOLVE_NO_SYMLINKS) || (last && (how->flags & O_NOFOLLOW));

                r = refused ? -ELOOP : follow(w, fd, left);
        } else if (last) {
                r = openat(w->fd, name, (int)how->flags | O_NOFOLLOW, (mode_t)how->mode);
                r = r < 0 ? -errno : r;
                close(fd);
                return r;
        } else {
                r = 0;
                memmove(w->rest, left, strlen(left) + 1);
                w->depth += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
                close(w->fd);
                w->fd = fd;
                return -EAGAIN;
        }
        close(fd);
        return r < 0 ? r : -EAGAIN;
}

static long open_beneath(int dirfd, const char *path, const struct open_how *how)
{
        struct walk w = { .fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0) };
        int fd = -ENAMETOOLONG;

        if (w.fd < 0)
                return -1;
        if (strlen(path) < PATH_MAX) {
                strcpy(w.rest, path);
                do
                        fd = step(&w, how);
                while (fd == -EAGAIN);
        }
        close(w.fd);
        if (fd >= 0)
                return fd;
        errno = -fd;
        return -1;
}

PUBLIC long syscall(long number, ...)
{
        long a[6];

        ARGUMENTS_AFTER(number, a);
        if (number == SYS_openat2)
                return open_beneath((int)a[0], (const char *)a[1], (const struct open_how *)a[2]);
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Threads that wait so: /proc/locks does not show them. */
PUBLIC atomic_uint valgrind_shim_waits;

static int lock_waiting(int fd, void *lock)
{
        const struct timespec pause = { .tv_nsec = 1000000 };
        int r;

        while ((r = REAL(fcntl64)(fd, F_OFD_SETLK, lock)) < 0 && (errno == EAGAIN || errno == EACCES)) {
                atomic_fetch_add(&valgrind_shim_waits, 1);
                r = nanosleep(&pause, NULL);
                atomic_fetch_sub(&valgrind_shim_waits, 1);
                if (r < 0)
                        return -1; /* EINTR, as it would be */
        }
        return r;
}

PUBLIC int fcntl64(int fd, int command, ...)
{
        va_list ap;
        void *argument;

        va_start(ap, command);
        argument = va_arg(ap, void *);
        va_end(ap);
        return command == F_OFD_SETLKW ? lock_waiting(fd, argument) : REAL(fcntl64)(fd, command, argument);
}
