/*
 * The folder of all catalogs within a cache folder, as it looks from beside the mounts. Its layout is told in cache/catalog.h.
 */
#pragma once

/**
 * Calls EACH with the path of every file of every source in cache folder DIR that PATTERN (fnmatch(3)) fits, in order; non-zero ends it and is returned. Negative errno; that there
 * is no such folder is 0.
 */
int catalog_folder_each(const char *dir, const char *pattern, int (*each)(const char *path, void *arg),
                        void *arg);

/** Takes the lock of the slot of the database at PATH, for as long as RET_FD, the caller's, is open. Negative errno; -EWOULDBLOCK: a mount has it. */
int catalog_folder_lock(const char *path, int *ret_fd);

/** Calls EACH with the path of each file that the database at PATH may consist of, the one at PATH last; non-zero ends it and is returned. -ENOMEM. */
int catalog_folder_each_part(const char *path, int (*each)(const char *path, void *arg), void *arg);

/** Removes the database at PATH; its slot's lock is held. Negative errno. */
int catalog_folder_remove(const char *path);
