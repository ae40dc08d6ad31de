#include "fs/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "fs/progress.h"
#include "fs/takeover.h"

#define KEEPER_VARIABLE  "FSYNCFS_KEEPER" /* "SOCKET,LIFELINE": descriptors, for the program of child_exec */
#define ARGUMENTS_MAX    ((size_t)1 << 20)
#define OOM_SCORE_ADJUST "-900"
#define PULSE_SEC        1

static void drop(int *fd)
{
        int old = take_fd(fd);

        cleanup_close(&old);
}

/* ---- how its death shows ---- */

struct lifeline {
        int fd;
        bool alone; /* it is closed everywhere but in the thread */
        sem_t begun;
};

/* For ever: tells the keeper of work that gets old, at every look, as it may get on any time. A keeper that is behind needs no more of them. */
static void beat(int fd)
{
        const struct timespec pulse = { .tv_sec = PULSE_SEC };
        struct progress_report report;

        for (;;) {
                nanosleep(&pulse, NULL);
                progress_look(&report);
                if (report.thread && write(fd, &report, sizeof(report)) < 0)
                        continue;
        }
}

/*
 * The daemon's death shows at the far end of a pipe, whose near end only this thread has open, in a table of descriptors of its own. It sleeps where any signal reaches it, so that
 * it dies with the process at once, whatever the other threads are stuck in. So it is also the one to see whether they are.
 */
static void *lifeline_main(void *arg)
{
        struct lifeline *lifeline = arg;
        int fd = lifeline->fd;

        thread_name("lifeline");
        lifeline->alone = close_range((unsigned)fd + 1, ~0u, CLOSE_RANGE_UNSHARE) == 0;
        if (lifeline->alone && fd > 0)
                close_range(0, (unsigned)fd - 1, 0);
        sem_post(&lifeline->begun);
        beat(fd);
        return NULL;
}

/* Without it (an old kernel, no memory) a death shows when the last thread is gone. */
static void start_lifeline(int fd)
{
        struct lifeline lifeline = { .fd = fd };
        sigset_t all, before;
        pthread_t thread;
        int r;

        sem_init(&lifeline.begun, 0, 0);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&thread, NULL, lifeline_main, &lifeline);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r == 0) {
                pthread_detach(thread);
                while (sem_wait(&lifeline.begun) < 0)
                        continue;
        }
        sem_destroy(&lifeline.begun);
        if (lifeline.alone)
                close(fd);
}

/* ---- the start ---- */

/* Both ends of what a keeper and a daemon share. */
struct link {
        struct child ours;
        int socket_fd, lifeline_fd; /* the daemon's */
};

static int make_link(struct link *ret)
{
        int sockets[2], line[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        if (pipe2(line, O_CLOEXEC | O_NONBLOCK) < 0) {
                int r = -errno;
                close(sockets[0]);
                close(sockets[1]);
                return r;
        }
        *ret = (struct link){ .ours = { .socket_fd = sockets[0], .lifeline_fd = line[0] },
                              .socket_fd = sockets[1],
                              .lifeline_fd = line[1] };
        return 0;
}

/* The keeper's half, once the daemon has its own. */
static int keep_ours(struct link *link, pid_t pid, struct child *ret)
{
        int r = pid < 0 ? -errno : 0;

        close(link->socket_fd);
        close(link->lifeline_fd);
        link->ours.pid = pid;
        if (r < 0)
                child_release(&link->ours);
        else
                *ret = link->ours;
        return r;
}

static char own_oom_score[16]; /* this process's, before child_protect_keeper; empty: it is as it was */

/* Root may say so. */
static void set_oom_score(const char *score)
{
        _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, score, strlen(score)) < 0)
                log_debug("cannot set oom_score_adj: %s", strerror(errno));
}

void child_protect_keeper(void)
{
        _cleanup_buffer_ struct buffer before = { 0 };

        if (io_read_file(-1, "/proc/self/oom_score_adj", sizeof(own_oom_score) - 1, &before) < 0)
                return;
        snprintf(own_oom_score, sizeof(own_oom_score), "%s", before.data);
        set_oom_score(OOM_SCORE_ADJUST);
}

