#include "cache/catalog.h"

#include "cache/catalog_update.h"

static int add_row(const struct db_row *row, void *arg)
{
        return ino_list_add(arg, row->entry.ino);
}

static int find_retired(struct catalog *catalog, uint64_t through, struct ino_list *ret)
{
        struct catalog_reader *reader;
        int r = catalog_reader_take(catalog, &reader);

        if (r < 0)
                return r;
        return catalog_reader_give(catalog, reader, db_each_retired(reader->db, through, add_row, ret));
}

static int by_ino(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

/* What was there before is in LIST, too: it is still retired. */
static void set_unheld(struct catalog *catalog, const struct ino_list *list)
{
        struct ino_list before;

        mutex_lock(&catalog->mutex);
        before = catalog->unheld;
        catalog->unheld = *list;
        mutex_unlock(&catalog->mutex);
        free(before.items);
}

int catalog_forget(struct catalog *catalog, uint64_t through, bool (*is_held)(uint64_t ino, void *arg),
                   void *arg)
{
        struct ino_list list = { 0 };
        size_t n_unheld = 0;
        int r = find_retired(catalog, through, &list);

        if (r < 0) {
                free(list.items);
                return r;
        }
        for (size_t i = 0; i < list.count; i++)
                if (!is_held(list.items[i], arg))
                        list.items[n_unheld++] = list.items[i];
        list.count = n_unheld;
        if (n_unheld > 0)
                qsort(list.items, n_unheld, sizeof(*list.items), by_ino);
        catalog_set_forgotten(catalog, through);
        set_unheld(catalog, &list);
        return 0;
}

void catalog_set_forgotten(struct catalog *catalog, uint64_t through)
{
        atomic_store(&catalog->forgotten, through);
}

static struct ino_list take_unheld(struct catalog *catalog)
{
        struct ino_list list;

        mutex_lock(&catalog->mutex);
        list = catalog->unheld;
        catalog->unheld = (struct ino_list){ 0 };
        mutex_unlock(&catalog->mutex);
        return list;
}

/* Unless there are others by now. */
static void put_back(struct catalog *catalog, struct ino_list *list)
{
        mutex_lock(&catalog->mutex);
        if (list->count > 0 && !catalog->unheld.items) {
                catalog->unheld = *list;
                *list = (struct ino_list){ 0 };
        }
        mutex_unlock(&catalog->mutex);
        free(list->items);
}

/* What is in a folder has a higher number than the folder, and goes first. */
int update_forget(struct catalog_update *update)
{
        struct ino_list list = take_unheld(update->catalog);
        int r = 0;

        for (unsigned n = 0; r == 0 && list.count > 0 && n < CATALOG_FORGET_MAX; n++)
                r = db_forget(update->db, list.items[--list.count]);
        put_back(update->catalog, &list);
        return r;
}
