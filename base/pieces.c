#include "base/pieces.h"

#include <assert.h>
#include <string.h>

#include <nettle/sha2.h>

/* Before the list, so that no bytes are both what SHA-256 names as a content, or a tree, and what it names a large one by. */
static const char sha256_tag[16] = "fsyncfs pieces 1";

enum hash_algorithm content_algorithm(enum hash_algorithm base, uint64_t size)
{
        if (size <= PIECE_BYTES)
                return base;
        return base == HASH_SHA256 ? HASH_SHA256_PIECES : HASH_XXH3_PIECES;
}

static void name_sha256(uint64_t size, const uint8_t *list, size_t len, uint8_t ret[HASH_BYTES])
{
        struct sha256_ctx sha256;
        uint8_t size_le[8];

        for (size_t i = 0; i < sizeof(size_le); i++)
                size_le[i] = (uint8_t)(size >> (8 * i));
        sha256_init(&sha256);
        sha256_update(&sha256, sizeof(sha256_tag), (const uint8_t *)sha256_tag);
        sha256_update(&sha256, sizeof(size_le), size_le);
        sha256_update(&sha256, len, list);
        sha256_digest(&sha256, SHA256_DIGEST_SIZE, ret);
}

void pieces_name(enum hash_algorithm algorithm, uint64_t size, const uint8_t *list, size_t len,
                 struct content_id *ret_id)
{
        assert(hash_by_pieces(algorithm));
        *ret_id = (struct content_id){ .algorithm = algorithm };
        if (algorithm == HASH_SHA256_PIECES)
                name_sha256(size, list, len, ret_id->bytes);
        else
                hash_bytes(HASH_XXH3, list, len, ret_id->bytes);
}

bool pieces_prove(const struct content_id *id, uint64_t size, const uint8_t *list, size_t len)
{
        struct content_id found;
        size_t each = hash_len(id->algorithm);

        if (!hash_by_pieces(id->algorithm) || len / each != pieces_count(size) || len % each != 0)
                return false;
        pieces_name(id->algorithm, size, list, len, &found);
        return content_id_equal(&found, id);
}
