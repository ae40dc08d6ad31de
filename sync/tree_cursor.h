/*
 * The files of the catalog in the order in which tar, find, grep -r and cp -r come by them: a folder's entries by name, and what is below a
 * subfolder at its place among them. A cursor is plain data and remembers nothing but where it stands: it goes on from any file, in whatever
 * version is the present one.
 */
#pragma once

#include "cache/catalog.h"

struct tree_cursor {
        uint64_t folder; /* its inode number; 0: at the end */
        uint64_t after;  /* the entry in it that was passed last; 0: none */
        uint64_t top;    /* the folder whose end is the end; 0: that of the whole tree */
};

/** Right behind ENTRY, or at the beginning of folder ENTRY. */
struct tree_cursor tree_cursor_at(const struct catalog_entry *entry);

/**
 * Calls EACH for the files that follow, until it returns non-zero (the cursor then stands behind that file), the tree ends, or a while has
 * gone by in folders that have none. 0; 1: at the end, which also a folder is that is still pending; or negative errno.
 */
int tree_cursor_next(struct tree_cursor *cursor, struct catalog *catalog,
                     int (*each)(const struct catalog_entry *file, void *arg), void *arg);
