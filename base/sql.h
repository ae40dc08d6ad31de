/*
 * SQLite as both databases use it, the catalog of a worker and the tree of a master: connections, their statements, and SQLite's results as errno. What is in the tables is
 * theirs. Nothing else includes <sqlite3.h>, and one unit of cache/ and one of server/ include this.
 *
 * A database has a write-ahead log: readers go on while a version is written. A connection is used by one thread at a time. Functions return 0 or negative errno: -ENOSPC, -EIO,
 * -ENOMEM, -EBUSY, -EROFS, -EACCES, -EBADMSG (the database is damaged or not ours).
 */
#pragma once

#include <assert.h>
#include <stdbool.h>

#include <sqlite3.h>

#include "base/util.h"

/** The first queries of every database; its own begin after them. */
enum sql_query { SQL_BEGIN, SQL_BEGIN_WRITE, SQL_COMMIT, SQL_QUERIES };

/** A connection. Whoever opens it says what the first four are. */
struct sql {
        const char *const *queries; /* static; from SQL_QUERIES on */
        unsigned n_queries;         /* SQL_QUERIES included */
        bool writer;                /* the one that there is; otherwise it only reads */
        const char *vfs;            /* NULL: SQLite's own */
        bool damaged;               /* something was read that cannot have been written by us */
        int log_pages; /* writer: of the write-ahead log, as of the last commit; 0: none was made since it was opened or emptied */
        sqlite3 *sqlite;           /* owned */
        sqlite3_stmt **statements; /* owned; each prepared when first used */
};

/** The errno for a result code (extended ones too): 0 for OK, ROW and DONE, else negative, -EIO for what is not in the table. */
int sql_errno(int result);

/** The same, with the reason that the system gave where SQLite's code says less; notes damage. */
int sql_error(struct sql *sql, int result);

/** Says that what was read makes no sense. -EBADMSG. */
int sql_damaged(struct sql *sql);

/* ---- opening ---- */

/** Opens the database at PATH; a writer begins an empty file if there is none. After an error SQL is closed. */
int sql_open(struct sql *sql, const char *path);

/** A zeroed one is fine. Drops an open transaction. */
void sql_close(struct sql *sql);

/** The version (from 1) of our format that the database has, if it is of APPLICATION; 0: it is empty. */
int sql_read_format(struct sql *sql, int64_t application, int64_t *ret_version);

/**
 * Has the writer use a write-ahead log. NORMAL: a power cut may cost the last versions, never consistency. The log is moved into the database by sql_checkpoint alone. -EOPNOTSUPP:
 * the file system cannot.
 */
int sql_use_log(struct sql *sql);

/* ---- statements ---- */

/** The statement of QUERY, or NULL and the error. */
sqlite3_stmt *sql_statement(struct sql *sql, unsigned query, int *ret_error);

/** As sql_statement, with N integers bound as the first parameters. */
sqlite3_stmt *sql_statement_with(struct sql *sql, unsigned query, const uint64_t *values, int n,
                                 int *ret_error);

/** As sql_statement, with a folder's number and a name in it bound as the first two parameters. */
sqlite3_stmt *sql_statement_named(struct sql *sql, unsigned query, uint64_t parent, const char *name,
                                  size_t name_len, int *ret_error);

/** Goes to the next row; NONE: there is no more. It is for the caller to reset the statement. */
int sql_step(struct sql *sql, sqlite3_stmt *statement, int none);

/** Runs a statement that yields no rows. */
int sql_run(struct sql *sql, sqlite3_stmt *statement);
int sql_run_with(struct sql *sql, unsigned query, const uint64_t *values, int n);

/** Runs TEXT, of any number of statements, once. */
int sql_exec(struct sql *sql, const char *text);

/** Reads the one integer that TEXT asks for. */
int sql_read_int(struct sql *sql, const char *text, int64_t *ret);

/** 0 if what TEXT asks for is EXPECTED, OTHERWISE if not. */
int sql_expect(struct sql *sql, const char *text, const char *expected, int otherwise);

/* Binding fails only for lack of memory (integers, static blobs: never) or a wrong index. */
static inline void sql_bind_int(sqlite3_stmt *statement, int index, uint64_t value)
{
        int r _unused_ = sqlite3_bind_int64(statement, index, (sqlite3_int64)value);
        assert(r == SQLITE_OK);
}

/** DATA is borrowed until the statement was run; NULL binds NULL, an empty name is a blob without bytes. */
static inline void sql_bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t len)
{
        int r _unused_ = sqlite3_bind_blob(statement, index, data, (int)len, SQLITE_STATIC);
        assert(r == SQLITE_OK);
}

/* ---- transactions ---- */

/** Begins a transaction: a snapshot for a reader (taken at its first query), the one write lock for the writer. */
int sql_begin(struct sql *sql);

/** -EIO also if SQLite has dropped the transaction because of an earlier error. */
int sql_commit(struct sql *sql);
bool sql_in_transaction(const struct sql *sql);

/** Without a transaction it does nothing. */
void sql_rollback(struct sql *sql);

/** Moves the log into the database as far as readers allow, without waiting for them; EMPTY: all of it and empties it, or -EBUSY. */
int sql_checkpoint(struct sql *sql, bool empty);
