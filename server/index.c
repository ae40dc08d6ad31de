#include "server/index.h"

#include <stdatomic.h>
#include <string.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "server/stamp.h"

#define GATHER_MAX 65536 /* hashes held in memory before they are written although the scan goes on */

#define TICK_MARGIN_NS   (20 * NSEC_PER_MSEC)   /* more than a kernel tick (at most 10 ms) */
#define COARSE_MARGIN_NS (2100 * NSEC_PER_MSEC) /* file systems that keep whole or even seconds */

/* user_version of the file: another one is begun anew, it is only a cache. */
#define SCHEMA_VERSION "1"

static const char schema[] = "CREATE TABLE IF NOT EXISTS content("
                             " device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,"
                             " mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, xxh3 BLOB, md5 BLOB,"
                             " PRIMARY KEY(device, inode)) WITHOUT ROWID;"
                             "CREATE TABLE IF NOT EXISTS workspace("
                             " spider BLOB NOT NULL, path BLOB NOT NULL, digest BLOB NOT NULL,"
                             " revision INTEGER NOT NULL, PRIMARY KEY(spider, path)) WITHOUT ROWID;"
                             "PRAGMA user_version=" SCHEMA_VERSION;

static const char select_sql[] =
        "SELECT size, mtime_ns, ctime_ns, xxh3, md5 FROM content WHERE device=?1 AND inode=?2";

/* The other algorithm's hash stays as long as it belongs to the same state of the file. */
#define SAME_STAMP "size=excluded.size AND mtime_ns=excluded.mtime_ns AND ctime_ns=excluded.ctime_ns"
static const char upsert_sql[] =
        "INSERT INTO content VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET"
        " xxh3=CASE WHEN " SAME_STAMP " THEN coalesce(excluded.xxh3, xxh3) ELSE excluded.xxh3 END,"
        " md5=CASE WHEN " SAME_STAMP " AND (excluded.xxh3 IS NULL OR xxh3 IS NULL OR excluded.xxh3=xxh3) "
        "THEN coalesce(excluded.md5, md5) ELSE excluded.md5 END,"
        " size=excluded.size, mtime_ns=excluded.mtime_ns, ctime_ns=excluded.ctime_ns";

/* The first revision is the time of day: a new index never goes back behind one that was lost. */
static const char revision_sql[] = "INSERT INTO workspace VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET"
                                   " revision=revision + (digest<>excluded.digest), digest=excluded.digest"
                                   " RETURNING revision";

/* A connection that only reads, so that several threads can look up at the same time. */
struct reader {
        struct reader *next;
        sqlite3 *db;
        sqlite3_stmt *select;
};

struct record {
        struct index_stamp stamp;
        struct content_id id;
};

struct index {
        char *file; /* owned */

        struct mutex lock;                         /* never held during I/O */
        struct reader *readers TSA_GUARDED(&lock); /* those that nobody uses now */
        struct record *records TSA_GUARDED(&lock); /* gathered */
        size_t n_records TSA_GUARDED(&lock);
        size_t capacity TSA_GUARDED(&lock);

        /* Serializes the one writing connection, also over its commits: SQLite allows no second writer anyway. Never taken
         * with `lock` held. */
        struct mutex write_lock;
        sqlite3 *db TSA_GUARDED(&write_lock);
        sqlite3_stmt *upsert TSA_GUARDED(&write_lock);
        sqlite3_stmt *revision TSA_GUARDED(&write_lock);
};

static int sql_errno(int rc)
{
        switch (rc & 0xff) {
        case SQLITE_OK:
        case SQLITE_DONE:
        case SQLITE_ROW:
                return 0;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EUCLEAN;
        default:
                return -EIO;
        }
}

/* ---- opening ---- */

static int text_is(void *expected, int columns, char **values, char **names)
{
        return columns == 1 && values[0] && strcmp(values[0], expected) == 0 ? 0 : 1;
}

