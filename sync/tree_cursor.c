#include "sync/tree_cursor.h"

#define STEPS_MAX 256 /* folders entered or left by one call */

struct step {
        struct tree_cursor *cursor;
        int (*each)(const struct catalog_entry *file, void *arg);
        void *arg;
        bool down, stopped;
};

struct tree_cursor tree_cursor_at(const struct catalog_entry *entry)
{
        if (entry->kind == ENTRY_DIRECTORY)
                return (struct tree_cursor){ .folder = entry->ino };
        return (struct tree_cursor){ .folder = entry->parent, .after = entry->ino };
}

static int take_entry(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct step *step = arg;

        if (entry->kind == ENTRY_DIRECTORY) {
                step->cursor->folder = entry->ino;
                step->cursor->after = 0;
                step->down = true;
                return 1;
        }
        step->cursor->after = entry->ino;
        step->stopped = entry->kind == ENTRY_FILE && step->each(entry, step->arg) != 0;
        return step->stopped;
}

/* Out of the folder, to behind it in its parent. */
static int leave(struct tree_cursor *cursor, struct catalog *catalog)
{
        struct catalog_entry folder;
        int r;

        if (cursor->folder == CATALOG_ROOT_INO || cursor->folder == cursor->top) {
                cursor->folder = 0;
                return 1;
        }
        r = catalog_get(catalog, cursor->folder, &folder);
        if (r != CATALOG_OK) {
                cursor->folder = 0;
                return r < 0 ? r : 1;
        }
        cursor->folder = folder.parent;
        cursor->after = folder.ino;
        return 0;
}

int tree_cursor_next(struct tree_cursor *cursor, struct catalog *catalog,
                     int (*each)(const struct catalog_entry *file, void *arg), void *arg)
{
        struct step step = { .cursor = cursor, .each = each, .arg = arg };

        for (unsigned n = 0; cursor->folder && n < STEPS_MAX; n++) {
                uint64_t cookie = cursor->after ? catalog_cookie(catalog, cursor->after) : 0;
                int r;

                step.down = false;
                r = catalog_list(catalog, cursor->folder, cookie, take_entry, &step);
                if (step.stopped)
                        return 0;
                if (r == CATALOG_PENDING)
                        cursor->folder = 0;
                else if (r == 0 && !step.down)
                        r = leave(cursor, catalog);
                if (r != 0)
                        return r < 0 ? r : 1;
        }
        return cursor->folder ? 0 : 1;
}
