#include "base/hash.h"

#include <string.h>

#include <openssl/evp.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "base/pieces.h"

struct hasher {
        enum hash_algorithm algorithm;
        XXH3_state_t *xxh3;  /* owned; for the XXH3s: of the content, or of its present piece */
        EVP_MD_CTX *evp;     /* owned; for the others */
        struct buffer list;  /* the hashes of the pieces that are complete */
        uint64_t piece_left; /* bytes that the present piece lacks */
        int error;           /* the list could not be kept */
};

bool content_id_equal(const struct content_id *a, const struct content_id *b)
{
        return a->algorithm == b->algorithm &&
               (a->algorithm == HASH_NONE || memcmp(a->bytes, b->bytes, HASH_BYTES) == 0);
}

const char *hash_algorithm_name(enum hash_algorithm algorithm)
{
        switch (algorithm) {
        case HASH_XXH3:
                return "xxh3";
        case HASH_MD5:
                return "md5";
        case HASH_XXH3_PIECES:
                return "xxh3p";
        default:
                return "none";
        }
}

void hex_encode(const uint8_t *data, size_t len, char *out)
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < len; i++) {
                out[2 * i] = digits[data[i] >> 4];
                out[2 * i + 1] = digits[data[i] & 15];
        }
        out[2 * len] = '\0';
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int hex_decode(const char *text, size_t text_len, uint8_t *out, size_t len)
{
        uint8_t bytes[64];

        if (text_len != 2 * len || len > sizeof(bytes))
                return -EINVAL;
        for (size_t i = 0; i < len; i++) {
                int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
                if (high < 0 || low < 0)
                        return -EINVAL;
                bytes[i] = (uint8_t)(high << 4 | low);
        }
        memcpy(out, bytes, len);
        return 0;
}

const char *content_id_format(const struct content_id *id, char buf[HASH_TEXT_MAX])
{
        char hex[2 * HASH_BYTES + 1];

        if (id->algorithm == HASH_NONE)
                return strcpy(buf, "none");
        hex_encode(id->bytes, HASH_BYTES, hex);
        snprintf(buf, HASH_TEXT_MAX, "%s:%s", hash_algorithm_name(id->algorithm), hex);
        return buf;
}

int content_id_parse(const char *text, struct content_id *ret_id)
{
        static const enum hash_algorithm known[] = { HASH_XXH3, HASH_MD5, HASH_XXH3_PIECES };
        const char *colon = strchr(text, ':');

        for (size_t i = 0; colon && i < ARRAY_SIZE(known); i++) {
                const char *name = hash_algorithm_name(known[i]);
                struct content_id id = { .algorithm = known[i] };
                if (strlen(name) != (size_t)(colon - text) || strncmp(name, text, strlen(name)) != 0)
                        continue;
                if (hex_decode(colon + 1, strlen(colon + 1), id.bytes, HASH_BYTES) < 0)
                        return -EINVAL;
                *ret_id = id;
                return 0;
        }
        return -EINVAL;
}

int hasher_new(enum hash_algorithm algorithm, struct hasher **ret)
{
        struct hasher *h;

        if (algorithm != HASH_XXH3 && algorithm != HASH_MD5 && algorithm != HASH_XXH3_PIECES)
                return -EINVAL;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->algorithm = algorithm;
        if (algorithm != HASH_MD5)
                h->xxh3 = XXH3_createState();
        else
                h->evp = EVP_MD_CTX_new();
        if (!h->xxh3 && !h->evp) {
                hasher_free(h);
                return -ENOMEM;
        }
        hasher_reset(h);
        *ret = h;
        return 0;
}

void hasher_free(struct hasher *h)
{
        if (!h)
                return;
        XXH3_freeState(h->xxh3);
        EVP_MD_CTX_free(h->evp);
        buffer_release(&h->list);
        free(h);
}

void hasher_reset(struct hasher *h)
{
        if (h->xxh3)
                XXH3_128bits_reset(h->xxh3);
        else
                EVP_DigestInit_ex(h->evp, EVP_md5(), NULL);
        buffer_truncate(&h->list, 0);
        h->piece_left = PIECE_BYTES;
        h->error = 0;
}

static void digest_xxh3(const struct hasher *h, uint8_t ret[HASH_BYTES])
{
        XXH128_canonical_t canonical;

        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(h->xxh3));
        memcpy(ret, canonical.digest, HASH_BYTES);
}

/* Notes the hash of the piece that has ended. */
static void end_piece(struct hasher *h)
{
        uint8_t digest[HASH_BYTES];

        digest_xxh3(h, digest);
        if (buffer_append(&h->list, digest, HASH_BYTES) < 0)
                h->error = -ENOMEM;
        XXH3_128bits_reset(h->xxh3);
        h->piece_left = PIECE_BYTES;
}

static void update_pieces(struct hasher *h, const uint8_t *data, size_t len)
{
        while (len > 0) {
                size_t n = (size_t)MIN((uint64_t)len, h->piece_left);

                XXH3_128bits_update(h->xxh3, data, n);
                data += n;
                len -= n;
                h->piece_left -= n;
                if (h->piece_left == 0)
                        end_piece(h);
        }
}

void hasher_update(struct hasher *h, const void *data, size_t len)
{
        if (h->algorithm == HASH_XXH3_PIECES)
                update_pieces(h, data, len);
        else if (h->xxh3)
                XXH3_128bits_update(h->xxh3, data, len);
        else
                EVP_DigestUpdate(h->evp, data, len);
}

void hasher_final(struct hasher *h, struct content_id *ret_id)
{
        *ret_id = (struct content_id){ .algorithm = h->algorithm };
        if (h->algorithm == HASH_XXH3_PIECES) {
                if (h->piece_left < PIECE_BYTES)
                        end_piece(h);
                pieces_name((const uint8_t *)h->list.data, h->list.len, ret_id);
                if (h->error < 0)
                        ret_id->algorithm = HASH_NONE;
        } else if (h->xxh3) {
                digest_xxh3(h, ret_id->bytes);
        } else {
                EVP_DigestFinal_ex(h->evp, ret_id->bytes, NULL);
        }
}

int hasher_get_pieces(const struct hasher *h, const uint8_t **ret_list, size_t *ret_len)
{
        if (h->error < 0)
                return h->error;
        *ret_list = (const uint8_t *)h->list.data;
        *ret_len = h->list.len;
        return 0;
}

void hash_xxh3(const void *data, size_t len, uint8_t ret[HASH_BYTES])
{
        XXH128_canonical_t canonical;

        XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, len));
        memcpy(ret, canonical.digest, HASH_BYTES);
}

uint64_t hash_xxh3_64(const void *data, size_t len)
{
        return XXH3_64bits(data, len);
}
