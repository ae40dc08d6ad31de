/*
 * A namespace of mounts for one process, so that what it mounts goes with it.
 */
#pragma once

#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>

/** 0: this process has one from now on; -1: it may not. */
static inline int unit_own_mounts(void)
{
        return unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -1 : 0;
}
