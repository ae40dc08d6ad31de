/*
 * The way from the root to the folder that an update worked in last. Entries mostly come folder by folder: what is on the way
 * already needs no lookup, whatever the order.
 * Not thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"

struct trail_step {
        size_t path_len; /* of the folder's path within trail.path */
        uint64_t ino;
        bool whole; /* for the user; false at first */
};

struct trail {
        struct buffer path;
        struct trail_step *steps; /* owned; the root comes first */
        size_t depth;             /* steps below the root */
        size_t capacity;
};

/** Stands at the root, folder INO. -ENOMEM. */
int trail_init(struct trail *trail, uint64_t ino);

void trail_release(struct trail *trail);

/** The folder at which it stands. */
const struct trail_step *trail_top(const struct trail *trail);

/** Goes up to the lowest folder on the way that is PATH or above it. */
void trail_go_up(struct trail *trail, const char *path, size_t len);

/** Goes down to folder NAME, number INO. -ENOMEM. */
int trail_go_down(struct trail *trail, const char *name, size_t name_len, uint64_t ino);

/** Marks the folder at which it stands as whole. */
void trail_set_whole(struct trail *trail);