/* -EUCLEAN: damaged or of another version. */
static int check_db(sqlite3 *db)
{
        char ok[] = "ok", none[] = "0", version[] = SCHEMA_VERSION;
        int rc = sqlite3_exec(db, "PRAGMA quick_check(1)", text_is, ok, NULL);

        if (rc == SQLITE_OK && sqlite3_exec(db, "PRAGMA user_version", text_is, none, NULL) != SQLITE_OK)
                rc = sqlite3_exec(db, "PRAGMA user_version", text_is, version, NULL);
        return rc == SQLITE_ABORT ? -EUCLEAN : sql_errno(rc);
}

static int connect_db(const char *file, int flags, sqlite3 **ret)
{
        sqlite3 *db = NULL;
        int r = sql_errno(
                sqlite3_open_v2(file, &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL));

        if (r < 0) {
                sqlite3_close(db);
                return r;
        }
        sqlite3_busy_timeout(db, 5000);
        *ret = db;
        return 0;
}

static int open_writer(struct index *index) TSA_REQUIRES(index->write_lock)
{
        int r = connect_db(index->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &index->db);

        if (r >= 0)
                r = check_db(index->db);
        if (r >= 0)
                r = sql_errno(sqlite3_exec(index->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                                           NULL, NULL, NULL));
        if (r >= 0)
                r = sql_errno(sqlite3_exec(index->db, schema, NULL, NULL, NULL));
        if (r >= 0)
                r = sql_errno(sqlite3_prepare_v2(index->db, upsert_sql, -1, &index->upsert, NULL));
        if (r >= 0)
                r = sql_errno(sqlite3_prepare_v2(index->db, revision_sql, -1, &index->revision, NULL));
        return r;
}

static void close_writer(struct index *index) TSA_REQUIRES(index->write_lock)
{
        sqlite3_finalize(TAKE_PTR(index->upsert));
        sqlite3_finalize(TAKE_PTR(index->revision));
        sqlite3_close(TAKE_PTR(index->db));
}

/* Moves the database and what SQLite keeps beside it out of the way. */
static int move_aside(const char *file)
{
        static const char *const suffixes[] = { "", "-wal", "-shm" };

        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                _cleanup_free_ char *from = NULL, *to = NULL;
                if (asprintf(&from, "%s%s", file, suffixes[i]) < 0) {
                        from = NULL;
                        return -ENOMEM;
                }
                if (asprintf(&to, "%s.damaged%s", file, suffixes[i]) < 0) {
                        to = NULL;
                        return -ENOMEM;
                }
                if (rename(from, to) < 0 && errno != ENOENT)
                        return -errno;
        }
        return 0;
}

int index_open(const char *file, struct index **ret)
{
        struct index *index = calloc(1, sizeof(*index));
        int r;

        if (!index)
                return -ENOMEM;
        mutex_init(&index->lock);
        mutex_init(&index->write_lock);
        index->file = strdup(file);
        mutex_lock(&index->write_lock);
        r = index->file ? open_writer(index) : -ENOMEM;
        if (r == -EUCLEAN) {
                log_warning("index '%s' is damaged or of another version: moved aside, all files will be "
                            "hashed anew",
                            file);
                close_writer(index);
                r = move_aside(file);
                if (r >= 0)
                        r = open_writer(index);
        }
        mutex_unlock(&index->write_lock);
        if (r < 0) {
                index_close(index);
                return r;
        }
        *ret = index;
        return 0;
}

static void reader_free(struct reader *reader)
{
        sqlite3_finalize(reader->select);
        sqlite3_close(reader->db);
        free(reader);
}

void index_close(struct index *index)
{
        if (!index)
                return;
        if (index_flush(index) < 0)
                log_warning("index '%s': the last hashes could not be written", index->file);
        mutex_lock(&index->lock);
        while (index->readers) {
                struct reader *reader = index->readers;
                index->readers = reader->next;
                reader_free(reader);
        }
        free(index->records);
        mutex_unlock(&index->lock);
        mutex_lock(&index->write_lock);
        close_writer(index);
        mutex_unlock(&index->write_lock);
        mutex_release(&index->lock);
        mutex_release(&index->write_lock);
        free(index->file);
        free(index);
}

