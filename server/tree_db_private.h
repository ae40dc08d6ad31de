/*
 * What the files of the tree's database share: tree_db.c (connections), tree_db_rows.c, tree_db_journal.c. Nobody else includes it.
 */
#pragma once

#include "base/sql.h"
#include "server/tree_db.h"

enum query {
        Q_META = SQL_QUERIES,
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
        struct sql sql;
        enum hash_algorithm base; /* of all hashes but MD5s */
        char targets[TARGETS][ENTRY_TARGET_MAX + 1];
};

/** Reads a column that must be a hash by the base. -EBADMSG. */
int tree_db_column_hash(struct tree_db *db, sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES]);

/** Reads a column that must be a name; the root's is empty. -EBADMSG. */
int tree_db_column_name(struct tree_db *db, sqlite3_stmt *statement, int column, char ret[PATH_NAME_MAX + 1],
                        size_t *ret_len);

/** Reads N integers of the statement's one row. TREE_NONE. */
int tree_db_read_ints(struct tree_db *db, sqlite3_stmt *statement, uint64_t *const *ret, int n);
