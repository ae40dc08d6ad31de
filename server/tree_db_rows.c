#include "server/tree_db.h"

#include <string.h>

#include "server/tree_db_private.h"

/* ---- reading rows ---- */

static int column_target(struct tree_db *db, sqlite3_stmt *statement, int column,
                         char target[ENTRY_TARGET_MAX + 1], struct tree_row *row)
{
        const void *data = sqlite3_column_blob(statement, column);
        size_t len = (size_t)sqlite3_column_bytes(statement, column);

        if (len > ENTRY_TARGET_MAX || (len > 0 && !data))
                return tree_db_damaged(db);
        if (len > 0)
                memcpy(target, data, len);
        target[len] = '\0';
        row->target = target;
        row->target_len = len;
        return 0;
}

static int column_md5(struct tree_db *db, sqlite3_stmt *statement, int column, uint8_t ret[HASH_MD5_BYTES])
{
        const void *data = sqlite3_column_blob(statement, column);

        if (!data || sqlite3_column_bytes(statement, column) != HASH_MD5_BYTES)
                return tree_db_damaged(db);
        memcpy(ret, data, HASH_MD5_BYTES);
        return 0;
}

static int read_row(struct tree_db *db, sqlite3_stmt *statement, char target[ENTRY_TARGET_MAX + 1],
                    struct tree_row *row)
{
        int64_t kind = sqlite3_column_int64(statement, 3);
        int r = tree_db_column_name(db, statement, 1, row->name, &row->name_len);

        if (r < 0)
                return r;
        row->parent = (uint64_t)sqlite3_column_int64(statement, 0);
        row->id = (uint64_t)sqlite3_column_int64(statement, 2);
        if (kind < ENTRY_UNKNOWN || kind > ENTRY_SYMLINK || (kind == ENTRY_DIRECTORY) != (row->id != 0) ||
            (row->parent == 0) != (row->name_len == 0))
                return tree_db_damaged(db);
        row->kind = (enum entry_kind)kind;
        row->unknown = sqlite3_column_int(statement, 4) != 0;
        row->racy = sqlite3_column_int(statement, 5) != 0;
        row->mode = (uint32_t)sqlite3_column_int64(statement, 6) & 07777;
        row->stamp.size = (uint64_t)sqlite3_column_int64(statement, 7);
        row->stamp.mtime_ns = sqlite3_column_int64(statement, 8);
        row->stamp.device = (uint64_t)sqlite3_column_int64(statement, 10);
        row->stamp.inode = (uint64_t)sqlite3_column_int64(statement, 11);
        row->stamp.ctime_ns = sqlite3_column_int64(statement, 12);
        row->has_md5 = sqlite3_column_type(statement, 13) != SQLITE_NULL;
        row->target = NULL;
        row->target_len = 0;
        row->linked = sqlite3_column_int(statement, 15) != 0;
        row->hash = db->base;
        r = tree_db_column_hash(db, statement, 9, row->digest);
        if (r == 0 && row->has_md5)
                r = column_md5(db, statement, 13, row->md5);
        if (r == 0 && kind == ENTRY_SYMLINK)
                r = column_target(db, statement, 14, target, row);
        return r;
}

int tree_db_lookup(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                   struct tree_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&db->sql, Q_LOOKUP, parent, name, name_len, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, TREE_NONE);
        if (r == 0)
                r = read_row(db, statement, db->targets[TREE_DB_LISTS], ret);
        sqlite3_reset(statement);
        return r;
}

int tree_db_list_begin(struct tree_db *db, enum tree_db_list list, uint64_t parent)
{
        int r = -EIO;

        tree_db_list_end(db, list);
        return sql_statement_with(&db->sql, Q_LIST + list, &parent, 1, &r) ? 0 : r;
}

int tree_db_list_next(struct tree_db *db, enum tree_db_list list, struct tree_row *ret)
{
        sqlite3_stmt *statement = db->sql.statements[Q_LIST + list];
        int r = sql_step(&db->sql, statement, TREE_NONE);

        if (r == 0)
                r = read_row(db, statement, db->targets[list], ret);
        if (r != TREE_OK)
                sqlite3_reset(statement);
        return r;
}

void tree_db_list_end(struct tree_db *db, enum tree_db_list list)
{
        sqlite3_reset(db->sql.statements[Q_LIST + list]);
}

/* Tells the folder and name of each row that STATEMENT yields. */
static int each_name(struct tree_db *db, sqlite3_stmt *statement, tree_db_name_fn each, void *arg)
{
        char name[PATH_NAME_MAX + 1];
        size_t name_len;
        int result = SQLITE_DONE, r = 0;

        while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
                r = tree_db_column_name(db, statement, 1, name, &name_len);
                if (r == 0)
                        r = each((uint64_t)sqlite3_column_int64(statement, 0), name, name_len, arg);
        }
        if (r == 0 && result != SQLITE_DONE)
                r = sql_error(&db->sql, result);
        sqlite3_reset(statement);
        return r;
}

