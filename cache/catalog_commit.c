#include "cache/catalog.h"

#include <string.h>

#include "cache/catalog_update.h"

void catalog_changes_release(struct catalog_changes *changes)
{
        free(changes->items);
        *changes = (struct catalog_changes){ 0 };
}

/* ---- what did not come is gone ---- */

struct sweep {
        struct catalog_update *update;
        struct ino_list gone;
};

static int collect_gone(const struct db_row *row, void *arg)
{
        struct sweep *sweep = arg;

        if (ino_map_get(&sweep->update->marks, row->entry.ino) & (MARK_CAME | MARK_KEPT))
                return 0;
        return ino_list_add(&sweep->gone, row->entry.ino);
}

static int folder_depth(struct db *db, uint64_t ino, size_t *ret)
{
        size_t depth = 0;

        for (; ino != CATALOG_ROOT_INO; depth++) {
                struct db_row row;
                int r = db_get(db, ino, &row);
                if (r != CATALOG_OK)
                        return r < 0 ? r : -EBADMSG;
                if (depth > PATH_BYTES_MAX)
                        return -EBADMSG; /* a circle */
                ino = row.entry.parent;
        }
        *ret = depth;
        return 0;
}

static int retire_gone(struct catalog_update *update, uint64_t ino)
{
        struct db_row row;
        uint8_t parent_marks;
        size_t depth = 0;
        int r = db_get(update->db, ino, &row);

        if (r != CATALOG_OK)
                return r < 0 ? r : -EBADMSG;
        r = update_retire(update, &row);
        if (r < 0)
                return r;
        if (row.entry.kind != ENTRY_UNKNOWN)
                update->removed++;
        parent_marks = ino_map_get(&update->marks, row.entry.parent);
        if (!(parent_marks & (MARK_CAME | MARK_KEPT)) || parent_marks & MARK_GONE)
                return 0; /* its folder goes, too */
        if (!(parent_marks & MARK_DIRTY))
                r = folder_depth(update->db, row.entry.parent, &depth);
        if (r < 0)
                return r;
        return update_folder_changed(update, row.entry.parent, depth, row.entry.kind != ENTRY_UNKNOWN);
}

static int sweep(struct catalog_update *update)
{
        struct sweep state = { .update = update };
        int r = 0;

        if (update->unmarked > 0)
                r = db_each_live(update->db, collect_gone, &state);
        for (size_t i = 0; r == 0 && i < state.gone.count; i++)
                r = retire_gone(update, state.gone.items[i]);
        free(state.gone.items);
        return r;
}

/* ---- digests ---- */

static int by_depth_descending(const void *a, const void *b)
{
        const struct dirty_folder *x = a, *y = b;

        return (x->depth < y->depth) - (x->depth > y->depth);
}

/* The ancestors of a folder whose digest changes have another digest, too. The list grows while it is gone through. */
static int add_ancestors(struct catalog_update *update)
{
        for (size_t i = 0; i < update->n_dirty; i++) {
                struct dirty_folder folder = update->dirty[i];
                struct db_row row;
                int r;

                if (folder.ino == CATALOG_ROOT_INO)
                        continue;
                r = db_get(update->db, folder.ino, &row);
                if (r != CATALOG_OK)
                        return r < 0 ? r : -EBADMSG;
                r = update_folder_changed(update, row.entry.parent, folder.depth - 1, false);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int renew_digests(struct catalog_update *update)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        uint8_t digest[HASH_BYTES];
        int r = add_ancestors(update);

        if (r == 0)
                r = hasher_new(HASH_XXH3, &hasher);
        if (r < 0)
                return r;
        if (update->n_dirty > 0)
                qsort(update->dirty, update->n_dirty, sizeof(*update->dirty), by_depth_descending);
        for (size_t i = 0; r == 0 && i < update->n_dirty; i++) {
                uint64_t ino = update->dirty[i].ino;
                r = catalog_folder_digest(update->db, ino, hasher, digest);
                if (r == 0)
                        r = db_set_digest(update->db, ino, digest);
        }
        return r < 0 ? r : catalog_tree_digest(update->db, update->version.shown.digest);
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

static int complete(struct catalog_update *update, const uint8_t *expected)
{
        int r = update->failed;

        if (r == 0 && !(ino_map_get(&update->marks, CATALOG_ROOT_INO) & MARK_CAME))
                r = -EINVAL; /* a listing without the root is none */
        if (r == 0)
                r = sweep(update);
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
        int r = complete(update, expected);

        if (r == 0)
                r = make_changes(update, &changes);
        version->valid = true;
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
