/*
 * Large files read by the kernel itself: when one is opened whose whole, verified content is in the store, the kernel is given the blob, and reads and maps it as
 * fast as a local file, without a page of its own. That needs every open to be asked for, which costs small files a round trip each: so a mount decides once,
 * when it begins, whether it does this (passthrough_unwanted) or answers that no open needs to ask.
 *
 * The kernel mixes no ways of reading one inode: which way it is read is decided when it is opened first, and stays until it is closed last. So a file that
 * is opened before it is whole goes through the page cache until then.
 *
 * Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/filesystem.h"

/** Smaller contents go through the page cache, into which read-ahead may have put them already (PIECE_BYTES: docs/performance.md). */
#define PASSTHROUGH_MIN_BYTES ((uint64_t)256 << 10)

struct passthrough;

/**
 * For the init operation: NULL if the kernel is to be asked for it, by option and, with `auto`, by what is known of the tree; otherwise why not (borrowed, for ever).
 */
const char *passthrough_unwanted(const struct filesystem *fs);

/**
 * Afterwards, if it was asked for and agreed: tries it with a file of the cache. 0: FS's files are to be opened by passthrough_open from now on; or a negative errno, and
 * RET_REASON.
 */
int passthrough_new(struct filesystem *fs, struct passthrough **ret, const char **ret_reason);

/** NULL is fine. After the last request. */
void passthrough_free(struct passthrough *passthrough);

/** Whether INO is open and read by the kernel itself: then nothing is to be put into its page cache. False for NULL. */
bool passthrough_has(struct passthrough *passthrough, uint64_t ino);

/** How many opens were answered so. 0 for NULL. */
uint64_t passthrough_opens(struct passthrough *passthrough);

/** The open and release operations. Without passthrough open is answered ENOSYS, and the kernel asks no more. */
void filesystem_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void filesystem_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
