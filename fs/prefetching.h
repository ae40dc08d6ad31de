/*
 * `fsyncfs prefetch` at the daemon's end: one prefetch for as long as the client's connection lasts, and a line of JSON about it five times
 * a second.
 */
#pragma once

#include <stdint.h>

struct filesystem;

/**
 * Prefetches what is at or below INO until it is all here, the peer of FD hangs up, or STOP_FD becomes readable. Blocks. Each line: total_files, total_bytes,
 * counted, files, bytes, fetched_files, fetched_bytes, failed, elapsed_seconds, finished; a failure in `error` and `errno`, in the last line.
 */
void prefetching_serve(struct filesystem *fs, uint64_t ino, int fd, int stop_fd);
