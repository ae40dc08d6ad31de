#include "server/tree_db.h"

#include <string.h>

#include "base/pieces.h"
#include "server/tree_db_private.h"

#define APPLICATION_ID 1718843732 /* "fsyT" */
#define SCHEMA_VERSION 4          /* also to be raised with ENTRY_TINY_MAX: it is in the schema */
#define LOG_PAGES_MAX  1000       /* of the write-ahead log, before it is moved into the database */
#define TEXT_(x)       #x
#define TEXT(x)        TEXT_(x)

/* The rows whose content has a detail: tree_row_detail_len. The index and who uses it must say so in the same words. */
#define LARGE      262144
#define HAS_DETAIL "kind = 1 AND (size > " TEXT(LARGE) " OR (size >= 1 AND size <= " TEXT(ENTRY_TINY_MAX) "))"

static_assert(LARGE == PIECE_BYTES, "what has a list is in the schema");

static const char schema_sql[] =
        "CREATE TABLE entry("
        " parent INTEGER NOT NULL,"
        " name BLOB NOT NULL,"
        " id INTEGER NOT NULL,"
        " kind INTEGER NOT NULL,"
        " unknown INTEGER NOT NULL,"
        " racy INTEGER NOT NULL,"
        " mode INTEGER NOT NULL,"
        " size INTEGER NOT NULL,"
        " mtime_ns INTEGER NOT NULL,"
        " digest BLOB NOT NULL,"
        " device INTEGER NOT NULL,"
        " inode INTEGER NOT NULL,"
        " ctime_ns INTEGER NOT NULL,"
        " md5 BLOB,"
        " target BLOB,"
        " linked INTEGER NOT NULL,"
        " PRIMARY KEY(parent, name)) WITHOUT ROWID;"
        "CREATE INDEX entry_racy ON entry(parent, name) WHERE racy = 1;"
        "CREATE INDEX entry_detail ON entry(digest) WHERE " HAS_DETAIL ";"
        /* With a rowid: what is written and read in the order of a walk lies together, only the index is random. */
        "CREATE TABLE detail("
        " digest BLOB PRIMARY KEY NOT NULL,"
        " data BLOB NOT NULL);"
        "CREATE TABLE folder("
        " id INTEGER PRIMARY KEY,"
        " parent INTEGER NOT NULL,"
        " name BLOB NOT NULL,"
        " device INTEGER NOT NULL,"
        " inode INTEGER NOT NULL);"
        "CREATE INDEX folder_inode ON folder(inode);"
        "CREATE TABLE change("
        " revision INTEGER NOT NULL,"
        " parent INTEGER NOT NULL,"
        " name BLOB NOT NULL,"
        " whole INTEGER NOT NULL,"
        " PRIMARY KEY(revision, parent, name)) WITHOUT ROWID;"
        "CREATE TABLE version("
        " revision INTEGER PRIMARY KEY,"
        " digest BLOB NOT NULL,"
        " changes INTEGER NOT NULL);"
        "CREATE TABLE meta("
        " one INTEGER PRIMARY KEY CHECK (one = 1),"
        " valid INTEGER NOT NULL,"
        " hash INTEGER NOT NULL,"
        " digest BLOB NOT NULL,"
        " revision INTEGER NOT NULL,"
        " entries INTEGER NOT NULL,"
        " files INTEGER NOT NULL,"
        " folders INTEGER NOT NULL,"
        " symlinks INTEGER NOT NULL,"
        " bytes INTEGER NOT NULL,"
        " unknown INTEGER NOT NULL,"
        " next_id INTEGER NOT NULL,"
        " journal_rows INTEGER NOT NULL);"
        "INSERT INTO meta VALUES(1, 0, 0, zeroblob(0), 0, 0, 0, 0, 0, 0, 0, 2, 0);"
        "PRAGMA application_id = " TEXT(APPLICATION_ID) "; PRAGMA user_version = " TEXT(SCHEMA_VERSION) ";";

#define ROW                                                                                                  \
        "parent, name, id, kind, unknown, racy, mode, size, mtime_ns, digest, device, inode, ctime_ns, "     \
        "md5, target, linked"
#define VALUES "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
#define LIST   "SELECT " ROW " FROM entry WHERE parent = ?1 ORDER BY name"
#define NAMED(what)                                                                                          \
        "EXISTS (SELECT 1 FROM entry INDEXED BY entry_detail WHERE entry.digest = " what " AND " HAS_DETAIL  \
        ")"

