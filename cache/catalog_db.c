#include "cache/catalog_db.h"

#include <pthread.h>
#include <sys/stat.h>

#include "cache/catalog_db_private.h"

#define APPLICATION_ID  1718843715 /* "fsyC" */
#define SCHEMA_VERSION  4
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
        " flags INTEGER NOT NULL," /* DB_UNKNOWN, DB_PENDING */
        " data BLOB);"             /* a symlink's target; a tiny file's bytes */
        "CREATE UNIQUE INDEX entry_name ON entry(parent, name, died);"
        "CREATE INDEX entry_died ON entry(died) WHERE died <> 0;"
        "CREATE TABLE previous("
        " id INTEGER PRIMARY KEY,"
        " now BLOB NOT NULL UNIQUE,"
        " old BLOB NOT NULL);"
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
        " entries INTEGER NOT NULL,"
        " loading INTEGER NOT NULL,"
        " load_offset INTEGER NOT NULL,"
        " load_folder INTEGER NOT NULL,"
        " load_rows INTEGER NOT NULL,"
        " load_pending INTEGER NOT NULL,"
        " load_open INTEGER NOT NULL);"
        "INSERT INTO version VALUES(1, 0, zeroblob(16), 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0);"
        "PRAGMA application_id = " TEXT(APPLICATION_ID) "; PRAGMA user_version = " TEXT(SCHEMA_VERSION) ";";

#define ROW                                                                                                  \
        "ino, parent, name, born, died, kind, mode, mtime_ns, size, algorithm, hash, flags, data IS NOT "    \
        "NULL"

static const char *const queries[Q_COUNT] = {
        [Q_BEGIN] = "BEGIN",
        [Q_BEGIN_WRITE] = "BEGIN IMMEDIATE",
        [Q_COMMIT] = "COMMIT",
        [Q_VERSION] = "SELECT valid, digest, revision, generation, synced_at, files, directories, symlinks,"
                      " unknown, bytes, next_ino, entries, loading, load_offset, load_folder, load_rows,"
                      " load_pending, load_open"
                      " FROM version WHERE id = 1",
        [Q_SET_VERSION] =
                "UPDATE version SET valid = ?1, digest = ?2, revision = ?3, generation = ?4, synced_at = ?5,"
                " files = ?6, directories = ?7, symlinks = ?8, unknown = ?9, bytes = ?10, next_ino = ?11,"
                " entries = ?12, loading = ?13, load_offset = ?14, load_folder = ?15, load_rows = ?16,"
                " load_pending = ?17, load_open = ?18 WHERE id = 1",
        [Q_LOOKUP] = "SELECT " ROW " FROM entry WHERE parent = ?1 AND name = ?2 AND died = 0",
        [Q_GET] = "SELECT " ROW " FROM entry WHERE ino = ?1",
        [Q_DATA] = "SELECT data FROM entry WHERE ino = ?1 AND kind = ?2 AND data IS NOT NULL",
        [Q_LIST] = "SELECT " ROW " FROM entry INDEXED BY entry_name WHERE parent = ?1 AND name > ?2"
                   " AND born <= ?3 AND (died = 0 OR died > ?3) ORDER BY name",
        [Q_ALL] = "SELECT " ROW " FROM entry NOT INDEXED",
        [Q_LIVE] = "SELECT " ROW " FROM entry NOT INDEXED WHERE died = 0",
        [Q_INSERT] = "INSERT INTO entry(ino, parent, name, born, kind, mode, mtime_ns, size, algorithm,"
                     " hash, flags, data)"
                     " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        [Q_SET_ATTRIBUTES] = "UPDATE entry SET mode = ?2, mtime_ns = ?3, flags = ?4 WHERE ino = ?1",
        [Q_SET_DIGEST] = "UPDATE entry SET hash = ?2 WHERE ino = ?1",
        [Q_CLEAR_PENDING] = "UPDATE entry SET flags = flags & ~2 WHERE ino = ?1",
        [Q_DELETE_CHILDREN] = "DELETE FROM entry WHERE parent = ?1 AND name > ?2 AND died = 0",
        [Q_RETIRE] = "UPDATE entry SET died = ?2 WHERE ino = ?1",
        [Q_DELETE_ALL] = "DELETE FROM entry",
        [Q_DELETE_RETIRED] = "DELETE FROM entry WHERE died <> 0",
        [Q_PREVIOUS] = "SELECT old FROM previous WHERE now = ?1",
        [Q_SET_PREVIOUS] = "INSERT OR REPLACE INTO previous(now, old) VALUES(?1, ?2)",
        [Q_FORGET_PREVIOUS] = "DELETE FROM previous WHERE id <= (SELECT max(id) FROM previous) - ?1",
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
        if (result == SQLITE_IOERR_DATA) /* a page does not have the hash that it bears */
                return -EBADMSG;
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if (table[i].result == (result & 0xff))
                        return table[i].error;
        return -EIO;
}

