/*
 * The form of a pack (docs/formats.md), for its writer and its reader only.
 */
#pragma once

#include "base/path.h"
#include "proto/pack.h"

/* The first byte says by what the tree is hashed that the entries are of. */
#define PACK_FORMAT_XXH3   2
#define PACK_FORMAT_SHA256 3
#define HEAD_BYTES         5  /* format, number of digests */
#define VARINT_MAX         10 /* bytes */
#define MODE_MAX           07777

/* docs/formats.md: in this order. */
enum column {
        COLUMN_FLAGS,    /* a byte per entry */
        COLUMN_FOLDER,   /* per change of folder: bytes shared with the one before, further bytes, those */
        COLUMN_NAME_LEN, /* per entry: bytes that the name shares with the one before; further bytes */
        COLUMN_NAME,     /* those */
        COLUMN_MODE,     /* this and the next two: unless gone; difference from the one before */
        COLUMN_MTIME,    /* likewise */
        COLUMN_SIZE,
        COLUMN_TARGET,   /* per symlink: length, bytes */
        COLUMN_DATA_LEN, /* per file: bytes of it that are here: all of them, or 0 */
        COLUMN_DATA,     /* those */
        COLUMNS
};

enum flags {
        FLAG_KIND = 3,
        FLAG_ALGORITHM = 3 << 2,
        FLAG_UNKNOWN = 1 << 4,
        FLAG_GONE = 1 << 5,
        FLAG_WHOLE = 1 << 6,
        FLAG_FOLDER = 1 << 7, /* lies in another folder than the one before */
};

#define ALGORITHM_SHIFT 2

/* In the flags. */
enum pack_algorithm {
        PACK_NONE = 0,
        PACK_BASE = 1,
        PACK_MD5 = 2, /* beside HASH_XXH3 only: it has as many bytes */
        PACK_PIECES = 3,
};

/* The entry before, from which the next one is told. A pack's first one follows one without any bytes, in the root. */
struct previous {
        char folder[PATH_BYTES_MAX];
        char name[PATH_NAME_MAX];
        size_t folder_len, name_len;
        uint32_t mode;
        int64_t mtime_ns;
};

static inline void forget_previous(struct previous *p)
{
        p->folder_len = p->name_len = 0;
        p->mode = 0;
        p->mtime_ns = 0;
}
