#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/control.h"
#include "fs/mountinfo.h"

#define FUSECTL "/sys/fs/fuse/connections/"

/* Unmounts with FLAGS of umount2(2) if that is allowed; a user has fusermount3 detach it. Negative errno. */
static int detach(const char *target, int flags)
{
        if (umount2(target, flags) == 0)
                return 0;
        if (errno == EPERM) {
                pid_t pid = fork();
                int status;
                if (pid == 0) {
                        execlp("fusermount3", "fusermount3", "-u", "-z", "--", target, (char *)NULL);
                        _exit(127);
                }
                if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
                    WEXITSTATUS(status) == 0)
                        return 0;
                return -EPERM;
        }
        return -errno;
}

/* A mount whose daemon died answers ENOTCONN to everything until it is unmounted. */
static int clean_dead_mount(const char *target, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        int r = mountinfo_find(target, &info);

        if (r < 0 || strcmp(info.type, MOUNTINFO_TYPE) != 0)
                return failure_set(failure, -ENOTCONN,
                                   "mount point '%s' belongs to a dead mount of another file system (%s): "
                                   "umount it first",
                                   target, r < 0 ? "unknown" : info.type);
        r = detach(info.target, MNT_DETACH);
        if (r < 0)
                return failure_set(failure, r,
                                   "mount point '%s' holds a dead mount of '%s' that cannot be unmounted: %s",
                                   target, info.source, strerror(-r));
        log_info("'%s' held a dead mount of '%s': unmounted it", target, info.source);
        return 0;
}

static int check_not_mounted(const char *target, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };

        if (mountinfo_find(target, &info) < 0 || strcmp(info.target, target) != 0 ||
            strcmp(info.type, MOUNTINFO_TYPE) != 0)
                return 0;
        return failure_set(failure, -EBUSY, "mount point '%s' is busy: '%s' is mounted there already", target,
                           info.source);
}

/* A mount whose daemon was killed goes on answering from the kernel's caches: stat alone does not tell. statfs does, but would
 * wait for a daemon that is alive and busy, so the control socket is asked first. */
static bool is_dead_mount(const char *target)
{
        struct failure unused = { 0 };
        struct statfs fs_st;
        struct stat st;
        json_t *reply;
        int r;

        if (stat(target, &st) < 0)
                return errno == ENOTCONN;
        r = control_ask(target, "version", &reply, &unused);
        if (r == 0)
                json_decref(reply);
        return (r == -ECONNREFUSED || r == -ENOENT) && statfs(target, &fs_st) < 0 && errno == ENOTCONN;
}

int mountpoint_check(const char *target, char **ret, struct failure *failure)
{
        _cleanup_free_ char *absolute = NULL;
        struct stat st;
        int r;

        if (is_dead_mount(target)) {
                r = clean_dead_mount(target, failure);
                if (r < 0)
                        return r;
        }
        if (stat(target, &st) < 0)
                return failure_set(failure, -errno, "mount point '%s': %s%s", target, strerror(errno),
                                   errno == ENOENT ? "; make the folder first" : "");
        if (!S_ISDIR(st.st_mode))
                return failure_set(failure, -ENOTDIR, "mount point '%s' is not a folder", target);
        absolute = realpath(target, NULL);
        if (!absolute)
                return -errno;
        r = check_not_mounted(absolute, failure);
        if (r == 0)
                *ret = TAKE_PTR(absolute);
        return r;
}

/* ---- its end ---- */

/* The mount of DEVICE, if its path leads to it: -EBUSY if another one lies over it. */
static int find_on_top(const char *device, struct mountinfo *ret)
{
        _cleanup_(mountinfo_release) struct mountinfo top = { 0 };
        struct mountinfo info = { 0 };
        int r = mountinfo_find_device(device, &info);

        if (r < 0)
                return r;
        r = mountinfo_find(info.target, &top);
        if (r == 0 && strcmp(top.device, device) != 0)
                r = -EBUSY;
        if (r == 0)
                *ret = info;
        else
                mountinfo_release(&info);
        return r;
}

/* A fusectl of our own, at no path, where the machine has none at its place: root may. */
static int open_fusectl(void)
{
        _cleanup_close_ int context = fsopen("fusectl", FSOPEN_CLOEXEC);

        if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -1;
        return fsmount(context, FSMOUNT_CLOEXEC, 0);
}

/* Writes to the connection's switch in fusectl, which its owner may. DEVICE is mounted: otherwise its number might be another connection's by now. */
static void abort_by_fusectl(const char *device)
{
        _cleanup_close_ int fd = -1, own = -1;
        char path[64];
        unsigned minor;

        if (sscanf(device, "%*u:%u", &minor) != 1)
                return;
        snprintf(path, sizeof(path), FUSECTL "%u/abort", minor);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 && (own = open_fusectl()) >= 0)
                fd = openat(own, path + strlen(FUSECTL), O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "1", 1) != 1)
                log_warning("cannot end the connection of the mount on device %s: %s", device,
                            strerror(errno));
}

void mountpoint_end(const char *device)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        int r = find_on_top(device, &info);

        if (r == 0)
                (void)detach(info.target, MNT_FORCE | MNT_DETACH);
        else if (r == -EBUSY)
                abort_by_fusectl(device);
}

/*
 * A forced umount ends the connection first. That the mount itself must stay is what the descriptor is for: a task that finds an empty folder in
 * its place would take it for the truth; one that gets ENOTCONN does not.
 */
void mountpoint_end_connection(const char *device)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        _cleanup_close_ int fd = -1;
        int r = find_on_top(device, &info);

        if (r == 0)
                fd = open(info.target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 && umount2(info.target, MNT_FORCE) < 0)
                r = -errno;
        if (r == -EBUSY || r == -EPERM)
                abort_by_fusectl(device);
}
