/*
 * What the two halves of the database's unit share: catalog_db.c (connections, transactions) and catalog_rows.c (the version,
 * the entries). Nobody else includes this, and nobody else of cache/ sees SQLite.
 */
#pragma once

#include <string.h>

#include "base/sql.h"
#include "cache/catalog_db.h"

enum query {
        Q_VERSION = SQL_QUERIES,
        Q_SET_VERSION,
        Q_LOOKUP,
        Q_GET,
        Q_DATA,
        Q_LIST,
        Q_ALL,
        Q_LIVE,
        Q_RETIRED,
        Q_INSERT,
        Q_SET_ATTRIBUTES,
        Q_SET_DIGEST,
        Q_CLEAR_PENDING,
        Q_RETIRE,
        Q_DELETE_CHILDREN,
        Q_DELETE_RETIRED,
        Q_FORGET,
        Q_DELETE_ALL,
        Q_PREVIOUS,
        Q_SET_PREVIOUS,
        Q_FORGET_PREVIOUS,
        Q_COUNT
};

struct db {
        struct sql sql;
        bool log_empty; /* writer: the log holds nothing of before, see begin_write */
        bool unsynced;  /* writer: this transaction runs with synchronous = OFF */
};

/* Bytes at the end of each page of a database: the XXH3-64 of the others, this machine's byte order (catalog_vfs.c). */
#define PAGE_SUM_BYTES 8
#define DB_VFS         "fsyncfs-catalog"

/** Makes SQLite know the layer by which databases are to be opened (DB_VFS). Once. */
int db_register_vfs(void);

static inline int column_hash(sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES], size_t *ret_len)
{
        size_t len = (size_t)sqlite3_column_bytes(statement, column);

        if (hash_of_len(len) == HASH_NONE)
                return -EBADMSG;
        hash_take(ret, sqlite3_column_blob(statement, column), len);
        *ret_len = len;
        return 0;
}
