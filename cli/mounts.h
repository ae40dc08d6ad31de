/*
 * The mounts of fsyncfs that a command without DIR means: all that are there.
 */
#pragma once

#include <stddef.h>

#include "fs/mountinfo.h"

#define MOUNTS_MAX 256

struct mounts {
        char *targets[MOUNTS_MAX]; /* owned */
        size_t n;
};

/** DIR alone, as it was typed, or, if it is NULL, all. Negative errno, and standard error says so. */
int mounts_get(const char *dir, struct mounts *ret);

/** mountinfo_each_own, and what fails is said on standard error. */
int mounts_each(int (*each)(const struct mountinfo *info, void *arg), void *arg);

/** As mounts_get. 0; 1: that failed, or there are none, which is said, too. */
int mounts_need(const char *dir, struct mounts *ret);

void mounts_release(struct mounts *mounts);
