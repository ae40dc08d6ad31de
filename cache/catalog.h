/*
 * The catalog: every entry of one workspace at one version, in SQLite, so that a tree of a million entries costs disk, not
 * memory. Serves the file system's lookups; takes new versions in one transaction while it does.
 *
 * Invariants (tests cite them):
 *  C1 Readers see the last committed version and nothing of one being written (WAL, one write transaction per version).
 *  C2 An inode number names one (path, content) for good: an unchanged file keeps its number over every sync and remount; a
 *     changed content, target or kind gets a number that was never used before in this catalog. Folders keep theirs by path.
 *  C3 Entries of older versions stay readable by inode number (they are retired, not removed) until nobody holds them (catalog_forget) or the catalog
 *     is opened next, and not just taken over, so that open files keep their content and a folder listing goes on in the version it began with, or, where
 *     that may have been forgotten, in the present one.
 *  C4 An update that fails, or whose digest is not the expected one, changes nothing.
 *  C5 What is unknown (struct entry) keeps what is already known at that path, subtree included.
 *  C6 A catalog belongs to one process at a time (flock); a second mount of the same source gets a slot of its own, begun as a
 *     copy of the newest one.
 *  C7 A damaged database is moved aside and begun anew: everything in it can be had from the master again. One in an older format
 *     is removed and begun anew.
 *  C8 A folder whose children are not all here, or not proved, is shown to nobody: not its names, nor what is below.
 *  C9 No byte of a tiny file is handed out that was not verified against its content's name at that moment.
 *
 * Layout: DIR/catalogs/<16 hex of XXH3-64 of SOURCE>/source (text), slotN.db (+ -wal, -shm), slotN.lock.
 * Thread-safe: any number of threads may read; one update at a time.
 */
#pragma once

#include "base/buffer.h"
#include "base/entry.h"
#include "base/path.h"

#define CATALOG_ROOT_INO 1

/** What to make room for at once (store_make_room) where a catalog says -ENOSPC: contents can be had again, and without it there are none. */
#define CATALOG_ROOM_BYTES (1u << 20)

struct catalog;
struct catalog_update;

/** Opens (or begins) the catalog of SOURCE within cache folder DIR and locks it. Negative errno; logs C7. */
int catalog_open(const char *dir, const char *source, struct catalog **ret);

/** What makes a catalog this process's own (C6), for a process that is to go on with it when this one has died. */
struct catalog_claim {
        int lock_fd; /* the lock lives as long as a descriptor of it */
        unsigned slot;
};

/** Borrowed: lock_fd is the catalog's. */
void catalog_get_claim(const struct catalog *catalog, struct catalog_claim *ret);

/**
 * Goes on with the catalog of a process that died: the one of CLAIM, whose descriptor is copied. As it was left, retired entries included, for the numbers and listings
 * of before are still in use. Negative errno; -EBADMSG: it is damaged, and cannot be begun anew now.
 */
int catalog_take_over(const char *dir, const char *source, const struct catalog_claim *claim,
                      struct catalog **ret);

/** NULL is fine. No reader may be under way. */
void catalog_free(struct catalog *catalog);

struct catalog_version {
        bool valid;   /* false: nothing was ever synced */
        bool loading; /* not all is here yet: see catalog_load_begin; digest and revision are the target's */
        enum hash_algorithm hash;   /* the tree's base, see base/hash.h */
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
        bool pending;    /* a folder whose children are not here yet */
        bool tiny; /* a file whose bytes came with its entry, or that has none: catalog_get_tiny, not store and fetch */
        size_t name_len;
        char name[PATH_NAME_MAX + 1];
};

enum catalog_result {
        CATALOG_OK = 0,
        CATALOG_NONE = 1,     /* no such entry */
        CATALOG_MISMATCH = 2, /* the digest is not the expected one */
        CATALOG_PENDING = 3,  /* the folder's children are not here yet: a load is under way */
};

/** The live entry NAME in folder PARENT: CATALOG_OK, CATALOG_NONE, CATALOG_PENDING or negative errno. */
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
 * non-zero to stop; `current` says that the listing's version is still the present one. 0, CATALOG_PENDING or negative errno.
 */
int catalog_list(struct catalog *catalog, uint64_t parent, uint64_t cookie, catalog_list_fn each, void *arg);

