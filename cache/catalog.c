#include "cache/catalog.h"

#include <assert.h>
#include <string.h>

#include "cache/catalog_private.h"

#define IDLE_READERS_MAX 8 /* kept for the next queries; more are made when more threads read at once */

/* A listing's cookie: the low bits of its generation over the number of the entry it stands at. */
#define COOKIE_INO_BITS 43
#define COOKIE_GEN_BITS 20

int catalog_open(const char *dir, const char *source, struct catalog **ret)
{
        struct catalog *catalog = calloc(1, sizeof(*catalog));
        struct db_version version;
        int r;

        if (!catalog)
                return -ENOMEM;
        mutex_init(&catalog->mutex);
        catalog->slot = (struct catalog_slot){ .dir_fd = -1, .lock_fd = -1 };
        r = catalog_slot_take(dir, source, &catalog->slot);
        if (r == 0)
                r = catalog_slot_open(&catalog->slot, &catalog->writer, &version);
        if (r < 0) {
                catalog_free(catalog);
                return r;
        }
        mutex_lock(&catalog->mutex);
        catalog->version = version;
        mutex_unlock(&catalog->mutex);
        atomic_store(&catalog->generation, version.shown.generation);
        *ret = catalog;
        return 0;
}

static void reader_free(struct catalog_reader *reader)
{
        db_close(reader->db);
        free(reader);
}

void catalog_free(struct catalog *catalog) TSA_NONE;
void catalog_free(struct catalog *catalog)
{
        if (!catalog)
                return;
        assert(!catalog->writing);
        while (catalog->idle) {
                struct catalog_reader *reader = catalog->idle;
                catalog->idle = reader->next;
                reader_free(reader);
        }
        db_close(catalog->writer);
        catalog_slot_release(&catalog->slot);
        mutex_release(&catalog->mutex);
        free(catalog);
}

int catalog_note_damage(struct catalog *catalog, int r)
{
        if (r == -EBADMSG && !atomic_exchange(&catalog->suspect, true))
                catalog_slot_suspect(&catalog->slot);
        return r;
}

/* ---- readers ---- */

int catalog_reader_renew(struct catalog_reader *reader)
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
        if (r == 0)
                reader->generation = version.shown.generation;
        return r;
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
        *ret = reader;
        return 0;
}

int catalog_reader_take(struct catalog *catalog, struct catalog_reader **ret)
{
        struct catalog_reader *reader;
        uint64_t generation;
        int r = 0;

        mutex_lock(&catalog->mutex);
        generation = catalog->version.shown.generation;
        reader = catalog->idle;
        if (reader) {
                catalog->idle = reader->next;
                catalog->n_idle--;
        }
        mutex_unlock(&catalog->mutex);

        if (!reader)
                r = reader_new(catalog, &reader);
        if (r < 0)
                return catalog_note_damage(catalog, r);
        /* A snapshot can be newer than the version that was published: a commit comes before its publication. */
        if (!reader->snapshot || reader->generation < generation)
                r = catalog_reader_renew(reader);
        if (r < 0) {
                reader_free(reader);
                return catalog_note_damage(catalog, r);
        }
        *ret = reader;
        return 0;
}

int catalog_reader_give(struct catalog *catalog, struct catalog_reader *reader, int r)
{
        bool keep;

        mutex_lock(&catalog->mutex);
        keep = r >= 0 && catalog->n_idle < IDLE_READERS_MAX;
        if (keep) {
                reader->next = catalog->idle;
                catalog->idle = reader;
                catalog->n_idle++;
        }
        mutex_unlock(&catalog->mutex);
        if (!keep)
                reader_free(reader);
        return catalog_note_damage(catalog, r);
}

/* ---- the writer ---- */

int catalog_writer_take(struct catalog *catalog, struct db_version *ret_version)
{
        int r = -EBUSY;

        mutex_lock(&catalog->mutex);
        if (!catalog->writing) {
                catalog->writing = true;
                *ret_version = catalog->version;
                r = 0;
        }
        mutex_unlock(&catalog->mutex);
        if (r < 0)
                return r;
        r = db_begin(catalog->writer);
        if (r < 0) {
                mutex_lock(&catalog->mutex);
                catalog->writing = false;
                mutex_unlock(&catalog->mutex);
        }
        return catalog_note_damage(catalog, r);
}

/* Old snapshots keep the log from moving into the database: those of idle readers end here, and the readers come back. */
static void checkpoint(struct catalog *catalog)
{
        struct catalog_reader *readers;

        mutex_lock(&catalog->mutex);
        readers = catalog->idle;
        catalog->idle = NULL;
        catalog->n_idle = 0;
        mutex_unlock(&catalog->mutex);

        for (struct catalog_reader *reader = readers; reader; reader = reader->next)
                if (reader->snapshot) {
                        db_rollback(reader->db);
                        reader->snapshot = false;
                }
        /* What fails here (a full disk) stays in the log, which is as good; the next one tries again. */
        (void)catalog_note_damage(catalog, db_checkpoint(catalog->writer));
        while (readers) {
                struct catalog_reader *reader = readers;
                readers = reader->next;
                catalog_reader_give(catalog, reader, 0);
        }
}