/* ---- stamps ---- */

struct index_stamp index_stamp_of(const struct stat *st)
{
        return (struct index_stamp){
                .device = st->st_dev,
                .inode = st->st_ino,
                .size = (uint64_t)st->st_size,
                .mtime_ns = stamp_ns(&st->st_mtim),
                .ctime_ns = stamp_ns(&st->st_ctim),
        };
}

bool index_stamp_equal(const struct index_stamp *a, const struct index_stamp *b)
{
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static bool time_racy(int64_t time_ns, int64_t taken_ns)
{
        int64_t margin = time_ns % NSEC_PER_SEC == 0 ? COARSE_MARGIN_NS : TICK_MARGIN_NS;

        return time_ns > taken_ns - margin;
}

bool index_stamp_racy(const struct index_stamp *stamp, int64_t taken_ns)
{
        return time_racy(stamp->mtime_ns, taken_ns) || time_racy(stamp->ctime_ns, taken_ns);
}

/* ---- lookup ---- */

static int reader_new(const char *file, struct reader **ret)
{
        struct reader *reader = calloc(1, sizeof(*reader));
        int r;

        if (!reader)
                return -ENOMEM;
        r = connect_db(file, SQLITE_OPEN_READONLY, &reader->db);
        if (r >= 0)
                r = sql_errno(sqlite3_prepare_v2(reader->db, select_sql, -1, &reader->select, NULL));
        if (r < 0) {
                reader_free(reader);
                return r;
        }
        *ret = reader;
        return 0;
}

static int reader_take(struct index *index, struct reader **ret)
{
        struct reader *reader;

        mutex_lock(&index->lock);
        reader = index->readers;
        if (reader)
                index->readers = reader->next;
        mutex_unlock(&index->lock);
        if (!reader)
                return reader_new(index->file, ret);
        *ret = reader;
        return 0;
}

static void reader_put(struct index *index, struct reader *reader)
{
        mutex_lock(&index->lock);
        reader->next = index->readers;
        index->readers = reader;
        mutex_unlock(&index->lock);
}

static int reader_ask(struct reader *reader, struct index_query *query)
{
        const struct index_stamp *stamp = &query->stamp;
        sqlite3_stmt *select = reader->select;
        int rc, column = query->algorithm == HASH_MD5 ? 4 : 3;

        sqlite3_bind_int64(select, 1, (sqlite3_int64)stamp->device);
        sqlite3_bind_int64(select, 2, (sqlite3_int64)stamp->inode);
        rc = sqlite3_step(select);
        if (rc == SQLITE_ROW && (uint64_t)sqlite3_column_int64(select, 0) == stamp->size &&
            sqlite3_column_int64(select, 1) == stamp->mtime_ns &&
            sqlite3_column_int64(select, 2) == stamp->ctime_ns &&
            sqlite3_column_bytes(select, column) == HASH_BYTES) {
                memcpy(query->digest, sqlite3_column_blob(select, column), HASH_BYTES);
                query->known = true;
        }
        sqlite3_reset(select);
        return sql_errno(rc);
}

void index_lookup(struct index *index, struct index_query *queries, size_t n)
{
        struct reader *reader = NULL;
        int r = reader_take(index, &reader);

        for (size_t i = 0; i < n; i++)
                queries[i].known = false;
        /* One read transaction for all: SQLite's locks cost more than the search. */
        if (r >= 0)
                r = sql_errno(sqlite3_exec(reader->db, "BEGIN", NULL, NULL, NULL));
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = reader_ask(reader, &queries[i]);
        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "index",
                            "index '%s' cannot be read: %s; files are hashed again", index->file,
                            strerror(-r));
        if (!reader)
                return;
        if (!sqlite3_get_autocommit(reader->db))
                sqlite3_exec(reader->db, "COMMIT", NULL, NULL, NULL);
        reader_put(index, reader);
}

