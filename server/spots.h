/*
 * The places of a workspace that a pass shall look at: a tree of names, only as deep as what was named. Not thread-safe: the owner guards it.
 */
#pragma once

#include <stdbool.h>

#include <uthash.h>

#include "base/util.h"

#define SPOTS_MAX 10000 /* names: beyond that a walk over everything is the cheaper way */

/** One name, in the folder that its parent is. */
struct spot {
        struct spot *children; /* owned; a table by name */
        size_t name_len;
        bool told;    /* this name itself was named, not only something beneath it */
        bool all;     /* a folder: whatever is directly in it */
        bool suspect; /* a file: read it, whatever its stamp says */
        UT_hash_handle hh;
        char name[]; /* NUL-terminated */
};

/** Zeroed: empty. */
struct spots {
        struct spot *root; /* owned; NULL while empty; its name is "" */
        size_t count;
};

/**
 * Adds NAME in folder PATH (both checked); NAME NULL: all that is directly in the folder, and the folder itself. SUSPECT: as in struct spot, with a name only.
 * -ENOMEM; -E2BIG if there are SPOTS_MAX already (twice as many for suspects), then what is there stays.
 */
int spots_add(struct spots *spots, const char *path, const char *name, bool suspect);

/** The spot NAME in folder PATH, borrowed; NULL. */
const struct spot *spots_find(const struct spots *spots, const char *path, const char *name);

/** Adds the suspects of FROM to SPOTS, as far as memory goes. True if there were any. */
bool spots_keep_suspects(struct spots *spots, const struct spots *from);

static inline const struct spot *spot_find(const struct spot *folder, const char *name, size_t len)
{
        struct spot *spot = NULL;

        if (folder && folder->children)
                HASH_FIND(hh, folder->children, name, len, spot);
        return spot;
}

/** Empties it. */
void spots_clear(struct spots *spots);
