/*
 * What an open file of a workspace holds, as far as it is known without reading it. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "server/versions.h"

/** True if the last pass over SPIDER saw file PATH as ST, its stamp, says, and what it read then still counts (T2 of the tree): RET names it by ALGORITHM. */
bool content_known(struct versions *versions, const char *spider, const char *path, const struct stat *st,
                   enum hash_algorithm algorithm, struct content_id *ret);

/**
 * File PATH does not hold WANTED (any more). If the tree says that it does, nobody told it: a watcher does not see writes through a mapping, and a stamp does not
 * show all of them. Then the next pass reads the file, whatever stamps and watcher say: before whoever wanted it gets the same listing again.
 */
void content_missed(struct versions *versions, const char *spider, const char *path,
                    const struct content_id *wanted);

/** True if the open file FD still has the stamp of ST. */
bool content_unchanged(int fd, const struct stat *st);