int tree_db_each_racy(struct tree_db *db, tree_db_name_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_RACY, &r);

        return statement ? each_name(db, statement, each, arg) : r;
}

int tree_db_index_files(struct tree_db *db)
{
        return sql_run_with(&db->sql, Q_INDEX_FILES, NULL, 0);
}

int tree_db_each_file(struct tree_db *db, uint64_t device, uint64_t inode, tree_db_name_fn each, void *arg)
{
        const uint64_t values[] = { device, inode };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_FILES, values, 2, &r);

        return statement ? each_name(db, statement, each, arg) : r;
}

/* ---- writing rows ---- */

static int write_row(struct tree_db *db, enum query query, const struct tree_row *row)
{
        int r = -EIO;
        sqlite3_stmt *statement =
                sql_statement_named(&db->sql, query, row->parent, row->name, row->name_len, &r);

        if (!statement)
                return r;
        sql_bind_int(statement, 3, row->id);
        sql_bind_int(statement, 4, row->kind);
        sql_bind_int(statement, 5, row->unknown);
        sql_bind_int(statement, 6, row->racy);
        sql_bind_int(statement, 7, row->mode);
        sql_bind_int(statement, 8, row->stamp.size);
        sql_bind_int(statement, 9, (uint64_t)row->stamp.mtime_ns);
        sql_bind_blob(statement, 10, row->digest, hash_len(db->base));
        sql_bind_int(statement, 11, row->stamp.device);
        sql_bind_int(statement, 12, row->stamp.inode);
        sql_bind_int(statement, 13, (uint64_t)row->stamp.ctime_ns);
        sql_bind_blob(statement, 14, row->has_md5 ? row->md5 : NULL, HASH_MD5_BYTES);
        sql_bind_blob(statement, 15, row->kind == ENTRY_SYMLINK ? row->target : NULL, row->target_len);
        sql_bind_int(statement, 16, row->linked);
        return sql_run(&db->sql, statement);
}

int tree_db_insert(struct tree_db *db, const struct tree_row *row)
{
        return write_row(db, Q_INSERT, row);
}

int tree_db_replace(struct tree_db *db, const struct tree_row *row)
{
        return write_row(db, Q_REPLACE, row);
}

int tree_db_delete(struct tree_db *db, uint64_t parent, const char *name, size_t name_len)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&db->sql, Q_DELETE, parent, name, name_len, &r);

        return statement ? sql_run(&db->sql, statement) : r;
}

int tree_db_delete_children(struct tree_db *db, uint64_t parent)
{
        return sql_run_with(&db->sql, Q_DELETE_CHILDREN, &parent, 1);
}

static int set_hash(struct tree_db *db, sqlite3_stmt *statement, const uint8_t *hash, size_t len)
{
        sql_bind_blob(statement, 3, hash, len);
        return sql_run(&db->sql, statement);
}

int tree_db_set_digest(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                       const uint8_t digest[HASH_BYTES])
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&db->sql, Q_SET_DIGEST, parent, name, name_len, &r);

        return statement ? set_hash(db, statement, digest, hash_len(db->base)) : r;
}

int tree_db_set_md5(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                    const uint8_t md5[HASH_MD5_BYTES])
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&db->sql, Q_SET_MD5, parent, name, name_len, &r);

        return statement ? set_hash(db, statement, md5, HASH_MD5_BYTES) : r;
}

/* ---- folders by id ---- */

int tree_db_get_folder(struct tree_db *db, uint64_t id, struct tree_db_folder *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_FOLDER, &id, 1, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, TREE_NONE);
        if (r == 0) {
                ret->parent = (uint64_t)sqlite3_column_int64(statement, 0);
                r = tree_db_column_name(db, statement, 1, ret->name, &ret->name_len);
        }
        sqlite3_reset(statement);
        return r;
}

int tree_db_find_folder(struct tree_db *db, uint64_t device, uint64_t inode, uint64_t *ret_id)
{
        const uint64_t values[] = { device, inode };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_FIND_FOLDER, values, 2, &r);

        return statement ? tree_db_read_ints(db, statement, &ret_id, 1) : r;
}

int tree_db_insert_folder(struct tree_db *db, const struct tree_row *row)
{
        const uint64_t values[] = { row->id, row->parent };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_INSERT_FOLDER, values, 2, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 3, row->name, row->name_len);
        sql_bind_int(statement, 4, row->stamp.device);
        sql_bind_int(statement, 5, row->stamp.inode);
        return sql_run(&db->sql, statement);
}

int tree_db_restamp_folder(struct tree_db *db, const struct tree_row *row)
{
        const uint64_t values[] = { row->id, row->stamp.device, row->stamp.inode };

        return sql_run_with(&db->sql, Q_RESTAMP_FOLDER, values, 3);
}

int tree_db_delete_folder(struct tree_db *db, uint64_t id)
{
        return sql_run_with(&db->sql, Q_DELETE_FOLDER, &id, 1);
}
