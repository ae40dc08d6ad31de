#include "fs/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"
#include "fs/mountinfo.h"

#define PARENT_DIED SIGUSR1

/* Writes to the connection's switch in fusectl, which its owner may. */
static void abort_by_fusectl(const struct mountinfo *info)
{
        char path[64];
        unsigned minor;
        int fd;

        if (sscanf(info->device, "%*u:%u", &minor) != 1)
                return;
        snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, "1", 1) == 1)
                close(fd);
}

/*
 * A forced umount ends the connection first. That the mount itself must stay is what the descriptor is for: a task that finds an empty folder in
 * its place would take it for the truth; one that gets ENOTCONN does not.
 */
static void end_connection(const char *target)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        _cleanup_close_ int fd = -1;

        if (mountinfo_find(target, &info) < 0 || strcmp(info.type, MOUNTINFO_TYPE) != 0 ||
            strcmp(info.target, target) != 0)
                return;
        fd = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || (umount2(target, MNT_FORCE) < 0 && errno == EPERM))
                abort_by_fusectl(&info);
}

static void watch(const char *target, pid_t parent)
{
        sigset_t signals;
        int number;

        setsid();
        close_range(0, ~0u, 0);
        sigemptyset(&signals);
        sigaddset(&signals, PARENT_DIED);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        prctl(PR_SET_PDEATHSIG, PARENT_DIED);
        thread_name("watchdog");
        if (getppid() == parent)
                sigwait(&signals, &number);
        end_connection(target);
}

pid_t watchdog_start(const char *target)
{
        pid_t parent = getpid(), pid = fork();

        if (pid == 0) {
                watch(target, parent);
                _exit(0);
        }
        return pid < 0 ? -errno : pid;
}

void watchdog_stop(pid_t pid)
{
        if (pid <= 0)
                return;
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                continue;
}
