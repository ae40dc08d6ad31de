/*
 * The mount's figures for Prometheus, in a file that node_exporter's textfile collector reads (mount option metrics=FILE): written anew every 15
 * seconds, whole at any moment, and gone with the mount. One thread.
 */
#pragma once

struct filesystem;
struct metrics;

/** Starts the thread. FILE is borrowed. -ENOMEM, -EAGAIN. */
int metrics_new(struct filesystem *fs, const char *file, struct metrics **ret);

/** Ends it, and removes the file. NULL is fine. */
void metrics_free(struct metrics *metrics);

/** Removes FILE, for a daemon that did not come to do it. */
void metrics_remove(const char *file);