static const char *const queries[Q_COUNT] = {
        [Q_META] =
                "SELECT valid, digest, revision, entries, files, folders, symlinks, bytes, unknown, next_id,"
                " journal_rows FROM meta WHERE one = 1",
        [Q_SET_META] =
                "UPDATE meta SET valid = ?1, digest = ?2, revision = ?3, entries = ?4, files = ?5, folders = "
                "?6,"
                " symlinks = ?7, bytes = ?8, unknown = ?9, next_id = ?10, journal_rows = ?11 WHERE one = 1",
        [Q_LOOKUP] = "SELECT " ROW " FROM entry WHERE parent = ?1 AND name = ?2",
        [Q_LIST + TREE_DB_LIST] = LIST,
        [Q_LIST + TREE_DB_WALK] = LIST,
        [Q_RACY] =
                "SELECT parent, name FROM entry INDEXED BY entry_racy WHERE racy = 1 ORDER BY parent, name",
        [Q_INDEX_FILES] = "CREATE INDEX IF NOT EXISTS entry_inode ON entry(inode) WHERE kind = 1",
        [Q_FILES] = "SELECT parent, name FROM entry INDEXED BY entry_inode"
                    " WHERE kind = 1 AND inode = ?2 AND device = ?1",
        [Q_INSERT] = "INSERT INTO entry(" ROW ") " VALUES,
        [Q_REPLACE] = "REPLACE INTO entry(" ROW ") " VALUES,
        [Q_DELETE] = "DELETE FROM entry WHERE parent = ?1 AND name = ?2",
        [Q_DELETE_CHILDREN] = "DELETE FROM entry WHERE parent = ?1",
        [Q_SET_DIGEST] = "UPDATE entry SET digest = ?3 WHERE parent = ?1 AND name = ?2",
        [Q_SET_MD5] = "UPDATE entry SET md5 = ?3 WHERE parent = ?1 AND name = ?2",
        [Q_DETAIL] = "SELECT data FROM detail WHERE digest = ?1",
        [Q_PUT_DETAIL] = "INSERT INTO detail(digest, data) VALUES(?1, ?2) ON CONFLICT DO NOTHING",
        [Q_REPLACE_DETAIL] = "REPLACE INTO detail(digest, data) SELECT ?1, ?2 WHERE " NAMED("?1"),
        [Q_DROP_DETAIL] = "DELETE FROM detail WHERE digest = ?1 AND NOT " NAMED("?1"),
        [Q_SWEEP_DETAILS] = "DELETE FROM detail WHERE NOT " NAMED("detail.digest"),
        [Q_FOLDER] = "SELECT parent, name FROM folder WHERE id = ?1",
        [Q_FIND_FOLDER] = "SELECT id FROM folder WHERE inode = ?2 AND device = ?1",
        [Q_INSERT_FOLDER] = "INSERT INTO folder(id, parent, name, device, inode) VALUES(?1, ?2, ?3, ?4, ?5)",
        [Q_RESTAMP_FOLDER] = "UPDATE folder SET device = ?2, inode = ?3 WHERE id = ?1",
        [Q_DELETE_FOLDER] = "DELETE FROM folder WHERE id = ?1",
        [Q_NOTE] = "INSERT INTO change(revision, parent, name, whole) VALUES(?1, ?2, ?3, ?4)"
                   " ON CONFLICT DO UPDATE SET whole = max(whole, excluded.whole)",
        [Q_CHANGES] = "SELECT revision, parent, name, whole FROM change WHERE revision > ?1"
                      " ORDER BY revision, parent, name",
        [Q_MOVE_CHANGES] = "INSERT INTO change(revision, parent, name, whole)"
                           " SELECT ?2, parent, name, whole FROM change WHERE revision = ?1"
                           " ON CONFLICT DO UPDATE SET whole = max(whole, excluded.whole)",
        [Q_DROP_CHANGES] = "DELETE FROM change WHERE revision BETWEEN ?1 AND ?2",
        [Q_COUNT_CHANGES] = "SELECT count(*) FROM change WHERE revision = ?1",
        [Q_PUT_VERSION] = "REPLACE INTO version(revision, digest, changes) VALUES(?1, ?2, ?3)",
        [Q_VERSION] = "SELECT digest FROM version WHERE revision = ?1",
        [Q_NEXT_FLOOR] = "SELECT revision, changes + (SELECT changes FROM version ORDER BY revision LIMIT 1)"
                         " FROM version ORDER BY revision LIMIT 1 OFFSET 1",
        [Q_DROP_VERSIONS] = "DELETE FROM version WHERE revision < ?1",
        [Q_CLEAR_FLOOR] = "UPDATE version SET changes = 0 WHERE revision = ?1",
};

int tree_db_damaged(struct tree_db *db)
{
        return sql_damaged(&db->sql);
}

/* ---- opening ---- */

static int write_base(struct tree_db *db)
{
        char sql[96];

        snprintf(sql, sizeof(sql), "UPDATE meta SET hash = %d, digest = zeroblob(%zu)", (int)db->base,
                 hash_len(db->base));
        return sql_exec(&db->sql, sql);
}

static int check_base(struct tree_db *db)
{
        int64_t base;
        int r = sql_read_int(&db->sql, "SELECT hash FROM meta WHERE one = 1", &base);

        return r < 0 ? r : base == db->base ? 0 : -EPROTONOSUPPORT;
}

