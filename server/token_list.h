/*
 * What a token file says: who may read which spiders. Plain data once parsed, never changed.
 *
 * A line is `TOKEN [SPIDER-PATTERN…]`, or `name:NAME [SPIDER-PATTERN…]` for who shows a certificate with that common name. In a pattern `*` stands
 * for any characters; without a pattern all spiders are meant. Empty lines, and those that begin with `#`, say nothing.
 */
#pragma once

#include <stdbool.h>

#include "base/failure.h"

#define TOKEN_DIGEST_BYTES   32
#define TOKEN_FILE_BYTES_MAX (1u << 20)

struct token_list;

/** Who somebody says to be. */
struct token_claim {
        bool has_token;
        uint8_t digest[TOKEN_DIGEST_BYTES]; /* of the token; the token itself is kept nowhere */
        const char *name;                   /* in a certificate that was verified; NULL: none */
};

enum token_verdict {
        TOKEN_UNKNOWN = 0,  /* nobody we know */
        TOKEN_NOT_THIS_ONE, /* known, but without right to that spider */
        TOKEN_GRANTED,
};

/**
 * Reads LEN bytes. -EINVAL with a line in FAILURE that names the line's number and shows nothing of it: no token at all, a token that no HTTP
 * header can carry; -ENOMEM.
 */
int token_list_parse(const char *text, size_t len, struct token_list **ret, struct failure *failure);

/** NULL is fine. */
void token_list_free(struct token_list *list);

/** How many lines say something. */
size_t token_list_count(const struct token_list *list);

/** Whether CLAIM may read SPIDER (NULL: anything at all). How long that takes does not depend on how much of a wrong token is right. */
enum token_verdict token_list_judge(const struct token_list *list, const struct token_claim *claim,
                                    const char *spider);

/** The number of the last line that CLAIM is of: a name for it that tells nothing of it. 0: there is none. */
unsigned token_list_line(const struct token_list *list, const struct token_claim *claim);

/** The digest of TEXT, a token. */
void token_digest(const char *text, size_t len, uint8_t ret[TOKEN_DIGEST_BYTES]);

/** Whether PATTERN, in which `*` stands for any characters, is all of TEXT. */
bool token_pattern_matches(const char *pattern, const char *text);