int catalog_writer_give(struct catalog *catalog, const struct db_version *version, int r)
{
        if (r == 0 && version)
                r = db_write_version(catalog->writer, version);
        if (r == 0 && version)
                r = db_commit(catalog->writer);
        if (r != 0 || !version)
                db_rollback(catalog->writer);
        mutex_lock(&catalog->mutex);
        if (r == 0 && version) {
                catalog->version = *version;
                atomic_store(&catalog->generation, version->shown.generation);
        }
        mutex_unlock(&catalog->mutex);
        checkpoint(catalog);
        mutex_lock(&catalog->mutex);
        catalog->writing = false;
        mutex_unlock(&catalog->mutex);
        return catalog_note_damage(catalog, r);
}

int catalog_touch(struct catalog *catalog, uint64_t revision)
{
        struct db_version version;
        int r = catalog_writer_take(catalog, &version);

        if (r < 0)
                return r;
        if (!version.shown.valid)
                r = -EINVAL;
        version.shown.revision = revision;
        version.shown.synced_at = clock_wall_sec();
        return catalog_writer_give(catalog, &version, r);
}

/* ---- queries ---- */

void catalog_get_version(struct catalog *catalog, struct catalog_version *ret)
{
        mutex_lock(&catalog->mutex);
        *ret = catalog->version.shown;
        mutex_unlock(&catalog->mutex);
}

/* Rows of kind ENTRY_UNKNOWN are there for the digest alone. */
static int shown(int r, const struct db_row *row, struct catalog_entry *ret)
{
        if (r != CATALOG_OK)
                return r;
        if (row->entry.kind == ENTRY_UNKNOWN)
                return CATALOG_NONE;
        *ret = row->entry;
        return CATALOG_OK;
}

int catalog_lookup(struct catalog *catalog, uint64_t parent, const char *name, size_t name_len,
                   struct catalog_entry *ret)
{
        struct catalog_reader *reader;
        struct db_row row;
        int r;

        if (name_len == 0) /* the root's own row has the empty name */
                return CATALOG_NONE;
        r = catalog_reader_take(catalog, &reader);
        if (r < 0)
                return r;
        r = db_lookup(reader->db, parent, name, name_len, &row);
        return shown(catalog_reader_give(catalog, reader, r), &row, ret);
}

int catalog_get(struct catalog *catalog, uint64_t ino, struct catalog_entry *ret)
{
        struct catalog_reader *reader;
        struct db_row row;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = db_get(reader->db, ino, &row);
        return shown(catalog_reader_give(catalog, reader, r), &row, ret);
}

int catalog_readlink(struct catalog *catalog, uint64_t ino, struct buffer *ret)
{
        struct catalog_reader *reader;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        return catalog_reader_give(catalog, reader, db_target(reader->db, ino, ret));
}

struct listing {
        struct catalog *catalog;
        uint64_t generation;
        catalog_list_fn each;
        void *arg;
        int answer; /* of EACH; kept apart from the database's errors */
};

static uint64_t cookie_make(uint64_t generation, uint64_t ino)
{
        uint64_t low = generation & ((UINT64_C(1) << COOKIE_GEN_BITS) - 1);

        return low << COOKIE_INO_BITS | ino;
}

/*
 * The whole generation, from its low bits and a NEAR one: it can lie a little ahead, if the listing began with a reader that was
 * already a version further.
 */
static uint64_t cookie_generation(uint64_t cookie, uint64_t near)
{
        uint64_t span = UINT64_C(1) << COOKIE_GEN_BITS,
                 ahead = ((cookie >> COOKIE_INO_BITS) - near) & (span - 1);

        return ahead < span / 2 ? near + ahead : near + ahead - span;
}

/* Finds where a listing stands: its generation, and in ROW the entry after which it goes on. */
static int cookie_resolve(struct catalog_reader *reader, uint64_t parent, uint64_t cookie,
                          uint64_t *ret_generation, struct db_row *row)
{
        uint64_t generation = cookie_generation(cookie, reader->generation);
        int r = 0;

        if (generation > reader->generation)
                r = catalog_reader_renew(reader);
        if (r < 0)
                return r;
        if (generation > reader->generation)
                return -EINVAL;
        r = db_get(reader->db, cookie & ((UINT64_C(1) << COOKIE_INO_BITS) - 1), row);
        if (r < 0)
                return r;
        if (r != CATALOG_OK || row->entry.parent != parent)
                return -EINVAL;
        *ret_generation = generation;
        return 0;
}

