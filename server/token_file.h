/*
 * The token file that a server was started with, and may be told to read again. Thread-safe.
 */
#pragma once

#include "server/token_list.h"

struct token_file;

/** Reads PATH. Negative errno, with a line in FAILURE if more is to be said than the errno: errors of open(2), -EINVAL as token_list_parse, -EFBIG. */
int token_file_load(const char *path, struct token_file **ret, struct failure *failure);

/** NULL is fine. */
void token_file_free(struct token_file *file);

/** Reads it again. On failure what was read before stays. Errors as token_file_load. */
int token_file_reload(struct token_file *file, struct failure *failure);

/** As token_list_judge. */
enum token_verdict token_file_judge(struct token_file *file, const struct token_claim *claim,
                                    const char *spider);

/** As token_list_line. */
unsigned token_file_line(struct token_file *file, const struct token_claim *claim);

/** Grows with each reload: as long as it is the same, so is every verdict. */
uint64_t token_file_generation(const struct token_file *file);
