/*
 * The catalog: every entry of one workspace at one version, in SQLite, so that a tree of a million entries costs disk, not
 * memory. Serves the file system's lookups; takes new versions in one transaction while it does.
 *
 * Invariants (tests cite them):
 *  C1 Readers see the last committed version and nothing of one being written (WAL, one write transaction per version).
 *  C2 An inode number names one (path, content) for good: an unchanged file keeps its number over every sync and remount; a
 *     changed content, target or kind gets a number that was never used before in this catalog. Folders keep theirs by path.
 *  C3 Entries of older versions stay readable by inode number (they are retired, not removed) until the catalog is opened
 *     next, so that open files keep their content and a folder listing goes on in the version it began with.
 *  C4 An update that fails, or whose digest is not the expected one, changes nothing.
 *  C5 What is unknown (struct entry) keeps what is already known at that path, subtree included.
 *  C6 A catalog belongs to one process at a time (flock); a second mount of the same source gets a slot of its own, begun as a
 *     copy of the newest one.
 *  C7 A damaged database is moved aside and begun anew: everything in it can be had from the master again.
 *
 * Layout: DIR/catalogs/<16 hex of XXH3-64 of SOURCE>/source (text), slotN.db (+ -wal, -shm), slotN.lock.
 * Thread-safe: any number of threads may read; one update at a time.
 */
#pragma once

#include "base/buffer.h"
#include "base/entry.h"
#include "base/path.h"

#define CATALOG_ROOT_INO 1

struct catalog;
struct catalog_update;

/** Opens (or begins) the catalog of SOURCE within cache folder DIR and locks it. Negative errno; logs C7. */
int catalog_open(const char *dir, const char *source, struct catalog **ret);

/** NULL is fine. No reader may be under way. */
void catalog_free(struct catalog *catalog);

struct catalog_version {
        bool valid;                 /* false: nothing was ever synced */
        uint8_t digest[HASH_BYTES]; /* root digest, see base/entry.h */
        uint64_t revision;          /* the master's number; 0 from a stock master */
        uint64_t generation;        /* counts versions of this catalog; rises by one per switch, persists */
        int64_t synced_at;          /* seconds since the epoch of the last sync that succeeded */
        uint64_t files, directories, symlinks, unknown; /* live entries; the root counts as a directory */
        uint64_t bytes;                                 /* of all live files */
};

/** The present version. Cheap; never touches the database. */
void catalog_get_version(struct catalog *catalog, struct catalog_version *ret);

/** Plain data; `name` is NUL-terminated. */
struct catalog_entry {
        uint64_t ino;
        uint64_t parent;
        enum entry_kind kind; /* never ENTRY_UNKNOWN: such entries are not shown */
        uint32_t mode;
        int64_t mtime_ns;
        uint64_t size;
        uint32_t
                nlink; /* 2 + subfolders for folders is not kept: always 1 for folders, as btrfs; 1 for files */
        struct content_id
                content; /* HASH_NONE: file whose content the master could not name: reads fail with EIO */
        bool retired;    /* of an older version */
        size_t name_len;
        char name[PATH_NAME_MAX + 1];
};

enum catalog_result {
        CATALOG_OK = 0,
        CATALOG_NONE = 1,     /* no such entry */
        CATALOG_MISMATCH = 2, /* the digest is not the expected one */
};

/** The live entry NAME in folder PARENT: CATALOG_OK, CATALOG_NONE or negative errno. */
int catalog_lookup(struct catalog *catalog, uint64_t parent, const char *name, size_t name_len,
                   struct catalog_entry *ret);

/** The entry INO, live or retired. The root is CATALOG_ROOT_INO and always there once a version is valid. */
int catalog_get(struct catalog *catalog, uint64_t ino, struct catalog_entry *ret);

/** The target of symlink INO, appended to RET. CATALOG_NONE if it is no symlink. */
int catalog_readlink(struct catalog *catalog, uint64_t ino, struct buffer *ret);

