/*
 * What fs/mount*.c share: a mount's parts are brought up and taken down in fs/mount.c, libfuse and the kernel in fs/mount_fuse.c, in the process that fs/mount_run.c starts.
 */
#pragma once

#include "base/failure.h"
#include "fs/channel.h"
#include "fs/filesystem.h"
#include "fs/takeover.h"

/**
 * All of FS, mounted on TARGET (or taken over) and ready to answer; blocks for the first version. Negative errno, with a line in FAILURE: what was brought up is then
 * mount_take_down's, or ends with the process.
 */
int mount_bring_up(struct filesystem *fs, const char *target, struct failure *failure);

/** Ends the mount and frees all of FS, also of one that came up in part. */
void mount_take_down(struct filesystem *fs);

/** FS's session. Negative errno, with a line in FAILURE; so the next two. */
int mount_fuse_open(struct filesystem *fs, struct failure *failure);

/** Mounts it on FS's target, unless it takes over. */
int mount_fuse_mount(struct filesystem *fs, struct failure *failure);

/** Has INIT answered and settles what the kernel is used for. Requests come after it, from the session's loop. */
int mount_fuse_greet(struct filesystem *fs, struct failure *failure);
