#include "cache/catalog_load.h"

#include <string.h>

/* ---- turns ---- */

/* For who asks for one folder out of turn: somebody waits for it. */
static void lock_first(struct catalog *catalog) TSA_ACQUIRES(&catalog->load_lock)
{
        atomic_fetch_add(&catalog->load_waiting, 1);
        mutex_lock(&catalog->load_lock);
        if (atomic_fetch_sub(&catalog->load_waiting, 1) == 1)
                condition_broadcast(&catalog->load_turn);
}

void load_lock_last(struct catalog *catalog)
{
        mutex_lock(&catalog->load_lock);
        while (atomic_load(&catalog->load_waiting) > 0)
                condition_wait(&catalog->load_turn, &catalog->load_lock);
}

int load_verdict(struct catalog *catalog, int r)
{
        if (r == -EBADMSG) {
                (void)catalog_note_damage(catalog, r);
                return -EIO;
        }
        return r == REFUSED ? -EBADMSG : r;
}

/* ---- committing ---- */

int load_commit(struct catalog_load *load)
{
        struct db_version *version = &load->version;
        int r;

        version->shown.generation++;
        version->load_open = load->here ? 0 : load->folder;
        r = db_write_version(load->db, version);
        if (r == 0)
                r = db_commit(load->db);
        if (r < 0)
                return r;
        catalog_publish(load->catalog, version);
        catalog_checkpoint(load->catalog, LOAD_LOG_PAGES);
        return db_begin(load->db);
}

static uint64_t born(const struct catalog_load *load)
{
        return load->version.shown.generation + 1;
}

/* ---- folders ---- */

/* The row that ENTRY would be, with its name. A folder must say what its children's digest is. */
static int make_row(const struct catalog_load *load, const struct entry *entry, struct db_row *ret)
{
        struct catalog_entry *e = &ret->entry;
        const char *name = "";
        enum hash_algorithm base = load->version.shown.hash;
        int r = catalog_check_entry(base, entry);

        if (r < 0)
                return r;
        if (entry->gone)
                return REFUSED;
        catalog_row_from_entry(base, entry, ret);
        if (entry->path_len > 0)
                path_split(entry->path, entry->path_len, &name);
        e->name_len = (size_t)(entry->path + entry->path_len - name) * (entry->path_len > 0);
        memcpy(e->name, name, e->name_len);
        e->name[e->name_len] = '\0';
        if (e->kind != ENTRY_DIRECTORY)
                return 0;
        if (!ret->unknown && entry->content.algorithm != base)
                return REFUSED;
        memcpy(e->content.bytes, ret->unknown ? load->nothing : entry->content.bytes, HASH_BYTES);
        e->pending = memcmp(e->content.bytes, load->nothing, HASH_BYTES) != 0;
        return 0;
}

static int insert(struct catalog_load *load, struct db_row *row, const struct entry *entry)
{
        bool root = row->entry.parent == 0;
        const void *data;
        size_t len;
        int r;

        if (load->version.next_ino >= CATALOG_INO_MAX || load->version.rows >= CATALOG_ENTRIES_MAX)
                return -EFBIG;
        row->entry.ino = root ? CATALOG_ROOT_INO : load->version.next_ino++;
        row->born = born(load);
        catalog_row_data(row, entry, &data, &len);
        r = db_insert(load->db, row, data, len);
        if (r < 0)
                return r;
        catalog_count_row(&load->version, row, 1);
        load->version.load_pending += row->entry.pending;
        return 0;
}

/* All children of folder INO are there, and are the right ones. */
static int set_complete(struct catalog_load *load, uint64_t ino)
{
        int r = db_clear_pending(load->db, ino);

        if (r < 0)
                return r;
        load->version.load_pending--;
        if (ino == CATALOG_ROOT_INO)
                load->version.shown.valid = true;
        return 0;
}

