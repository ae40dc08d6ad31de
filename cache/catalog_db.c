#include "cache/catalog_db.h"

#include <pthread.h>
#include <sys/stat.h>

#include "cache/catalog_db_private.h"

#define APPLICATION_ID 1718843715 /* "fsyC" */
#define SCHEMA_VERSION 4
#define TEXT_(x)       #x
#define TEXT(x)        TEXT_(x)

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
        [Q_RETIRED] = "SELECT " ROW " FROM entry INDEXED BY entry_died WHERE died <> 0 AND died <= ?1",
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
        [Q_FORGET] = "DELETE FROM entry WHERE ino = ?1 AND died <> 0"
                     " AND NOT EXISTS(SELECT 1 FROM entry AS child WHERE child.parent = ?1)",
        [Q_PREVIOUS] = "SELECT old FROM previous WHERE now = ?1",
        [Q_SET_PREVIOUS] = "INSERT OR REPLACE INTO previous(now, old) VALUES(?1, ?2)",
        [Q_FORGET_PREVIOUS] = "DELETE FROM previous WHERE id <= (SELECT max(id) FROM previous) - ?1",
};

/* ---- opening ---- */

/* How many bytes of each page are for its hash; SET: from now on that many. */
static int reserved_bytes(struct db *db, int set)
{
        int bytes = set;

        return sqlite3_file_control(db->sql.sqlite, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes) == SQLITE_OK
                       ? bytes
                       : -EIO;
}

static int check_schema(struct db *db, bool *ret_empty)
{
        int64_t version;
        int r = sql_read_format(&db->sql, APPLICATION_ID, &version);

        if (r < 0)
                return r;
        *ret_empty = version == 0;
        if (*ret_empty)
                return 0;
        if (version != SCHEMA_VERSION)
                return version < SCHEMA_VERSION ? -ESTALE : -EPROTONOSUPPORT;
        r = reserved_bytes(db, -1);
        return r < 0 ? r : r == PAGE_SUM_BYTES ? 0 : -EBADMSG;
}

static int create_schema(struct db *db)
{
        int r = db_begin(db);

        if (r == 0)
                r = sql_exec(&db->sql, schema_sql);
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

static int db_open(const char *path, bool writer, struct db **ret)
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
        db->sql = (struct sql){ .queries = queries, .n_queries = Q_COUNT, .writer = writer, .vfs = DB_VFS };
        r = sql_open(&db->sql, path);
        if (r == 0)
                r = sql_error(&db->sql,
                              sqlite3_db_config(db->sql.sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL));
        if (r < 0) {
                db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

/*
 * The log is what readers go on with while a version is written (C1), and what a power cut may cost (C4). It is moved into the database by db_checkpoint alone, when it has grown and
 * the readers have moved on, and not when the database is closed: a remount that finds nothing changed shall not pay for it.
 */
static int set_up_writer(struct db *db, const char *path)
{
        static const char sql[] =
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
                r = sql_use_log(&db->sql);
        if (r == 0)
                r = sql_exec(&db->sql, sql);
        if (r < 0)
                return r;
        db->log_empty = stat(log, &st) < 0 ? errno == ENOENT : st.st_size == 0;
        return empty ? create_schema(db) : 0;
}

int db_open_writer(const char *path, struct db **ret)
{
        struct db *db;
        int r = db_open(path, true, &db);

        if (r < 0)
                return r;
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
        int r = db_open(path, false, &db);

        if (r < 0)
                return r;
        /* The kernel's cache is behind it: eight times as much, or a mapping, measured no faster than 1 us a random lookup. */
        r = sql_exec(&db->sql, "PRAGMA cache_size = -1024");
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
        return sql_expect(&db->sql, "PRAGMA quick_check(1)", "ok", -EBADMSG);
}

void db_close(struct db *db)
{
        if (!db)
                return;
        sql_close(&db->sql);
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
                r = sql_exec(&db->sql,
                             db->log_empty ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = NORMAL");
        if (r < 0)
                return r;
        db->unsynced = db->log_empty;
        return sql_begin(&db->sql);
}

int db_begin(struct db *db)
{
        return db->sql.writer ? begin_write(db) : sql_begin(&db->sql);
}

int db_commit(struct db *db)
{
        int r = sql_commit(&db->sql);

        db->log_empty = db->log_empty && db->sql.log_pages == 0;
        return r;
}

void db_rollback(struct db *db)
{
        if (sql_in_transaction(&db->sql))
                db->log_empty = false; /* what did not fit into memory went there */
        sql_rollback(&db->sql);
}

int db_log_pages(const struct db *db)
{
        return db->sql.log_pages;
}

static int checkpoint(struct db *db, bool empty)
{
        int r = 0;

        if (db->unsynced)
                r = sql_exec(&db->sql, "PRAGMA synchronous = NORMAL");
        if (r < 0)
                return r;
        db->unsynced = false;
        /* What readers still need of the log goes with the next version. */
        r = sql_checkpoint(&db->sql, empty);
        if (r == 0 && empty)
                db->log_empty = true;
        return r == -EBUSY ? 0 : r;
}

int db_checkpoint(struct db *db)
{
        return checkpoint(db, false);
}

int db_truncate_log(struct db *db)
{
        return checkpoint(db, true);
}

void db_release_memory(struct db *db)
{
        sqlite3_db_release_memory(db->sql.sqlite);
}

int db_copy(struct db *db, const char *path)
{
        struct db *from;
        sqlite3_backup *backup;
        int r = db_open_reader(path, &from);

        if (r < 0)
                return r;
        backup = sqlite3_backup_init(db->sql.sqlite, "main", from->sql.sqlite, "main");
        if (!backup) {
                r = sql_error(&db->sql, sqlite3_extended_errcode(db->sql.sqlite));
        } else {
                db->log_empty = false; /* it all goes through the log, past the commit hook */
                (void)sqlite3_backup_step(backup, -1);
                r = sql_error(&db->sql, sqlite3_backup_finish(backup));
        }
        db_close(from);
        return r < 0 ? r : db_truncate_log(db);
}
