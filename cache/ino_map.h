/*
 * A map from inode numbers to a few flags each: what an update remembers about every entry of a tree. A byte a number, in
 * pages that are made when first written, so that it follows the numbers in use and not the highest one.
 * Not thread-safe. A zeroed struct is an empty map.
 */
#pragma once

#include "base/util.h"

struct ino_map {
        uint8_t **pages; /* owned, as are the pages; NULL: all zero */
        size_t n_pages;
};

void ino_map_release(struct ino_map *map);

/** The flags of INO; 0 if none were set. */
uint8_t ino_map_get(const struct ino_map *map, uint64_t ino);

/** Replaces the flags of INO. -ENOMEM. */
int ino_map_set(struct ino_map *map, uint64_t ino, uint8_t flags);
