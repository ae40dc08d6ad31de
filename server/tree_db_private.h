/*
 * What the files of the tree's database share: tree_db.c (connections), tree_db_rows.c, tree_db_journal.c. Nobody else includes it.
 */
#pragma once

#include <sqlite3.h>

#include "server/tree_db.h"

enum query {
        Q_BEGIN,
        Q_BEGIN_WRITE,
        Q_COMMIT,
        Q_META,
        Q_SET_META,
        Q_LOOKUP,
        Q_LIST,
        Q_RACY = Q_LIST + TREE_DB_LISTS,
        Q_INDEX_FILES,
        Q_FILES,
        Q_INSERT,
        Q_REPLACE,
        Q_DELETE,
        Q_DELETE_CHILDREN,
        Q_SET_DIGEST,
        Q_SET_MD5,
        Q_DETAIL,
        Q_PUT_DETAIL,
        Q_REPLACE_DETAIL,
        Q_DROP_DETAIL,
        Q_SWEEP_DETAILS,
        Q_FOLDER,
        Q_FIND_FOLDER,
        Q_INSERT_FOLDER,
        Q_RESTAMP_FOLDER,
        Q_DELETE_FOLDER,
        Q_NOTE,
        Q_CHANGES,
        Q_MOVE_CHANGES,
        Q_DROP_CHANGES,
        Q_COUNT_CHANGES,
        Q_PUT_VERSION,
        Q_VERSION,
        Q_NEXT_FLOOR,
        Q_DROP_VERSIONS,
        Q_CLEAR_FLOOR,
        Q_COUNT
};

/* Of whom a row's target is borrowed: the lists, and lookup. */
#define TARGETS (TREE_DB_LISTS + 1)

struct tree_db {
        sqlite3 *sqlite;          /* owned */
        enum hash_algorithm base; /* of all hashes but MD5s */
        bool writer, damaged;
        int log_pages;                     /* of the write-ahead log after the last commit */
        sqlite3_stmt *statements[Q_COUNT]; /* owned; prepared when first used */
        char targets[TARGETS][ENTRY_TARGET_MAX + 1];
};

/** As tree_db_errno, with the reason that the system gave where SQLite's code says less; notes damage. */
int tree_db_error(struct tree_db *db, int result);

/** The statement, or NULL and the error. */
sqlite3_stmt *tree_db_statement(struct tree_db *db, enum query query, int *ret_error);

/** As tree_db_statement, with N integers bound as the first parameters. */
sqlite3_stmt *tree_db_statement_with(struct tree_db *db, enum query query, const uint64_t *values, int n,
                                     int *ret_error);

/** As tree_db_statement, with a row's name bound as the first two parameters. */
sqlite3_stmt *tree_db_statement_named(struct tree_db *db, enum query query, uint64_t parent, const char *name,
                                      size_t name_len, int *ret_error);

void tree_db_bind_int(sqlite3_stmt *statement, int index, uint64_t value);

/** DATA is borrowed until the statement was run; NULL binds NULL, an empty name is a blob without bytes. */
void tree_db_bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t len);

/** Runs a statement that yields no rows. */
int tree_db_run(struct tree_db *db, sqlite3_stmt *statement);
int tree_db_run_with(struct tree_db *db, enum query query, const uint64_t *values, int n);

/** Reads a column that must be a hash by the base. -EUCLEAN. */
int tree_db_column_hash(struct tree_db *db, sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES]);

/** Reads a column that must be a name; the root's is empty. -EUCLEAN. */
int tree_db_column_name(struct tree_db *db, sqlite3_stmt *statement, int column, char ret[PATH_NAME_MAX + 1],
                        size_t *ret_len);

/** Reads N integers of the statement's one row. TREE_NONE. */
int tree_db_read_ints(struct tree_db *db, sqlite3_stmt *statement, uint64_t *const *ret, int n);
