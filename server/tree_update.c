#include "server/tree.h"

#include <string.h>

#include "server/tree_private.h"

int tree_update_begin(struct tree *tree, struct tree_update **ret)
{
        struct tree_update *update = calloc(1, sizeof(*update));
        int r = 0;

        if (!update)
                return -ENOMEM;
        update->tree = tree;
        mutex_lock(&tree->write_lock);
        if (tree->updating)
                r = -EBUSY;
        if (r == 0)
                r = tree_db_begin(tree->writer);
        if (r == 0) {
                r = tree_db_read_meta(tree->writer, &update->meta);
                if (r < 0)
                        tree_db_rollback(tree->writer);
        }
        if (r == 0)
                tree->updating = true;
        mutex_unlock(&tree->write_lock);
        if (r < 0) {
                free(update);
                return r;
        }
        update->old_revision = update->meta.version.revision;
        update->first_new_id = update->meta.next_id;
        atomic_init(&update->next_id, update->meta.next_id);
        *ret = update;
        return 0;
}

uint64_t tree_update_new_id(struct tree_update *update)
{
        return atomic_fetch_add(&update->next_id, 1);
}

/* ---- counts ---- */

void tree_count(struct tree_version *version, const struct tree_row *row, bool add)
{
        uint64_t sign = add ? 1 : UINT64_MAX; /* -1: unsigned numbers wrap around and back */

        version->entries += sign;
        if (row->kind == ENTRY_DIRECTORY)
                version->folders += sign;
        if (row->kind == ENTRY_SYMLINK)
                version->symlinks += sign;
        if (row->kind == ENTRY_FILE) {
                version->files += sign;
                version->bytes += sign * row->stamp.size;
        }
        if (row->unknown)
                version->unknown += sign;
}

/* ---- removing ---- */

struct ids {
        uint64_t *items; /* owned */
        size_t n, capacity;
};

