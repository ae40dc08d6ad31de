#include "cache/catalog_db.h"

#include <assert.h>
#include <string.h>

#include <sqlite3.h>

#define APPLICATION_ID  1718843715 /* "fsyC" */
#define SCHEMA_VERSION  1
#define BUSY_TIMEOUT_MS 5000 /* only copying a slot meets another process */
#define TEXT_(x)        #x
#define TEXT(x)         TEXT_(x)

static const char schema_sql[] =
        "CREATE TABLE entry("
        " ino INTEGER PRIMARY KEY,"
        " parent INTEGER NOT NULL,"
        " name BLOB NOT NULL,"
        " born INTEGER NOT NULL,"
        " died INTEGER NOT NULL DEFAULT 0,"
        " kind INTEGER NOT NULL,"
        " mode INTEGER NOT NULL,"
        " mtime_ns INTEGER NOT NULL,"
        " size INTEGER NOT NULL,"
        " algorithm INTEGER NOT NULL,"
        " hash BLOB NOT NULL,"
        " unknown INTEGER NOT NULL,"
        " target BLOB);"
        "CREATE UNIQUE INDEX entry_name ON entry(parent, name, died);"
        "CREATE INDEX entry_died ON entry(died) WHERE died <> 0;"
        "CREATE TABLE version("
        " id INTEGER PRIMARY KEY CHECK (id = 1),"
        " valid INTEGER NOT NULL,"
        " digest BLOB NOT NULL,"
        " revision INTEGER NOT NULL,"
        " generation INTEGER NOT NULL,"
        " synced_at INTEGER NOT NULL,"
        " files INTEGER NOT NULL,"
        " directories INTEGER NOT NULL,"
        " symlinks INTEGER NOT NULL,"
        " unknown INTEGER NOT NULL,"
        " bytes INTEGER NOT NULL,"
        " next_ino INTEGER NOT NULL,"
        " entries INTEGER NOT NULL);"
        "INSERT INTO version VALUES(1, 0, zeroblob(16), 0, 0, 0, 0, 0, 0, 0, 0, 2, 0);"
        "PRAGMA application_id = " TEXT(APPLICATION_ID) "; PRAGMA user_version = " TEXT(SCHEMA_VERSION) ";";

enum query {
        Q_BEGIN,
        Q_BEGIN_WRITE,
        Q_COMMIT,
        Q_VERSION,
        Q_SET_VERSION,
        Q_LOOKUP,
        Q_GET,
        Q_TARGET,
        Q_LIST,
        Q_LIVE,
        Q_INSERT,
        Q_SET_ATTRIBUTES,
        Q_SET_DIGEST,
        Q_RETIRE,
        Q_DELETE_RETIRED,
        Q_COUNT
};

#define ROW "ino, parent, name, born, died, kind, mode, mtime_ns, size, algorithm, hash, unknown"

static const char *const queries[Q_COUNT] = {
        [Q_BEGIN] = "BEGIN",
        [Q_BEGIN_WRITE] = "BEGIN IMMEDIATE",
        [Q_COMMIT] = "COMMIT",
        [Q_VERSION] = "SELECT valid, digest, revision, generation, synced_at, files, directories, symlinks,"
                      " unknown, bytes, next_ino, entries FROM version WHERE id = 1",
        [Q_SET_VERSION] =
                "UPDATE version SET valid = ?1, digest = ?2, revision = ?3, generation = ?4, synced_at = ?5,"
                " files = ?6, directories = ?7, symlinks = ?8, unknown = ?9, bytes = ?10, next_ino = ?11,"
                " entries = ?12 WHERE id = 1",
        [Q_LOOKUP] = "SELECT " ROW " FROM entry WHERE parent = ?1 AND name = ?2 AND died = 0",
        [Q_GET] = "SELECT " ROW " FROM entry WHERE ino = ?1",
        [Q_TARGET] = "SELECT target FROM entry WHERE ino = ?1 AND target IS NOT NULL",
        [Q_LIST] = "SELECT " ROW " FROM entry INDEXED BY entry_name WHERE parent = ?1 AND name > ?2"
                   " AND born <= ?3 AND (died = 0 OR died > ?3) ORDER BY name",
        [Q_LIVE] = "SELECT " ROW " FROM entry NOT INDEXED WHERE died = 0",
        [Q_INSERT] = "INSERT INTO entry(ino, parent, name, born, kind, mode, mtime_ns, size, algorithm,"
                     " hash, unknown, target)"
                     " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        [Q_SET_ATTRIBUTES] = "UPDATE entry SET mode = ?2, mtime_ns = ?3, unknown = ?4 WHERE ino = ?1",
        [Q_SET_DIGEST] = "UPDATE entry SET hash = ?2 WHERE ino = ?1",
        [Q_RETIRE] = "UPDATE entry SET died = ?2 WHERE ino = ?1",
        [Q_DELETE_RETIRED] = "DELETE FROM entry WHERE died <> 0",
};