int load_close_folder(struct catalog_load *load)
{
        uint64_t folder = load->folder;
        struct content_id digest;

        load->folder = 0;
        if (folder == 0 || load->here)
                return 0;
        hasher_final(load->hasher, &digest);
        if (memcmp(digest.bytes, load->digest, HASH_BYTES) != 0)
                return REFUSED;
        return set_complete(load, folder);
}

/* Stands at the folder of ROW, to which the trail leads. */
static int open_row(struct catalog_load *load, const struct db_row *row)
{
        /* Nothing follows an empty folder, nor one that the master could not read. */
        if (row->unknown || memcmp(row->entry.content.bytes, load->nothing, HASH_BYTES) == 0)
                return REFUSED;
        load->folder = row->entry.ino;
        load->here = !row->entry.pending;
        memcpy(load->digest, row->entry.content.bytes, HASH_BYTES);
        load->rows = 0;
        load->last_len = 0;
        hasher_reset(load->hasher);
        return 0;
}

/* The way down has complete folders only: what a pending one has is not proved. */
int load_open_folder(struct catalog_load *load, const char *path, size_t len)
{
        struct trail *trail = &load->trail;
        struct db_row row;
        const char *name;
        size_t name_len;
        int r;

        trail_go_up(trail, path, len);
        path += trail->path.len;
        len -= trail->path.len;
        if (len > 0 && path[0] == '/') {
                path++;
                len--;
        }
        r = db_get(load->db, trail_top(trail)->ino, &row);
        while (r == CATALOG_OK && path_next(&path, &len, &name, &name_len)) {
                if (row.entry.pending)
                        return REFUSED;
                r = db_lookup(load->db, trail_top(trail)->ino, name, name_len, &row);
                if (r == CATALOG_OK && row.entry.kind != ENTRY_DIRECTORY)
                        r = -ENOTDIR;
                if (r == CATALOG_OK)
                        r = trail_go_down(trail, name, name_len, row.entry.ino);
        }
        if (r != CATALOG_OK)
                return r < 0 ? r : -ENOENT;
        return open_row(load, &row);
}

/* ---- putting ---- */

static int put_root(struct catalog_load *load, const struct entry *entry, struct db_row *row)
{
        uint8_t digest[HASH_BYTES];
        struct db_row old;
        int r;

        entry_root_digest(load->version.shown.hash, row->entry.mode, row->entry.mtime_ns,
                          row->entry.content.bytes, digest);
        if (load->root || row->unknown || memcmp(digest, load->version.shown.digest, HASH_BYTES) != 0)
                return REFUSED;
        load->root = true;
        r = db_get(load->db, CATALOG_ROOT_INO, &old);
        if (r != CATALOG_NONE)
                return r; /* it is here from before */
        load->version.shown.valid = !row->entry.pending;
        return insert(load, row, entry);
}

/* Names ascend, so the folder's digest can be made as they come, and none comes twice. */
static bool in_order(const char *last, size_t last_len, const struct catalog_entry *e)
{
        int order = memcmp(last, e->name, MIN(last_len, e->name_len));

        return order < 0 || (order == 0 && last_len < e->name_len);
}

static int put_child(struct catalog_load *load, const struct entry *entry, struct db_row *row)
{
        size_t parent_len = entry->path_len - row->entry.name_len;
        int r = 0;

        parent_len -= parent_len > 0; /* the slash */
        if (load->folder == 0 || load->trail.path.len != parent_len ||
            (parent_len > 0 && memcmp(load->trail.path.data, entry->path, parent_len) != 0)) {
                r = load_close_folder(load);
                if (r == 0)
                        r = load_open_folder(load, entry->path, parent_len);
        }
        if (r < 0)
                return r;
        if (!in_order(load->last, load->last_len, &row->entry))
                return REFUSED;
        memcpy(load->last, row->entry.name, row->entry.name_len);
        load->last_len = row->entry.name_len;
        /* Each that is here comes once at most: or a master could keep us at it for ever. */
        if (load->here)
                return ++load->dropped > load->version.rows ? REFUSED : 0;
        row->entry.parent = load->folder;
        catalog_digest_add(load->hasher, row);
        load->rows++;
        return insert(load, row, entry);
}

