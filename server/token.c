#include "server/token.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/lock.h"

struct token {
        char *file; /* owned */
        struct mutex lock;
        /* Digests are of one length: comparing them tells nothing about the token's, nor how much of it was right. */
        uint8_t digest[SHA256_DIGEST_LENGTH] TSA_GUARDED(&lock);
};

static int read_digest(const char *file, uint8_t ret_digest[SHA256_DIGEST_LENGTH])
{
        _cleanup_buffer_ struct buffer text = { 0 };
        int r = io_read_first_line(file, &text);

        if (r >= 0)
                SHA256((const uint8_t *)text.data, text.len, ret_digest);
        if (text.data)
                OPENSSL_cleanse(text.data, text.capacity);
        return r;
}

int token_load(const char *file, struct token **ret)
{
        struct token *token = calloc(1, sizeof(*token));
        int r;

        if (!token)
                return -ENOMEM;
        mutex_init(&token->lock);
        token->file = strdup(file);
        r = token->file ? token_reload(token) : -ENOMEM;
        if (r < 0) {
                token_free(token);
                return r;
        }
        *ret = token;
        return 0;
}

void token_free(struct token *token)
{
        if (!token)
                return;
        mutex_release(&token->lock);
        free(token->file);
        free(token);
}

int token_reload(struct token *token)
{
        uint8_t digest[SHA256_DIGEST_LENGTH];
        int r = read_digest(token->file, digest);

        if (r < 0)
                return r;
        mutex_lock(&token->lock);
        memcpy(token->digest, digest, sizeof(digest));
        mutex_unlock(&token->lock);
        return 0;
}

bool token_matches(struct token *token, const char *text)
{
        uint8_t digest[SHA256_DIGEST_LENGTH];
        bool same;

        if (!text)
                return false;
        SHA256((const uint8_t *)text, strlen(text), digest);
        mutex_lock(&token->lock);
        same = CRYPTO_memcmp(digest, token->digest, sizeof(digest)) == 0;
        mutex_unlock(&token->lock);
        return same;
}
