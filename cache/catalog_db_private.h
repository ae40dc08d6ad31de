/*
 * What the two halves of the database's unit share: catalog_db.c (connections, transactions) and catalog_rows.c (the version,
 * the entries). Nobody else includes this, and nobody else sees SQLite.
 */
#pragma once

#include <assert.h>
#include <string.h>

#include <sqlite3.h>

#include "cache/catalog_db.h"

enum query {
        Q_BEGIN,
        Q_BEGIN_WRITE,
        Q_COMMIT,
        Q_VERSION,
        Q_SET_VERSION,
        Q_LOOKUP,
        Q_GET,
        Q_DATA,
        Q_LIST,
        Q_ALL,
        Q_LIVE,
        Q_INSERT,
        Q_SET_ATTRIBUTES,
        Q_SET_DIGEST,
        Q_CLEAR_PENDING,
        Q_RETIRE,
        Q_DELETE_CHILDREN,
        Q_DELETE_RETIRED,
        Q_DELETE_ALL,
        Q_PREVIOUS,
        Q_SET_PREVIOUS,
        Q_FORGET_PREVIOUS,
        Q_COUNT
};

struct db {
        sqlite3 *sqlite; /* owned */
        bool writer;
        bool log_empty;                    /* writer: the log holds nothing of before, see begin_write */
        bool unsynced;                     /* writer: this transaction runs with synchronous = OFF */
        int log_pages;                     /* writer: in the log, as of the last commit */
        sqlite3_stmt *statements[Q_COUNT]; /* owned; prepared when first used */
};

/* Bytes at the end of each page of a database: the XXH3-64 of the others, this machine's byte order (catalog_vfs.c). */
#define PAGE_SUM_BYTES 8
#define DB_VFS         "fsyncfs-catalog"

/** Makes SQLite know the layer by which databases are to be opened (DB_VFS). Once. */
int db_register_vfs(void);

/** As db_errno, with the reason that the system gave where SQLite's code says less. */
int db_error(struct db *db, int result);

/** The statement, or NULL and the error. */
sqlite3_stmt *db_statement(struct db *db, enum query query, int *ret_error);

/** Runs a statement that yields no rows. */
int db_run(struct db *db, sqlite3_stmt *statement);

int db_run_query(struct db *db, enum query query);

/* Binding fails only for lack of memory (integers, static blobs: never) or a wrong index. */
static inline void bind_int(sqlite3_stmt *statement, int index, uint64_t value)
{
        int r _unused_ = sqlite3_bind_int64(statement, index, (sqlite3_int64)value);
        assert(r == SQLITE_OK);
}

static inline void bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t len)
{
        int r _unused_ = sqlite3_bind_blob(statement, index, data, (int)len, SQLITE_STATIC);
        assert(r == SQLITE_OK);
}

static inline int column_hash(sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES], size_t *ret_len)
{
        size_t len = (size_t)sqlite3_column_bytes(statement, column);

        if (hash_of_len(len) == HASH_NONE)
                return -EBADMSG;
        hash_take(ret, sqlite3_column_blob(statement, column), len);
        *ret_len = len;
        return 0;
}