/** Where a listing stands: COOKIE goes back into catalog_list to go on after this entry. Never 0, always positive as off_t. */
typedef int (*catalog_list_fn)(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg);

/**
 * Lists folder PARENT in name order after COOKIE (0: from the start), in the version the listing began with (C3). EACH returns
 * non-zero to stop; `current` says that the listing's version is still the present one. 0 or negative errno.
 */
int catalog_list(struct catalog *catalog, uint64_t parent, uint64_t cookie, catalog_list_fn each, void *arg);

/** The workspace path of INO (live or retired), appended to RET. CATALOG_NONE if unknown. */
int catalog_path(struct catalog *catalog, uint64_t ino, struct buffer *ret);

/** The live entry at the workspace path (checked, LEN bytes): CATALOG_OK, CATALOG_NONE or negative errno. */
int catalog_find_path(struct catalog *catalog, const char *path, size_t len, struct catalog_entry *ret);

/** The path of some live file that holds CONTENT (a search through all entries: for rare use), appended to RET. */
int catalog_find_content(struct catalog *catalog, const struct content_id *content, struct buffer *ret);

/** Calls EACH for every live file's content; contents that occur several times come several times. Non-zero ends it. */
int catalog_each_content(struct catalog *catalog,
                         int (*each)(const struct content_id *id, uint64_t size, void *arg), void *arg);

/* ---- taking a new version ---- */

enum catalog_change_op {
        CHANGE_ENTRY,      /* the name (parent, name of ino) now leads elsewhere or nowhere, or is new */
        CHANGE_ATTRIBUTES, /* mode or mtime of ino differ; its content is the same */
        CHANGE_LISTING,    /* folder ino lists other names or inode numbers than before */
};

struct catalog_change {
        enum catalog_change_op op;
        uint64_t
                ino; /* CHANGE_ENTRY: of the entry that came or went (readable by catalog_get, maybe retired) */
};

/** What a commit changed, in the order in which the kernel is to be told: entries, attributes, listings. */
struct catalog_changes {
        struct catalog_change *items; /* owned */
        size_t count;
        uint64_t added, removed, modified; /* entries; for the log and counters */
};

void catalog_changes_release(struct catalog_changes *changes);

/** Begins a version. -EBUSY: an update is under way. */
int catalog_update_begin(struct catalog *catalog, struct catalog_update **ret);

/**
 * Has HEAR called, during later puts, for every file whose known content OLD gives way to another one, NOW's; NOW
 * and its path are borrowed. For who wants the new content to be here before the version is.
 */
void catalog_update_on_replaced(struct catalog_update *update,
                                void (*hear)(const struct content_id *old, const struct entry *now,
                                             void *arg),
                                void *arg);

/**
 * One entry of the full listing, the root ("" path, a folder) included; parents come before their children, otherwise any order.
 * Checks everything: -EINVAL (path, mode, time or target out of bounds), -ENAMETOOLONG, -EEXIST (that path came already),
 * -ENOENT (its folder did not come), -ENOTDIR (its parent is no folder), -EFBIG (size or number of entries beyond all sense).
 * Database errors: -EIO, -ENOSPC. After any error only abort is possible.
 */
int catalog_update_put(struct catalog_update *update, const struct entry *entry);

/**
 * Retires whatever was not put and is not below something unknown, brings the digests up to date (only changed folders and
 * their ancestors), compares the root's with EXPECTED (NULL: no comparison) and commits. CATALOG_OK fills RET_CHANGES;
 * CATALOG_MISMATCH or negative errno change nothing (C4). Frees the update in every case.
 */
int catalog_update_commit(struct catalog_update *update, const uint8_t *expected, uint64_t revision,
                          struct catalog_changes *ret_changes);

/** Drops the update; NULL is fine. */
void catalog_update_abort(struct catalog_update *update);

/** Notes that the present version was confirmed now (synced_at), nothing else. */
int catalog_touch(struct catalog *catalog, uint64_t revision);

/** Computes every digest afresh from the entries and says whether the stored version still fits (promise 8). OK or MISMATCH. */
int catalog_check_digest(struct catalog *catalog);
