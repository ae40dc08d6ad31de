/*
 * What the units of the catalog share: the open catalog, its readers, the digest of a folder.
 */
#pragma once

#include <stdatomic.h>

#include "base/lock.h"
#include "cache/catalog_db.h"

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

void catalog_slot_release(struct catalog_slot *slot);

/** Opens the slot's database, cleared of retired rows; a damaged one is moved aside (C7), an empty one copied from the newest (C6). */
int catalog_slot_open(struct catalog_slot *slot, struct db **ret_writer, struct db_version *ret_version);

/** Notes that the database turned out damaged: the next catalog_slot_open moves it aside. */
void catalog_slot_suspect(struct catalog_slot *slot);

/* ---- the open catalog (catalog.c) ---- */

/** A connection with a snapshot that is kept from one query to the next. Owned by who took it. */
struct catalog_reader {
        struct db *db;       /* owned */
        bool snapshot;       /* a transaction is open */
        uint64_t generation; /* of the snapshot */
        struct catalog_reader *next;
};

struct catalog {
        struct catalog_slot slot;
        struct db *writer;           /* owned; used by who set `writing` */
        _Atomic uint64_t generation; /* as version.shown.generation, for listings that compare it per entry */
        atomic_bool suspect;         /* catalog_slot_suspect was called */
        struct mutex mutex;
        struct db_version version TSA_GUARDED(mutex);
        bool writing TSA_GUARDED(mutex);
        struct catalog_reader *idle TSA_GUARDED(mutex);
        unsigned n_idle TSA_GUARDED(mutex);
};

/** A reader whose snapshot is no older than the present version. */
int catalog_reader_take(struct catalog *catalog, struct catalog_reader **ret);

/** Moves the reader on to the newest version. */
int catalog_reader_renew(struct catalog_reader *reader);

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

/* ---- digests (catalog_digest.c) ---- */

/** The digest of live folder INO from its children's rows. H: a hasher for HASH_XXH3, reset here. */
int catalog_folder_digest(struct db *db, uint64_t ino, struct hasher *h, uint8_t ret[HASH_BYTES]);

/** The root digest, from the root's row. -EBADMSG if there is none. */
int catalog_tree_digest(struct db *db, uint8_t ret[HASH_BYTES]);
