#include "cache/catalog_private.h"

#define LOG_WAIT_MS      20
#define READER_WAIT_MS   2000 /* for one of those that are there, where no more can be opened */
#define IDLE_READERS_MAX 8    /* kept for the next queries; more are made when more threads read at once */

static void reader_free(struct catalog_reader *reader)
{
        db_close(reader->db);
        free(reader);
}

void catalog_readers_free(struct catalog *catalog) TSA_NONE;
void catalog_readers_free(struct catalog *catalog)
{
        while (catalog->idle) {
                struct catalog_reader *reader = catalog->idle;
                catalog->idle = reader->next;
                reader_free(reader);
        }
}

/* A snapshot can be newer than the version that was published: a commit comes before its publication. */
int catalog_reader_renew(struct catalog *catalog, struct catalog_reader *reader)
{
        struct db_version version;
        int r;

        if (reader->snapshot) {
                r = db_commit(reader->db);
                if (r < 0)
                        return r;
                reader->snapshot = false;
        }
        r = db_begin(reader->db);
        if (r < 0)
                return r;
        reader->snapshot = true;
        /* The first query takes the snapshot: so the generation read is that of all queries to come. */
        r = db_read_version(reader->db, &version);
        if (r < 0)
                return r;
        reader->generation = version.shown.generation;
        reader->loading = version.shown.loading;
        mutex_lock(&catalog->mutex);
        catalog->seen = MAX(catalog->seen, reader->generation);
        mutex_unlock(&catalog->mutex);
        return 0;
}

static int reader_new(struct catalog *catalog, struct catalog_reader **ret)
{
        struct catalog_reader *reader = calloc(1, sizeof(*reader));
        int r;

        if (!reader)
                return -ENOMEM;
        r = db_open_reader(catalog->slot.path, &reader->db);
        if (r < 0) {
                free(reader);
                return r;
        }
        mutex_lock(&catalog->mutex);
        catalog->n_readers++;
        mutex_unlock(&catalog->mutex);
        *ret = reader;
        return 0;
}

/* Frees a reader that failed, or is one too many. */
static void reader_drop(struct catalog *catalog, struct catalog_reader *reader)
{
        reader_free(reader);
        mutex_lock(&catalog->mutex);
        catalog->n_readers--;
        condition_broadcast(&catalog->readers_changed);
        mutex_unlock(&catalog->mutex);
}

/* True if READER was kept for the next query. */
static bool keep_locked(struct catalog *catalog, struct catalog_reader *reader) TSA_REQUIRES(&catalog->mutex)
{
        if (!reader || catalog->n_idle >= IDLE_READERS_MAX)
                return false;
        reader->next = catalog->idle;
        catalog->idle = reader;
        catalog->n_idle++;
        if (catalog->n_wanting > 0)
                condition_broadcast(&catalog->readers_changed);
        return true;
}

/* A query is over; READER, which may be NULL, is kept or freed. */
static void leave(struct catalog *catalog, struct catalog_reader *reader)
{
        bool kept;

        mutex_lock(&catalog->mutex);
        kept = keep_locked(catalog, reader);
        if (--catalog->n_reading == 0 && catalog->emptying_log)
                condition_broadcast(&catalog->readers_changed);
        mutex_unlock(&catalog->mutex);
        if (reader && !kept)
                reader_drop(catalog, reader);
}

static struct catalog_reader *take_one_locked(struct catalog *catalog) TSA_REQUIRES(&catalog->mutex)
{
        struct catalog_reader *reader = catalog->idle;

        if (reader) {
                catalog->idle = reader->next;
                catalog->n_idle--;
        }
        return reader;
}

/* No more can be opened (no descriptors left, the database's name gone): the next that somebody gives back, or NULL if there is none at all. */
static struct catalog_reader *await_reader(struct catalog *catalog)
{
        int64_t deadline = clock_monotonic_ns() + READER_WAIT_MS * NSEC_PER_MSEC;
        struct catalog_reader *reader;
        int r = 0;

        mutex_lock(&catalog->mutex);
        catalog->n_wanting++;
        while (!(reader = take_one_locked(catalog)) && catalog->n_readers > 0 && r == 0)
                r = condition_wait_until(&catalog->readers_changed, &catalog->mutex, deadline);
        catalog->n_wanting--;
        mutex_unlock(&catalog->mutex);
        return reader;
}

