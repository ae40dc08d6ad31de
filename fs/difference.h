/*
 * `fsyncfs diff` at the daemon's end: what a refresh would change, and nothing changes.
 */
#pragma once

struct filesystem;

/**
 * Asks the master, then sends FD a line of JSON for each path that is added, removed or modified, DIFFERENCES_BYTES_MAX in all, and a last one with `finished` and sums. Blocks; while the
 * master answers no sync begins.
 */
void difference_serve(struct filesystem *fs, int fd);
