/*
 * How commands show what is not theirs: sizes, names from a master, kinds.
 */
#pragma once

#include "base/entry.h"

/** "file", "directory" or "symlink". */
const char *kind_name(enum entry_kind kind);
