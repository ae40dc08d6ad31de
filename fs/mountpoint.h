/*
 * The folder that is mounted on: whether it can be, and how a mount on it is ended from outside, by its daemon or its keeper.
 */
#pragma once

#include "base/failure.h"

/**
 * TARGET is to be mounted on: unmounts a dead mount of ours that it holds, and sees that it is a folder, and no mount of ours. RET: its absolute path, the caller's to free.
 * Negative errno, with a line in FAILURE.
 */
int mountpoint_check(const char *target, char **ret, struct failure *failure);

/** Unmounts with FLAGS of umount2(2) if that is allowed; a user has fusermount3 detach it. Negative errno. */
int mountpoint_detach(const char *target, int flags);

/** Ends the kernel's connection of our mount at TARGET (absolute), and lets the mount stand: whoever uses it gets ENOTCONN. */
void mountpoint_end_connection(const char *target);