int catalog_reader_take(struct catalog *catalog, struct catalog_reader **ret)
{
        struct catalog_reader *reader;
        uint64_t generation;
        int r = 0;

        mutex_lock(&catalog->mutex);
        while (catalog->emptying_log)
                condition_wait(&catalog->readers_changed, &catalog->mutex);
        catalog->n_reading++;
        generation = MAX(catalog->version.shown.generation, catalog->seen);
        reader = take_one_locked(catalog);
        mutex_unlock(&catalog->mutex);

        if (!reader)
                r = reader_new(catalog, &reader);
        if (r < 0 && r != -EBADMSG) {
                reader = await_reader(catalog);
                r = reader ? 0 : r;
        }
        if (r < 0) {
                leave(catalog, NULL);
                return catalog_note_damage(catalog, r);
        }
        if (!reader->snapshot || reader->generation < generation)
                r = catalog_reader_renew(catalog, reader);
        if (r < 0) {
                reader_drop(catalog, reader);
                leave(catalog, NULL);
                return catalog_note_damage(catalog, r);
        }
        *ret = reader;
        return 0;
}

int catalog_reader_give(struct catalog *catalog, struct catalog_reader *reader, int r)
{
        if (r < 0)
                reader_drop(catalog, TAKE_PTR(reader));
        leave(catalog, reader);
        return catalog_note_damage(catalog, r);
}

/* ---- the log ---- */

static void end_snapshots(struct catalog_reader *readers)
{
        for (struct catalog_reader *reader = readers; reader; reader = reader->next)
                if (reader->snapshot) {
                        db_rollback(reader->db);
                        reader->snapshot = false;
                }
}

static struct catalog_reader *take_idle_locked(struct catalog *catalog) TSA_REQUIRES(&catalog->mutex)
{
        struct catalog_reader *readers = catalog->idle;

        catalog->idle = NULL;
        catalog->n_idle = 0;
        return readers;
}

static void keep_readers(struct catalog *catalog, struct catalog_reader *readers)
{
        while (readers) {
                struct catalog_reader *reader = readers;
                bool kept;
                readers = reader->next;
                mutex_lock(&catalog->mutex);
                kept = keep_locked(catalog, reader);
                mutex_unlock(&catalog->mutex);
                if (!kept)
                        reader_drop(catalog, reader);
        }
}

/*
 * Where many threads read there is always one in the log, and it would grow for ever. So new ones are held back for a moment, until
 * those under way are through; or not, if one of them takes longer. What is done in that moment writes nothing.
 */
static int empty_log(struct catalog *catalog)
{
        int64_t deadline = clock_monotonic_ns() + LOG_WAIT_MS * NSEC_PER_MSEC;
        struct catalog_reader *readers;
        int r = 0;

        mutex_lock(&catalog->mutex);
        catalog->emptying_log = true;
        while (catalog->n_reading > 0 && r == 0)
                r = condition_wait_until(&catalog->readers_changed, &catalog->mutex, deadline);
        readers = take_idle_locked(catalog);
        mutex_unlock(&catalog->mutex);

        end_snapshots(readers);
        r = r < 0 ? 0 : db_truncate_log(catalog->writer);
        keep_readers(catalog, readers);

        mutex_lock(&catalog->mutex);
        catalog->emptying_log = false;
        condition_broadcast(&catalog->readers_changed);
        mutex_unlock(&catalog->mutex);
        return r;
}

/* Old snapshots keep the log from moving into the database: those of idle readers end here, and the readers come back. */
void catalog_checkpoint(struct catalog *catalog, int pages)
{
        struct catalog_reader *readers;
        int r;

        if (db_log_pages(catalog->writer) < pages)
                return;
        mutex_lock(&catalog->mutex);
        readers = take_idle_locked(catalog);
        mutex_unlock(&catalog->mutex);
        end_snapshots(readers);
        keep_readers(catalog, readers);
        /* What fails here (a full disk) stays in the log, which is as good; the next one tries again. */
        r = db_checkpoint(catalog->writer);
        if (r == 0)
                r = empty_log(catalog);
        (void)catalog_note_damage(catalog, r);
}
