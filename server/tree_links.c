#include "server/tree.h"

#include <string.h>

#include "server/tree_private.h"

#define NOTED_MAX 100000 /* beyond that a walk over everything is the cheaper way */

void tree_links_note(struct tree_links *links, const struct tree_stamp *stamp, bool suspect)
{
        if (links->n == links->capacity) {
                size_t capacity = links->capacity ? links->capacity * 2 : 64;
                struct tree_link *items = capacity <= 2 * NOTED_MAX
                                                  ? reallocarray(links->items, capacity, sizeof(*items))
                                                  : NULL;
                if (!items) {
                        links->too_many = true;
                        return;
                }
                links->items = items;
                links->capacity = capacity;
        }
        links->items[links->n++] = (struct tree_link){
                .device = stamp->device,
                .inode = stamp->inode,
                .suspect = suspect,
        };
}

void tree_links_clear(struct tree_links *links)
{
        free(links->items);
        *links = (struct tree_links){ 0 };
}

void tree_update_note_link(struct tree_update *update, const struct tree_stamp *stamp)
{
        mutex_lock(&update->tree->write_lock);
        tree_links_note(&update->links, stamp, false);
        mutex_unlock(&update->tree->write_lock);
}

/* Suspects come first, so that the first of several that are about one file tells all. */
static int compare_links(const void *a, const void *b)
{
        const struct tree_link *x = a, *y = b;

        if (x->device != y->device)
                return x->device < y->device ? -1 : 1;
        if (x->inode != y->inode)
                return x->inode < y->inode ? -1 : 1;
        return y->suspect - x->suspect;
}

struct telling {
        struct tree_db *db;
        tree_link_fn each;
        void *arg;
        bool suspect;
        struct buffer path; /* owned */
};

static int tell_name(uint64_t parent, const char *name, size_t name_len, void *arg)
{
        struct telling *t = arg;
        char text[PATH_NAME_MAX + 1];
        int r;

        buffer_truncate(&t->path, 0);
        r = tree_path(t->db, parent, &t->path);
        if (r != TREE_OK)
                return r < 0 ? r : 0; /* below a folder that is gone, and soon gone itself */
        memcpy(text, name, name_len);
        text[name_len] = '\0';
        return t->each(t->path.data ? t->path.data : "", text, t->suspect, t->arg);
}

static int tell_all(struct telling *t, struct tree_links *links)
{
        int r = tree_db_index_files(t->db);

        qsort(links->items, links->n, sizeof(*links->items), compare_links);
        for (size_t i = 0; r == 0 && i < links->n; i++) {
                const struct tree_link *link = &links->items[i];
                if (i > 0 && link->device == link[-1].device && link->inode == link[-1].inode)
                        continue;
                t->suspect = link->suspect;
                r = tree_db_each_file(t->db, link->device, link->inode, tell_name, t);
        }
        return r;
}

int tree_update_each_link(struct tree_update *update, tree_link_fn each, void *arg)
{
        struct tree *tree = update->tree;
        struct telling t = { .each = each, .arg = arg };
        int r;

        mutex_lock(&tree->write_lock);
        t.db = tree->writer;
        r = update->failed;
        if (r == 0 && !tree_db_in_transaction(t.db))
                r = -EIO;
        if (r == 0 && update->links.too_many)
                r = TREE_TOO_MANY;
        if (r == 0 && update->links.n > 0)
                r = tell_all(&t, &update->links);
        tree_links_clear(&update->links);
        mutex_unlock(&tree->write_lock);
        buffer_release(&t.path);
        return r;
}

int tree_update_lookup(struct tree_update *update, uint64_t parent, const char *name, size_t name_len,
                       struct tree_row *ret)
{
        struct tree *tree = update->tree;
        int r;

        mutex_lock(&tree->write_lock);
        r = update->failed;
        if (r == 0)
                r = tree_db_lookup(tree->writer, parent, name, name_len, ret);
        mutex_unlock(&tree->write_lock);
        ret->target = NULL;
        ret->target_len = 0;
        return r;
}
