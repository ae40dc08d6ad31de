#include "cache/catalog_update.h"

/* ---- retiring ---- */

/* What retiring a row needs of it: far less than a whole row, of which there may be a million. */
struct leaver {
        uint64_t ino, parent, size;
        enum entry_kind kind;
        bool unknown;
};

struct leaver_list {
        struct leaver *items; /* owned */
        size_t count, capacity;
};

static int leaver_list_add(struct leaver_list *list, const struct db_row *row)
{
        if (list->count == list->capacity) {
                size_t capacity = MAX(list->capacity * 2, (size_t)64);
                struct leaver *items = reallocarray(list->items, capacity, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->count++] = (struct leaver){ .ino = row->entry.ino,
                                                      .parent = row->entry.parent,
                                                      .size = row->entry.size,
                                                      .kind = row->entry.kind,
                                                      .unknown = row->unknown };
        return 0;
}

static int add_leaver(const struct db_row *row, void *arg)
{
        return leaver_list_add(arg, row);
}

static int retire_one(struct catalog_update *update, const struct leaver *leaver)
{
        const struct db_row counted = { .entry.kind = leaver->kind,
                                        .entry.size = leaver->size,
                                        .unknown = leaver->unknown };
        int r = db_retire(update->db, leaver->ino, update->generation);

        if (r < 0)
                return r;
        catalog_count_row(&update->version, &counted, -UINT64_C(1));
        update->changed = true;
        /* Rows that are never shown change nothing for anybody. */
        if (leaver->kind != ENTRY_UNKNOWN && update_is_news(update, leaver->parent))
                r = ino_list_add(&update->entries, leaver->ino);
        return r < 0 ? r : update_mark(update, leaver->ino, MARK_GONE);
}

/* The list holds what is still to be retired; what a folder has is added when the folder goes. */
static int retire_all(struct catalog_update *update, struct leaver_list *list, bool count)
{
        int r = 0;

        while (r == 0 && list->count > 0) {
                struct leaver leaver = list->items[--list->count];
                struct db_list below = { .parent = leaver.ino, .after = "", .generation = DB_LIVE };
                r = retire_one(update, &leaver);
                if (count && leaver.kind != ENTRY_UNKNOWN)
                        update->removed++;
                if (r == 0 && leaver.kind == ENTRY_DIRECTORY)
                        r = db_list(update->db, &below, add_leaver, list);
                count = true;
        }
        return r;
}

int update_retire(struct catalog_update *update, const struct db_row *row)
{
        struct leaver_list list = { 0 };
        int r = leaver_list_add(&list, row);

        if (r == 0)
                r = retire_all(update, &list, false);
        free(list.items);
        return r;
}

/* ---- what did not come is gone ---- */

struct sweep {
        struct catalog_update *update;
        struct update_folder folder; /* being swept */
        bool keep;                   /* it came as unknown: C5 */
        struct folder_list todo;
        struct leaver_list gone;
        bool shown; /* one of those gone could be seen */
};

static int sweep_row(const struct db_row *row, void *arg)
{
        struct sweep *sweep = arg;
        uint8_t marks = ino_map_get(&sweep->update->marks, row->entry.ino);

        if (marks & MARK_CAME) {
                /* What is below a folder that is new came with it. */
                if (row->entry.kind != ENTRY_DIRECTORY || row->entry.ino >= sweep->update->first_new_ino)
                        return 0;
                return folder_list_add(&sweep->todo,
                                       (struct update_folder){ row->entry.ino, sweep->folder.depth + 1 });
        }
        if (sweep->keep)
                return 0;
        sweep->shown |= row->entry.kind != ENTRY_UNKNOWN;
        return leaver_list_add(&sweep->gone, row);
}

static int sweep_folder(struct sweep *sweep)
{
        struct catalog_update *update = sweep->update;
        uint64_t ino = sweep->folder.ino;
        struct db_list list = { .parent = ino, .after = "", .generation = DB_LIVE };
        uint8_t marks = ino_map_get(&update->marks, ino);
        int r;

        if (marks & (MARK_SWEPT | MARK_GONE))
                return 0;
        sweep->keep = marks & MARK_UNKNOWN;
        sweep->shown = false;
        r = update_mark(update, ino, MARK_SWEPT);
        if (r == 0)
                r = db_list(update->db, &list, sweep_row, sweep);
        if (r == 0 && sweep->gone.count > 0) {
                r = update_folder_changed(update, sweep->folder, sweep->shown);
                if (r == 0)
                        r = retire_all(update, &sweep->gone, true);
        }
        return r;
}

int update_sweep(struct catalog_update *update)
{
        struct sweep sweep = { .update = update };
        int r = 0;

        if (update->all && update->unseen == 0)
                return 0; /* nothing is left that could be gone */
        for (size_t i = 0; r == 0 && i < update->whole.count; i++) {
                r = folder_list_add(&sweep.todo, update->whole.items[i]);
                while (r == 0 && sweep.todo.count > 0) {
                        sweep.folder = sweep.todo.items[--sweep.todo.count];
                        r = sweep_folder(&sweep);
                }
        }
        free(sweep.todo.items);
        free(sweep.gone.items);
        return r;
}

/* ---- a load that was given up ---- */

static int collect_pending(const struct db_row *row, void *arg)
{
        return row->entry.pending ? ino_list_add(arg, row->entry.ino) : 0;
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

int update_settle_load(struct catalog_update *update)
{
        struct ino_list pending = { 0 };
        int r = db_each_live(update->db, collect_pending, &pending);

        for (size_t i = 0; r == 0 && i < pending.count; i++) {
                struct update_folder folder = { .ino = pending.items[i] };
                r = folder_depth(update->db, folder.ino, &folder.depth);
                if (r == 0)
                        r = db_clear_pending(update->db, folder.ino);
                if (r == 0)
                        r = update_mark(update, folder.ino, MARK_UNSEEN);
                if (r == 0)
                        r = update_folder_changed(update, folder, false);
        }
        free(pending.items);
        return r;
}
