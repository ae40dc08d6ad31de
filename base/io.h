/*
 * Whole reads and writes over descriptors: short transfers and EINTR are dealt with here and nowhere else.
 */
#pragma once

#include <sys/types.h>

#include "base/buffer.h"

/** Writes all LEN bytes; 0 or a negative errno (some bytes may have been written then). */
int io_write_all(int fd, const void *data, size_t len);

/** The same at OFFSET, without moving the descriptor's own. */
int io_pwrite_all(int fd, const void *data, size_t len, off_t offset);

/** Reads up to LEN bytes at OFFSET; the count, less than LEN only at the end of the file; or a negative
 * errno. */
ssize_t io_pread_all(int fd, void *data, size_t len, off_t offset);

/** Reads all that is left of FD into RET (appended). -EFBIG beyond LIMIT bytes. */
int io_read_to_end(int fd, size_t limit, struct buffer *ret);

/** Opens PATH (relative to DIRFD) and reads it whole; errors of open(2) and io_read_to_end. */
int io_read_file(int dirfd, const char *path, size_t limit, struct buffer *ret);

/** Opens a file in folder DIR that nobody else sees, gone with its last descriptor. Errors of open(2); -ENOMEM. */
int io_open_nameless(const char *dir);

/**
 * The first line of a small file, such as a token's, without the blanks at its end. -EINVAL if nothing is left, -EFBIG beyond 64 KiB, errors of
 * open(2) and read(2).
 */
int io_read_first_line(const char *path, struct buffer *ret);

/** Makes sure that descriptors 0, 1 and 2 are taken, so that nothing opened later becomes anybody's standard output. */
void io_reserve_standard_fds(void);

/**
 * Raises the limit of open descriptors to what the process may have, at most 65,536: nothing is sized from an "unlimited". Returns the limit.
 */
unsigned io_raise_open_files(void);

/** Makes folder PATH and its missing parents with MODE; 0 also if it is there already. */
int io_mkdir_parents(const char *path, mode_t mode);
