/*
 * The folders that a master serves: one per spider, all beneath one root. Every path from a peer is opened here, by the
 * kernel's own resolution beneath a descriptor (openat2), so that neither "..", an absolute path nor a symbolic link leads out.
 * Immutable after opening; thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/util.h"

struct workspace_root;

/** Opens the folder PATH that holds the spiders' folders. Errors of open(2); -ENOMEM. */
int workspace_root_open(const char *path, struct workspace_root **ret);

/** NULL is fine. */
void workspace_root_free(struct workspace_root *root);

/** The root's absolute path; borrowed. For the full_path of stock workers and for the log, never for opening. */
const char *workspace_root_path(const struct workspace_root *root);

/** True if SPIDER is a valid name and a folder of the root. */
bool workspace_has_spider(const struct workspace_root *root, const char *spider);

/**
 * Opens folder PATH ("": all of it) of SPIDER for reading. -EINVAL or -ENAMETOOLONG: not a valid name or path; -ELOOP: a
 * symbolic link on the way; otherwise errors of open(2).
 */
int workspace_open_folder(const struct workspace_root *root, const char *spider, const char *path,
                          int *ret_fd);

/** Opens the regular file PATH beneath the folder FD. Errors as workspace_open_folder; -ENOENT if it is no regular file. */
int workspace_open_file(int fd, const char *path, int *ret_fd, struct stat *ret_st);

/** As workspace_open_file, but symbolic links are followed as long as they stay beneath FD (-EXDEV if they do not; -EAGAIN if that cannot be told). */
int workspace_open_file_following(int fd, const char *path, int *ret_fd, struct stat *ret_st);
