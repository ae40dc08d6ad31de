/*
 * The catalog's database: tables, queries, rows. The only unit of cache/ that knows SQLite (base/sql.h); it knows nothing of versions, readers or
 * digests beyond storing them.
 *
 * A connection is used by one thread at a time. Functions return CATALOG_OK, CATALOG_NONE where it says so, or negative errno:
 * -ENOSPC, -EIO, -ENOMEM, -EBUSY, -EROFS, -EACCES, -EBADMSG (the database is damaged or not ours).
 */
#pragma once

#include "cache/catalog.h"

struct db;

/** One row of the entry table. entry.content.bytes: files: hash, symlinks: hash_bytes of the target, folders: their digest. */
struct db_row {
        struct catalog_entry entry;
        size_t hash_len; /* of entry.content.bytes: of links and folders, whose algorithm is none, that of their tree's base */
        uint64_t born; /* the generation that brought it */
        uint64_t died; /* the generation that retired it; 0: live */
        bool unknown;  /* the master could not read it when it was last asked */
};

/** The one row about the version. */
struct db_version {
        struct catalog_version shown;
        uint64_t next_ino; /* never used before */
        uint64_t rows;     /* live rows, those that are not shown included */
        /* While it is loading; see catalog_load.c. */
        uint64_t load_offset;  /* of the transfer, as of the last save */
        uint64_t load_folder;  /* in which the load stood then; 0: in none */
        uint64_t load_rows;    /* how many of its children had come */
        uint64_t load_pending; /* how many folders are pending */
        uint64_t
                load_open; /* the folder that the load was in when this was committed, which may be later; 0: in none */
};

/* Flags of a row on disk. */
#define DB_UNKNOWN 1
#define DB_PENDING 2

#define DB_LIVE UINT64_C(0x7fffffffffffffff) /* as a generation: the rows that are live */

/**
 * Opens the database at PATH for the catalog's one writer; begins it if it is empty. -EBADMSG also if it is no catalog,
 * -EPROTONOSUPPORT if a newer build made it, -ESTALE if an older one did.
 */
int db_open_writer(const char *path, struct db **ret);

/** Opens for reading only. */
int db_open_reader(const char *path, struct db **ret);

/** Has SQLite look at the structure of the whole database: 0, or -EBADMSG. */
int db_check(struct db *db);

/** NULL is fine. Drops an open transaction. */
void db_close(struct db *db);

/** Begins a transaction: a snapshot for a reader (taken at its first query), the one write lock for the writer. */
int db_begin(struct db *db);
int db_commit(struct db *db);
void db_rollback(struct db *db);

/** Pages in the write-ahead log, as of the last commit. */
int db_log_pages(const struct db *db);

/** Moves the write-ahead log into the database as far as readers allow. Nothing else here waits for the disk. */
int db_checkpoint(struct db *db);

/** Empties the log if all of it was moved and no reader is in it, else leaves it. Writes nothing, if db_checkpoint moved all. */
int db_truncate_log(struct db *db);

/** Gives back what memory the page cache can do without. */
void db_release_memory(struct db *db);

/** Replaces all of DB's contents by those of the database at PATH, in one transaction. */
int db_copy(struct db *db, const char *path);

int db_read_version(struct db *db, struct db_version *ret);
int db_write_version(struct db *db, const struct db_version *version);

/** The live row NAME in folder PARENT; CATALOG_NONE. */
int db_lookup(struct db *db, uint64_t parent, const char *name, size_t name_len, struct db_row *ret);

/** The row INO, live or not; CATALOG_NONE. */
int db_get(struct db *db, uint64_t ino, struct db_row *ret);

/** What is kept with INO if it is of KIND, appended: a symlink's target, a tiny file's bytes; CATALOG_NONE. */
int db_data(struct db *db, uint64_t ino, enum entry_kind kind, struct buffer *ret);

/** Hears of each row; non-zero ends the walk and is returned by it. May query the same connection, but not start a like walk. */
typedef int (*db_row_fn)(const struct db_row *row, void *arg);

struct db_list {
        uint64_t parent;
        const char *after; /* names after this one; "" for all */
        size_t after_len;
        uint64_t generation; /* as of this one, or DB_LIVE */
};

/** The rows of one folder in order of their names' bytes. */
int db_list(struct db *db, const struct db_list *list, db_row_fn each, void *arg);

/** All live rows in no order. EACH must not write. */
int db_each_live(struct db *db, db_row_fn each, void *arg);

/** The same of all rows, retired ones included. */
int db_each(struct db *db, db_row_fn each, void *arg);

/** All rows that were retired in generation THROUGH or before. EACH must not write. */
int db_each_retired(struct db *db, uint64_t through, db_row_fn each, void *arg);

/** Adds ROW (all of it but died) with what db_data returns of it, NULL: nothing. -EEXIST: its name is there already. */
int db_insert(struct db *db, const struct db_row *row, const void *data, size_t len);

int db_set_attributes(struct db *db, uint64_t ino, uint32_t mode, int64_t mtime_ns, bool unknown);
int db_set_digest(struct db *db, uint64_t ino, const uint8_t *digest, size_t len);
int db_clear_pending(struct db *db, uint64_t ino);

/** Removes the live rows of folder PARENT whose names come after AFTER ("": all but the root's own), for rows that were never shown. */
int db_delete_children(struct db *db, uint64_t parent, const char *after, size_t after_len);

int db_retire(struct db *db, uint64_t ino, uint64_t generation);
int db_delete_retired(struct db *db);

/** Removes the row INO if it is retired and there is no row, live or retired, of which it is the folder. */
int db_forget(struct db *db, uint64_t ino);

int db_delete_all(struct db *db);

/** Which large content had the place that content NOW has; CATALOG_NONE. */
int db_previous(struct db *db, const struct content_id *now, struct content_id *ret);

/** Notes that OLD gave way to NOW, both by the pieces of one base, and forgets what was noted more than MAX notes ago. */
int db_set_previous(struct db *db, const struct content_id *now, const struct content_id *old, uint64_t max);
