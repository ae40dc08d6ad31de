/*
 * One entry of a workspace as both ends speak of it, its Go mode bits, and the Merkle digest that proves that
 * two trees are equal. The digest's exact bytes are a format (docs/formats.md): change them and the two ends
 * no longer agree.
 */
#pragma once

#include <sys/stat.h>

#include "base/hash.h"

/** On the wire and on disk by these numbers; never renumber. */
enum entry_kind {
        ENTRY_UNKNOWN = 0, /* the master could not even say what it is */
        ENTRY_FILE = 1,
        ENTRY_DIRECTORY = 2,
        ENTRY_SYMLINK = 3,
};

/** All pointers are borrowed. */
struct entry {
        const char *path; /* relative to the workspace, see base/path.h; the root is "" */
        size_t path_len;
        enum entry_kind kind;
        uint32_t mode;    /* permission bits, 07777 at most */
        int64_t mtime_ns; /* since the epoch */
        uint64_t size;    /* bytes of a file, of a symlink's target; 0 for folders */
        struct content_id
                content; /* files; HASH_NONE if unknown. Folders: their digest, by the tree's base; HASH_NONE if not stated */
        const char *target; /* symlinks only, target_len bytes */
        size_t target_len;
        const uint8_t *
                data; /* files of at most ENTRY_TINY_MAX bytes: all `size` bytes, if they travel with the entry; NULL */
        bool unknown; /* the master could not read it: whatever is known of it stays as it is */
        bool gone; /* a difference says: there is nothing at this path any more, nor below it; only the path counts */
        bool whole; /* folders: all that is in it and below follows; what does not follow is gone */
};

#define ENTRY_SIZE_MAX   (UINT64_C(1) << 60) /* bytes of a file: more is beyond all sense */
#define ENTRY_TARGET_MAX 4095                /* bytes of a symlink's target, as PATH_MAX - 1 */
#define ENTRY_MTIME_SEC_MAX                                                                                  \
        INT64_C(9000000000) /* seconds either side of the epoch: keeps nanoseconds within 64 bits */

/* Bytes of a file that travels with its entry: docs/performance.md says why so many, tests/bench/tiny tries other numbers. */
#ifndef ENTRY_TINY_MAX
#define ENTRY_TINY_MAX 256
#endif

/** The permission bits and kind as st_mode. */
mode_t entry_st_mode(enum entry_kind kind, uint32_t mode);

/**
 * Go's os.FileMode (https://pkg.go.dev/io/fs#FileMode), as stock peers send it: permission bits 0..8, folder
 * bit 31, symlink 27, setuid 23, setgid 22, sticky 20.
 */
uint32_t entry_go_mode(enum entry_kind kind, uint32_t mode);

/** Splits Go's mode bits; bits of kinds that are never sent (devices, fifos, sockets) give -EINVAL. */
int entry_from_go_mode(uint32_t go_mode, enum entry_kind *ret_kind, uint32_t *ret_mode);

/** What a folder's digest covers of one child. */
struct entry_digest_input {
        const char *name;
        size_t name_len;
        enum entry_kind kind;
        uint32_t mode;
        int64_t mtime_ns;
        uint64_t size;
        bool unknown;
        /* Files: the content's hash. Folders: their own digest. Symlinks: hash_bytes of the target. */
        enum hash_algorithm algorithm;
        const uint8_t *digest; /* hash_len of it */
};

/**
 * Feeds one child to H, a hasher for the tree's base that collects a folder's digest. Children go in ascending
 * order of their names' bytes; the folder's digest is the hasher's result. Of an unknown entry only the name
 * counts, on both ends.
 */
void entry_digest_add(struct hasher *h, const struct entry_digest_input *child);

/** The version of a tree: its root's own mode and mtime over its folder digest, so that a chmod of the root
 * shows. */
void entry_root_digest(enum hash_algorithm base, uint32_t mode, int64_t mtime_ns,
                       const uint8_t folder_digest[HASH_BYTES], uint8_t ret[HASH_BYTES]);
