#include "cache/catalog.h"

#include <string.h>

#include "cache/catalog_private.h"

/* A listing's cookie: the low bits of its generation over the number of the entry it stands at. */
#define COOKIE_INO_BITS 43
#define COOKIE_GEN_BITS 20

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

/* What a pending folder has so far is not to be seen. */
static int check_pending(struct catalog_reader *reader, uint64_t folder)
{
        struct db_row row;
        int r;

        if (!reader->loading)
                return CATALOG_OK;
        r = db_get(reader->db, folder, &row);
        return r == CATALOG_OK && row.entry.pending ? CATALOG_PENDING : MIN(r, 0);
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
        r = check_pending(reader, parent);
        if (r == CATALOG_OK)
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
        return catalog_reader_give(catalog, reader, db_data(reader->db, ino, ENTRY_SYMLINK, ret));
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

/* The whole generation, from its low bits and a NEAR one. */
static uint64_t cookie_generation(uint64_t cookie, uint64_t near)
{
        uint64_t span = UINT64_C(1) << COOKIE_GEN_BITS,
                 ahead = ((cookie >> COOKIE_INO_BITS) - near) & (span - 1);

        return ahead < span / 2 ? near + ahead : near + ahead - span;
}

/*
 * Finds where a listing stands: its generation, and in ROW the entry after which it goes on. One that began in a version that may have been forgotten goes on in
 * the present one; if the very entry it stands at was forgotten, it cannot.
 */
static int cookie_resolve(const struct catalog *catalog, struct catalog_reader *reader, uint64_t parent,
                          uint64_t cookie, uint64_t *ret_generation, struct db_row *row)
{
        uint64_t generation = cookie_generation(cookie, reader->generation);
        int r;

        if (generation > reader->generation)
                return -EINVAL; /* nobody was given it: catalog->seen */
        r = db_get(reader->db, cookie & ((UINT64_C(1) << COOKIE_INO_BITS) - 1), row);
        if (r < 0)
                return r;
        if (r != CATALOG_OK || row->entry.parent != parent)
                return r == CATALOG_NONE && generation < atomic_load(&catalog->forgotten) ? -ESTALE : -EINVAL;
        /* Looked at after the snapshot was taken: what is gone in it was noted before. */
        *ret_generation = generation < atomic_load(&catalog->forgotten) ? reader->generation : generation;
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
        r = check_pending(reader, parent);
        if (r == 0 && cookie != 0) {
                r = cookie_resolve(catalog, reader, parent, cookie, &listing.generation, &row);
                list.after = row.entry.name;
                list.after_len = row.entry.name_len;
        }
        list.generation = listing.generation;
        if (r == 0)
                r = db_list(reader->db, &list, list_row, &listing);
        r = catalog_reader_give(catalog, reader, r);
        return r < 0 || r == CATALOG_PENDING ? r : MIN(listing.answer, 0);
}

uint64_t catalog_cookie(struct catalog *catalog, uint64_t ino)
{
        return cookie_make(atomic_load(&catalog->generation), ino);
}

/* The path is put together from its end. More than a path can hold means a circle: a damaged database. */
int catalog_path_of(struct db *db, uint64_t ino, struct buffer *ret)
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
                r = catalog_path_of(reader->db, ino, ret);
        return catalog_reader_give(catalog, reader, r);
}

struct search {
        struct catalog_reader *reader;
        const struct content_id *content;
        uint64_t ino;
};

static int match_content(const struct db_row *row, void *arg)
{
        struct search *search = arg;
        int r;

        if (row->entry.kind != ENTRY_FILE || !content_id_equal(&row->entry.content, search->content))
                return 0;
        search->ino = row->entry.ino;
        r = check_pending(search->reader, row->entry.parent);
        return r == CATALOG_PENDING ? 0 : r < 0 ? r : 1;
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
        search.reader = reader;
        r = db_each_live(reader->db, match_content, &search);
        if (r == 0)
                r = CATALOG_NONE;
        else if (r > 0)
                r = catalog_path_of(reader->db, search.ino, ret);
        return catalog_reader_give(catalog, reader, r);
}

struct file_walk {
        int (*each)(const struct catalog_entry *file, void *arg);
        void *arg;
        int answer;
};

static int walk_file(const struct db_row *row, void *arg)
{
        struct file_walk *walk = arg;

        if (row->entry.kind != ENTRY_FILE || row->entry.content.algorithm == HASH_NONE)
                return 0;
        walk->answer = walk->each(&row->entry, walk->arg);
        return walk->answer != 0;
}

int catalog_each_file(struct catalog *catalog, int (*each)(const struct catalog_entry *file, void *arg),
                      void *arg)
{
        struct file_walk walk = { .each = each, .arg = arg };
        struct catalog_reader *reader;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = catalog_reader_give(catalog, reader, db_each_live(reader->db, walk_file, &walk));
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