struct db {
        sqlite3 *sqlite; /* owned */
        bool writer;
        sqlite3_stmt *statements[Q_COUNT]; /* owned; prepared when first used */
};

int db_errno(int result)
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
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].result == (result & 0xff))
                        return table[i].error;
        return -EIO;
}

/* As db_errno, with the reason that the system gave where SQLite's code says less. */
static int db_error(struct db *db, int result)
{
        int system_error = db->sqlite ? sqlite3_system_errno(db->sqlite) : 0;

        if ((result & 0xff) == SQLITE_CANTOPEN && system_error > 0)
                return -system_error;
        return db_errno(result);
}

static int db_exec(struct db *db, const char *sql)
{
        return db_error(db, sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL));
}

/* The statement, or NULL and the error. */
static sqlite3_stmt *db_statement(struct db *db, enum query query, int *ret_error)
{
        int r;

        if (db->statements[query])
                return db->statements[query];
        r = sqlite3_prepare_v3(db->sqlite, queries[query], -1, SQLITE_PREPARE_PERSISTENT,
                               &db->statements[query], NULL);
        /* A statement that does not compile meets tables that are not ours. */
        if (r != SQLITE_OK)
                *ret_error = r == SQLITE_ERROR ? -EBADMSG : db_error(db, r);
        return db->statements[query];
}

/* Runs a statement that yields no rows. */
static int db_run(struct db *db, sqlite3_stmt *statement)
{
        int r = sqlite3_step(statement);

        sqlite3_reset(statement);
        return r == SQLITE_DONE ? 0 : db_error(db, r);
}

static int db_run_query(struct db *db, enum query query)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, query, &r);

        return statement ? db_run(db, statement) : r;
}

/* Binding fails only for lack of memory (integers, static blobs: never) or a wrong index. */
static void bind_int(sqlite3_stmt *statement, int index, uint64_t value)
{
        int r _unused_ = sqlite3_bind_int64(statement, index, (sqlite3_int64)value);
        assert(r == SQLITE_OK);
}

static void bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t len)
{
        int r _unused_ = sqlite3_bind_blob(statement, index, data, (int)len, SQLITE_STATIC);
        assert(r == SQLITE_OK);
}

static int column_hash(sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES])
{
        if (sqlite3_column_bytes(statement, column) != HASH_BYTES)
                return -EBADMSG;
        memcpy(ret, sqlite3_column_blob(statement, column), HASH_BYTES);
        return 0;
}

/* ---- opening ---- */

static int read_int(struct db *db, const char *sql, int64_t *ret)
{
        sqlite3_stmt *statement;
        int r = sqlite3_prepare_v2(db->sqlite, sql, -1, &statement, NULL);

        if (r != SQLITE_OK)
                return db_error(db, r);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                *ret = sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        return r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? -EBADMSG : db_error(db, r);
}