/* In the child: what the keeper changed for itself. */
static void be_as_before(void)
{
        sigset_t none;

        if (own_oom_score[0])
                set_oom_score(own_oom_score);

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

int child_fork(const struct child_life *life, struct child *ret)
{
        struct link link = { 0 };
        int r = make_link(&link);
        pid_t pid;

        if (r < 0)
                return r;
        pid = fork();
        if (pid == 0) {
                child_release(&link.ours);
                life->takeover->keeper_fd = link.socket_fd;
                be_as_before();
                prctl(PR_SET_NAME, program_invocation_short_name);
                start_lifeline(link.lifeline_fd);
                exit(life->run(life->takeover, life->arg));
        }
        return keep_ours(&link, pid, ret);
}

/* The arguments of this process, as it was started with them: owned, with the strings behind them. */
static char **copy_arguments(void)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        size_t n = 0, i = 0;
        char **list;

        if (io_read_file(-1, "/proc/self/cmdline", ARGUMENTS_MAX, &text) < 0)
                return NULL;
        for (size_t at = 0; at < text.len; at++)
                n += text.data[at] == '\0';
        list = malloc((n + 1) * sizeof(*list) + text.len);
        if (!list)
                return NULL;
        memcpy(list + n + 1, text.data, text.len);
        for (char *at = (char *)(list + n + 1); i < n; at += strlen(at) + 1)
                list[i++] = at;
        list[n] = NULL;
        return list;
}

static void keep_open(int fd)
{
        fcntl(fd, F_SETFD, 0);
}

int child_exec(int binary_fd, const char *folder, struct child *ret)
{
        _cleanup_free_ char **arguments = copy_arguments();
        struct link link = { 0 };
        int r = arguments ? make_link(&link) : -ENOMEM;
        char numbers[32];
        pid_t pid;

        if (r < 0)
                return r;
        snprintf(numbers, sizeof(numbers), "%d,%d", link.socket_fd, link.lifeline_fd);
        pid = fork();
        if (pid == 0) {
                be_as_before();
                keep_open(link.socket_fd);
                keep_open(link.lifeline_fd);
                if (chdir(folder) == 0 && setenv(KEEPER_VARIABLE, numbers, 1) == 0)
                        fexecve(binary_fd, arguments, environ);
                _exit(127);
        }
        return keep_ours(&link, pid, ret);
}

/* The environment may be somebody else's than this process's owner's: a keeper is one who made the socket as that owner. */
static bool is_keeper(int socket_fd)
{
        struct ucred peer;
        socklen_t len = sizeof(peer);

        return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

int child_adopt(struct takeover *takeover)
{
        const char *numbers = secure_getenv(KEEPER_VARIABLE);
        struct takeover word = TAKEOVER_NONE;
        int socket_fd, lifeline_fd, r;

        if (!numbers || sscanf(numbers, "%d,%d", &socket_fd, &lifeline_fd) != 2 || !is_keeper(socket_fd))
                return 0;
        unsetenv(KEEPER_VARIABLE);
        if (fcntl(socket_fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(lifeline_fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        prctl(PR_SET_NAME, program_invocation_short_name);
        start_lifeline(lifeline_fd);
        word.keeper_fd = socket_fd;
        r = takeover_tell(&word, TAKEOVER_ABLE);
        if (r == 0)
                r = takeover_receive(takeover, socket_fd);
        return r < 0 ? r : 1;
}

/* ---- the end ---- */

bool child_reap(struct child *child, int timeout_ms, int *ret_status)
{
        const int64_t until_ns = clock_monotonic_ns() + timeout_ms * NSEC_PER_MSEC;
        int pause_ms = 1;
        pid_t pid;

        while (child->pid > 0) {
                while ((pid = waitpid(-1, ret_status, timeout_ms < 0 ? 0 : WNOHANG)) > 0)
                        if (pid == child->pid) {
                                child->pid = 0;
                                return true;
                        }
                if ((pid < 0 && errno != EINTR) || (timeout_ms >= 0 && clock_monotonic_ns() >= until_ns))
                        return false;
                poll(NULL, 0, pause_ms);
                pause_ms = MIN(2 * pause_ms, 20);
        }
        return false;
}

void child_release(struct child *child)
{
        drop(&child->socket_fd);
        drop(&child->lifeline_fd);
        child->pid = 0;
}
