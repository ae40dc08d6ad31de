#include "base/pieces.h"

#include <string.h>

enum hash_algorithm content_algorithm(uint64_t size)
{
        return size > PIECE_BYTES ? HASH_XXH3_PIECES : HASH_XXH3;
}

void pieces_name(const uint8_t *list, size_t len, struct content_id *ret_id)
{
        *ret_id = (struct content_id){ .algorithm = HASH_XXH3_PIECES };
        hash_xxh3(list, len, ret_id->bytes);
}

bool pieces_prove(const struct content_id *id, uint64_t size, const uint8_t *list, size_t len)
{
        struct content_id found;

        if (id->algorithm != HASH_XXH3_PIECES || len / HASH_BYTES != pieces_count(size) ||
            len % HASH_BYTES != 0)
                return false;
        pieces_name(list, len, &found);
        return content_id_equal(&found, id);
}