static int check_schema(struct db *db, bool *ret_empty)
{
        int64_t application, version, tables;
        int r = read_int(db, "PRAGMA application_id", &application);

        if (r == 0)
                r = read_int(db, "PRAGMA user_version", &version);
        if (r == 0)
                r = read_int(db, "SELECT count(*) FROM sqlite_schema", &tables);
        if (r < 0)
                return r;
        *ret_empty = application == 0 && version == 0 && tables == 0;
        if (*ret_empty)
                return 0;
        if (application != APPLICATION_ID || version < SCHEMA_VERSION)
                return -EBADMSG;
        return version > SCHEMA_VERSION ? -EPROTONOSUPPORT : 0;
}

static int create_schema(struct db *db)
{
        int r = db_begin(db);

        if (r == 0)
                r = db_exec(db, schema_sql);
        if (r == 0)
                r = db_commit(db);
        if (r < 0)
                db_rollback(db);
        return r;
}

static int db_open(const char *path, int flags, struct db **ret)
{
        struct db *db = calloc(1, sizeof(*db));
        int r;

        if (!db)
                return -ENOMEM;
        /* One thread at a time per connection: SQLite's own mutexes would be in vain. */
        r = sqlite3_open_v2(path, &db->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL);
        if (r == SQLITE_OK)
                r = sqlite3_extended_result_codes(db->sqlite, 1);
        if (r == SQLITE_OK)
                r = sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
        if (r != SQLITE_OK) {
                r = db_error(db, r);
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

/* SQLite stays with another journal, without an error, where it cannot share memory between processes. */
static int set_wal(struct db *db)
{
        sqlite3_stmt *statement;
        int r = sqlite3_prepare_v2(db->sqlite, "PRAGMA journal_mode = WAL", -1, &statement, NULL);

        if (r != SQLITE_OK)
                return db_error(db, r);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                r = strcmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0 ? 0 : -EOPNOTSUPP;
        else
                r = r == SQLITE_DONE ? -EIO : db_error(db, r);
        sqlite3_finalize(statement);
        return r;
}

/*
 * WAL: readers go on while a version is written (C1). NORMAL: a power cut may cost the last versions, never consistency (C4);
 * the log is moved into the database by db_checkpoint alone, when the readers have moved on.
 */
static int set_up_writer(struct db *db)
{
        static const char sql[] = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;"
                                  "PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY";
        bool empty;
        int r = check_schema(db, &empty);

        if (r == 0)
                r = set_wal(db);
        if (r == 0)
                r = db_exec(db, sql);
        if (r == 0 && empty)
                r = create_schema(db);
        return r;
}

int db_open_writer(const char *path, struct db **ret)
{
        struct db *db;
        int r = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);

        if (r < 0)
                return r;
        db->writer = true;
        r = set_up_writer(db);
        if (r < 0) {
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

int db_open_reader(const char *path, struct db **ret)
{
        struct db *db;
        bool empty;
        int r = db_open(path, SQLITE_OPEN_READONLY, &db);

        if (r < 0)
                return r;
        r = db_exec(db, "PRAGMA cache_size = -2048");
        if (r == 0)
                r = check_schema(db, &empty);
        if (r < 0) {
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

void db_close(struct db *db)
{
        if (!db)
                return;
        for (size_t i = 0; i < Q_COUNT; i++)
                sqlite3_finalize(db->statements[i]);
        sqlite3_close(db->sqlite);
        free(db);
}

/* ---- transactions ---- */

int db_begin(struct db *db)
{
        return db_run_query(db, db->writer ? Q_BEGIN_WRITE : Q_BEGIN);
}

int db_commit(struct db *db)
{
        return db_run_query(db, Q_COMMIT);
}

void db_rollback(struct db *db)
{
        if (!sqlite3_get_autocommit(db->sqlite))
                (void)sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

int db_checkpoint(struct db *db)
{
        int r;

        /* Not waiting for readers: what they still need of the log goes with the next version. */
        sqlite3_busy_timeout(db->sqlite, 0);
        r = sqlite3_wal_checkpoint_v2(db->sqlite, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
        sqlite3_db_release_memory(db->sqlite);
        return (r & 0xff) == SQLITE_BUSY ? 0 : db_error(db, r);
}

int db_copy(struct db *db, const char *path)
{
        struct db *from;
        sqlite3_backup *backup;
        int r = db_open_reader(path, &from);

        if (r < 0)
                return r;
        backup = sqlite3_backup_init(db->sqlite, "main", from->sqlite, "main");
        if (!backup) {
                r = db_error(db, sqlite3_extended_errcode(db->sqlite));
        } else {
                (void)sqlite3_backup_step(backup, -1);
                r = db_error(db, sqlite3_backup_finish(backup));
        }
        db_close(from);
        return r;
}

/* ---- the version ---- */

int db_read_version(struct db *db, struct db_version *ret)
{
        struct db_version v = { 0 };
        uint64_t *const numbers[] = { &v.shown.revision,
                                      &v.shown.generation,
                                      (uint64_t *)&v.shown.synced_at,
                                      &v.shown.files,
                                      &v.shown.directories,
                                      &v.shown.symlinks,
                                      &v.shown.unknown,
                                      &v.shown.bytes,
                                      &v.next_ino,
                                      &v.rows };
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_VERSION, &r);

        if (!statement)
                return r;
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW) {
                v.shown.valid = sqlite3_column_int(statement, 0) != 0;
                r = column_hash(statement, 1, v.shown.digest);
                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                        *numbers[i] = (uint64_t)sqlite3_column_int64(statement, (int)i + 2);
        } else {
                r = r == SQLITE_DONE ? -EBADMSG : db_error(db, r);
        }
        sqlite3_reset(statement);
        if (r == 0)
                *ret = v;
        return r;
}

int db_write_version(struct db *db, const struct db_version *v)
{
        const uint64_t numbers[] = { v->shown.revision,
                                     v->shown.generation,
                                     (uint64_t)v->shown.synced_at,
                                     v->shown.files,
                                     v->shown.directories,
                                     v->shown.symlinks,
                                     v->shown.unknown,
                                     v->shown.bytes,
                                     v->next_ino,
                                     v->rows };
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_VERSION, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, v->shown.valid);
        bind_blob(statement, 2, v->shown.digest, HASH_BYTES);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                bind_int(statement, (int)i + 3, numbers[i]);
        return db_run(db, statement);
}

/* ---- reading entries ---- */

/* A row is checked like any input: what a broken disk put there must not be used as an index or a length. */
static int read_row(sqlite3_stmt *statement, struct db_row *ret)
{
        struct catalog_entry *e = &ret->entry;
        int name_len = sqlite3_column_bytes(statement, 2);
        sqlite3_int64 kind = sqlite3_column_int64(statement, 5),
                      algorithm = sqlite3_column_int64(statement, 9);

        if (name_len > PATH_NAME_MAX || kind < ENTRY_UNKNOWN || kind > ENTRY_SYMLINK ||
            algorithm < HASH_NONE || algorithm > HASH_MD5)
                return -EBADMSG;
        e->ino = (uint64_t)sqlite3_column_int64(statement, 0);
        e->parent = (uint64_t)sqlite3_column_int64(statement, 1);
        e->name_len = (size_t)name_len;
        if (name_len > 0)
                memcpy(e->name, sqlite3_column_blob(statement, 2), (size_t)name_len);
        e->name[name_len] = '\0';
        ret->born = (uint64_t)sqlite3_column_int64(statement, 3);
        ret->died = (uint64_t)sqlite3_column_int64(statement, 4);
        e->retired = ret->died != 0;
        e->kind = (enum entry_kind)kind;
        e->mode = (uint32_t)sqlite3_column_int64(statement, 6) & 07777;
        e->mtime_ns = sqlite3_column_int64(statement, 7);
        e->size = (uint64_t)sqlite3_column_int64(statement, 8);
        e->nlink = 1;
        e->content.algorithm = (enum hash_algorithm)algorithm;
        ret->unknown = sqlite3_column_int(statement, 11) != 0;
        return column_hash(statement, 10, e->content.bytes);
}

static int get_row(struct db *db, sqlite3_stmt *statement, struct db_row *ret)
{
        int r = sqlite3_step(statement);

        if (r == SQLITE_ROW)
                r = read_row(statement, ret);
        else
                r = r == SQLITE_DONE ? CATALOG_NONE : db_error(db, r);
        sqlite3_reset(statement);
        return r;
}

static int each_row(struct db *db, sqlite3_stmt *statement, db_row_fn each, void *arg)
{
        struct db_row row;
        int result, r = 0;

        while (r == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
                r = read_row(statement, &row);
                if (r == 0)
                        r = each(&row, arg);
        }
        if (r == 0 && result != SQLITE_DONE)
                r = db_error(db, result);
        sqlite3_reset(statement);
        return r;
}

int db_lookup(struct db *db, uint64_t parent, const char *name, size_t name_len, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LOOKUP, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, parent);
        bind_blob(statement, 2, name, name_len);
        return get_row(db, statement, ret);
}

int db_get(struct db *db, uint64_t ino, struct db_row *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_GET, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        return get_row(db, statement, ret);
}

int db_target(struct db *db, uint64_t ino, struct buffer *ret)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_TARGET, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                r = buffer_append(ret, sqlite3_column_blob(statement, 0),
                                  (size_t)sqlite3_column_bytes(statement, 0));
        else
                r = r == SQLITE_DONE ? CATALOG_NONE : db_error(db, r);
        sqlite3_reset(statement);
        return r;
}

int db_list(struct db *db, const struct db_list *list, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LIST, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, list->parent);
        bind_blob(statement, 2, list->after, list->after_len);
        bind_int(statement, 3, list->generation);
        return each_row(db, statement, each, arg);
}

int db_each_live(struct db *db, db_row_fn each, void *arg)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_LIVE, &r);

        return statement ? each_row(db, statement, each, arg) : r;
}

