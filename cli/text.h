/*
 * How commands show what is not theirs: sizes, names from a master, kinds.
 */
#pragma once

#include <jansson.h>

#include "base/entry.h"

/** "file", "directory" or "symlink". */
const char *kind_name(enum entry_kind kind);

/** JSON is UTF-8, a name need not be: the bytes of one that is not are shown as '?' where they are not ASCII. NULL: out of memory. */
json_t *json_name(const char *name);