static int ids_add(struct ids *ids, uint64_t id)
{
        if (ids->n == ids->capacity) {
                size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
                uint64_t *items = reallocarray(ids->items, capacity, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                ids->items = items;
                ids->capacity = capacity;
        }
        ids->items[ids->n++] = id;
        return 0;
}

/* Takes the rows directly in folder ID away; its subfolders come to IDS. */
static int remove_children(struct tree_update *update, struct tree_db *db, uint64_t id, struct ids *ids)
{
        struct tree_row row;
        int r = tree_db_list_begin(db, TREE_DB_LIST, id);

        while (r == 0) {
                r = tree_db_list_next(db, TREE_DB_LIST, &row);
                if (r != TREE_OK)
                        break;
                tree_count(&update->meta.version, &row, false);
                tree_details_note(&update->details, &row);
                if (row.linked)
                        tree_links_note(&update->links, &row.stamp, false);
                if (row.kind == ENTRY_DIRECTORY)
                        r = ids_add(ids, row.id);
        }
        tree_db_list_end(db, TREE_DB_LIST);
        return r < 0 ? r : tree_db_delete_children(db, id);
}

int tree_remove_below(struct tree_update *update, struct tree_db *db, uint64_t id)
{
        struct ids ids = { 0 };
        int r = ids_add(&ids, id);

        while (r == 0 && ids.n > 0) {
                uint64_t folder = ids.items[--ids.n];
                r = tree_db_delete_folder(db, folder);
                if (r == 0)
                        r = remove_children(update, db, folder, &ids);
        }
        free(ids.items);
        return r;
}

/* ---- changes ---- */

/* One change as it is taken over: what there is now, and what is to be. */
struct step {
        struct tree_update *update;
        struct tree_db *db;
        struct tree_row row, old;
        bool same_folder; /* both are folders, and it is the same one */
};

static int mark(struct tree_update *update, uint64_t id)
{
        struct tree_folders *set = &update->folders;
        uint32_t node;
        int r = tree_folders_add(set, id, &node);

        if (r == 0)
                set->items[node].marked = true;
        return r;
}

/* What a worker sees at ROW's place has changed. The root (whose parent is 0) has its own part in the root digest. */
static int changed(struct tree_update *update, struct tree_db *db, const struct tree_row *row, bool whole)
{
        const struct tree_db_change change = { .revision = update->old_revision + 1,
                                               .parent = row->parent,
                                               .name = row->name,
                                               .name_len = row->name_len,
                                               .whole = whole };
        int r = row->parent ? mark(update, row->parent) : 0;

        /* T4: the first version has no difference to anything; a new folder is sent whole. */
        if (r < 0 || !update->meta.version.valid || row->parent >= update->first_new_id)
                return r;
        return tree_db_note(db, &change);
}

static bool looks_the_same(const struct tree_row *a, const struct tree_row *b)
{
        if (a->kind != b->kind || a->unknown != b->unknown || a->id != b->id)
                return false;
        if (a->unknown)
                return true; /* nothing else counts in the digest */
        if (a->mode != b->mode || a->stamp.mtime_ns != b->stamp.mtime_ns)
                return false;
        return a->kind == ENTRY_DIRECTORY ||
               (a->stamp.size == b->stamp.size && memcmp(a->digest, b->digest, HASH_BYTES) == 0);
}

/* Other names of what was here, and of what is, lead to what has changed, too. */
static void note_links(struct step *s)
{
        const struct tree_row *row = &s->row, *old = &s->old;
        bool same_stamp = tree_stamp_equal(&old->stamp, &row->stamp);
        bool same_content = memcmp(old->digest, row->digest, HASH_BYTES) == 0;

        if (same_stamp && same_content)
                return;
        if (old->linked)
                tree_links_note(&s->update->links, &old->stamp, same_stamp);
        if (row->linked)
                tree_links_note(&s->update->links, &row->stamp, same_stamp);
}

/* An id that is in use elsewhere is the pass's mistake, and no name that is there already. */
static int insert_folder(struct step *s)
{
        int r = tree_db_insert_folder(s->db, &s->row);

        if (r == 0)
                r = mark(s->update, s->row.id); /* also if it is empty */
        return r == -EEXIST ? -EINVAL : r;
}

/* Rows in folders that are new: there is nothing to compare with, and nobody to tell. */
static int put_new(struct step *s)
{
        struct tree_row *row = &s->row;
        int r = tree_db_insert(s->db, row);

        if (r < 0)
                return r;
        tree_count(&s->update->meta.version, row, true);
        if (row->linked)
                tree_links_note(&s->update->links, &row->stamp, false);
        if (row->kind == ENTRY_DIRECTORY)
                r = insert_folder(s);
        return r < 0 ? r : changed(s->update, s->db, row, row->kind == ENTRY_DIRECTORY);
}

/* What the tree knows better than the pass does. */
static void complete_row(struct step *s)
{
        struct tree_row *row = &s->row;

        if (row->unknown &&
            (row->kind == ENTRY_UNKNOWN || (row->kind == s->old.kind && row->id == s->old.id))) {
                *row = s->old; /* T5 */
                row->unknown = true;
        }
        s->same_folder =
                row->kind == ENTRY_DIRECTORY && s->old.kind == ENTRY_DIRECTORY && row->id == s->old.id;
        if (s->same_folder)
                memcpy(row->digest, s->old.digest, HASH_BYTES);
        if (row->kind == ENTRY_FILE && !row->has_md5 && s->old.kind == ENTRY_FILE && s->old.has_md5 &&
            memcmp(row->digest, s->old.digest, HASH_BYTES) == 0) {
                memcpy(row->md5, s->old.md5, HASH_MD5_BYTES);
                row->has_md5 = true;
        }
}

/* A row in the place of another one. */
static int put_over(struct step *s)
{
        struct tree_row *row = &s->row;
        struct tree_version *version = &s->update->meta.version;
        int r = 0;

        complete_row(s);
        note_links(s);
        if (s->old.kind == ENTRY_DIRECTORY && !s->same_folder)
                r = tree_remove_below(s->update, s->db, s->old.id);
        if (r == 0)
                r = tree_db_replace(s->db, row);
        if (r < 0)
                return r;
        tree_count(version, &s->old, false);
        tree_count(version, row, true);
        if (tree_row_detail_len(row) == 0 || memcmp(s->old.digest, row->digest, HASH_BYTES) != 0)
                tree_details_note(&s->update->details, &s->old);
        if (row->kind == ENTRY_DIRECTORY)
                r = s->same_folder ? tree_db_restamp_folder(s->db, row) : insert_folder(s);
        if (r < 0 || looks_the_same(&s->old, row))
                return r;
        return changed(s->update, s->db, row,
                       row->kind == ENTRY_DIRECTORY &&
                               (!s->same_folder || (s->old.unknown && !row->unknown)));
}

static int remove_row(struct step *s)
{
        const struct tree_row *old = &s->old;
        int r = 0;

        if (old->kind == ENTRY_DIRECTORY)
                r = tree_remove_below(s->update, s->db, old->id);
        if (r == 0)
                r = tree_db_delete(s->db, old->parent, old->name, old->name_len);
        if (r < 0)
                return r;
        tree_count(&s->update->meta.version, old, false);
        tree_details_note(&s->update->details, old);
        if (old->linked)
                tree_links_note(&s->update->links, &old->stamp, false);
        return changed(s->update, s->db, old, false);
}

/* Our own callers see to it that rows make sense; what is in the database is believed, so it is worth a look. */
static int check(const struct tree_update *update, const struct tree_change *change)
{
        const struct tree_row *row = &change->row;
        bool is_root = row->parent == 0;

        if (is_root ? row->name_len != 0 : path_check_name(row->name, row->name_len) < 0)
                return -EINVAL;
        if (change->op == TREE_REMOVE)
                return is_root ? -EINVAL : 0;
        if (is_root && (row->kind != ENTRY_DIRECTORY || row->id != TREE_ROOT_ID))
                return -EINVAL;
        if ((row->kind == ENTRY_DIRECTORY) != (row->id != 0) || row->id >= atomic_load(&update->next_id))
                return -EINVAL;
        if (change->detail && (tree_row_detail_len(row) == 0 || row->unknown))
                return -EINVAL;
        return row->kind == ENTRY_SYMLINK && (!row->target || row->target_len > ENTRY_TARGET_MAX) ? -EINVAL
                                                                                                  : 0;
}

static int apply_row(struct tree_update *update, struct tree_db *db, const struct tree_change *change)
{
        struct step s = { .update = update, .db = db, .row = change->row };
        int r;

        if (s.row.kind == ENTRY_UNKNOWN)
                s.row.unknown = true;
        if (s.row.kind == ENTRY_DIRECTORY)
                memset(s.row.digest, 0, HASH_BYTES); /* ours to reckon */
        if (change->op != TREE_REMOVE &&
            (s.row.parent >= update->first_new_id || !update->meta.version.valid)) {
                r = put_new(&s);
                if (r != -EEXIST)
                        return r;
        }
        r = tree_db_lookup(db, s.row.parent, s.row.name, s.row.name_len, &s.old);
        if (r < 0)
                return r;
        if (change->op == TREE_REMOVE)
                return r == TREE_NONE ? 0 : remove_row(&s);
        return r == TREE_NONE ? put_new(&s) : put_over(&s);
}

static int apply_one(struct tree_update *update, struct tree_db *db, const struct tree_change *change)
{
        struct tree_change own = *change;
        int r;

        own.row.hash = update->tree->hash;
        r = check(update, &own);
        if (r == 0)
                r = apply_row(update, db, &own);
        if (r < 0 || own.op == TREE_REMOVE || !own.detail)
                return r;
        return tree_db_put_detail(db, own.row.digest, own.detail, tree_row_detail_len(&own.row));
}

int tree_update_apply(struct tree_update *update, const struct tree_change *changes, size_t n)
{
        struct tree *tree = update->tree;
        int r;

        mutex_lock(&tree->write_lock);
        r = update->failed;
        if (r == 0 && !tree_db_in_transaction(tree->writer))
                r = -EIO; /* after some errors SQLite drops it all by itself: nothing may be written outside of it */
        for (size_t i = 0; r == 0 && i < n; i++)
                r = apply_one(update, tree->writer, &changes[i]);
        update->failed = r;
        mutex_unlock(&tree->write_lock);
        return r;
}
