#include "base/hash.h"

#include <string.h>

#include <openssl/evp.h>
#include <xxhash.h>

struct hasher {
        enum hash_algorithm algorithm;
        XXH3_state_t *xxh3; /* owned; for HASH_XXH3 */
        EVP_MD_CTX *evp;    /* owned; for the others */
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
        static const enum hash_algorithm known[] = { HASH_XXH3, HASH_MD5 };
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

        if (algorithm != HASH_XXH3 && algorithm != HASH_MD5)
                return -EINVAL;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->algorithm = algorithm;
        if (algorithm == HASH_XXH3)
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
        free(h);
}

void hasher_reset(struct hasher *h)
{
        if (h->algorithm == HASH_XXH3)
                XXH3_128bits_reset(h->xxh3);
        else
                EVP_DigestInit_ex(h->evp, EVP_md5(), NULL);
}

void hasher_update(struct hasher *h, const void *data, size_t len)
{
        if (h->algorithm == HASH_XXH3)
                XXH3_128bits_update(h->xxh3, data, len);
        else
                EVP_DigestUpdate(h->evp, data, len);
}

void hasher_final(struct hasher *h, struct content_id *ret_id)
{
        *ret_id = (struct content_id){ .algorithm = h->algorithm };
        if (h->algorithm == HASH_XXH3) {
                XXH128_canonical_t canonical;
                XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(h->xxh3));
                memcpy(ret_id->bytes, canonical.digest, HASH_BYTES);
        } else {
                EVP_DigestFinal_ex(h->evp, ret_id->bytes, NULL);
        }
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
