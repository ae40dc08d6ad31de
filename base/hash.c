#include "base/hash.h"

#include <assert.h>
#include <string.h>

#include <nettle/md5.h>
#include <nettle/sha2.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "base/pieces.h"

/* One run of bytes being hashed. */
struct state {
        enum hash_algorithm base;
        XXH3_state_t *xxh3; /* owned; for XXH3 */
        union {
                struct md5_ctx md5;
                struct sha256_ctx sha256;
        };
};

struct hasher {
        enum hash_algorithm algorithm;
        struct state state;  /* of the content, or of its present piece */
        struct buffer list;  /* the hashes of the pieces that are complete */
        uint64_t size;       /* of what was hashed so far */
        uint64_t piece_left; /* bytes that the present piece lacks */
        int error;           /* the list could not be kept */
};

static const struct {
        const char *name;
        size_t len;
        enum hash_algorithm base;
} algorithms[HASH_ALGORITHMS] = {
        [HASH_NONE] = { "none", 16, HASH_NONE },
        [HASH_XXH3] = { "xxh3", 16, HASH_XXH3 },
        [HASH_MD5] = { "md5", HASH_MD5_BYTES, HASH_MD5 },
        [HASH_XXH3_PIECES] = { "xxh3p", 16, HASH_XXH3 },
        [HASH_SHA256] = { "sha256", SHA256_DIGEST_SIZE, HASH_SHA256 },
        [HASH_SHA256_PIECES] = { "sha256p", SHA256_DIGEST_SIZE, HASH_SHA256 },
};

static size_t row_of(enum hash_algorithm algorithm)
{
        return (size_t)algorithm < HASH_ALGORITHMS ? (size_t)algorithm : HASH_NONE;
}

bool content_id_equal(const struct content_id *a, const struct content_id *b)
{
        return a->algorithm == b->algorithm &&
               (a->algorithm == HASH_NONE || memcmp(a->bytes, b->bytes, HASH_BYTES) == 0);
}

const char *hash_algorithm_name(enum hash_algorithm algorithm)
{
        return algorithms[row_of(algorithm)].name;
}

size_t hash_len(enum hash_algorithm algorithm)
{
        return algorithms[row_of(algorithm)].len;
}

enum hash_algorithm hash_base(enum hash_algorithm algorithm)
{
        return algorithms[row_of(algorithm)].base;
}

bool hash_is_base(enum hash_algorithm algorithm)
{
        return algorithm == HASH_XXH3 || algorithm == HASH_SHA256;
}

bool hash_by_pieces(enum hash_algorithm algorithm)
{
        enum hash_algorithm base = hash_base(algorithm);

        return base != HASH_NONE && base != algorithm;
}

enum hash_algorithm hash_of_len(size_t len)
{
        return len == hash_len(HASH_SHA256) ? HASH_SHA256
               : len == hash_len(HASH_XXH3) ? HASH_XXH3
                                            : HASH_NONE;
}

enum hash_algorithm hash_base_named(const char *name)
{
        static const enum hash_algorithm bases[] = { HASH_XXH3, HASH_SHA256 };

        for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
                if (strcmp(hash_algorithm_name(bases[i]), name) == 0)
                        return bases[i];
        return HASH_NONE;
}

void hash_take(uint8_t ret[HASH_BYTES], const void *data, size_t len)
{
        memcpy(ret, data, len);
        memset(ret + len, 0, HASH_BYTES - len);
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
        hex_encode(id->bytes, hash_len(id->algorithm), hex);
        snprintf(buf, HASH_TEXT_MAX, "%s:%s", hash_algorithm_name(id->algorithm), hex);
        return buf;
}

int content_id_parse(const char *text, struct content_id *ret_id)
{
        const char *colon = strchr(text, ':');

        for (enum hash_algorithm a = HASH_XXH3; colon && a < HASH_ALGORITHMS; a++) {
                const char *name = hash_algorithm_name(a);
                struct content_id id = { .algorithm = a };
                if (strlen(name) != (size_t)(colon - text) || strncmp(name, text, strlen(name)) != 0)
                        continue;
                if (hex_decode(colon + 1, strlen(colon + 1), id.bytes, hash_len(a)) < 0)
                        return -EINVAL;
                *ret_id = id;
                return 0;
        }
        return -EINVAL;
}

/* ---- one run of bytes ---- */

static void state_reset(struct state *s)
{
        if (s->xxh3)
                XXH3_128bits_reset(s->xxh3);
        else if (s->base == HASH_MD5)
                md5_init(&s->md5);
        else
                sha256_init(&s->sha256);
}

