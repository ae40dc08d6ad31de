/*
 * Takes secrets out of text that is about to leave the machine: what stands behind token, password, secret, authorization and the like, and private keys.
 * Paths stay, so that a token file's name does.
 */
#pragma once

#include "base/buffer.h"

/** TEXT, LEN bytes, appended to RET without its secrets. -ENOMEM. */
int scrub(const char *text, size_t len, struct buffer *ret);
