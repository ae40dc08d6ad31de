/*
 * What an open file of a workspace holds, as far as it is known without reading it. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "server/versions.h"

/** True if the last pass over SPIDER saw file PATH as ST, its stamp, says, and what it read then still counts (T2 of the tree): RET names it, by MD5 if that is
 * ALGORITHM, and otherwise as the tree does. */
bool content_known(struct versions *versions, const char *spider, const char *path, const struct stat *st,
                   enum hash_algorithm algorithm, struct content_id *ret);

/** True if it is known so that file PATH holds another content by the base of WANTED: RET names that. */
bool content_known_other(struct versions *versions, const char *spider, const char *path,
                         const struct stat *st, const struct content_id *wanted, struct content_id *ret);

/**
 * File PATH does not hold WANTED (any more). If the tree says that it does, nobody told it: a watcher does not see writes through a mapping, and a stamp does not
 * show all of them. Then the next pass reads the file, whatever stamps and watcher say: before whoever wanted it gets the same listing again.
 */
void content_missed(struct versions *versions, const char *spider, const char *path,
                    const struct content_id *wanted);

/** A run of bytes that is verified by itself: a piece of a large content, or all of a small one. */
struct content_piece {
        uint64_t begin;
        size_t len;
};

/** The piece of a content of SIZE bytes that OFFSET, at most SIZE, lies in, or that ends there. */
struct content_piece content_piece_at(uint64_t size, uint64_t offset);

/** The hash that PIECE of content ID must have, borrowed from ID or from LIST: the hashes of its pieces, proved; of a small one not needed. */
const uint8_t *content_piece_hash(const struct content_id *id, const struct buffer *list,
                                  const struct content_piece *piece);

/** Reads PIECE from the open file FD into BUF. -ESTALE: the file is too short for it; errors of read(2). */
int content_read_unproved(int fd, const struct content_piece *piece, uint8_t *buf);

/**
 * Both: reads PIECE of content ID, with its LIST, and verifies it. 0; -ESTALE: the file holds something else there; errors of read(2).
 */
int content_read_piece(int fd, const struct content_id *id, const struct buffer *list,
                       const struct content_piece *piece, uint8_t *buf);

/** True if the open file FD still has the stamp of ST. */
bool content_unchanged(int fd, const struct stat *st);
