#include "server/tree_db.h"

#include <string.h>

#include "base/pieces.h"
#include "server/tree_db_private.h"

static sqlite3_stmt *statement_of(struct tree_db *db, enum query query, const uint8_t digest[HASH_BYTES],
                                  int *ret_error)
{
        sqlite3_stmt *statement = sql_statement(&db->sql, query, ret_error);

        if (statement)
                sql_bind_blob(statement, 1, digest, hash_len(db->base));
        return statement;
}

/* Damage costs no more than the detail. */
static int take_detail(sqlite3_stmt *statement, const struct content_id *id, uint64_t size,
                       struct buffer *ret)
{
        const void *data = sqlite3_column_blob(statement, 0);
        size_t len = (size_t)sqlite3_column_bytes(statement, 0);
        bool proved;

        if (!data)
                return TREE_NONE;
        if (hash_by_pieces(id->algorithm))
                proved = pieces_prove(id, size, data, len);
        else
                proved = len == size && hash_proves(id->algorithm, data, len, id->bytes);
        if (!proved)
                return TREE_NONE;
        buffer_truncate(ret, 0);
        return buffer_append(ret, data, len);
}

int tree_db_get_detail(struct tree_db *db, const struct content_id *id, uint64_t size, struct buffer *ret)
{
        sqlite3_stmt *statement;
        int r = -EIO;

        if (hash_base(id->algorithm) != db->base)
                return TREE_NONE;
        statement = statement_of(db, Q_DETAIL, id->bytes, &r);
        if (!statement)
                return r;
        r = sql_step(&db->sql, statement, TREE_NONE);
        if (r == 0)
                r = take_detail(statement, id, size, ret);
        sqlite3_reset(statement);
        return r;
}

static int write_detail(struct tree_db *db, enum query query, const uint8_t digest[HASH_BYTES],
                        const uint8_t *data, size_t len)
{
        int r = -EIO;
        sqlite3_stmt *statement = statement_of(db, query, digest, &r);

        if (!statement)
                return r;
        sql_bind_blob(statement, 2, data, len);
        return sql_run(&db->sql, statement);
}

int tree_db_put_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES], const uint8_t *data, size_t len)
{
        return write_detail(db, Q_PUT_DETAIL, digest, data, len);
}

int tree_db_replace_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES], const uint8_t *data,
                           size_t len)
{
        int r = write_detail(db, Q_REPLACE_DETAIL, digest, data, len);

        return r == 0 && sqlite3_changes(db->sql.sqlite) == 0 ? TREE_NONE : r;
}

int tree_db_drop_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES])
{
        int r = -EIO;
        sqlite3_stmt *statement = statement_of(db, Q_DROP_DETAIL, digest, &r);

        return statement ? sql_run(&db->sql, statement) : r;
}

int tree_db_sweep_details(struct tree_db *db)
{
        return sql_run_with(&db->sql, Q_SWEEP_DETAILS, NULL, 0);
}
