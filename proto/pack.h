/*
 * Many entries in few bytes: columns of equal fields, names and paths by what they differ in from the one before, and zstd over
 * it. docs/formats.md has the exact form. A pack stands for itself: it can be read without those before it.
 *
 * Order matters for size, not for correctness: entries of the same folder one after the other, in order of their names.
 */
#pragma once

#include "base/buffer.h"
#include "base/entry.h"

#define PACK_ENTRIES_MAX 16384             /* of one pack */
#define PACK_RAW_MAX     ((size_t)4 << 20) /* bytes of one pack before compression: more is refused unread */
#define PACK_RAW_FULL    ((size_t)1 << 20) /* from here on a writer says that it is full */

struct pack_writer;

/** An empty pack. -ENOMEM. Not thread-safe. */
int pack_writer_new(struct pack_writer **ret);

/** NULL is fine. */
void pack_writer_free(struct pack_writer *writer);

/**
 * Adds a copy of ENTRY: every field of it, digests of folders included; of what is gone only the path. -ENOMEM; -EFBIG if the pack is full
 * already; -EINVAL for a content or digest by another base than those before it in the pack, a path, name, target, mode, kind or the data's length out of bounds. Failed, it has changed nothing.
 */
int pack_writer_add(struct pack_writer *writer, const struct entry *entry);

size_t pack_writer_count(const struct pack_writer *writer);

/** True if the pack holds PACK_ENTRIES_MAX entries or so many bytes that it should be finished. */
bool pack_writer_full(const struct pack_writer *writer);

/**
 * Compresses (zstd LEVEL), appends the pack to RET and is empty again. The same entries and LEVEL give the same bytes. -ENOMEM: the entries are
 * lost, RET is as it was.
 */
int pack_writer_finish(struct pack_writer *writer, int level, struct buffer *ret);

struct pack_reader;

/** Keeps what decompressing needs from one pack to the next. -ENOMEM. Not thread-safe. */
int pack_reader_new(struct pack_reader **ret);

/** NULL is fine. */
void pack_reader_free(struct pack_reader *reader);

/**
 * Calls EACH for every entry, which borrows from the reader for the call; non-zero ends it and is returned. Path and target are followed by a
 * NUL. Reads hostile bytes: -EBADMSG for what is no pack, and then some entries may have been told already; memory stays within PACK_RAW_MAX
 * and what zstd needs for as much. -ENOMEM. Whether paths and values make sense is for the callee to check; the lengths of paths, names and targets,
 * modes, kinds and algorithms are within their bounds, and data is of the file's size.
 */
int pack_read(struct pack_reader *reader, const uint8_t *data, size_t len,
              int (*each)(const struct entry *entry, void *arg), void *arg);
