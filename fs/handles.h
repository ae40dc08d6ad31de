/*
 * The handles of files that are open and whose way of being read is decided (fs/passthrough.h), in memory that outlives the daemon: the next one must read an open file as it
 * was read before. A handle's number is used once only, so that a close that comes twice, because its answer was lost with a daemon, closes once.
 *
 * Not thread-safe: under the caller's lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct handles;

struct handle {
        uint64_t ino;
        uint64_t unique;    /* of the request that opened it */
        int32_t backing_id; /* 0: none, it is read through the page cache */
};

/** FD is a file in memory, borrowed: empty, or as another process left it when it died. -ENOMEM, -EIO. */
int handles_new(int fd, struct handles **ret);

/** The file stays as it is. NULL is fine. */
void handles_free(struct handles *handles);

/** Adds HANDLE: its number, which is never 0. -ENFILE: there are too many; -ENOMEM. */
int handles_add(struct handles *handles, const struct handle *handle, uint64_t *ret_number);

/** Removes the handle NUMBER, and returns it in RET. False: it was removed before. */
bool handles_remove(struct handles *handles, uint64_t number, struct handle *ret);

/** The handle that the request UNIQUE opened. A search through all: for requests that come again. */
bool handles_find(struct handles *handles, uint64_t unique, uint64_t *ret_number, struct handle *ret);

/** Calls EACH for every handle; a negative errno of it ends it, and is returned. */
int handles_each(struct handles *handles, int (*each)(const struct handle *handle, void *arg), void *arg);