/** The cookie with which a listing of its folder, in the present version, goes on after entry INO (live or retired). */
uint64_t catalog_cookie(struct catalog *catalog, uint64_t ino);

/** The workspace path of INO (live or retired), appended to RET. CATALOG_NONE if unknown. */
int catalog_path(struct catalog *catalog, uint64_t ino, struct buffer *ret);

/** The live entry at the workspace path (checked, LEN bytes): CATALOG_OK, CATALOG_NONE, CATALOG_PENDING (a folder on the way) or negative errno. */
int catalog_find_path(struct catalog *catalog, const char *path, size_t len, struct catalog_entry *ret);

/** The path of some live file that holds CONTENT (a search through all entries: for rare use), appended to RET. */
int catalog_find_content(struct catalog *catalog, const struct content_id *content, struct buffer *ret);

/** Calls EACH for every live file whose content has a name. Non-zero ends it. */
int catalog_each_file(struct catalog *catalog, int (*each)(const struct catalog_entry *file, void *arg),
                      void *arg);

/**
 * The bytes of a file that came with its entry (struct entry, `data`) into DATA, ENTRY_TINY_MAX bytes: CATALOG_OK with RET_LEN. They are verified
 * against ENTRY's content: CATALOG_NONE says that they are damaged, which is logged, or that there are none, and the content is in the store or has to be
 * fetched. Negative errno. Of ENTRY, live or retired, only number, kind, size and content count. One look-up.
 */
int catalog_get_tiny(struct catalog *catalog, const struct catalog_entry *entry, uint8_t *data,
                     size_t *ret_len);

#define CATALOG_PREVIOUS_MAX 4096 /* replacements that are known; the last ones */

/**
 * Which content the file had that now holds CONTENT, a large one (by pieces), and had a large one before: most of their pieces may be the same. CATALOG_OK,
 * CATALOG_NONE (nothing is known) or negative errno. It may be in the store, or may not be; then the one before it may (but a file can go back to what it
 * held: the chain may be a ring). Survives restarts.
 */
int catalog_get_previous(struct catalog *catalog, const struct content_id *content, struct content_id *ret);

/* ---- taking a new version ---- */

