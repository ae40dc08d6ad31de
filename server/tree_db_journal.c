#include "server/tree_db.h"

#include "server/tree_db_private.h"

/* ---- the present version ---- */

#define META_NUMBERS 9

int tree_db_read_meta(struct tree_db *db, struct tree_meta *ret)
{
        struct tree_meta m = { 0 };
        struct tree_version *v = &m.version;
        uint64_t *const numbers[META_NUMBERS] = { &v->revision, &v->entries,  &v->files,
                                                  &v->folders,  &v->symlinks, &v->bytes,
                                                  &v->unknown,  &m.next_id,   &m.journal_rows };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_META, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, TREE_NONE);
        if (r == 0) {
                v->valid = sqlite3_column_int(statement, 0) != 0;
                r = tree_db_column_hash(db, statement, 1, v->digest);
                for (int i = 0; i < META_NUMBERS; i++)
                        *numbers[i] = (uint64_t)sqlite3_column_int64(statement, i + 2);
        } else if (r == TREE_NONE) {
                r = tree_db_damaged(db);
        }
        sqlite3_reset(statement);
        if (r == 0)
                *ret = m;
        return r;
}

int tree_db_write_meta(struct tree_db *db, const struct tree_meta *meta)
{
        const struct tree_version *v = &meta->version;
        const uint64_t numbers[META_NUMBERS] = { v->revision, v->entries,    v->files,
                                                 v->folders,  v->symlinks,   v->bytes,
                                                 v->unknown,  meta->next_id, meta->journal_rows };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_SET_META, &r);

        if (!statement)
                return r;
        sql_bind_int(statement, 1, v->valid);
        sql_bind_blob(statement, 2, v->digest, hash_len(db->base));
        for (int i = 0; i < META_NUMBERS; i++)
                sql_bind_int(statement, i + 3, numbers[i]);
        return sql_run(&db->sql, statement);
}

/* ---- journal ---- */

int tree_db_note(struct tree_db *db, const struct tree_db_change *change)
{
        const uint64_t values[] = { change->revision, change->parent };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_NOTE, values, 2, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 3, change->name, change->name_len);
        sql_bind_int(statement, 4, change->whole);
        return sql_run(&db->sql, statement);
}

int tree_db_each_change(struct tree_db *db, uint64_t since,
                        int (*each)(const struct tree_db_change *change, void *arg), void *arg)
{
        char name[PATH_NAME_MAX + 1];
        struct tree_db_change change = { .name = name };
        int result = SQLITE_DONE, r = 0;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_CHANGES, &since, 1, &r);

        if (!statement)
                return r;
        while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
                change.revision = (uint64_t)sqlite3_column_int64(statement, 0);
                change.parent = (uint64_t)sqlite3_column_int64(statement, 1);
                change.whole = sqlite3_column_int(statement, 3) != 0;
                r = tree_db_column_name(db, statement, 2, name, &change.name_len);
                if (r == 0)
                        r = each(&change, arg);
        }
        if (r == 0 && result != SQLITE_DONE)
                r = sql_error(&db->sql, result);
        sqlite3_reset(statement);
        return r;
}

int tree_db_move_changes(struct tree_db *db, uint64_t from, uint64_t to)
{
        const uint64_t values[] = { from, to }, range[] = { from, from };
        int r = sql_run_with(&db->sql, Q_MOVE_CHANGES, values, 2);

        return r < 0 ? r : sql_run_with(&db->sql, Q_DROP_CHANGES, range, 2);
}

int tree_db_count_changes(struct tree_db *db, uint64_t revision, uint64_t *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_COUNT_CHANGES, &revision, 1, &r);

        return statement ? tree_db_read_ints(db, statement, &ret, 1) : r;
}

int tree_db_put_version(struct tree_db *db, uint64_t revision, const uint8_t digest[HASH_BYTES],
                        uint64_t changes)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_PUT_VERSION, &revision, 1, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 2, digest, hash_len(db->base));
        sql_bind_int(statement, 3, changes);
        return sql_run(&db->sql, statement);
}

int tree_db_get_version(struct tree_db *db, uint64_t revision, uint8_t ret_digest[HASH_BYTES])
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(&db->sql, Q_VERSION, &revision, 1, &r);

        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, TREE_NONE);
        if (r == 0)
                r = tree_db_column_hash(db, statement, 0, ret_digest);
        sqlite3_reset(statement);
        return r;
}

int tree_db_next_floor(struct tree_db *db, uint64_t *ret_revision, uint64_t *ret_changes)
{
        uint64_t *const numbers[] = { ret_revision, ret_changes };
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement(&db->sql, Q_NEXT_FLOOR, &r);

        return statement ? tree_db_read_ints(db, statement, numbers, 2) : r;
}

int tree_db_set_floor(struct tree_db *db, uint64_t revision)
{
        const uint64_t range[] = { 0, revision };
        int r = sql_run_with(&db->sql, Q_DROP_CHANGES, range, 2);

        if (r == 0)
                r = sql_run_with(&db->sql, Q_DROP_VERSIONS, &revision, 1);
        return r < 0 ? r : sql_run_with(&db->sql, Q_CLEAR_FLOOR, &revision, 1);
}
