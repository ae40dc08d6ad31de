#include "cache/catalog_load.h"

#include <string.h>

/* ---- going on ---- */

struct take_up {
        struct catalog_load *load;
        uint64_t rows; /* to be taken up */
};

static int take_up_row(const struct db_row *row, void *arg)
{
        struct take_up *take_up = arg;
        struct catalog_load *load = take_up->load;

        if (load->rows == take_up->rows)
                return 1;
        catalog_digest_add(load->hasher, row);
        memcpy(load->last, row->entry.name, row->entry.name_len);
        load->last_len = row->entry.name_len;
        load->rows++;
        return 0;
}

/* Stands where the transfer was interrupted, if that was within a folder. */
static int take_up_folder(struct catalog_load *load, const struct db_row *folder)
{
        struct take_up take_up = { .load = load, .rows = load->version.load_rows };
        const struct db_list list = { .parent = folder->entry.ino, .after = "", .generation = DB_LIVE };
        _cleanup_buffer_ struct buffer path = { 0 };
        int r = catalog_path_of(load->db, folder->entry.ino, &path);

        if (r == 0)
                r = load_open_folder(load, path.data ? path.data : "", path.len);
        if (r == 0)
                r = db_list(load->db, &list, take_up_row, &take_up);
        if (r < 0)
                return r;
        if (load->rows != take_up.rows)
                return -EBADMSG;
        return load_forget_children(load, folder->entry.ino, load->last, load->last_len);
}

static int get_pending(struct catalog_load *load, uint64_t ino, struct db_row *ret)
{
        int r = ino == 0 ? CATALOG_NONE : db_get(load->db, ino, ret);

        return r == CATALOG_OK && !ret->entry.pending ? CATALOG_NONE : r;
}

/* GO_ON: the transfer goes on at the saved offset, else it begins anew. */
static int resume(struct catalog_load *load, bool go_on)
{
        uint64_t saved = load->version.load_folder, open = load->version.load_open;
        struct db_row row;
        int r = CATALOG_OK;

        load->root = go_on && load->version.rows > 0;
        if (open != saved || !go_on) {
                r = get_pending(load, open, &row);
                if (r == CATALOG_OK)
                        r = load_forget_children(load, open, "", 0);
        }
        if (r < 0)
                return r;
        r = get_pending(load, saved, &row);
        if (r == CATALOG_OK)
                r = go_on ? take_up_folder(load, &row) : load_forget_children(load, saved, "", 0);
        if (!go_on)
                load->version.load_offset = load->version.load_folder = load->version.load_rows = 0;
        return MIN(r, 0);
}

/* ---- begin ---- */

/* What another version brought goes, shown or not; its numbers are not used again. */
static int begin_anew(struct catalog_load *load, const struct catalog_load_target *target)
{
        struct db_version *version = &load->version;
        int r = version->rows > 0 ? db_delete_all(load->db) : 0;

        *version = (struct db_version){ .shown.loading = true,
                                        .shown.hash = target->hash,
                                        .shown.revision = target->revision,
                                        .shown.generation = version->shown.generation,
                                        .next_ino = version->next_ino };
        memcpy(version->shown.digest, target->digest, HASH_BYTES);
        return r;
}

static int begin(struct catalog_load *load, const struct catalog_load_target *target)
{
        struct db_version *version = &load->version;
        bool same = version->shown.loading && version->shown.hash == target->hash &&
                    memcmp(version->shown.digest, target->digest, HASH_BYTES) == 0;
        int r;

        if (version->shown.valid && !version->shown.loading)
                return -EEXIST;
        if (target->offset > 0 && (!same || target->offset != version->load_offset))
                return -EINVAL;
        r = same ? resume(load, target->offset > 0) : begin_anew(load, target);
        version->shown.revision = target->revision;
        return r < 0 ? r : load_commit(load);
}

static int load_new(struct catalog *catalog, enum hash_algorithm base, struct catalog_load **ret)
{
        struct catalog_load *load = calloc(1, sizeof(*load));
        struct content_id nothing;
        int r;

        if (!load)
                return -ENOMEM;
        load->catalog = catalog;
        load->db = catalog->writer;
        *ret = load;
        r = hasher_new(base, &load->hasher);
        if (r == 0)
                r = hasher_new(base, &load->spare);
        if (r == 0)
                r = trail_init(&load->trail, CATALOG_ROOT_INO);
        if (r < 0)
                return r;
        hasher_final(load->hasher, &nothing);
        memcpy(load->nothing, nothing.bytes, HASH_BYTES);
        return 0;
}

static void load_release(struct catalog_load *load)
{
        if (!load)
                return;
        trail_release(&load->trail);
        hasher_free(load->spare);
        hasher_free(load->hasher);
        free(load);
}

int catalog_load_begin(struct catalog *catalog, const struct catalog_load_target *target,
                       struct catalog_load **ret)
{
        struct catalog_load *load = NULL;
        int r = load_new(catalog, target->hash, &load);

        if (r == 0)
                r = catalog_writer_take(catalog, &load->version);
        if (r < 0) {
                load_release(load);
                return r;
        }
        load_lock_last(catalog);
        r = begin(load, target);
        if (r == 0)
                catalog->load = load;
        mutex_unlock(&catalog->load_lock);
        if (r < 0) {
                (void)catalog_writer_give(catalog, NULL, r);
                load_release(load);
                return load_verdict(catalog, r);
        }
        *ret = load;
        return 0;
}

/* ---- end ---- */

/* Nobody else uses the load from here on, nor the writer. */
static void leave(struct catalog_load *load)
{
        load_lock_last(load->catalog);
        load->catalog->load = NULL;
        mutex_unlock(&load->catalog->load_lock);
}

int catalog_load_finish(struct catalog_load *load)
{
        struct db_version *version = &load->version;
        int r;

        leave(load);
        r = load->failed;
        if (r == 0)
                r = load_close_folder(load);
        if (r == 0 && (version->rows == 0 || version->load_pending > 0))
                r = REFUSED;
        version->shown.generation++;
        version->shown.loading = false;
        version->shown.synced_at = clock_wall_sec();
        version->load_offset = version->load_folder = version->load_rows = version->load_open = 0;
        r = load_verdict(load->catalog, catalog_writer_give(load->catalog, version, r));
        load_release(load);
        return r;
}

void catalog_load_free(struct catalog_load *load)
{
        if (!load)
                return;
        leave(load);
        (void)catalog_writer_give(load->catalog, NULL, load->failed);
        load_release(load);
}

bool catalog_get_load(struct catalog *catalog, struct catalog_load_target *ret)
{
        struct db_version version;

        mutex_lock(&catalog->mutex);
        version = catalog->version;
        mutex_unlock(&catalog->mutex);
        if (!version.shown.loading)
                return false;
        *ret = (struct catalog_load_target){ .hash = version.shown.hash,
                                             .revision = version.shown.revision,
                                             .offset = version.load_offset };
        memcpy(ret->digest, version.shown.digest, HASH_BYTES);
        return true;
}
