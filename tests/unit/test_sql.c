#include "base/sql.h"

#include <string.h>

#include "tests/tempdir.h"
#include "tests/unit/unit.h"

#define APPLICATION 4711

enum { Q_PUT = SQL_QUERIES, Q_GET, Q_NOWHERE, Q_COUNT };

static const char *const queries[Q_COUNT] = {
        [Q_PUT] = "INSERT INTO entry VALUES(?1, ?2)",
        [Q_GET] = "SELECT name FROM entry WHERE parent = ?1 AND name = ?2",
        [Q_NOWHERE] = "SELECT 1 FROM nowhere",
};

struct fixture {
        char dir[32], path[64];
        struct sql writer;
};

static struct sql connection(bool writer)
{
        return (struct sql){ .queries = queries, .n_queries = Q_COUNT, .writer = writer };
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        strcpy(f->dir, "/tmp/test_sql.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->path, sizeof(f->path), "%s/db", f->dir);
        f->writer = connection(true);
        assert_int_equal(sql_open(&f->writer, f->path), 0);
        assert_int_equal(sql_use_log(&f->writer), 0);
        assert_int_equal(sql_exec(&f->writer, "CREATE TABLE entry(parent INTEGER, name BLOB UNIQUE)"), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        sql_close(&f->writer);
        assert_int_equal(tempdir_remove(f->dir), 0);
        free(f);
        return 0;
}

static int put(struct fixture *f, uint64_t parent, const char *name)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(&f->writer, Q_PUT, parent, name, strlen(name), &r);

        return statement ? sql_run(&f->writer, statement) : r;
}

/* 0 or 1: there is none. */
static int get(struct sql *sql, uint64_t parent, const char *name)
{
        int r = -EIO;
        sqlite3_stmt *statement = sql_statement_named(sql, Q_GET, parent, name, strlen(name), &r);

        if (!statement)
                return r;
        r = sql_step(sql, statement, 1);
        sqlite3_reset(statement);
        return r;
}

static void test_errno(void **state)
{
        static const struct {
                int result;
                int error;
        } table[] = {
                { SQLITE_OK, 0 },
                { SQLITE_ROW, 0 },
                { SQLITE_DONE, 0 },
                { SQLITE_FULL, -ENOSPC },
                { SQLITE_IOERR, -EIO },
                { SQLITE_IOERR_FSYNC, -EIO },
                { SQLITE_IOERR_NOMEM, -ENOMEM },
                { SQLITE_IOERR_DATA, -EBADMSG },
                { SQLITE_BUSY, -EBUSY },
                { SQLITE_BUSY_SNAPSHOT, -EBUSY },
                { SQLITE_LOCKED, -EBUSY },
                { SQLITE_PROTOCOL, -EBUSY },
                { SQLITE_NOMEM, -ENOMEM },
                { SQLITE_CORRUPT, -EBADMSG },
                { SQLITE_CORRUPT_INDEX, -EBADMSG },
                { SQLITE_NOTADB, -EBADMSG },
                { SQLITE_READONLY, -EROFS },
                { SQLITE_READONLY_DBMOVED, -EROFS },
                { SQLITE_CANTOPEN, -EACCES },
                { SQLITE_PERM, -EACCES },
                { SQLITE_AUTH, -EACCES },
                { SQLITE_INTERRUPT, -EINTR },
                { SQLITE_TOOBIG, -EFBIG },
                { SQLITE_CONSTRAINT_UNIQUE, -EEXIST },
                { SQLITE_ERROR, -EIO },
                { SQLITE_MISUSE, -EIO },
                { 250, -EIO },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                assert_int_equal(sql_errno(table[i].result), table[i].error);
}

static void test_rows(void **state)
{
        struct fixture *f = *state;
        struct sql reader = connection(false);

        assert_int_equal(sql_open(&reader, f->path), 0);
        assert_int_equal(put(f, 1, ""), 0);
        assert_int_equal(put(f, 2, "a"), 0);
        assert_int_equal(get(&reader, 1, ""), 0);
        assert_int_equal(get(&reader, 2, "a"), 0);
        assert_int_equal(get(&reader, 1, "a"), 1);
        assert_int_equal(put(f, 3, "a"), -EEXIST);
        sql_close(&reader);
}

static void test_transactions(void **state)
{
        struct fixture *f = *state;
        struct sql reader = connection(false);

        assert_int_equal(sql_open(&reader, f->path), 0);
        assert_int_equal(sql_begin(&reader), 0);
        assert_int_equal(get(&reader, 1, "a"), 1);
        assert_int_equal(sql_begin(&f->writer), 0);
        assert_int_equal(put(f, 1, "a"), 0);
        assert_true(sql_in_transaction(&f->writer));
        assert_int_equal(sql_commit(&f->writer), 0);
        assert_false(sql_in_transaction(&f->writer));
        assert_int_equal(sql_commit(&f->writer), -EIO);
        assert_int_equal(get(&reader, 1, "a"), 1);
        assert_int_equal(sql_commit(&reader), 0);
        assert_int_equal(get(&reader, 1, "a"), 0);
        assert_int_equal(sql_begin(&f->writer), 0);
        assert_int_equal(put(f, 1, "b"), 0);
        sql_rollback(&f->writer);
        sql_rollback(&f->writer);
        assert_int_equal(get(&reader, 1, "b"), 1);
        sql_close(&reader);
}

static void test_checkpoint(void **state)
{
        struct fixture *f = *state;
        struct sql reader = connection(false);

        assert_int_equal(put(f, 1, "a"), 0);
        assert_int_equal(sql_open(&reader, f->path), 0);
        assert_int_equal(sql_begin(&reader), 0);
        assert_int_equal(get(&reader, 1, "a"), 0);
        assert_int_equal(put(f, 1, "b"), 0);
        assert_true(f->writer.log_pages > 0);
        assert_int_equal(sql_checkpoint(&f->writer, false), 0);
        assert_int_equal(sql_checkpoint(&f->writer, true), -EBUSY);
        assert_true(f->writer.log_pages > 0);
        assert_int_equal(sql_commit(&reader), 0);
        assert_int_equal(sql_checkpoint(&f->writer, true), 0);
        assert_int_equal(f->writer.log_pages, 0);
        sql_close(&reader);
}

static void test_format(void **state)
{
        struct fixture *f = *state;
        struct sql other = connection(true);
        char path[80];
        int64_t version = -1;

        snprintf(path, sizeof(path), "%s/other", f->dir);
        assert_int_equal(sql_open(&other, path), 0);
        assert_int_equal(sql_read_format(&other, APPLICATION, &version), 0);
        assert_int_equal(version, 0);
        assert_int_equal(sql_exec(&other, "PRAGMA application_id = 4711; PRAGMA user_version = 3"), 0);
        assert_int_equal(sql_read_format(&other, APPLICATION, &version), 0);
        assert_int_equal(version, 3);
        assert_false(other.damaged);
        assert_int_equal(sql_read_format(&other, APPLICATION + 1, &version), -EBADMSG);
        assert_true(other.damaged);
        assert_int_equal(sql_exec(&other, "PRAGMA user_version = 0"), 0);
        assert_int_equal(sql_read_format(&other, APPLICATION, &version), -EBADMSG);
        sql_close(&other);
        /* Tables of nobody. */
        assert_int_equal(sql_read_format(&f->writer, APPLICATION, &version), -EBADMSG);
}

static void test_damage(void **state)
{
        struct fixture *f = *state;
        int r = 0;

        assert_null(sql_statement(&f->writer, Q_NOWHERE, &r));
        assert_int_equal(r, -EBADMSG);
        assert_true(f->writer.damaged);
}

static void test_cannot_open(void **state)
{
        struct fixture *f = *state;
        struct sql sql = connection(false);
        char path[80];

        snprintf(path, sizeof(path), "%s/nothing", f->dir);
        assert_int_equal(sql_open(&sql, path), -ENOENT);
        assert_null(sql.sqlite);
        sql_close(&sql);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errno), TEST(test_rows),   TEST(test_transactions),
        TEST(test_checkpoint),        TEST(test_format), TEST(test_damage),
        TEST(test_cannot_open),
};

UNIT_MAIN(tests)