/* ---- writing entries ---- */

int db_insert(struct db *db, const struct db_row *row, const char *target, size_t target_len)
{
        const struct catalog_entry *e = &row->entry;
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_INSERT, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, e->ino);
        bind_int(statement, 2, e->parent);
        bind_blob(statement, 3, e->name, e->name_len);
        bind_int(statement, 4, row->born);
        bind_int(statement, 5, e->kind);
        bind_int(statement, 6, e->mode);
        bind_int(statement, 7, (uint64_t)e->mtime_ns);
        bind_int(statement, 8, e->size);
        bind_int(statement, 9, e->content.algorithm);
        bind_blob(statement, 10, e->content.bytes, HASH_BYTES);
        bind_int(statement, 11, row->unknown);
        bind_blob(statement, 12, target, target_len);
        return db_run(db, statement);
}

int db_set_attributes(struct db *db, uint64_t ino, uint32_t mode, int64_t mtime_ns, bool unknown)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_ATTRIBUTES, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_int(statement, 2, mode);
        bind_int(statement, 3, (uint64_t)mtime_ns);
        bind_int(statement, 4, unknown);
        return db_run(db, statement);
}

int db_set_digest(struct db *db, uint64_t ino, const uint8_t digest[HASH_BYTES])
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_SET_DIGEST, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_blob(statement, 2, digest, HASH_BYTES);
        return db_run(db, statement);
}

int db_retire(struct db *db, uint64_t ino, uint64_t generation)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, Q_RETIRE, &r);

        if (!statement)
                return r;
        bind_int(statement, 1, ino);
        bind_int(statement, 2, generation);
        return db_run(db, statement);
}

int db_delete_retired(struct db *db)
{
        return db_run_query(db, Q_DELETE_RETIRED);
}