enum catalog_change_op {
        /* The name (parent, name of ino) now leads elsewhere or nowhere, or is new. Not told of names in a folder that is new itself, or was
         * pending: nobody can have seen them. */
        CHANGE_ENTRY,
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

/** As if everything had changed, what was retired included: for a kernel that may not have been told all. -ENOMEM, -EIO. */
int catalog_all_changed(struct catalog *catalog, struct catalog_changes *ret);

void catalog_changes_release(struct catalog_changes *changes);

/**
 * Forgets what was retired in generation THROUGH or before it and is not held: IS_HELD says so, which is called on this thread, under no lock; who is not held then must never
 * be again. A folder stays as long as anything in it does. The rows go in the commits of the next versions, CATALOG_FORGET_MAX in each. Negative errno: nothing is forgotten.
 */
int catalog_forget(struct catalog *catalog, uint64_t through, bool (*is_held)(uint64_t ino, void *arg),
                   void *arg);

#define CATALOG_FORGET_MAX 65536u

/** For who takes over: what THROUGH the daemon before may have begun to forget. */
void catalog_set_forgotten(struct catalog *catalog, uint64_t through);

/** Begins a version, of the same base as the one there is (HASH_XXH3 if there is none). -EBUSY: an update is under way. */
int catalog_update_begin(struct catalog *catalog, struct catalog_update **ret);

/** The version is hashed by BASE; to be said before the first put. Where the last one was not, all folders get new digests. */
void catalog_update_set_hash(struct catalog_update *update, enum hash_algorithm base);

/**
 * Has HEAR called, during later puts, for every file whose known content OLD gives way to another one, NOW's; NOW
 * and its path are borrowed. For who wants the new content to be here before the version is.
 */
void catalog_update_on_replaced(struct catalog_update *update,
                                void (*hear)(const struct content_id *old, const struct entry *now,
                                             void *arg),
                                void *arg);

/**
 * One entry of a listing or of a difference; parents come before their children, otherwise any order. What is not put stays as it is, except
 * below a folder that was put with `whole`: what is there and was not put, and is not below something unknown, is retired by the commit. A full
 * listing is a root ("" path, a folder) that is `whole`. An entry that is `gone` is retired with all below it; that it is not there is fine.
 * Checks everything: -EINVAL (path, mode, time or target out of bounds; the root gone), -ENAMETOOLONG, -EEXIST (that path came already),
 * -ENOENT (its folder is not there, or lies in something whole and did not come), -ENOTDIR (its parent is no folder),
 * -EFBIG (size or number of entries beyond all sense). Database errors: -EIO, -ENOSPC. After any error only abort is possible.
 */
int catalog_update_put(struct catalog_update *update, const struct entry *entry);

/**
 * Brings the digests up to date (only changed folders and their ancestors), compares the root's with EXPECTED (NULL: no comparison)
 * and commits. -EINVAL: nothing was ever synced and no root came. CATALOG_OK fills RET_CHANGES; CATALOG_MISMATCH or negative errno
 * change nothing (C4). Frees the update in every case.
 */
int catalog_update_commit(struct catalog_update *update, const uint8_t *expected, uint64_t revision,
                          struct catalog_changes *ret_changes);

/** Drops the update; NULL is fine. */
void catalog_update_abort(struct catalog_update *update);

/* ---- the first version of a large tree, folder by folder ---- */

/*
 * A catalog without a version takes its first one as a load: entries in the order of a snapshot (a folder's children one after the other by
 * their names, then its subfolders', depth first), each folder proved against the digest that its parent named, from the
 * root digest down. What was saved is shown before all is there: a folder whole or not at all. A folder whose children are not here yet is `pending`:
 * catalog_lookup in it and catalog_list of it say CATALOG_PENDING. Saved parts survive a restart: the load goes on where it was.
 */
struct catalog_load;

struct catalog_load_target {
        enum hash_algorithm hash;   /* the tree's base */
        uint8_t digest[HASH_BYTES]; /* the root digest of the version being loaded */
        uint64_t revision;
        uint64_t offset; /* of the transfer, as catalog_load_save was told last; 0: from the beginning */
};

/** True if the catalog holds the beginning of a version: RET says of which, and how far. */
bool catalog_get_load(struct catalog *catalog, struct catalog_load_target *ret);

/**
 * Begins the load of TARGET, or goes on with it: at TARGET's offset, or if that is 0 from the root, and then what is here already is
 * dropped as it comes. A load of another version is dropped with what it brought, which is for when nobody has seen it; otherwise a
 * full listing as an update keeps the numbers and tells the changes. -EEXIST: there is a version already; -EINVAL: an offset that is
 * not the one saved last of this version; -EBUSY.
 */
int catalog_load_begin(struct catalog *catalog, const struct catalog_load_target *target,
                       struct catalog_load **ret);

/**
 * The next entry; the root ("" path) first. Entries of folders that are here already are looked at and dropped. Errors as catalog_update_put, and
 * -EBADMSG: a folder's children do not have the digest that was named, or an entry comes out of order, or more come again than are here. After an error only free is possible;
 * what was saved stays.
 */
int catalog_load_put(struct catalog_load *load, const struct entry *entry);

/** Commits the folders that are complete, so that readers see them, and where the transfer stands. */
int catalog_load_save(struct catalog_load *load, uint64_t offset);

/**
 * From another thread than the load's, while a load exists: all children of the pending folder INO, asked for out of turn; proved against
 * its digest and shown at once. Of the entries' paths only the last component counts; they come in order of their names. Waits for a save of
 * the load at most. -EBADMSG: not its children; -ENOENT: not pending (any more); -EAGAIN: no load is under way, or it has failed; and as
 * catalog_load_put.
 */
int catalog_load_folder(struct catalog *catalog, uint64_t ino, const struct entry *entries, size_t n);

/** The last entry was put: proves that nothing is missing, and makes it the catalog's version. -EBADMSG. Frees the load in every case. */
int catalog_load_finish(struct catalog_load *load);

/** Gives up; what was saved stays. NULL is fine. */
void catalog_load_free(struct catalog_load *load);

/** Notes that the present version was confirmed now (synced_at, revision), nothing else. Costs no fsync. */
int catalog_touch(struct catalog *catalog, uint64_t revision);

/** Computes every digest afresh from the entries and says whether the stored version still fits (promise 8). OK or MISMATCH. */
int catalog_check_digest(struct catalog *catalog);
