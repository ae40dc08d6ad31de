/*
 * The shared secret that workers send with every call. Never logged; compared in constant time. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

struct token;

/** Reads the first line of FILE, white space at its end cut. -EINVAL: it is empty; errors of open(2); -ENOMEM. */
int token_load(const char *file, struct token **ret);

/** NULL is fine. */
void token_free(struct token *token);

/** Reads the file again. On failure the old token stays. Errors as token_load. */
int token_reload(struct token *token);

/** True if TEXT (NULL: nothing was sent) is the token. */
bool token_matches(struct token *token, const char *text);
