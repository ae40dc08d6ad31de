#include "cache/catalog.h"

#include <string.h>

#include "cache/catalog_update.h"

void catalog_changes_release(struct catalog_changes *changes)
{
        free(changes->items);
        *changes = (struct catalog_changes){ 0 };
}

/* ---- digests ---- */

static int by_depth_descending(const void *a, const void *b)
{
        const struct update_folder *x = a, *y = b;

        return (x->depth < y->depth) - (x->depth > y->depth);
}

static bool is_gone(const struct catalog_update *update, uint64_t ino)
{
        return ino_map_get(&update->marks, ino) & MARK_GONE;
}

/* The ancestors of a folder whose digest changes have another digest, too. The list grows while it is gone through. */
static int add_ancestors(struct catalog_update *update)
{
        for (size_t i = 0; i < update->dirty.count; i++) {
                struct update_folder folder = update->dirty.items[i];
                struct db_row row;
                int r;

                if (folder.ino == CATALOG_ROOT_INO || is_gone(update, folder.ino))
                        continue;
                r = db_get(update->db, folder.ino, &row);
                if (r != CATALOG_OK)
                        return r < 0 ? r : -EBADMSG;
                r = update_folder_changed(
                        update, (struct update_folder){ row.entry.parent, folder.depth - 1 }, false);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A folder in whose turn its subfolders are added. */
struct turn {
        struct catalog_update *update;
        struct update_folder folder;
};

static int add_subfolder(const struct db_row *row, void *arg)
{
        const struct turn *turn = arg;

        if (row->entry.kind != ENTRY_DIRECTORY)
                return 0;
        return update_folder_changed(turn->update,
                                     (struct update_folder){ row->entry.ino, turn->folder.depth + 1 }, false);
}

/* By another base all digests are others. From the root down; the list grows as above. */
static int add_all_folders(struct catalog_update *update)
{
        int r = update_folder_changed(update, (struct update_folder){ CATALOG_ROOT_INO, 0 }, false);

        for (size_t i = 0; r == 0 && i < update->dirty.count; i++) {
                struct turn turn = { .update = update, .folder = update->dirty.items[i] };
                const struct db_list list = { .parent = turn.folder.ino, .after = "", .generation = DB_LIVE };

                if (!is_gone(update, turn.folder.ino))
                        r = db_list(update->db, &list, add_subfolder, &turn);
        }
        return r;
}

static int renew_digests(struct catalog_update *update)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        struct folder_list *dirty = &update->dirty;
        enum hash_algorithm base = update->version.shown.hash;
        uint8_t digest[HASH_BYTES];
        int r = update->rehash ? add_all_folders(update) : add_ancestors(update);

        if (r == 0)
                r = hasher_new(base, &hasher);
        if (r < 0)
                return r;
        if (dirty->count > 0)
                qsort(dirty->items, dirty->count, sizeof(*dirty->items), by_depth_descending);
        for (size_t i = 0; r == 0 && i < dirty->count; i++) {
                uint64_t ino = dirty->items[i].ino;
                if (is_gone(update, ino))
                        continue;
                r = catalog_folder_digest(update->db, ino, hasher, digest);
                if (r == 0)
                        r = db_set_digest(update->db, ino, digest, hash_len(base));
        }
        return r < 0 ? r : catalog_tree_digest(update->db, base, update->version.shown.digest);
}

/* ---- commit ---- */

static struct catalog_change *append(struct catalog_change *at, enum catalog_change_op op,
                                     const struct ino_list *list)
{
        for (size_t i = 0; i < list->count; i++)
                *at++ = (struct catalog_change){ .op = op, .ino = list->items[i] };
        return at;
}

static int make_changes(const struct catalog_update *update, struct catalog_changes *ret)
{
        struct catalog_changes changes = { .added = update->added,
                                           .removed = update->removed,
                                           .modified = update->modified };
        struct catalog_change *at;

        changes.count = update->entries.count + update->attributes.count + update->listings.count;
        if (changes.count > 0) {
                changes.items = calloc(changes.count, sizeof(*changes.items));
                if (!changes.items)
                        return -ENOMEM;
        }
        at = append(changes.items, CHANGE_ENTRY, &update->entries);
        at = append(at, CHANGE_ATTRIBUTES, &update->attributes);
        append(at, CHANGE_LISTING, &update->listings);
        *ret = changes;
        return 0;
}

static int add_changed(const struct db_row *row, void *arg)
{
        struct catalog_update *all = arg;
        uint64_t ino = row->entry.ino;
        int r;

        if (row->entry.kind == ENTRY_UNKNOWN)
                return 0;
        r = ino_list_add(&all->entries, ino);
        if (r < 0)
                return r;
        return ino_list_add(row->entry.kind == ENTRY_DIRECTORY ? &all->listings : &all->attributes, ino);
}

int catalog_all_changed(struct catalog *catalog, struct catalog_changes *ret)
{
        struct catalog_update all = { 0 };
        struct catalog_reader *reader;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        r = catalog_reader_give(catalog, reader, db_each(reader->db, add_changed, &all));
        if (r == 0)
                r = make_changes(&all, ret);
        free(all.entries.items);
        free(all.attributes.items);
        free(all.listings.items);
        return r;
}

int update_complete(struct catalog_update *update, const uint8_t *expected)
{
        int r = update->failed;

        if (r == 0 && update->first && !(ino_map_get(&update->marks, CATALOG_ROOT_INO) & MARK_CAME))
                r = -EINVAL; /* a first version without the root is none */
        if (r == 0 && update->complete && !update->all)
                r = -EINVAL; /* a difference to what never was a version */
        if (r == 0)
                r = update_sweep(update);
        if (r == 0)
                r = renew_digests(update);
        if (r == 0 && expected && memcmp(expected, update->version.shown.digest, HASH_BYTES) != 0)
                r = CATALOG_MISMATCH;
        return r;
}

int catalog_update_commit(struct catalog_update *update, const uint8_t *expected, uint64_t revision,
                          struct catalog_changes *ret_changes)
{
        struct catalog_changes changes = { 0 };
        struct catalog_version *version = &update->version.shown;
        int r = update_complete(update, expected);

        if (r == 0)
                r = update_forget(update);
        if (r == 0)
                r = make_changes(update, &changes);
        version->valid = true;
        version->loading = false;
        update->version.load_offset = update->version.load_folder = 0;
        update->version.load_rows = update->version.load_pending = update->version.load_open = 0;
        version->revision = revision;
        version->synced_at = clock_wall_sec();
        if (update->changed)
                version->generation = update->generation;
        r = catalog_writer_give(update->catalog, &update->version, r);
        update_free(update);
        if (r == CATALOG_OK)
                *ret_changes = changes;
        else
                catalog_changes_release(&changes);
        return r;
}
