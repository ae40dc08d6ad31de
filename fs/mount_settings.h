/*
 * All that is said of a mount before it is made: the configuration file, the environment and the words after -o, in rising order.
 *
 * The file has sections: [mount] is of every mount, [mount NAME] of those whose SOURCE or DIR matches one of its keys `match`, which are patterns of fnmatch(3) (`*` is also for '/')
 * for the whole of it, or for what is before one of its '/'. Of sections that match the later one wins. Not thread-safe: read before there are threads.
 */
#pragma once

#include "fs/options.h"

struct mount_settings {
        struct settings settings;
        struct config_file file;
};

/** Which mount it is about. */
struct mount_call {
        const char *source, *target; /* NULL: none; then only [mount] counts */
        const char *list;            /* as after -o; never NULL */
        bool check;                  /* look for faults also in sections that do not match */
};

/**
 * Fills OPTIONS, which were initialized, and RET, which is to be released in any case and borrows OPTIONS. Returns how many faults there were; each was reported. May block on the disk.
 */
unsigned mount_settings_read(struct mount_options *options, const struct mount_call *call,
                             settings_report_fn report, void *arg, struct mount_settings *ret);

/** A program that is executed from here, to take the mount over, finds these settings in its environment and reads no file. -ENOMEM. */
int mount_settings_export(const struct mount_settings *settings);

/** Frees it; a zeroed one is fine too. */
void mount_settings_release(struct mount_settings *settings);
