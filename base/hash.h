/*
 * Contents and their names: hash algorithms, content ids, and a streaming hasher over xxHash (XXH3-128) and nettle
 * (SHA-256, MD5). xxHash detects damage, not malice; see docs/security.md.
 *
 * A tree is hashed throughout by one algorithm, its *base*: HASH_XXH3 or HASH_SHA256. Its large contents are named by the base's form for pieces, and its folders'
 * digests are the base's.
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
        HASH_SHA256 = 4,
        HASH_SHA256_PIECES = 5, /* likewise of a large content: base/pieces.h */
        HASH_ALGORITHMS         /* their number */
};

#define HASH_BYTES                                                                                           \
        32 /* room for the longest; behind a shorter one (hash_len) all is zero, so that whole arrays are compared */
#define HASH_MD5_BYTES 16
#define HASH_TEXT_MAX  80 /* "sha256p:" + 64 hex digits + NUL, with room */

/** The name of a content: plain data, compared with content_id_equal. */
struct content_id {
        enum hash_algorithm algorithm;
        uint8_t bytes[HASH_BYTES];
};

bool content_id_equal(const struct content_id *a, const struct content_id *b);

/** "xxh3", "md5", "xxh3p" (by pieces), "sha256", "sha256p" or "none"; never NULL. */
const char *hash_algorithm_name(enum hash_algorithm algorithm);

/** How many bytes a hash by ALGORITHM has; of HASH_NONE, where zeros stand for one, 16. */
size_t hash_len(enum hash_algorithm algorithm);

/** By what the bytes themselves are hashed: of a content by pieces each piece. Others are their own. */
enum hash_algorithm hash_base(enum hash_algorithm algorithm);

/** True of a tree's base. */
bool hash_is_base(enum hash_algorithm algorithm);

/** True if contents by ALGORITHM are named by the list of their pieces. */
bool hash_by_pieces(enum hash_algorithm algorithm);

/** The base of a tree whose digests have LEN bytes; HASH_NONE: there is none. */
enum hash_algorithm hash_of_len(size_t len);

/** A tree's base by its name, "xxh3" or "sha256"; HASH_NONE: it is neither. */
enum hash_algorithm hash_base_named(const char *name);

/** Writes "xxh3:<32 hex>" or the like ("none" for HASH_NONE) and returns BUF. */
const char *content_id_format(const struct content_id *id, char buf[HASH_TEXT_MAX]);

/** Reads what content_id_format writes; -EINVAL for anything else. */
int content_id_parse(const char *text, struct content_id *ret_id);

/** A hash of LEN bytes, HASH_BYTES at most, with zeros behind it. */
void hash_take(uint8_t ret[HASH_BYTES], const void *data, size_t len);

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
 * After hasher_final by pieces: the list of the pieces' hashes, hash_len each, borrowed until the next reset or free.
 * For any other algorithm nothing, *RET_LEN 0. -ENOMEM: it could not be kept, and what hasher_final returned names nothing.
 */
int hasher_get_pieces(const struct hasher *h, const uint8_t **ret_list, size_t *ret_len);

/** One run of bytes by BASE: HASH_XXH3 (canonical order) or HASH_SHA256. */
void hash_bytes(enum hash_algorithm base, const void *data, size_t len, uint8_t ret[HASH_BYTES]);

/** True if the bytes have HASH, of which hash_len(BASE) bytes are looked at. False for other bases than hash_bytes knows. */
bool hash_proves(enum hash_algorithm base, const void *data, size_t len, const uint8_t *hash);

/** A 64-bit XXH3 for hash tables and file names; not for content. */
uint64_t hash_xxh3_64(const void *data, size_t len);

static inline void cleanup_hasher(struct hasher **h)
{
        hasher_free(*h);
}
#define _cleanup_hasher_ _cleanup_(cleanup_hasher)
