#include "server/tree.h"

#include <string.h>

#include "server/tree_private.h"

/* A subfolder whose turn comes when the list of its folder is through. */
struct sub {
        uint64_t id;
        size_t name; /* where in `names` */
        size_t name_len;
};

/* A folder on the way from the top to where the cursor is. */
struct level {
        uint32_t next; /* of `subs`: the one that is visited next; its own end where the next level's begin */
        uint32_t first; /* of `subs` */
        size_t names_len, path_len;
};

struct tree_cursor {
        struct tree_db *db; /* borrowed */
        struct tree_row top, row;
        struct entry entry;
        struct buffer path, names;
        struct buffer data;   /* the entry's */
        struct sub *subs;     /* owned; of all levels, one behind the other */
        struct level *levels; /* owned */
        uint32_t n_subs, subs_capacity, n_levels, levels_capacity;
        bool begun, listing;
};

int tree_cursor_new_at(struct tree_view *view, const struct tree_row *row, const struct buffer *base,
                       struct tree_cursor **ret)
{
        struct tree_cursor *cursor = calloc(1, sizeof(*cursor));

        if (!cursor)
                return -ENOMEM;
        cursor->db = view->db;
        cursor->top = *row;
        if (buffer_append(&cursor->path, base->data ? base->data : "", base->len) < 0) {
                tree_cursor_free(cursor);
                return -ENOMEM;
        }
        *ret = cursor;
        return 0;
}

int tree_cursor_new(struct tree_view *view, const struct tree_row *row, struct tree_cursor **ret)
{
        const struct buffer base = { 0 };

        return tree_cursor_new_at(view, row, &base, ret);
}

void tree_cursor_free(struct tree_cursor *cursor)
{
        if (!cursor)
                return;
        tree_db_list_end(cursor->db, TREE_DB_WALK);
        buffer_release(&cursor->path);
        buffer_release(&cursor->names);
        buffer_release(&cursor->data);
        free(cursor->subs);
        free(cursor->levels);
        free(cursor);
}

/* Makes room for one more of N items. */
static int grow(void **items, uint32_t *capacity, uint32_t n, size_t size)
{
        uint32_t more = *capacity ? *capacity * 2 : 32;
        void *grown;

        if (n < *capacity)
                return 0;
        if (more > UINT32_MAX / 4)
                return -ENOMEM;
        grown = reallocarray(*items, more, size);
        if (!grown)
                return -ENOMEM;
        *items = grown;
        *capacity = more;
        return 0;
}

/* Begins the list of folder ID, whose path is the present one. */
static int enter(struct tree_cursor *c, uint64_t id)
{
        int r;

        if (c->n_levels > PATH_BYTES_MAX)
                return tree_db_damaged(c->db); /* folders in a circle */
        r = grow((void **)&c->levels, &c->levels_capacity, c->n_levels, sizeof(*c->levels));
        if (r < 0)
                return r;
        c->levels[c->n_levels++] = (struct level){
                .next = c->n_subs, .first = c->n_subs, .names_len = c->names.len, .path_len = c->path.len
        };
        c->listing = true;
        return tree_db_list_begin(c->db, TREE_DB_WALK, id);
}

static int append_name(struct buffer *path, size_t path_len, const char *name, size_t name_len)
{
        int r = 0;

        buffer_truncate(path, path_len);
        if (path_len > 0)
                r = buffer_append(path, "/", 1);
        return r < 0 ? r : buffer_append(path, name, name_len);
}

static int remember_sub(struct tree_cursor *c)
{
        int r = grow((void **)&c->subs, &c->subs_capacity, c->n_subs, sizeof(*c->subs));

        if (r < 0)
                return r;
        c->subs[c->n_subs] =
                (struct sub){ .id = c->row.id, .name = c->names.len, .name_len = c->row.name_len };
        r = buffer_append(&c->names, c->row.name, c->row.name_len);
        if (r == 0)
                c->n_subs++;
        return r;
}

/* The next row of the list under way; TREE_NONE at its end. */
static int next_child(struct tree_cursor *c)
{
        const struct level *level = &c->levels[c->n_levels - 1];
        int r = tree_db_list_next(c->db, TREE_DB_WALK, &c->row);

        if (r != TREE_OK) {
                c->listing = false;
                return r;
        }
        r = append_name(&c->path, level->path_len, c->row.name, c->row.name_len);
        if (r == 0 && c->row.kind == ENTRY_DIRECTORY && !c->row.unknown)
                r = remember_sub(c);
        return r;
}

/* Goes on to the next folder whose turn it is. TREE_NONE: there is none left. */
static int next_folder(struct tree_cursor *c)
{
        while (c->n_levels > 0) {
                struct level *level = &c->levels[c->n_levels - 1];
                if (level->next < c->n_subs) {
                        const struct sub *sub = &c->subs[level->next++];
                        int r = append_name(&c->path, level->path_len, c->names.data + sub->name,
                                            sub->name_len);
                        return r < 0 ? r : enter(c, sub->id);
                }
                c->n_subs = level->first;
                buffer_truncate(&c->names, level->names_len);
                c->n_levels--;
        }
        return TREE_NONE;
}

static int begin(struct tree_cursor *c)
{
        c->begun = true;
        c->row = c->top;
        return c->top.kind == ENTRY_DIRECTORY && !c->top.unknown ? enter(c, c->top.id) : 0;
}

static int advance(struct tree_cursor *c)
{
        int r;

        if (!c->begun)
                return begin(c);
        for (;;) {
                r = c->listing ? next_child(c) : TREE_NONE;
                if (r != TREE_NONE)
                        return r;
                r = next_folder(c);
                if (r != TREE_OK)
                        return r;
        }
}

int tree_cursor_next(struct tree_cursor *cursor, const struct entry **ret_entry,
                     const struct tree_row **ret_row)
{
        int r = advance(cursor);

        if (r < 0)
                return r;
        cursor->entry =
                tree_row_entry(&cursor->row, cursor->path.data ? cursor->path.data : "", cursor->path.len);
        if (r == TREE_OK) {
                r = tree_give_data(cursor->db, &cursor->row, &cursor->data, &cursor->entry);
                if (r < 0)
                        return r;
        }
        *ret_entry = r == TREE_NONE ? NULL : &cursor->entry;
        if (ret_row)
                *ret_row = r == TREE_NONE ? NULL : &cursor->row;
        return 0;
}