static int list_row(const struct db_row *row, void *arg)
{
        struct listing *listing = arg;

        if (row->entry.kind == ENTRY_UNKNOWN)
                return 0;
        listing->answer = listing->each(&row->entry, cookie_make(listing->generation, row->entry.ino),
                                        listing->generation >= atomic_load(&listing->catalog->generation),
                                        listing->arg);
        return listing->answer != 0;
}

int catalog_list(struct catalog *catalog, uint64_t parent, uint64_t cookie, catalog_list_fn each, void *arg)
{
        struct listing listing = { .catalog = catalog, .each = each, .arg = arg };
        struct catalog_reader *reader;
        struct db_row row;
        struct db_list list = { .parent = parent, .after = "" };
        int r;

        if (cookie >> (COOKIE_INO_BITS + COOKIE_GEN_BITS))
                return -EINVAL;
        r = catalog_reader_take(catalog, &reader);
        if (r < 0)
                return r;
        listing.generation = reader->generation;
        if (cookie != 0) {
                r = cookie_resolve(reader, parent, cookie, &listing.generation, &row);
                list.after = row.entry.name;
                list.after_len = row.entry.name_len;
        }
        list.generation = listing.generation;
        if (r == 0)
                r = db_list(reader->db, &list, list_row, &listing);
        r = catalog_reader_give(catalog, reader, r);
        return r < 0 ? r : MIN(listing.answer, 0);
}

/* The path is put together from its end. More than a path can hold means a circle: a damaged database. */
static int path_of(struct db *db, uint64_t ino, struct buffer *ret)
{
        char path[PATH_BYTES_MAX + 1];
        size_t at = sizeof(path);

        while (ino != CATALOG_ROOT_INO) {
                struct db_row row;
                int r = db_get(db, ino, &row);
                if (r != CATALOG_OK)
                        return r;
                if (row.entry.name_len + 1 > at)
                        return -EBADMSG;
                at -= row.entry.name_len;
                memcpy(path + at, row.entry.name, row.entry.name_len);
                path[--at] = '/';
                ino = row.entry.parent;
        }
        return at < sizeof(path) ? buffer_append(ret, path + at + 1, sizeof(path) - at - 1) : 0;
}

int catalog_path(struct catalog *catalog, uint64_t ino, struct buffer *ret)
{
        struct catalog_reader *reader;
        struct db_row row;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = db_get(reader->db, ino, &row);
        if (r == CATALOG_OK && row.entry.kind == ENTRY_UNKNOWN)
                r = CATALOG_NONE;
        if (r == CATALOG_OK)
                r = path_of(reader->db, ino, ret);
        return catalog_reader_give(catalog, reader, r);
}

struct search {
        const struct content_id *content;
        uint64_t ino;
};

static int match_content(const struct db_row *row, void *arg)
{
        struct search *search = arg;

        if (row->entry.kind != ENTRY_FILE || !content_id_equal(&row->entry.content, search->content))
                return 0;
        search->ino = row->entry.ino;
        return 1;
}

int catalog_find_content(struct catalog *catalog, const struct content_id *content, struct buffer *ret)
{
        struct search search = { .content = content };
        struct catalog_reader *reader;
        int r;

        if (content->algorithm == HASH_NONE)
                return CATALOG_NONE;
        r = catalog_reader_take(catalog, &reader);
        if (r < 0)
                return r;
        r = db_each_live(reader->db, match_content, &search);
        if (r == 0)
                r = CATALOG_NONE;
        else if (r > 0)
                r = path_of(reader->db, search.ino, ret);
        return catalog_reader_give(catalog, reader, r);
}

struct content_walk {
        int (*each)(const struct content_id *id, uint64_t size, void *arg);
        void *arg;
        int answer;
};

static int walk_content(const struct db_row *row, void *arg)
{
        struct content_walk *walk = arg;

        if (row->entry.kind != ENTRY_FILE || row->entry.content.algorithm == HASH_NONE)
                return 0;
        walk->answer = walk->each(&row->entry.content, row->entry.size, walk->arg);
        return walk->answer != 0;
}

int catalog_each_content(struct catalog *catalog,
                         int (*each)(const struct content_id *id, uint64_t size, void *arg), void *arg)
{
        struct content_walk walk = { .each = each, .arg = arg };
        struct catalog_reader *reader;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = catalog_reader_give(catalog, reader, db_each_live(reader->db, walk_content, &walk));
        return r < 0 ? r : walk.answer;
}

int catalog_find_path(struct catalog *catalog, const char *path, size_t len, struct catalog_entry *ret)
{
        struct catalog_entry entry;
        const char *name;
        size_t name_len;
        int r = catalog_get(catalog, CATALOG_ROOT_INO, &entry);

        while (r == CATALOG_OK && path_next(&path, &len, &name, &name_len))
                r = catalog_lookup(catalog, entry.ino, name, name_len, &entry);
        if (r == CATALOG_OK)
                *ret = entry;
        return r;
}
