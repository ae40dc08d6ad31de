/*
 * A file mapped for sharing with other processes that outlives its truncation. A page that is gone would be a SIGBUS; here the mapping turns into
 * zeros of this process alone, and the program goes on. For a file of counts that can be made again, and small.
 *
 * The handler is the process's: installed with a map, it hands every other SIGBUS to what was there before.
 */
#pragma once

#include <stddef.h>

/** Maps LEN bytes of FD for reading and writing; FD -1: memory that nobody shares. -ENOMEM, errors of mmap(2). */
int guarded_map(int fd, size_t len, void **ret);

/** NULL is fine. */
void guarded_unmap(void *map, size_t len);
