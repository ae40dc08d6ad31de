/*
 * From SOURCE, DIR and options to a mounted file system and back: the command `fsyncfs mount` and the helper
 * mount.fsyncfs.
 */
#pragma once

#include <stdbool.h>

#include "fs/options.h"

/** Exit codes of mount(8). */
enum mount_exit {
        MOUNT_EXIT_OK = 0,
        MOUNT_EXIT_USAGE = 1,
        MOUNT_EXIT_SYSTEM = 2,
        MOUNT_EXIT_FAIL = 32,
};

struct mount_request {
        const char *source;
        const char *target;
        struct mount_options *options; /* taken over (emptied) */
        bool foreground;
};

/**
 * Mounts and serves. In the background (the default) the caller returns once the tree can be read, or cannot:
 * the result is the exit code, and the line that says why has been written to stderr. In the foreground it
 * returns after the unmount. May only be called before any thread was started, and once.
 */
int mount_run(const struct mount_request *request);
