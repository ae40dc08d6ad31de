#include "base/sql.h"

#include <string.h>

#define BUSY_TIMEOUT_MS 5000 /* only another process is ever waited for */

int sql_errno(int result)
{
        static const struct {
                int result;
                int error;
        } table[] = {
                { SQLITE_OK, 0 },
                { SQLITE_ROW, 0 },
                { SQLITE_DONE, 0 },
                { SQLITE_PERM, -EACCES },
                { SQLITE_BUSY, -EBUSY },
                { SQLITE_LOCKED, -EBUSY },
                { SQLITE_PROTOCOL, -EBUSY },
                { SQLITE_NOMEM, -ENOMEM },
                { SQLITE_READONLY, -EROFS },
                { SQLITE_INTERRUPT, -EINTR },
                { SQLITE_IOERR, -EIO },
                { SQLITE_CORRUPT, -EBADMSG },
                { SQLITE_NOTADB, -EBADMSG },
                { SQLITE_FULL, -ENOSPC },
                { SQLITE_CANTOPEN, -EACCES },
                { SQLITE_TOOBIG, -EFBIG },
                { SQLITE_CONSTRAINT, -EEXIST },
                { SQLITE_AUTH, -EACCES },
        };

        if (result == SQLITE_IOERR_NOMEM)
                return -ENOMEM;
        if (result == SQLITE_IOERR_DATA) /* a page does not have the hash that it bears */
                return -EBADMSG;
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].result == (result & 0xff))
                        return table[i].error;
        return -EIO;
}

int sql_damaged(struct sql *sql)
{
        sql->damaged = true;
        return -EBADMSG;
}

int sql_error(struct sql *sql, int result)
{
        int r = sql_errno(result), system_error = sql->sqlite ? sqlite3_system_errno(sql->sqlite) : 0;

        if (r == -EBADMSG)
                return sql_damaged(sql);
        return (result & 0xff) == SQLITE_CANTOPEN && system_error > 0 ? -system_error : r;
}

/* ---- opening ---- */

int sql_open(struct sql *sql, const char *path)
{
        int flags = sql->writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY, r;

        sql->statements = calloc(sql->n_queries, sizeof(sqlite3_stmt *));
        if (!sql->statements)
                return -ENOMEM;
        /* One thread at a time per connection: SQLite's own mutexes would be in vain. */
        r = sqlite3_open_v2(path, &sql->sqlite, flags | SQLITE_OPEN_NOMUTEX, sql->vfs);
        if (r == SQLITE_OK)
                r = sqlite3_extended_result_codes(sql->sqlite, 1);
        if (r == SQLITE_OK)
                r = sqlite3_busy_timeout(sql->sqlite, BUSY_TIMEOUT_MS);
        if (r == SQLITE_OK)
                return 0;
        r = sql_error(sql, r);
        sql_close(sql);
        return r;
}

void sql_close(struct sql *sql)
{
        for (size_t i = 0; sql->statements && i < sql->n_queries; i++)
                sqlite3_finalize(sql->statements[i]);
        free(sql->statements);
        sqlite3_close(sql->sqlite);
        *sql = (struct sql){ 0 };
}

/* Asks once: the statement, to be finalized, at the one row of what TEXT asks for. */
static int ask(struct sql *sql, const char *text, sqlite3_stmt **ret)
{
        int r = sql_error(sql, sqlite3_prepare_v2(sql->sqlite, text, -1, ret, NULL));

        if (r == 0)
                r = sql_step(sql, *ret, -EBADMSG);
        return r;
}

int sql_read_int(struct sql *sql, const char *text, int64_t *ret)
{
        sqlite3_stmt *statement = NULL;
        int r = ask(sql, text, &statement);

        if (r == 0)
                *ret = sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        return r;
}

int sql_expect(struct sql *sql, const char *text, const char *expected, int otherwise)
{
        sqlite3_stmt *statement = NULL;
        const char *found;
        int r = ask(sql, text, &statement);

        if (r == 0) {
                found = (const char *)sqlite3_column_text(statement, 0);
                r = !found ? -ENOMEM : strcmp(found, expected) == 0 ? 0 : otherwise;
        }
        sqlite3_finalize(statement);
        return r;
}