int db_error(struct db *db, int result)
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

sqlite3_stmt *db_statement(struct db *db, enum query query, int *ret_error)
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

int db_run(struct db *db, sqlite3_stmt *statement)
{
        int r = sqlite3_step(statement);

        sqlite3_reset(statement);
        return r == SQLITE_DONE ? 0 : db_error(db, r);
}

int db_run_query(struct db *db, enum query query)
{
        int r = -EIO;
        sqlite3_stmt *statement = db_statement(db, query, &r);

        return statement ? db_run(db, statement) : r;
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

/* How many bytes of each page are for its hash; SET: from now on that many. */
static int reserved_bytes(struct db *db, int set)
{
        int bytes = set;

        return sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes) == SQLITE_OK
                       ? bytes
                       : -EIO;
}

static int check_schema(struct db *db, bool *ret_empty)
{
        int64_t application = 0, version = 0, tables = 0;
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
        if (application != APPLICATION_ID || version < 1)
                return -EBADMSG;
        if (version < SCHEMA_VERSION)
                return -ESTALE;
        if (version > SCHEMA_VERSION)
                return -EPROTONOSUPPORT;
        r = reserved_bytes(db, -1);
        return r < 0 ? r : r == PAGE_SUM_BYTES ? 0 : -EBADMSG;
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

/* SQLite's count of its memory costs a lock at every malloc, which all readers share; nobody asks for it. */
static int configured;

static void configure(void)
{
        (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        configured = db_register_vfs();
}

static int db_open(const char *path, int flags, struct db **ret)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct db *db;
        int r;

        pthread_once(&once, configure);
        if (configured < 0)
                return configured;
        db = calloc(1, sizeof(*db));
        if (!db)
                return -ENOMEM;
        /* One thread at a time per connection: SQLite's own mutexes would be in vain. */
        r = sqlite3_open_v2(path, &db->sqlite, flags | SQLITE_OPEN_NOMUTEX, DB_VFS);
        if (r == SQLITE_OK)
                r = sqlite3_extended_result_codes(db->sqlite, 1);
        if (r == SQLITE_OK)
                r = sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
        if (r == SQLITE_OK)
                r = sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        if (r != SQLITE_OK) {
                r = db_error(db, r);
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

/* 0 if the first column is TEXT, OTHERWISE if not. */
static int is_text(sqlite3_stmt *statement, const char *text, int otherwise)
{
        const char *found = (const char *)sqlite3_column_text(statement, 0);

        return !found ? -ENOMEM : strcmp(found, text) == 0 ? 0 : otherwise;
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
                r = is_text(statement, "wal", -EOPNOTSUPP);
        else
                r = r == SQLITE_DONE ? -EIO : db_error(db, r);
        sqlite3_finalize(statement);
        return r;
}

static int note_log(void *arg, sqlite3 *sqlite, const char *schema, int pages)
{
        struct db *db = arg;

        db->log_pages = pages;
        db->log_empty = false;
        return SQLITE_OK;
}

/*
 * WAL: readers go on while a version is written (C1). NORMAL: a power cut may cost the last versions, never consistency (C4);
 * the log is moved into the database by db_checkpoint alone, when it has grown and the readers have moved on, and not when the
 * database is closed: a remount that finds nothing changed shall not pay for it.
 */
static int set_up_writer(struct db *db, const char *path)
{
        static const char sql[] =
                "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;"
                "PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF";
        _cleanup_free_ char *log = NULL;
        struct stat st;
        bool empty;
        int r = check_schema(db, &empty);

        if (r == 0 && empty)
                r = MIN(reserved_bytes(db, PAGE_SUM_BYTES), 0);
        if (r == 0 && asprintf(&log, "%s-wal", path) < 0) {
                log = NULL;
                r = -ENOMEM;
        }
        if (r == 0)
                r = set_wal(db);
        if (r == 0)
                r = db_exec(db, sql);
        if (r < 0)
                return r;
        sqlite3_wal_hook(db->sqlite, note_log, db);
        db->log_empty = stat(log, &st) < 0 ? errno == ENOENT : st.st_size == 0;
        return empty ? create_schema(db) : 0;
}

int db_open_writer(const char *path, struct db **ret)
{
        struct db *db;
        int r = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);

        if (r < 0)
                return r;
        db->writer = true;
        r = set_up_writer(db, path);
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
        /* The kernel's cache is behind it: eight times as much, or a mapping, measured no faster than 1 us a random lookup. */
        r = db_exec(db, "PRAGMA cache_size = -1024");
        if (r == 0)
                r = check_schema(db, &empty);
        if (r < 0) {
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

int db_check(struct db *db)
{
        sqlite3_stmt *statement;
        int r = sqlite3_prepare_v2(db->sqlite, "PRAGMA quick_check(1)", -1, &statement, NULL);

        if (r != SQLITE_OK)
                return db_error(db, r);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW)
                r = is_text(statement, "ok", -EBADMSG);
        else
                r = r == SQLITE_DONE ? -EBADMSG : db_error(db, r);
        sqlite3_finalize(statement);
        return r;
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

/*
 * SQLite syncs the head of a log that it begins anew, lest a power cut mixes it with old pages behind it. In an empty file
 * there are none: this one sync, of all that a commit does, is in vain.
 */
static int begin_write(struct db *db)
{
        int r = 0;

        if (db->unsynced != db->log_empty)
                r = db_exec(db, db->log_empty ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = NORMAL");
        if (r < 0)
                return r;
        db->unsynced = db->log_empty;
        return db_run_query(db, Q_BEGIN_WRITE);
}

int db_begin(struct db *db)
{
        return db->writer ? begin_write(db) : db_run_query(db, Q_BEGIN);
}

int db_commit(struct db *db)
{
        return db_run_query(db, Q_COMMIT);
}

void db_rollback(struct db *db)
{
        if (sqlite3_get_autocommit(db->sqlite))
                return;
        db->log_empty = false; /* what did not fit into memory went there */
        (void)sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

int db_log_pages(const struct db *db)
{
        return db->log_pages;
}

static int checkpoint(struct db *db, int mode)
{
        int r = 0;

        if (db->unsynced)
                r = db_exec(db, "PRAGMA synchronous = NORMAL");
        if (r < 0)
                return r;
        db->unsynced = false;
        /* Not waiting for readers: what they still need of the log goes with the next version. */
        sqlite3_busy_timeout(db->sqlite, 0);
        r = sqlite3_wal_checkpoint_v2(db->sqlite, NULL, mode, NULL, NULL);
        sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
        if (r == SQLITE_OK && mode == SQLITE_CHECKPOINT_TRUNCATE) {
                db->log_empty = true;
                db->log_pages = 0;
        }
        return (r & 0xff) == SQLITE_BUSY ? 0 : db_error(db, r);
}

int db_checkpoint(struct db *db)
{
        return checkpoint(db, SQLITE_CHECKPOINT_PASSIVE);
}

int db_truncate_log(struct db *db)
{
        return checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE);
}

void db_release_memory(struct db *db)
{
        sqlite3_db_release_memory(db->sqlite);
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
                db->log_empty = false; /* it all goes through the log, past the commit hook */
                (void)sqlite3_backup_step(backup, -1);
                r = db_error(db, sqlite3_backup_finish(backup));
        }
        db_close(from);
        return r < 0 ? r : db_truncate_log(db);
}
