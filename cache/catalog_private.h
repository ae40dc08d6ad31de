/*
 * What the units of the catalog share: the open catalog, its readers, entries as rows, the digest of a folder.
 */
#pragma once

#include <stdatomic.h>

#include "base/lock.h"
#include "cache/catalog_db.h"

#define CATALOG_ENTRIES_MAX UINT64_C(50000000)  /* of one version */
#define CATALOG_INO_MAX     (UINT64_C(1) << 43) /* what a listing's cookie has room for */

/*
 * Pages of 4 KiB in the log from which it is moved into the database: so much, and no more, opening a catalog has to go through, and
 * a reader to search. A load comes in large commits, which would otherwise each wait for the disk.
 */
#define LOG_PAGES      1024
#define LOAD_LOG_PAGES 4096

/* ---- slots: which database of a source is ours (catalog_slot.c) ---- */

struct catalog_slot {
        int dir_fd;  /* owned; the source's folder */
        int lock_fd; /* owned; slotN.lock, locked: C6 */
        unsigned number;
        char *dir;  /* owned; the source's folder as an absolute path, which is what SQLite wants */
        char *path; /* owned; slotN.db */
};

/** Makes the source's folder if need be and locks the first slot that is free. -EBUSY: all are taken. */
int catalog_slot_take(const char *dir, const char *source, struct catalog_slot *ret);

/** As catalog_slot_take, for the slot of CLAIM. */
int catalog_slot_inherit(const char *dir, const char *source, const struct catalog_claim *claim,
                         struct catalog_slot *ret);

void catalog_slot_release(struct catalog_slot *slot);

/** Opens the slot's database, cleared of retired rows; a damaged one is moved aside (C7), an empty one copied from the newest (C6). */
int catalog_slot_open(struct catalog_slot *slot, struct db **ret_writer, struct db_version *ret_version);

/** Opens the slot's database as it is. */
int catalog_slot_reopen(struct catalog_slot *slot, struct db **ret_writer, struct db_version *ret_version);

/** Notes that the database turned out damaged: the next catalog_slot_open moves it aside. */
void catalog_slot_suspect(struct catalog_slot *slot);

/* ---- the open catalog (catalog.c, its readers: catalog_readers.c) ---- */

/** A connection with a snapshot that is kept from one query to the next. Owned by who took it. */
struct catalog_reader {
        struct db *db;       /* owned */
        bool snapshot;       /* a transaction is open */
        uint64_t generation; /* of the snapshot */
        bool loading;        /* in the snapshot, folders may be pending */
        struct catalog_reader *next;
};

struct ino_list {
        uint64_t *items; /* owned */
        size_t count, capacity;
};

/** Appends INO; -ENOMEM. */
int ino_list_add(struct ino_list *list, uint64_t ino);

struct catalog {
        struct catalog_slot slot;
        struct db *writer;           /* owned; used by who set `writing` */
        _Atomic uint64_t generation; /* as version.shown.generation, for listings that compare it per entry */
        _Atomic uint64_t forgotten;  /* the last generation of which retired rows may be gone */
        atomic_bool suspect;         /* catalog_slot_suspect was called */
        struct mutex mutex;
        struct db_version version TSA_GUARDED(mutex);
        uint64_t seen TSA_GUARDED(mutex); /* the newest generation that a reader was given */
        bool writing TSA_GUARDED(mutex);
        struct ino_list unheld TSA_GUARDED(mutex); /* owned: rows to be removed, in rising order */
        struct catalog_reader *idle TSA_GUARDED(mutex);
        unsigned n_idle TSA_GUARDED(mutex);
        unsigned n_readers TSA_GUARDED(mutex); /* that exist, idle or not */
        unsigned n_reading TSA_GUARDED(mutex);
        unsigned n_wanting TSA_GUARDED(mutex); /* threads that could not open one and wait for the next */
        bool emptying_log TSA_GUARDED(mutex);  /* new readers wait a moment */
        struct condition readers_changed;

