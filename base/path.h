/*
 * The one checker for every path that comes from outside: from a peer, a catalog or a user. A workspace path
 * is relative, its components are separated by single slashes, and none of them is empty, "." or "..". The
 * root itself is the empty path. Bytes are free otherwise: names need not be UTF-8.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

#define PATH_NAME_MAX  255  /* bytes of one name, as NAME_MAX */
#define PATH_BYTES_MAX 4095 /* bytes of a whole path without its NUL, as PATH_MAX - 1 */

/** 0 if the LEN bytes are one valid name; -EINVAL ("", ".", "..", '/' or NUL inside) or -ENAMETOOLONG. */
int path_check_name(const char *name, size_t len);

/** 0 if the LEN bytes are a valid workspace path (the empty one included); -EINVAL or -ENAMETOOLONG. */
int path_check(const char *path, size_t len);

/** Steps through a checked path: *PATH and *LEN shrink to what is left, RET gets the next component. False at
 * the end. */
bool path_next(const char **path, size_t *len, const char **ret_name, size_t *ret_len);

/** The length of PATH's parent part (0 if it lies in the root); RET_NAME points at its last component. */
size_t path_split(const char *path, size_t len, const char **ret_name);

/** Orders paths so that a folder comes right before what is in it: by components, each by its bytes. */
int path_compare(const char *a, size_t a_len, const char *b, size_t b_len);

/** True if the LEN bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most
 * U+10FFFF). */
bool path_is_utf8(const char *text, size_t len);
