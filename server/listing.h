/*
 * What one walk over a workspace found: an immutable tree of folders, each with its children in order of their names, with
 * Merkle digests (base/entry.h). Made by the scanner alone, then shared by reference among calls. Thread-safe once made.
 */
#pragma once

#include <stdbool.h>

#include "base/entry.h"
#include "base/path.h"

struct listing_folder;

struct listing_node {
        const char *name; /* borrowed from the folder's `names`; NUL-terminated */
        union {
                struct listing_folder *folder; /* of a folder; owned; NULL if unknown */
                char *target;                  /* of a symlink; owned; NUL-terminated */
        };
        int64_t mtime_ns;
        int64_t ctime_ns; /* with device and inode: the index's key */
        uint64_t device;
        uint64_t inode;
        uint64_t size;
        uint8_t digest[HASH_BYTES]; /* a file's XXH3, a folder's digest, a symlink's hash of the target */
        uint16_t name_len;
        uint16_t mode; /* permission bits */
        uint8_t kind;  /* enum entry_kind */
        bool unknown;
};

struct listing_folder {
        struct listing_node *nodes; /* owned; ascending by the names' bytes */
        char *names;                /* owned; all names, each with its NUL */
        uint32_t count;
};

struct listing {
        _Atomic unsigned refs;
        struct listing_node root; /* a folder with the empty name */
        uint8_t root_digest[HASH_BYTES];
        uint64_t revision;
        uint64_t entries; /* all nodes, the root included */
        uint64_t files, folders, symlinks, bytes;
        uint64_t specials; /* left out: sockets, fifos, devices */
        uint64_t too_long; /* left out: their path is too long */
        uint64_t unknown;
};

/** An empty listing with one reference; NULL: no memory. */
struct listing *listing_new(void);

struct listing *listing_ref(struct listing *listing);

/** NULL is fine. */
void listing_unref(struct listing *listing);

/** NULL is fine. Frees the nodes and all beneath them. */
void listing_folder_free(struct listing_folder *folder);

/** Walks a listing: a folder comes before what is in it, siblings in order. Holds a reference to the listing. */
struct listing_cursor {
        struct listing *listing; /* referenced; NULL: not set */
        struct listing_step {
                const struct listing_folder *folder;
                uint32_t next;   /* the child that comes next */
                size_t path_len; /* of the folder */
        } * steps;               /* owned; the way down to the present folder */
        size_t depth, capacity;
        bool started; /* the root has been given */
        char path[PATH_BYTES_MAX + 1];
        size_t path_len;
};

/** Begins at the root. */
void listing_cursor_init(struct listing_cursor *cursor, struct listing *listing);

void listing_cursor_release(struct listing_cursor *cursor);

/** The next node, its path in cursor->path; RET_NODE is NULL after the last. -ENOMEM. */
int listing_cursor_next(struct listing_cursor *cursor, const struct listing_node **ret_node);
