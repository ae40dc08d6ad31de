/*
 * Contents and their names: hash algorithms, content ids, and a streaming hasher over xxHash (XXH3-128) and
 * libcrypto (MD5). xxHash detects damage, not malice; see docs/security.md.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

/** On the wire and on disk by these numbers; never renumber. */
enum hash_algorithm {
        HASH_NONE = 0, /* no content: folders, symlinks, and files whose hash is not known */
        HASH_XXH3 = 1, /* XXH3-128, canonical (big-endian) byte order */
        HASH_MD5 = 2,  /* what stock masters send */
        HASH_XXH3_PIECES =
                3, /* XXH3-128 of the XXH3-128s of all pieces, one after the other: base/pieces.h */
};

#define HASH_BYTES    16
#define HASH_TEXT_MAX 48 /* "xxh3p:" + 32 hex digits + NUL, with room */

/** The name of a content: plain data, compared with content_id_equal. */
struct content_id {
        enum hash_algorithm algorithm;
        uint8_t bytes[HASH_BYTES];
};

bool content_id_equal(const struct content_id *a, const struct content_id *b);

/** "xxh3", "md5", "xxh3p" (by pieces) or "none"; never NULL. */
const char *hash_algorithm_name(enum hash_algorithm algorithm);

/** Writes "xxh3:<32 hex>" ("none" for HASH_NONE) and returns BUF. */
const char *content_id_format(const struct content_id *id, char buf[HASH_TEXT_MAX]);

/** Reads what content_id_format writes; -EINVAL for anything else. */
int content_id_parse(const char *text, struct content_id *ret_id);

/** LEN bytes as lower-case hex and a NUL; OUT holds 2 * LEN + 1. */
void hex_encode(const uint8_t *data, size_t len, char *out);

/** Exactly 2 * LEN hex digits of either case from TEXT; -EINVAL otherwise. */
int hex_decode(const char *text, size_t text_len, uint8_t *out, size_t len);

struct hasher;

/** A hasher ready for its first bytes; -EINVAL for an algorithm that hashes nothing, -ENOMEM. */
int hasher_new(enum hash_algorithm algorithm, struct hasher **ret);

/** NULL is fine. */
void hasher_free(struct hasher *h);

/** Starts over, for the next content. */
void hasher_reset(struct hasher *h);

void hasher_update(struct hasher *h, const void *data, size_t len);

/** The content id of all bytes since the start; the hasher must be reset before it is used again. */
void hasher_final(struct hasher *h, struct content_id *ret_id);

/**
 * After hasher_final of HASH_XXH3_PIECES: the list of the pieces' hashes, HASH_BYTES each, borrowed until the next reset or free.
 * For any other algorithm nothing, *RET_LEN 0. -ENOMEM: it could not be kept, and what hasher_final returned names nothing.
 */
int hasher_get_pieces(const struct hasher *h, const uint8_t **ret_list, size_t *ret_len);

/** The XXH3-128 of one run of bytes, canonical order. */
void hash_xxh3(const void *data, size_t len, uint8_t ret[HASH_BYTES]);

/** A 64-bit XXH3 for hash tables and file names; not for content. */
uint64_t hash_xxh3_64(const void *data, size_t len);

static inline void cleanup_hasher(struct hasher **h)
{
        hasher_free(*h);
}
#define _cleanup_hasher_ _cleanup_(cleanup_hasher)