static void state_update(struct state *s, const void *data, size_t len)
{
        if (s->xxh3)
                XXH3_128bits_update(s->xxh3, data, len);
        else if (s->base == HASH_MD5)
                md5_update(&s->md5, len, data);
        else
                sha256_update(&s->sha256, len, data);
}

static void put_xxh3(XXH128_hash_t hash, uint8_t ret[HASH_BYTES])
{
        XXH128_canonical_t canonical;

        XXH128_canonicalFromHash(&canonical, hash);
        memcpy(ret, canonical.digest, sizeof(canonical.digest));
}

/* RET is zero before. */
static void state_final(struct state *s, uint8_t ret[HASH_BYTES])
{
        if (s->xxh3)
                put_xxh3(XXH3_128bits_digest(s->xxh3), ret);
        else if (s->base == HASH_MD5)
                md5_digest(&s->md5, MD5_DIGEST_SIZE, ret);
        else
                sha256_digest(&s->sha256, SHA256_DIGEST_SIZE, ret);
}

/* ---- contents ---- */

int hasher_new(enum hash_algorithm algorithm, struct hasher **ret)
{
        enum hash_algorithm base = hash_base(algorithm);
        struct hasher *h;

        if (base == HASH_NONE)
                return -EINVAL;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->algorithm = algorithm;
        h->state.base = base;
        if (base == HASH_XXH3)
                h->state.xxh3 = XXH3_createState();
        if (base == HASH_XXH3 && !h->state.xxh3) {
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
        XXH3_freeState(h->state.xxh3);
        buffer_release(&h->list);
        free(h);
}

void hasher_reset(struct hasher *h)
{
        state_reset(&h->state);
        buffer_truncate(&h->list, 0);
        h->size = 0;
        h->piece_left = PIECE_BYTES;
        h->error = 0;
}

/* Notes the hash of the piece that has ended. */
static void end_piece(struct hasher *h)
{
        uint8_t digest[HASH_BYTES];

        state_final(&h->state, digest);
        if (buffer_append(&h->list, digest, hash_len(h->algorithm)) < 0)
                h->error = -ENOMEM;
        state_reset(&h->state);
        h->piece_left = PIECE_BYTES;
}

static void update_pieces(struct hasher *h, const uint8_t *data, size_t len)
{
        while (len > 0) {
                size_t n = (size_t)MIN((uint64_t)len, h->piece_left);

                state_update(&h->state, data, n);
                data += n;
                len -= n;
                h->piece_left -= n;
                if (h->piece_left == 0)
                        end_piece(h);
        }
}

void hasher_update(struct hasher *h, const void *data, size_t len)
{
        h->size += len;
        if (hash_by_pieces(h->algorithm))
                update_pieces(h, data, len);
        else
                state_update(&h->state, data, len);
}

void hasher_final(struct hasher *h, struct content_id *ret_id)
{
        *ret_id = (struct content_id){ .algorithm = h->algorithm };
        if (!hash_by_pieces(h->algorithm)) {
                state_final(&h->state, ret_id->bytes);
                return;
        }
        if (h->piece_left < PIECE_BYTES)
                end_piece(h);
        pieces_name(h->algorithm, h->size, (const uint8_t *)h->list.data, h->list.len, ret_id);
        if (h->error < 0)
                ret_id->algorithm = HASH_NONE;
}

int hasher_get_pieces(const struct hasher *h, const uint8_t **ret_list, size_t *ret_len)
{
        if (h->error < 0)
                return h->error;
        *ret_list = (const uint8_t *)h->list.data;
        *ret_len = h->list.len;
        return 0;
}

void hash_bytes(enum hash_algorithm base, const void *data, size_t len, uint8_t ret[HASH_BYTES])
{
        struct sha256_ctx sha256;

        assert(hash_is_base(base));
        memset(ret, 0, HASH_BYTES);
        if (base == HASH_XXH3) {
                put_xxh3(XXH3_128bits(data, len), ret);
                return;
        }
        sha256_init(&sha256);
        sha256_update(&sha256, len, data);
        sha256_digest(&sha256, SHA256_DIGEST_SIZE, ret);
}

bool hash_proves(enum hash_algorithm base, const void *data, size_t len, const uint8_t *hash)
{
        uint8_t found[HASH_BYTES];

        if (!hash_is_base(base))
                return false;
        hash_bytes(base, data, len, found);
        return memcmp(found, hash, hash_len(base)) == 0;
}

uint64_t hash_xxh3_64(const void *data, size_t len)
{
        return XXH3_64bits(data, len);
}
