/*
 * A namespace of mounts for one process, so that what it mounts goes with it.
 */
#pragma once

#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* Lets go of the mounts of fsyncfs that others have: one ends when it is in no namespace any more, and a test may be waiting for that. */
static inline void unit_drop_others(void)
{
        FILE *file = setmntent("/proc/self/mounts", "re");
        struct mntent *entry;

        while (file && (entry = getmntent(file)))
                if (strcmp(entry->mnt_type, "fuse.fsyncfs") == 0)
                        umount2(entry->mnt_dir, MNT_DETACH);
        if (file)
                endmntent(file);
}

/** 0: this process has one from now on; -1: it may not. */
static inline int unit_own_mounts(void)
{
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -1;
        unit_drop_others();
        return 0;
}
