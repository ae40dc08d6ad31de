#include "server/tree.h"

#include <string.h>

#include "server/tree_private.h"

/* One name in one folder that changed at least once since. */
struct item {
        uint64_t parent;
        size_t name; /* where in `names` */
        uint16_t name_len;
        bool whole;
};

/* A folder on the way from ROW to where the walk is: its subfolders are `order`[next … end). */
struct level {
        uint32_t next, end;
        size_t path_len;
};

struct diff {
        struct tree_view *view;
        struct item *items; /* owned; by parent and name, each once */
        size_t n_items, capacity;
        struct buffer names;
        struct tree_folders folders; /* those that items lie in, ROW, and all above them */
        uint32_t *order;             /* owned; nodes of `folders` by parent and name */
        struct level *levels;        /* owned */
        size_t n_levels, levels_capacity;
        struct buffer path;
        struct buffer data; /* of the entry that is told */

        int (*each)(const struct entry *entry, void *arg);
        void *arg;
        uint64_t left; /* entries that may yet be told */
};

static void diff_release(struct diff *d)
{
        free(d->items);
        free(d->order);
        free(d->levels);
        buffer_release(&d->names);
        buffer_release(&d->path);
        buffer_release(&d->data);
        tree_folders_release(&d->folders);
}

/* ---- what the journal says ---- */

