/*
 * Where a cache folder may lie: flock(2), shared mappings and SQLite's log want a file system of this machine.
 */
#pragma once

/**
 * Says whether folder DIR, or if it is not there yet the nearest above it, is on a file system of this machine: 0; -EREMOTE with its name in RET_KIND
 * (borrowed, for ever): on one of the network, or of a FUSE daemon, of which nobody knows; negative errno.
 */
int place_check(const char *dir, const char **ret_kind);

/** The name of a file system of the network by its number in statfs(2), or NULL: one of this machine, as far as is known. ON_DEVICE: it has a block device. */
const char *place_kind(unsigned long magic, int on_device);