        /* The load under way, between its own thread and those that ask for folders out of turn (catalog_load.c). */
        struct mutex
                load_lock; /* held over the load's commits: to take turns is its purpose; taken before mutex */
        struct condition load_turn;
        struct catalog_load *load TSA_GUARDED(load_lock);
        atomic_uint load_waiting; /* threads in catalog_load_folder: the load lets them go first */
};

/** A reader whose snapshot is no older than the present version, or than any that was given before. */
int catalog_reader_take(struct catalog *catalog, struct catalog_reader **ret);

/** Moves the reader on to the newest version. Whoever has seen it sees no older one again. */
int catalog_reader_renew(struct catalog *catalog, struct catalog_reader *reader);

/** Frees the idle readers; none is in use. */
void catalog_readers_free(struct catalog *catalog);

/** Gives the reader back after a query that returned R, which is passed on. */
int catalog_reader_give(struct catalog *catalog, struct catalog_reader *reader, int r);

/** Takes the writer, with a write transaction begun. -EBUSY: somebody has it. */
int catalog_writer_take(struct catalog *catalog, struct db_version *ret_version);

/**
 * Ends the transaction and gives the writer back: with VERSION commits it and makes it the present one, else rolls back.
 * R is what led here and is passed on if it is not 0.
 */
int catalog_writer_give(struct catalog *catalog, const struct db_version *version, int r);

/** If R says that the database is damaged, sees to it that the next open knows. Returns R. */
int catalog_note_damage(struct catalog *catalog, int r);

/** Publishes VERSION, which was committed, as the present one. */
void catalog_publish(struct catalog *catalog, const struct db_version *version);

/** Moves the log into the database if it holds PAGES or more. The writer is the caller's, without a transaction. */
void catalog_checkpoint(struct catalog *catalog, int pages);

/** The path of INO, live or retired, appended to RET. CATALOG_NONE; -EBADMSG. */
int catalog_path_of(struct db *db, uint64_t ino, struct buffer *ret);

/* ---- entries as rows (catalog_entry.c) ---- */

/** Whether ENTRY may be put into a tree of BASE: -EINVAL, -ENAMETOOLONG, -EFBIG as catalog_update_put. */
int catalog_check_entry(enum hash_algorithm base, const struct entry *entry);

/** The row that the checked ENTRY would be in a tree of BASE, but for numbers and name; a folder's digest is left out. */
void catalog_row_from_entry(enum hash_algorithm base, const struct entry *entry, struct db_row *ret);

/** Counts ROW in (BY 1) or out (-1: counts are unsigned and wrap). */
void catalog_count_row(struct db_version *version, const struct db_row *row, uint64_t by);

/* ---- digests (catalog_digest.c) ---- */

/** Adds child ROW to the digest of its folder. */
void catalog_digest_add(struct hasher *h, const struct db_row *row);

/** The digest of live folder INO from its children's rows. H: a hasher for the tree's base, reset here. */
int catalog_folder_digest(struct db *db, uint64_t ino, struct hasher *h, uint8_t ret[HASH_BYTES]);

/** Whether all that DB shows as VERSION, which is valid, adds up to its digest: CATALOG_OK, CATALOG_MISMATCH or negative errno. */
int catalog_check_rows(struct db *db, const struct db_version *version);

/** The root digest by BASE, from the root's row. -EBADMSG if there is none. */
int catalog_tree_digest(struct db *db, enum hash_algorithm base, uint8_t ret[HASH_BYTES]);

/* ---- contents (catalog_content.c) ---- */

/**
 * What goes into the database beside ROW, which ENTRY is: a symlink's target, or a tiny file's bytes, if they are what its content's name says (others
 * are logged and left out). *RET NULL: nothing. Borrowed from ENTRY.
 */
void catalog_row_data(const struct db_row *row, const struct entry *entry, const void **ret, size_t *ret_len);
