/*
 * What the units of the store share: its folders, the names of blobs, and the check of a blob's bytes.
 */
#pragma once

#include <sys/stat.h>

#include "base/lock.h"
#include "cache/store.h"

#define STORE_ALGORITHMS 3 /* slots by enum hash_algorithm; that of HASH_NONE stays empty */

struct store_waiter {
        pthread_t thread;
        struct store_waiter *next;
};

struct store {
        int dir_fd;
        int partial_fd;
        int quarantine_fd;
        int blob_fds[STORE_ALGORITHMS];
        struct timespec stamp; /* S3: the mtime of blobs verified in this boot */
        struct mutex mutex;
        struct condition waiter_left;
        struct store_waiter *waiters TSA_GUARDED(mutex); /* threads blocked in flock(2) */
        bool interrupted TSA_GUARDED(mutex);
};

#define STORE_BLOB_PATH_MAX (2 * HASH_BYTES + 2)
#define STORE_NAME_MAX      HASH_TEXT_MAX

/** "<2 hex>/<30 hex>", relative to the algorithm's folder. */
void store_blob_path(const struct content_id *id, char path[STORE_BLOB_PATH_MAX]);

/** "<algorithm>-<32 hex>": the name within partial/ and quarantine/. */
void store_flat_name(const struct content_id *id, char name[STORE_NAME_MAX]);

/** The folder of the algorithm's blobs, or -EINVAL for an id that names no content. */
int store_blob_dir(struct store *store, const struct content_id *id);

/** flock(2) that goes on after signals. */
int store_flock(int fd, int operation);

/** Whether NAME in folder DIRFD is still the file open as FD. */
bool store_is_current(int fd, int dirfd, const char *name);

/**
 * Reads all of FD, the blob ID, and compares: STORE_OK (and stamped), or STORE_MISS: it was wrong or unreadable and is in
 * quarantine now (S5, logged); negative errno: could not be checked.
 */
int store_check_blob(struct store *store, const struct content_id *id, int fd);

/** Unblocks the waiting threads' signal; once per process. */
int store_wait_setup(void);
