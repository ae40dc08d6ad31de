/*
 * What is found out of files between passes, and kept with the tree.
 */
#include <string.h>

#include "server/tree_private.h"

/* Begins to write: a transaction of our own, or that of the update that is under way, as there is one writer at a time. */
static int begin(struct tree *tree, bool *ret_own) TSA_REQUIRES(tree->write_lock)
{
        int r = 0;

        *ret_own = !tree->updating;
        if (*ret_own)
                r = tree_db_begin(tree->writer);
        if (r == 0 && !tree_db_in_transaction(tree->writer))
                r = -EIO; /* the update has failed */
        return r;
}

/* R: what came of it. The log is emptied here as well: a first stock listing may be all that is written for long. */
static int end(struct tree *tree, bool own, int r) TSA_REQUIRES(tree->write_lock)
{
        if (!own)
                return r;
        if (r == TREE_OK)
                r = tree_db_commit(tree->writer);
        tree_db_rollback(tree->writer);
        if (r == TREE_OK)
                (void)tree_db_checkpoint(tree->writer); /* it is tried again after the next commit */
        if (tree_db_is_damaged(tree->writer))
                tree_suspect(tree);
        return r;
}

static int set_md5(struct tree_db *db, const struct tree_md5 *item)
{
        struct tree_row row;
        int r = tree_db_lookup(db, item->parent, item->name, item->name_len, &row);

        if (r != TREE_OK)
                return r;
        if (row.kind != ENTRY_FILE || !tree_stamp_equal(&row.stamp, &item->stamp))
                return TREE_NONE;
        return tree_db_set_md5(db, row.parent, row.name, row.name_len, item->md5);
}

int tree_store_md5s(struct tree *tree, const struct tree_md5 *items, size_t n, size_t *ret_stored)
{
        size_t stored = 0;
        bool own;
        int r;

        mutex_lock(&tree->write_lock);
        r = begin(tree, &own);
        for (size_t i = 0; r == 0 && i < n; i++) {
                r = set_md5(tree->writer, &items[i]);
                stored += r == TREE_OK;
                r = r < 0 ? r : 0;
        }
        r = end(tree, own, r);
        mutex_unlock(&tree->write_lock);
        if (r == 0 && ret_stored)
                *ret_stored = stored;
        return r;
}

int tree_store_detail(struct tree *tree, const struct content_id *id, const uint8_t *data, size_t len)
{
        bool own;
        int r;

        if (hash_base(id->algorithm) != tree->hash)
                return TREE_NONE;
        mutex_lock(&tree->write_lock);
        r = begin(tree, &own);
        if (r == 0)
                r = tree_db_replace_detail(tree->writer, id->bytes, data, len);
        r = end(tree, own, r);
        mutex_unlock(&tree->write_lock);
        return r;
}