int sql_read_format(struct sql *sql, int64_t application, int64_t *ret_version)
{
        int64_t found, version, tables;
        int r = sql_read_int(sql, "PRAGMA application_id", &found);

        if (r == 0)
                r = sql_read_int(sql, "PRAGMA user_version", &version);
        if (r == 0)
                r = sql_read_int(sql, "SELECT count(*) FROM sqlite_schema", &tables);
        if (r < 0)
                return r;
        if ((found != 0 || version != 0 || tables != 0) && (found != application || version < 1))
                return sql_damaged(sql);
        *ret_version = version;
        return 0;
}

static int note_log_pages(void *arg, sqlite3 *sqlite, const char *schema, int pages)
{
        struct sql *sql = arg;

        sql->log_pages = pages;
        return SQLITE_OK;
}

int sql_use_log(struct sql *sql)
{
        /* SQLite stays with another journal, without an error, where it cannot share memory between processes. */
        int r = sql_expect(sql, "PRAGMA journal_mode = WAL", "wal", -EOPNOTSUPP);

        if (r == 0)
                r = sql_exec(sql, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
        if (r == 0) /* which the pragma would replace */
                sqlite3_wal_hook(sql->sqlite, note_log_pages, sql);
        return r;
}

/* ---- statements ---- */

sqlite3_stmt *sql_statement(struct sql *sql, unsigned query, int *ret_error)
{
        static const char *const firsts[SQL_QUERIES] = {
                [SQL_BEGIN] = "BEGIN", [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE", [SQL_COMMIT] = "COMMIT"
        };
        sqlite3_stmt **statement = &sql->statements[query];
        int r;

        if (*statement)
                return *statement;
        r = sqlite3_prepare_v3(sql->sqlite, query < SQL_QUERIES ? firsts[query] : sql->queries[query], -1,
                               SQLITE_PREPARE_PERSISTENT, statement, NULL);
        /* A statement that does not compile meets tables that are not ours. */
        if (r != SQLITE_OK)
                *ret_error = r == SQLITE_ERROR ? sql_damaged(sql) : sql_error(sql, r);
        return *statement;
}

sqlite3_stmt *sql_statement_with(struct sql *sql, unsigned query, const uint64_t *values, int n,
                                 int *ret_error)
{
        sqlite3_stmt *statement = sql_statement(sql, query, ret_error);

        for (int i = 0; statement && i < n; i++)
                sql_bind_int(statement, i + 1, values[i]);
        return statement;
}

sqlite3_stmt *sql_statement_named(struct sql *sql, unsigned query, uint64_t parent, const char *name,
                                  size_t name_len, int *ret_error)
{
        sqlite3_stmt *statement = sql_statement_with(sql, query, &parent, 1, ret_error);

        if (statement)
                sql_bind_blob(statement, 2, name, name_len);
        return statement;
}

int sql_step(struct sql *sql, sqlite3_stmt *statement, int none)
{
        int r = sqlite3_step(statement);

        return r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? none : sql_error(sql, r);
}

int sql_run(struct sql *sql, sqlite3_stmt *statement)
{
        int r = sqlite3_step(statement);

        sqlite3_reset(statement);
        return r == SQLITE_DONE ? 0 : sql_error(sql, r);
}

int sql_run_with(struct sql *sql, unsigned query, const uint64_t *values, int n)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_with(sql, query, values, n, &r);

        return statement ? sql_run(sql, statement) : r;
}

int sql_exec(struct sql *sql, const char *text)
{
        return sql_error(sql, sqlite3_exec(sql->sqlite, text, NULL, NULL, NULL));
}

/* ---- transactions ---- */

int sql_begin(struct sql *sql)
{
        return sql_run_with(sql, sql->writer ? SQL_BEGIN_WRITE : SQL_BEGIN, NULL, 0);
}

int sql_commit(struct sql *sql)
{
        return sql_run_with(sql, SQL_COMMIT, NULL, 0);
}

bool sql_in_transaction(const struct sql *sql)
{
        return !sqlite3_get_autocommit(sql->sqlite);
}

void sql_rollback(struct sql *sql)
{
        if (sql_in_transaction(sql))
                (void)sqlite3_exec(sql->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

int sql_checkpoint(struct sql *sql, bool empty)
{
        int r;

        sqlite3_busy_timeout(sql->sqlite, 0);
        r = sqlite3_wal_checkpoint_v2(sql->sqlite, NULL,
                                      empty ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL,
                                      NULL);
        sqlite3_busy_timeout(sql->sqlite, BUSY_TIMEOUT_MS);
        if (r == SQLITE_OK && empty)
                sql->log_pages = 0;
        return sql_error(sql, r);
}
