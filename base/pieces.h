/*
 * Large contents by pieces. A content of more than PIECE_BYTES is named by the list of its pieces' hashes, so that whoever has proved the
 * list against the name can verify each piece by itself: serve it before the others are here, fetch it from anywhere, and take it over
 * from an older version of the file that has the same one. Pure arithmetic and hashing; docs/formats.md has the exact bytes.
 */
#pragma once

#include "base/hash.h"

#define PIECE_BYTES ((uint64_t)256 * 1024) /* of every piece but the last; a format: never to change */

/** How a master of ours whose trees are hashed by BASE names a content of SIZE bytes: by BASE itself up to PIECE_BYTES, by its pieces beyond. */
enum hash_algorithm content_algorithm(enum hash_algorithm base, uint64_t size);

/** How many pieces a content of SIZE bytes has. */
static inline uint64_t pieces_count(uint64_t size)
{
        return size / PIECE_BYTES + (size % PIECE_BYTES != 0);
}

/** The bytes of piece INDEX, which exists, of a content of SIZE bytes. */
static inline size_t piece_len(uint64_t size, uint64_t index)
{
        return (size_t)MIN(size - index * PIECE_BYTES, PIECE_BYTES);
}

/** True if LIST (LEN bytes) is the list of the pieces' hashes of content ID, of SIZE bytes. */
bool pieces_prove(const struct content_id *id, uint64_t size, const uint8_t *list, size_t len);

/** Names the content of SIZE bytes whose list, by ALGORITHM (one by pieces), this is. */
void pieces_name(enum hash_algorithm algorithm, uint64_t size, const uint8_t *list, size_t len,
                 struct content_id *ret_id);
