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

/**
 * Unmounts our mount of DEVICE, "major:minor", if it is still there, and ends the connection. A path would not do: another mount may lie over ours by now, or ours may have
 * been moved. Where the path does not lead to it only the connection is ended.
 */
void mountpoint_end(const char *device);

/** Ends the connection likewise, and lets the mount stand: whoever uses it gets ENOTCONN. */
void mountpoint_end_connection(const char *device);
