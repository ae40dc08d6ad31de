/*
 * Which mounts there are, read from /proc/self/mountinfo: never a stat of the mount itself, which might hang
 * or fail.
 */
#pragma once

#include "base/buffer.h"

#define MOUNTINFO_TYPE "fuse.fsyncfs"

struct mountinfo {
        char *device; /* owned: "major:minor" */
        char *target; /* owned: the mount point, absolute */
        char *type;   /* owned: "ext4", "fuse.fsyncfs" */
        char *source; /* owned */
};

void mountinfo_release(struct mountinfo *info);

/** The mount that PATH lies in or is; PATH need not be reachable. -ENOENT or -errno. */
int mountinfo_find(const char *path, struct mountinfo *ret);

/** The first mount of DEVICE, "major:minor": its own, unless it has been unmounted there and not elsewhere. -ENOENT or -errno. */
int mountinfo_find_device(const char *device, struct mountinfo *ret);

/** Calls EACH for every mount of fsyncfs; non-zero ends it and is returned. */
int mountinfo_each_own(int (*each)(const struct mountinfo *info, void *arg), void *arg);
