#include "cache/catalog_preview.h"

#include <string.h>

#include "cache/catalog_update.h"

/*
 * A row that came with the update and one that it retired are of the same path if they have the same name in the same folder: an unchanged folder keeps its number (C2), and what lies in one that comes or
 * goes has nothing on the other side.
 */
struct preview {
        struct catalog_update *update;
        int (*each)(const struct catalog_difference *difference, void *arg);
        void *arg;
        struct buffer path; /* owned */
};

static int lookup_before(struct preview *p, const struct catalog_entry *entry, struct catalog_entry *ret)
{
        return catalog_lookup(p->update->catalog, entry->parent, entry->name, entry->name_len, ret);
}

/* The path of ENTRY as the writer sees it, into P's. */
static int path_after(struct preview *p, const struct catalog_entry *entry)
{
        struct db_row row = { .entry = *entry };
        int r = 0;

        buffer_truncate(&p->path, 0);
        while (r == CATALOG_OK && row.entry.ino != CATALOG_ROOT_INO) {
                _cleanup_buffer_ struct buffer below = p->path;

                p->path = (struct buffer){ 0 };
                r = buffer_printf(&p->path, "%s%s%s", row.entry.name, below.len ? "/" : "",
                                  below.len ? below.data : "");
                if (r == 0)
                        r = db_get(p->update->db, row.entry.parent, &row);
        }
        return r > 0 ? -EBADMSG : r;
}

static int path_before(struct preview *p, uint64_t ino)
{
        int r;

        buffer_truncate(&p->path, 0);
        r = catalog_path(p->update->catalog, ino, &p->path);
        return r > 0 ? -EBADMSG : r;
}

static int tell(struct preview *p, enum catalog_difference_kind kind, const struct catalog_entry *before,
                const struct catalog_entry *after)
{
        const struct catalog_difference difference = {
                .kind = kind,
                .path = p->path.data ?: "",
                .before = before ? *before : (struct catalog_entry){ 0 },
                .after = after ? *after : (struct catalog_entry){ 0 },
        };

        return p->each(&difference, p->arg);
}

/* A row that came with the update. */
static int tell_new(struct preview *p, const struct catalog_entry *after)
{
        struct catalog_entry before;
        int r = path_after(p, after), found;

        if (r < 0)
                return r;
        found = lookup_before(p, after, &before);
        if (found < 0)
                return found;
        return found == CATALOG_OK ? tell(p, DIFFERENCE_MODIFIED, &before, after)
                                   : tell(p, DIFFERENCE_ADDED, NULL, after);
}

/* A row that the update retires: unless another one takes its place, its path goes. */
static int tell_retired(struct preview *p, const struct catalog_entry *before)
{
        struct db_row after;
        int r = db_lookup(p->update->db, before->parent, before->name, before->name_len, &after);

        if (r == CATALOG_OK && after.entry.kind != ENTRY_UNKNOWN)
                return 0; /* told of as what takes its place */
        if (r >= 0)
                r = path_before(p, before->ino);
        return r < 0 ? r : tell(p, DIFFERENCE_REMOVED, before, NULL);
}

/* An entry that stays, with another mode or time. */
static int tell_kept(struct preview *p, uint64_t ino)
{
        struct catalog_entry before;
        struct db_row after;
        int r = catalog_get(p->update->catalog, ino, &before);

        if (r == CATALOG_OK)
                r = db_get(p->update->db, ino, &after);
        if (r != CATALOG_OK || after.died != 0)
                return MIN(r, 0);
        r = path_before(p, ino);
        return r < 0 ? r : tell(p, DIFFERENCE_MODIFIED, &before, &after.entry);
}

static int look_at_row(const struct db_row *row, void *arg)
{
        struct preview *p = arg;
        const struct catalog_update *update = p->update;
        bool is_new = row->entry.ino >= update->first_new_ino;

        if (row->entry.kind == ENTRY_UNKNOWN || (row->died != 0 && row->died != update->generation))
                return 0;
        if (row->died == 0)
                return is_new ? tell_new(p, &row->entry) : 0;
        return is_new ? 0 : tell_retired(p, &row->entry);
}

int catalog_update_preview(struct catalog_update *update, const uint8_t *expected,
                           int (*each)(const struct catalog_difference *difference, void *arg), void *arg)
{
        struct preview p = { .update = update, .each = each, .arg = arg };
        int r = update_complete(update, expected);

        if (r == 0 && update->changed)
                r = db_each(update->db, look_at_row, &p);
        for (size_t i = 0; i < update->attributes.count && r == 0; i++)
                r = tell_kept(&p, update->attributes.items[i]);
        buffer_release(&p.path);
        catalog_update_abort(update);
        return r;
}