static int gather(const struct tree_db_change *change, void *arg)
{
        struct diff *d = arg;

        if (d->n_items == d->capacity) {
                size_t capacity = d->capacity ? d->capacity * 2 : 256;
                struct item *items = reallocarray(d->items, capacity, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                d->items = items;
                d->capacity = capacity;
        }
        d->items[d->n_items++] = (struct item){ .parent = change->parent,
                                                .name = d->names.len,
                                                .name_len = (uint16_t)change->name_len,
                                                .whole = change->whole };
        return buffer_append(&d->names, change->name, change->name_len);
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
        int order = memcmp(a, b, MIN(a_len, b_len));

        return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static const char *item_name(const struct diff *d, const struct item *item)
{
        return item->name_len > 0 ? d->names.data + item->name : "";
}

static int by_parent_and_name(const void *a, const void *b, void *arg)
{
        const struct item *x = a, *y = b;

        if (x->parent != y->parent)
                return x->parent > y->parent ? 1 : -1;
        return compare_names(item_name(arg, x), x->name_len, item_name(arg, y), y->name_len);
}

/* What changed in several revisions is looked at once. */
static void sort_items(struct diff *d)
{
        size_t kept = 0;

        if (d->n_items > 0)
                qsort_r(d->items, d->n_items, sizeof(*d->items), by_parent_and_name, d);
        for (size_t i = 0; i < d->n_items; i++) {
                struct item *item = &d->items[i];
                if (kept > 0 && by_parent_and_name(&d->items[kept - 1], item, d) == 0)
                        d->items[kept - 1].whole |= item->whole;
                else
                        d->items[kept++] = *item;
        }
        d->n_items = kept;
}

/* The first item that lies in folder PARENT, or where it would be. */
static size_t first_item(const struct diff *d, uint64_t parent)
{
        size_t low = 0, high = d->n_items;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (d->items[middle].parent < parent)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static const struct item *find_item(const struct diff *d, const struct tree_folder *folder)
{
        const char *name = tree_folders_name(&d->folders, folder);
        size_t low = 0, high = d->n_items;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct item *item = &d->items[middle];
                int order = item->parent != folder->parent ? (item->parent > folder->parent ? 1 : -1)
                                                           : compare_names(item_name(d, item), item->name_len,
                                                                           name, folder->name_len);
                if (order == 0)
                        return item;
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

/* ---- the folders to visit ---- */

static int folder_order(const void *a, const void *b, void *arg)
{
        const struct tree_folders *set = arg;
        const struct tree_folder *x = &set->items[*(const uint32_t *)a],
                                 *y = &set->items[*(const uint32_t *)b];

        if (x->parent != y->parent)
                return x->parent > y->parent ? 1 : -1;
        return compare_names(tree_folders_name(set, x), x->name_len, tree_folders_name(set, y), y->name_len);
}

static int find_folders(struct diff *d, uint64_t top)
{
        uint32_t node;
        int r = tree_folders_add(&d->folders, top, &node);

        for (size_t i = 0; r == 0 && i < d->n_items; i++)
                if (d->items[i].parent != 0 && (i == 0 || d->items[i].parent != d->items[i - 1].parent))
                        r = tree_folders_add(&d->folders, d->items[i].parent, &node);
        if (r == 0)
                r = tree_folders_climb(&d->folders, d->view->db);
        if (r < 0)
                return r;
        d->order = reallocarray(NULL, d->folders.n, sizeof(*d->order));
        if (!d->order)
                return -ENOMEM;
        for (uint32_t i = 0; i < d->folders.n; i++)
                d->order[i] = i;
        qsort_r(d->order, d->folders.n, sizeof(*d->order), folder_order, &d->folders);
        return 0;
}

/* The first of `order` whose parent is at least PARENT. */
static uint32_t first_folder(const struct diff *d, uint64_t parent)
{
        uint32_t low = 0, high = d->folders.n;

        while (low < high) {
                uint32_t middle = low + (high - low) / 2;
                if (d->folders.items[d->order[middle]].parent < parent)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* ---- telling ---- */

static int tell(struct diff *d, const struct entry *entry)
{
        if (d->left == 0)
                return TREE_TOO_MANY;
        d->left--;
        return d->each(entry, d->arg);
}

/* ROW, a folder whose path is the present one, with all below it. */
static int tell_whole(struct diff *d, const struct tree_row *row)
{
        struct tree_cursor *cursor;
        const struct entry *next;
        bool top = true;
        int r = tree_cursor_new_at(d->view, row, &d->path, &cursor);

        if (r < 0)
                return r;
        while ((r = tree_cursor_next(cursor, &next, NULL)) == 0 && next) {
                struct entry entry = *next;
                entry.whole = top;
                top = false;
                r = tell(d, &entry);
                if (r != 0)
                        break;
        }
        tree_cursor_free(cursor);
        return r;
}

/* ROW, whose path is the present one. A folder that cannot be read has nothing to follow, and will be whole when it can be. */
static int tell_row(struct diff *d, const struct tree_row *row, bool whole)
{
        struct entry entry;
        int r;

        if (whole && row->kind == ENTRY_DIRECTORY && !row->unknown)
                return tell_whole(d, row);
        entry = tree_row_entry(row, d->path.data ? d->path.data : "", d->path.len);
        r = tree_give_data(d->view->db, row, &d->data, &entry);
        return r < 0 ? r : tell(d, &entry);
}

static int set_path(struct diff *d, size_t path_len, const char *name, size_t name_len)
{
        int r = 0;

        buffer_truncate(&d->path, path_len);
        if (path_len > 0)
                r = buffer_append(&d->path, "/", 1);
        return r < 0 ? r : buffer_append(&d->path, name, name_len);
}

static int tell_item(struct diff *d, const struct item *item, size_t path_len)
{
        struct tree_row row;
        int r = set_path(d, path_len, item_name(d, item), item->name_len);

        if (r == 0)
                r = tree_db_lookup(d->view->db, item->parent, item_name(d, item), item->name_len, &row);
        if (r == TREE_NONE)
                return tell(d,
                            &(struct entry){ .path = d->path.data, .path_len = d->path.len, .gone = true });
        return r < 0 ? r : tell_row(d, &row, item->whole);
}

/* Tells what changed directly in folder ID, whose path is the present one, and has its subfolders come next. */
static int enter(struct diff *d, uint64_t id)
{
        size_t path_len = d->path.len;
        int r = 0;

        if (d->n_levels == d->levels_capacity) {
                size_t capacity = d->levels_capacity ? d->levels_capacity * 2 : 32;
                struct level *levels = reallocarray(d->levels, capacity, sizeof(*levels));
                if (!levels)
                        return -ENOMEM;
                d->levels = levels;
                d->levels_capacity = capacity;
        }
        d->levels[d->n_levels++] = (struct level){ .next = first_folder(d, id),
                                                   .end = first_folder(d, id + 1),
                                                   .path_len = path_len };
        for (size_t i = first_item(d, id); r == 0 && i < d->n_items && d->items[i].parent == id; i++)
                r = tell_item(d, &d->items[i], path_len);
        return r;
}

/* Goes into FOLDER, unless all of it was told already or it cannot be read now. */
static int visit(struct diff *d, const struct tree_folder *folder, size_t path_len)
{
        const struct item *item = find_item(d, folder);
        const char *name = tree_folders_name(&d->folders, folder);
        struct tree_row row;
        int r;

        if (folder->lost || (item && item->whole))
                return 0;
        r = tree_db_lookup(d->view->db, folder->parent, name, folder->name_len, &row);
        if (r < 0)
                return r;
        if (r == TREE_NONE || row.id != folder->id)
                return tree_db_damaged(d->view->db);
        if (row.unknown)
                return 0;
        r = set_path(d, path_len, name, folder->name_len);
        return r < 0 ? r : enter(d, folder->id);
}

static int walk(struct diff *d, uint64_t top)
{
        int r = enter(d, top);

        while (r == 0 && d->n_levels > 0) {
                struct level *level = &d->levels[d->n_levels - 1];
                if (level->next == level->end)
                        d->n_levels--;
                else
                        r = visit(d, &d->folders.items[d->order[level->next++]], level->path_len);
        }
        return r;
}

/* What became of ROW itself, and then of what is in it. */
static int tell_all(struct diff *d, const struct tree_row *row)
{
        const struct tree_folders *set = &d->folders;
        uint32_t node = tree_folders_find(set, row->id);
        const struct item *own = find_item(d, &set->items[node]);
        bool whole = false;
        int r = 0;

        for (uint32_t at = node; at != TREE_FOLDER_NONE; at = set->items[at].above) {
                const struct item *item = find_item(d, &set->items[at]);
                whole |= item && item->whole;
        }
        if (own || whole)
                r = tell_row(d, row, whole);
        return r != 0 || whole || row->unknown ? r : walk(d, row->id);
}

static int check_since(struct tree_view *view, uint64_t since, const uint8_t *since_digest)
{
        uint8_t digest[HASH_BYTES];
        int r;

        if (!view->version.valid || since > view->version.revision)
                return TREE_TOO_OLD;
        r = tree_db_get_version(view->db, since, digest);
        if (r != TREE_OK)
                return r < 0 ? r : TREE_TOO_OLD;
        return since_digest && memcmp(digest, since_digest, HASH_BYTES) != 0 ? TREE_TOO_OLD : TREE_OK;
}

int tree_view_changes(struct tree_view *view, const struct tree_row *row, uint64_t since,
                      const uint8_t *since_digest, uint64_t limit,
                      int (*each)(const struct entry *entry, void *arg), void *arg)
{
        struct diff diff = { .view = view, .each = each, .arg = arg, .left = limit };
        int r = row->kind == ENTRY_DIRECTORY ? check_since(view, since, since_digest) : -ENOTDIR;

        if (r == TREE_OK)
                r = tree_db_each_change(view->db, since, gather, &diff);
        if (r == TREE_OK)
                sort_items(&diff);
        if (r == TREE_OK)
                r = find_folders(&diff, row->id);
        if (r == TREE_OK)
                r = tell_all(&diff, row);
        diff_release(&diff);
        return r;
}
