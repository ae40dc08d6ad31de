#include "server/tree.h"

#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "server/tree_private.h"

/* ---- digests ---- */

static void digest_add(struct hasher *hasher, const struct tree_row *row)
{
        const struct content_id content = tree_row_content(row);
        const struct entry_digest_input child = {
                .name = row->name,
                .name_len = row->name_len,
                .kind = row->kind,
                .mode = row->mode,
                .mtime_ns = row->stamp.mtime_ns,
                .size = row->stamp.size,
                .unknown = row->unknown,
                .algorithm = content.algorithm,
                .digest = content.bytes,
        };

        entry_digest_add(hasher, &child);
}

static int folder_digest(struct tree_db *db, uint64_t id, struct hasher *hasher, uint8_t ret[HASH_BYTES])
{
        struct content_id digest;
        struct tree_row row;
        int r = tree_db_list_begin(db, TREE_DB_LIST, id);

        hasher_reset(hasher);
        while (r == 0) {
                r = tree_db_list_next(db, TREE_DB_LIST, &row);
                if (r == TREE_OK)
                        digest_add(hasher, &row);
        }
        if (r < 0)
                return r;
        hasher_final(hasher, &digest);
        memcpy(ret, digest.bytes, HASH_BYTES);
        return 0;
}

static int deepest_first(const void *a, const void *b, void *arg)
{
        const struct tree_folders *set = arg;
        const struct tree_folder *x = &set->items[*(const uint32_t *)a],
                                 *y = &set->items[*(const uint32_t *)b];

        if (x->depth != y->depth)
                return x->depth < y->depth ? 1 : -1;
        return (x->id > y->id) - (x->id < y->id);
}

/* Whether FOLDER's digest is DIGEST already; a folder that is new in this update has none. */
static int has_digest(const struct tree_update *update, struct tree_db *db, const struct tree_folder *folder,
                      const uint8_t digest[HASH_BYTES])
{
        struct tree_row row;
        int r;

        if (folder->id >= update->first_new_id)
                return false;
        r = tree_db_lookup(db, folder->parent, tree_folders_name(&update->folders, folder), folder->name_len,
                           &row);
        if (r < 0)
                return r;
        if (r == TREE_NONE || row.id != folder->id)
                return tree_db_damaged(db);
        return memcmp(row.digest, digest, HASH_BYTES) == 0;
}

/* Renews one folder's digest; the one above it is marked only if it changed. */
static int renew(struct tree_update *update, struct tree_db *db, uint32_t node, struct hasher *hasher)
{
        struct tree_folders *set = &update->folders;
        const struct tree_folder *folder = &set->items[node];
        uint8_t digest[HASH_BYTES];
        int r = folder_digest(db, folder->id, hasher, digest);

        if (r == 0)
                r = has_digest(update, db, folder, digest);
        if (r != false)
                return r < 0 ? r : 0;
        if (folder->above != TREE_FOLDER_NONE)
                set->items[folder->above].marked = true;
        return tree_db_set_digest(db, folder->parent, tree_folders_name(set, folder), folder->name_len,
                                  digest);
}

/* A pass may have told of what is in a new folder and then not of the folder itself, since it vanished. */
static int drop_orphans(struct tree_update *update, struct tree_db *db)
{
        struct tree_folders *set = &update->folders;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < set->n; i++)
                if (set->items[i].lost)
                        r = tree_remove_below(update, db, set->items[i].id);
        return r;
}

static int renew_all(struct tree_update *update, struct tree_db *db, uint32_t *order)
{
        struct tree_folders *set = &update->folders;
        _cleanup_hasher_ struct hasher *hasher = NULL;
        int r = hasher_new(update->tree->hash, &hasher);

        for (uint32_t i = 0; i < set->n; i++)
                order[i] = i;
        qsort_r(order, set->n, sizeof(*order), deepest_first, set);
        for (uint32_t i = 0; r == 0 && i < set->n; i++) {
                const struct tree_folder *folder = &set->items[order[i]];
                if (folder->marked && !folder->lost)
                        r = renew(update, db, order[i], hasher);
        }
        return r;
}

static int renew_digests(struct tree_update *update, struct tree_db *db)
{
        struct tree_folders *set = &update->folders;
        _cleanup_free_ uint32_t *order = NULL;
        int r = tree_folders_climb(set, db);

        if (r == 0)
                r = drop_orphans(update, db);
        if (r < 0 || set->n == 0)
                return r;
        order = reallocarray(NULL, set->n, sizeof(*order));
        return order ? renew_all(update, db, order) : -ENOMEM;
}

/* ---- the journal ---- */