/* ---- writing ---- */

int index_store(struct index *index, const struct index_stamp *stamp, const struct content_id *id)
{
        bool full;
        int r = 0;

        mutex_lock(&index->lock);
        if (index->n_records == index->capacity) {
                size_t capacity = index->capacity ? 2 * index->capacity : 256;
                struct record *records = reallocarray(index->records, capacity, sizeof(*records));
                if (records) {
                        index->records = records;
                        index->capacity = capacity;
                } else {
                        r = -ENOMEM;
                }
        }
        if (r == 0)
                index->records[index->n_records++] = (struct record){ .stamp = *stamp, .id = *id };
        full = index->n_records >= GATHER_MAX;
        mutex_unlock(&index->lock);
        return full ? index_flush(index) : r;
}

static int write_record(sqlite3_stmt *upsert, const struct record *record)
{
        const struct index_stamp *stamp = &record->stamp;
        int rc;

        sqlite3_clear_bindings(upsert);
        sqlite3_bind_int64(upsert, 1, (sqlite3_int64)stamp->device);
        sqlite3_bind_int64(upsert, 2, (sqlite3_int64)stamp->inode);
        sqlite3_bind_int64(upsert, 3, (sqlite3_int64)stamp->size);
        sqlite3_bind_int64(upsert, 4, stamp->mtime_ns);
        sqlite3_bind_int64(upsert, 5, stamp->ctime_ns);
        sqlite3_bind_blob(upsert, record->id.algorithm == HASH_MD5 ? 7 : 6, record->id.bytes, HASH_BYTES,
                          SQLITE_STATIC);
        rc = sqlite3_step(upsert);
        sqlite3_reset(upsert);
        return sql_errno(rc);
}

static int write_records(struct index *index, const struct record *records, size_t n)
        TSA_REQUIRES(index->write_lock)
{
        int r;

        r = sql_errno(sqlite3_exec(index->db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = write_record(index->upsert, &records[i]);
        if (r >= 0)
                r = sql_errno(sqlite3_exec(index->db, "COMMIT", NULL, NULL, NULL));
        if (!sqlite3_get_autocommit(index->db))
                sqlite3_exec(index->db, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

int index_flush(struct index *index)
{
        _cleanup_free_ struct record *records = NULL;
        size_t n;
        int r;

        /* What is taken here is written before anybody else's: a later hash of a file must not be overtaken by an earlier one, nor
         * may who finds nothing to take return before what others took is on disk. */
        mutex_lock(&index->write_lock);
        mutex_lock(&index->lock);
        records = TAKE_PTR(index->records);
        n = index->n_records;
        index->n_records = index->capacity = 0;
        mutex_unlock(&index->lock);
        r = n > 0 ? write_records(index, records, n) : 0;
        mutex_unlock(&index->write_lock);
        return r;
}

int index_revision(struct index *index, const char *spider, const char *path,
                   const uint8_t digest[HASH_BYTES], uint64_t *ret_revision)
{
        sqlite3_int64 revision = 0;
        sqlite3_stmt *stmt;
        int rc, r;

        mutex_lock(&index->write_lock);
        stmt = index->revision;
        sqlite3_bind_blob(stmt, 1, spider, (int)strlen(spider), SQLITE_STATIC);
        sqlite3_bind_blob(stmt, 2, path, (int)strlen(path), SQLITE_STATIC);
        sqlite3_bind_blob(stmt, 3, digest, HASH_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 4, clock_wall_sec());
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
                revision = sqlite3_column_int64(stmt, 0);
                rc = sqlite3_step(stmt); /* the change is committed at the end of the statement */
        }
        sqlite3_reset(stmt);
        sqlite3_clear_bindings(stmt);
        mutex_unlock(&index->write_lock);
        r = sql_errno(rc);
        if (r == 0)
                *ret_revision = (uint64_t)revision;
        return r;
}