int catalog_load_put(struct catalog_load *load, const struct entry *entry)
{
        struct db_row row;
        int r;

        load_lock_last(load->catalog);
        r = load->failed;
        if (r == 0)
                r = make_row(load, entry, &row);
        if (r == 0)
                r = entry->path_len == 0 ? put_root(load, entry, &row) : put_child(load, entry, &row);
        load->failed = r;
        mutex_unlock(&load->catalog->load_lock);
        return load_verdict(load->catalog, r);
}

int catalog_load_save(struct catalog_load *load, uint64_t offset)
{
        struct catalog *catalog = load->catalog;
        int r;

        load_lock_last(catalog);
        if (load->failed == 0) {
                load->version.load_offset = offset;
                load->version.load_folder = load->here ? 0 : load->folder;
                load->version.load_rows = load->rows;
                load->failed = load_commit(load);
        }
        r = load->failed;
        mutex_unlock(&catalog->load_lock);
        return load_verdict(catalog, r);
}

/* ---- a folder out of turn ---- */

static int count_out(const struct db_row *row, void *arg)
{
        struct catalog_load *load = arg;

        catalog_count_row(&load->version, row, -UINT64_C(1));
        load->version.load_pending -= row->entry.pending;
        return 0;
}

int load_forget_children(struct catalog_load *load, uint64_t ino, const char *after, size_t after_len)
{
        const struct db_list list = {
                .parent = ino, .after = after, .after_len = after_len, .generation = DB_LIVE
        };
        int r = db_list(load->db, &list, count_out, load);

        return r < 0 ? r : db_delete_children(load->db, ino, after, after_len);
}

/* Nothing is written before all of it is known to be right. */
static int prove_folder(struct catalog_load *load, const struct db_row *folder, const struct entry *entries,
                        size_t n)
{
        struct content_id digest;
        char last[PATH_NAME_MAX];
        size_t last_len = 0;

        hasher_reset(load->spare);
        for (size_t i = 0; i < n; i++) {
                struct db_row row;
                int r = make_row(load, &entries[i], &row);
                if (r < 0)
                        return r;
                if (!in_order(last, last_len, &row.entry))
                        return REFUSED;
                memcpy(last, row.entry.name, row.entry.name_len);
                last_len = row.entry.name_len;
                catalog_digest_add(load->spare, &row);
        }
        hasher_final(load->spare, &digest);
        return memcmp(digest.bytes, folder->entry.content.bytes, HASH_BYTES) == 0 ? 0 : REFUSED;
}

static int put_folder(struct catalog_load *load, uint64_t ino, const struct entry *entries, size_t n)
{
        int r = 0;

        if (ino == load->folder) {
                load->here = true;
                r = load_forget_children(load, ino, "", 0);
        }
        for (size_t i = 0; r == 0 && i < n; i++) {
                struct db_row row;
                r = make_row(load, &entries[i], &row);
                row.entry.parent = ino;
                if (r == 0)
                        r = insert(load, &row, &entries[i]);
        }
        if (r == 0)
                r = set_complete(load, ino);
        return r < 0 ? r : load_commit(load);
}

int catalog_load_folder(struct catalog *catalog, uint64_t ino, const struct entry *entries, size_t n)
{
        struct catalog_load *load;
        struct db_row folder;
        int r;

        lock_first(catalog);
        load = catalog->load;
        /* One that has failed is about to be freed; what it was refused for says nothing about this folder. */
        r = load && load->failed == 0 ? 0 : -EAGAIN;
        if (r == 0)
                r = db_get(load->db, ino, &folder);
        if (r == CATALOG_NONE || (r == CATALOG_OK && !folder.entry.pending))
                r = -ENOENT;
        if (r == 0)
                r = prove_folder(load, &folder, entries, n);
        if (r == 0) /* what fails in the middle of writing ends the load */
                r = load->failed = put_folder(load, ino, entries, n);
        mutex_unlock(&catalog->load_lock);
        return load_verdict(catalog, r);
}