/* Without a difference to see there is no new revision. What was noted counts as part of the last one: folders may have new ids. */
static int same_version(struct tree_update *update, struct tree_db *db)
{
        struct tree_meta *meta = &update->meta;
        uint64_t before, now;
        int r = tree_db_count_changes(db, update->old_revision, &before);

        if (r == 0)
                r = tree_db_move_changes(db, update->old_revision + 1, update->old_revision);
        if (r == 0)
                r = tree_db_count_changes(db, update->old_revision, &now);
        if (r < 0)
                return r;
        meta->journal_rows += now - before;
        return now == before ? 0 : tree_db_put_version(db, update->old_revision, meta->version.digest, now);
}

/* Forgets the oldest revisions as long as enough of the journal is left. */
static int prune(struct tree_update *update, struct tree_db *db)
{
        struct tree_meta *meta = &update->meta;
        uint64_t revision, changes;
        int r;

        while ((r = tree_db_next_floor(db, &revision, &changes)) == TREE_OK) {
                if (meta->journal_rows < changes)
                        return tree_db_damaged(db);
                if (meta->journal_rows - changes < update->tree->journal_max)
                        return 0;
                meta->journal_rows -= changes;
                r = tree_db_set_floor(db, revision);
                if (r < 0)
                        break;
        }
        return r < 0 ? r : 0;
}

static int new_version(struct tree_update *update, struct tree_db *db, const uint8_t digest[HASH_BYTES])
{
        struct tree_version *version = &update->meta.version;
        uint64_t changes = 0;
        int r = 0;

        /* T3 */
        version->revision = version->valid ? version->revision + 1 : (uint64_t)clock_wall_sec();
        if (version->valid)
                r = tree_db_count_changes(db, version->revision, &changes);
        version->valid = true;
        memcpy(version->digest, digest, HASH_BYTES);
        update->meta.journal_rows += changes;
        if (r == 0)
                r = tree_db_put_version(db, version->revision, digest, changes);
        return r < 0 ? r : prune(update, db);
}

/* ---- commit ---- */

static int complete(struct tree_update *update, struct tree_db *db)
{
        struct tree_version *version = &update->meta.version;
        uint8_t digest[HASH_BYTES];
        struct tree_row root;
        int r = renew_digests(update, db);

        if (r == 0)
                r = tree_details_prune(&update->details, db);
        if (r == 0)
                r = tree_db_lookup(db, 0, "", 0, &root);
        if (r != TREE_OK)
                return r < 0 ? r : -EINVAL; /* a tree without a root is none */
        tree_row_root_digest(&root, digest);
        update->meta.next_id = atomic_load(&update->next_id);
        if (version->valid && memcmp(digest, version->digest, HASH_BYTES) == 0)
                r = same_version(update, db);
        else
                r = new_version(update, db, digest);
        return r < 0 ? r : tree_db_write_meta(db, &update->meta);
}

/* Ends UPDATE, whose transaction is finished in one way or the other. The write_lock is held. */
static void end_update(struct tree_update *update, struct tree *tree) TSA_REQUIRES(tree->write_lock)
{
        tree_db_rollback(tree->writer);
        if (tree_db_is_damaged(tree->writer))
                tree_suspect(tree);
        tree->updating = false;
        tree_folders_release(&update->folders);
        tree_links_clear(&update->links);
        tree_details_release(&update->details);
        free(update);
}

int tree_update_commit(struct tree_update *update, struct tree_version *ret)
{
        struct tree *tree = update->tree;
        struct tree_version version;
        int r;

        mutex_lock(&tree->write_lock);
        r = update->failed;
        if (r == 0)
                r = complete(update, tree->writer);
        if (r == 0)
                r = tree_db_commit(tree->writer);
        version = update->meta.version;
        end_update(update, tree);
        if (r == 0) {
                mutex_lock(&tree->lock);
                tree->version = version;
                mutex_unlock(&tree->lock);
                /* The version is there whatever becomes of this. */
                if (tree_db_checkpoint(tree->writer) < 0)
                        log_limited(LOG_LEVEL_WARNING, "tree",
                                    "index of '%s': the write-ahead log in '%s' could not be moved into it",
                                    tree->label, tree->dir);
        }
        mutex_unlock(&tree->write_lock);
        if (r == 0 && ret)
                *ret = version;
        return r;
}

void tree_update_abort(struct tree_update *update)
{
        struct tree *tree;

        if (!update)
                return;
        tree = update->tree;
        mutex_lock(&tree->write_lock);
        end_update(update, tree);
        mutex_unlock(&tree->write_lock);
}