static int create_schema(struct tree_db *db)
{
        int r = tree_db_begin(db);

        if (r == 0)
                r = sql_exec(&db->sql, schema_sql);
        if (r == 0)
                r = write_base(db);
        if (r == 0)
                r = tree_db_commit(db);
        if (r < 0)
                tree_db_rollback(db);
        return r;
}

static int db_open(const char *path, bool writer, enum hash_algorithm base, struct tree_db **ret)
{
        struct tree_db *db = calloc(1, sizeof(*db));
        int r;

        if (!db)
                return -ENOMEM;
        db->base = base;
        db->sql = (struct sql){ .queries = queries, .n_queries = Q_COUNT, .writer = writer };
        r = sql_open(&db->sql, path);
        if (r < 0) {
                free(db);
                return r;
        }
        *ret = db;
        return 0;
}

/* Views go on with the log while a version is written (T1). It is moved into the database by tree_db_checkpoint alone. */
static int set_up_writer(struct tree_db *db)
{
        int64_t version;
        int r = sql_read_format(&db->sql, APPLICATION_ID, &version);

        if (r == 0 && version != 0 && version != SCHEMA_VERSION)
                r = -EPROTONOSUPPORT;
        if (r == 0)
                r = sql_use_log(&db->sql);
        if (r == 0)
                r = sql_exec(&db->sql, "PRAGMA cache_size = -8192");
        if (r == 0)
                r = version == 0 ? create_schema(db) : check_base(db);
        return r;
}

int tree_db_open_writer(const char *path, enum hash_algorithm base, struct tree_db **ret)
{
        struct tree_db *db;
        int r = db_open(path, true, base, &db);

        if (r < 0)
                return r;
        r = set_up_writer(db);
        if (r < 0) {
                tree_db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

int tree_db_open_reader(const char *path, enum hash_algorithm base, struct tree_db **ret)
{
        struct tree_db *db;
        int r = db_open(path, false, base, &db);

        if (r < 0)
                return r;
        r = sql_exec(&db->sql, "PRAGMA cache_size = -512");
        if (r < 0) {
                tree_db_close(db);
                return r;
        }
        *ret = db;
        return 0;
}

void tree_db_close(struct tree_db *db)
{
        if (!db)
                return;
        sql_close(&db->sql);
        free(db);
}

bool tree_db_is_damaged(const struct tree_db *db)
{
        return db->sql.damaged;
}

/* ---- transactions ---- */

int tree_db_begin(struct tree_db *db)
{
        return sql_begin(&db->sql);
}

int tree_db_commit(struct tree_db *db)
{
        return sql_commit(&db->sql);
}

void tree_db_rollback(struct tree_db *db)
{
        sql_rollback(&db->sql);
}

void tree_db_end(struct tree_db *db)
{
        for (int list = 0; list < TREE_DB_LISTS; list++)
                tree_db_list_end(db, (enum tree_db_list)list);
        tree_db_rollback(db);
}

bool tree_db_in_transaction(const struct tree_db *db)
{
        return sql_in_transaction(&db->sql);
}

int tree_db_checkpoint(struct tree_db *db)
{
        int r;

        if (db->sql.log_pages <= LOG_PAGES_MAX)
                return 0;
        r = sql_checkpoint(&db->sql, true);
        sqlite3_db_release_memory(db->sql.sqlite);
        return r == -EBUSY ? 0 : r;
}

/* ---- columns ---- */

int tree_db_column_hash(struct tree_db *db, sqlite3_stmt *statement, int column, uint8_t ret[HASH_BYTES])
{
        const void *data = sqlite3_column_blob(statement, column);

        if (!data || (size_t)sqlite3_column_bytes(statement, column) != hash_len(db->base))
                return tree_db_damaged(db);
        hash_take(ret, data, hash_len(db->base));
        return 0;
}

/* A name as a column; the root's is empty. */
int tree_db_column_name(struct tree_db *db, sqlite3_stmt *statement, int column, char ret[PATH_NAME_MAX + 1],
                        size_t *ret_len)
{
        const void *data = sqlite3_column_blob(statement, column);
        size_t len = (size_t)sqlite3_column_bytes(statement, column);

        if (len > 0 && (!data || path_check_name(data, len) < 0))
                return tree_db_damaged(db);
        if (len > 0)
                memcpy(ret, data, len);
        ret[len] = '\0';
        *ret_len = len;
        return 0;
}

/* Reads N integers of the statement's one row. TREE_NONE. */
int tree_db_read_ints(struct tree_db *db, sqlite3_stmt *statement, uint64_t *const *ret, int n)
{
        int r = sql_step(&db->sql, statement, TREE_NONE);

        for (int i = 0; r == 0 && i < n; i++)
                *ret[i] = (uint64_t)sqlite3_column_int64(statement, i);
        sqlite3_reset(statement);
        return r;
}
