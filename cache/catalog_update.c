#include "cache/catalog_update.h"

#include <string.h>

/* ---- state ---- */

int ino_list_add(struct ino_list *list, uint64_t ino)
{
        if (list->count == list->capacity) {
                size_t capacity = MAX(list->capacity * 2, (size_t)64);
                uint64_t *items = reallocarray(list->items, capacity, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->count++] = ino;
        return 0;
}

int folder_list_add(struct folder_list *list, struct update_folder folder)
{
        if (list->count == list->capacity) {
                size_t capacity = MAX(list->capacity * 2, (size_t)64);
                struct update_folder *items = reallocarray(list->items, capacity, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->count++] = folder;
        return 0;
}

int update_mark(struct catalog_update *update, uint64_t ino, uint8_t flags)
{
        uint8_t before = ino_map_get(&update->marks, ino);
        int r;

        if (ino >= update->version.next_ino)
                return -EBADMSG; /* nobody ever gave that number: the row is damaged, and the map would take memory up to it */
        r = ino_map_set(&update->marks, ino, before | flags);
        if (r < 0)
                return r;
        if (ino < update->first_new_ino && !(before & (MARK_CAME | MARK_GONE)) &&
            flags & (MARK_CAME | MARK_GONE))
                update->unseen--;
        return 0;
}

bool update_is_news(const struct catalog_update *update, uint64_t parent)
{
        return !update->first && parent < update->first_new_ino &&
               !(ino_map_get(&update->marks, parent) & MARK_UNSEEN);
}

int update_folder_changed(struct catalog_update *update, struct update_folder folder, bool listing)
{
        uint8_t marks = ino_map_get(&update->marks, folder.ino);
        int r = 0;

        if (!(marks & MARK_DIRTY))
                r = folder_list_add(&update->dirty, folder);
        if (r == 0 && listing && !(marks & MARK_LISTING) && update_is_news(update, folder.ino))
                r = ino_list_add(&update->listings, folder.ino);
        if (r < 0)
                return r;
        return update_mark(update, folder.ino, listing ? MARK_DIRTY | MARK_LISTING : MARK_DIRTY);
}

/* The folder that the trail stands at. */
static struct update_folder here(const struct catalog_update *update)
{
        return (struct update_folder){ trail_top(&update->trail)->ino, update->trail.depth };
}

/* ---- begin and end ---- */

int catalog_update_begin(struct catalog *catalog, struct catalog_update **ret)
{
        struct catalog_update *update = calloc(1, sizeof(*update));
        int r;

        if (!update)
                return -ENOMEM;
        r = catalog_writer_take(catalog, &update->version);
        if (r < 0) {
                free(update);
                return r;
        }
        update->catalog = catalog;
        update->db = catalog->writer;
        update->generation = update->version.shown.generation + 1;
        update->complete = update->version.shown.loading;
        update->first = !update->version.shown.valid;
        update->first_new_ino = update->version.rows == 0 ? CATALOG_ROOT_INO : update->version.next_ino;
        update->unseen = update->version.rows;
        r = trail_init(&update->trail, CATALOG_ROOT_INO);
        if (r == 0 && update->complete)
                r = update_settle_load(update);
        if (r < 0) {
                catalog_update_abort(update);
                return r;
        }
        *ret = update;
        return 0;
}

void catalog_update_set_hash(struct catalog_update *update, enum hash_algorithm base)
{
        update->rehash = update->version.rows > 0 && update->version.shown.hash != base;
        update->version.shown.hash = base;
        if (update->rehash)
                update->changed = true;
}

void update_free(struct catalog_update *update)
{
        ino_map_release(&update->marks);
        trail_release(&update->trail);
        free(update->whole.items);
        free(update->dirty.items);
        free(update->entries.items);
        free(update->attributes.items);
        free(update->listings.items);
        free(update);
}

void catalog_update_abort(struct catalog_update *update)
{
        if (!update)
                return;
        (void)catalog_writer_give(update->catalog, NULL, update->failed);
        update_free(update);
}

/* ---- putting an entry ---- */

/* C2: whether NEW may go on under OLD's number. */
static bool same_content(const struct db_row *old, const struct db_row *new)
{
        const struct catalog_entry *a = &old->entry, *b = &new->entry;

        if (a->kind != b->kind)
                return false;
        if (a->kind == ENTRY_DIRECTORY || a->kind == ENTRY_UNKNOWN)
                return true;
        return a->size == b->size && a->content.algorithm == b->content.algorithm &&
               memcmp(a->content.bytes, b->content.bytes, HASH_BYTES) == 0;
}

static int write_attributes(struct catalog_update *update, const struct db_row *old, const struct db_row *new)
{
        int r = db_set_attributes(update->db, old->entry.ino, new->entry.mode, new->entry.mtime_ns,
                                  new->unknown);

        if (r < 0)
                return r;
        update->changed = true;
        update->version.shown.unknown += (uint64_t) new->unknown - (uint64_t)old->unknown;
        return old->entry.parent == 0 ? 0 : update_folder_changed(update, here(update), false);
}

/* C5: nothing new is known of it: only that it is unknown now. */
static int keep_old(struct catalog_update *update, const struct db_row *old)
{
        struct db_row new = *old;
        int r = 0;

        new.unknown = true;
        if (!old->unknown)
                r = write_attributes(update, old, &new);
        return r < 0 ? r : update_mark(update, old->entry.ino, MARK_UNKNOWN);
}

static int insert(struct catalog_update *update, struct db_row *row, const struct entry *entry)
{
        bool root = row->entry.parent == 0, shown = row->entry.kind != ENTRY_UNKNOWN;
        const void *data;
        size_t len;
        int r;

        if (update->version.next_ino >= CATALOG_INO_MAX)
                return -EFBIG;
        row->entry.ino = root ? CATALOG_ROOT_INO : update->version.next_ino++;
        row->born = update->generation;
        catalog_row_data(row, entry, &data, &len);
        r = db_insert(update->db, row, data, len);
        if (r < 0)
                return r;
        catalog_count_row(&update->version, row, 1);
        update->changed = true;
        if (shown && update_is_news(update, row->entry.parent))
                r = ino_list_add(&update->entries, row->entry.ino);
        if (r == 0)
                r = update_mark(update, row->entry.ino, MARK_CAME);
        if (r == 0 && row->entry.kind == ENTRY_DIRECTORY) /* an empty folder has a digest, too */
                r = update_folder_changed(
                        update, (struct update_folder){ row->entry.ino, update->trail.depth + !root }, false);
        return r < 0 || root ? r : update_folder_changed(update, here(update), shown);
}

void catalog_update_on_replaced(struct catalog_update *update,
                                void (*hear)(const struct content_id *old, const struct entry *now,
                                             void *arg),
                                void *arg)
{
        update->on_replaced = hear;
        update->on_replaced_arg = arg;
}

/* Most pieces of a large file's new content may be the old one's. */
static int note_previous(struct catalog_update *update, const struct content_id *old,
                         const struct content_id *now)
{
        if (!hash_by_pieces(now->algorithm) || old->algorithm != now->algorithm || content_id_equal(old, now))
                return 0;
        return db_set_previous(update->db, now, old, CATALOG_PREVIOUS_MAX);
}

static void tell_replaced(struct catalog_update *update, const struct db_row *old, const struct db_row *new,
                          const struct entry *entry)
{
        if (update->on_replaced && old->entry.kind == ENTRY_FILE && new->entry.kind == ENTRY_FILE &&
            old->entry.content.algorithm != HASH_NONE &&new->entry.content.algorithm != HASH_NONE)
                update->on_replaced(&old->entry.content, entry, update->on_replaced_arg);
}

/* NEW takes OLD's place under the same name, with a number of its own. */
static int replace(struct catalog_update *update, const struct db_row *old, struct db_row *new,
                   const struct entry *entry)
{
        /* What a replaced folder held goes with it, even if it was below something unknown. */
        int r = update_retire(update, old);

        if (r == 0 && old->entry.kind != ENTRY_UNKNOWN)
                r = update_folder_changed(update, here(update), true);
        if (r == 0)
                r = insert(update, new, entry);
        if (r == 0)
                r = note_previous(update, &old->entry.content, &new->entry.content);
        if (r == 0) {
                update->modified++;
                tell_replaced(update, old, new, entry);
        }
        return r;
}

/* The path was there before. */
static int put_over(struct catalog_update *update, const struct db_row *old, struct db_row *new,
                    const struct entry *entry)
{
        bool attributes = old->entry.mode != new->entry.mode || old->entry.mtime_ns != new->entry.mtime_ns;
        int r;

        if (ino_map_get(&update->marks, old->entry.ino) & MARK_CAME)
                return -EEXIST;
        new->entry.ino = old->entry.ino;
        r = update_mark(update, old->entry.ino, MARK_CAME);
        if (r < 0)
                return r;
        if (new->unknown && old->entry.kind != ENTRY_UNKNOWN)
                return keep_old(update, old);
        if (!same_content(old, new))
                return replace(update, old, new, entry);
        if (attributes || old->unknown != new->unknown)
                r = write_attributes(update, old, new);
        if (r == 0 && attributes) {
                update->modified++;
                if (update_is_news(update, old->entry.parent))
                        r = ino_list_add(&update->attributes, old->entry.ino);
        }
        return r;
}

/* Makes the trail end at the folder PATH, which must be there, and have come itself where all comes anew. */
static int go_to_folder(struct catalog_update *update, const char *path, size_t len)
{
        struct trail *trail = &update->trail;
        const char *name;
        size_t name_len;

        trail_go_up(trail, path, len);
        path += trail->path.len;
        len -= trail->path.len;
        if (len > 0 && path[0] == '/') {
                path++;
                len--;
        }
        while (path_next(&path, &len, &name, &name_len)) {
                bool whole = trail_top(trail)->whole;
                struct db_row row;
                uint8_t marks;
                int r = db_lookup(update->db, trail_top(trail)->ino, name, name_len, &row);
                if (r < 0)
                        return r;
                if (r != CATALOG_OK)
                        return -ENOENT;
                marks = ino_map_get(&update->marks, row.entry.ino);
                if (whole && !(marks & MARK_CAME))
                        return -ENOENT;
                if (row.entry.kind != ENTRY_DIRECTORY)
                        return -ENOTDIR;
                r = trail_go_down(trail, name, name_len, row.entry.ino);
                if (r < 0)
                        return r;
                if (whole || marks & MARK_WHOLE)
                        trail_set_whole(trail);
        }
        return 0;
}

static int put_row(struct catalog_update *update, struct db_row *row, const struct entry *entry)
{
        struct catalog_entry *e = &row->entry;
        struct db_row old;
        int r = CATALOG_NONE;

        /* A folder that is new itself held nothing; a name that comes twice runs into the index. */
        if (e->parent < update->first_new_ino)
                r = db_lookup(update->db, e->parent, e->name, e->name_len, &old);
        if (r == CATALOG_OK)
                return put_over(update, &old, row, entry);
        if (r == CATALOG_NONE) {
                r = insert(update, row, entry);
                if (r == 0 && e->kind != ENTRY_UNKNOWN)
                        update->added++;
        }
        return r;
}

/* What is below a folder that came as whole is looked for in the commit. */
static int put_whole(struct catalog_update *update, uint64_t ino, bool root)
{
        int r = folder_list_add(&update->whole, (struct update_folder){ ino, update->trail.depth + !root });

        if (root) {
                update->all = true;
                trail_set_whole(&update->trail);
        }
        return r < 0 ? r : update_mark(update, ino, MARK_WHOLE);
}

/* Makes the trail end at the folder of ENTRY, and sets ROW's place. */
static int find_place(struct catalog_update *update, const struct entry *entry, struct db_row *row)
{
        const char *name = "";
        size_t name_len = 0;
        int r = 0;

        if (entry->path_len > 0) {
                size_t parent_len = path_split(entry->path, entry->path_len, &name);
                name_len = (size_t)(entry->path + entry->path_len - name);
                if (update->first && !(ino_map_get(&update->marks, CATALOG_ROOT_INO) & MARK_CAME))
                        return -ENOENT;
                r = go_to_folder(update, entry->path, parent_len);
                row->entry.parent = trail_top(&update->trail)->ino;
        } else {
                trail_go_up(&update->trail, "", 0);
        }
        row->entry.name_len = name_len;
        memcpy(row->entry.name, name, name_len);
        row->entry.name[name_len] = '\0';
        return r;
}

static int put_present(struct catalog_update *update, const struct entry *entry)
{
        struct db_row row = { 0 };
        int r;

        catalog_row_from_entry(update->version.shown.hash, entry, &row);
        r = find_place(update, entry, &row);
        if (r == 0)
                r = put_row(update, &row, entry);
        if (r == 0 && entry->whole)
                r = put_whole(update, row.entry.ino, row.entry.parent == 0);
        return r;
}

/* That it is not there, nor its folder, is fine. */
static int put_gone(struct catalog_update *update, const struct entry *entry)
{
        struct db_row row = { 0 };
        int r = find_place(update, entry, &row);

        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        if (r == 0)
                r = db_lookup(update->db, row.entry.parent, row.entry.name, row.entry.name_len, &row);
        if (r != CATALOG_OK)
                return MIN(r, 0);
        if (ino_map_get(&update->marks, row.entry.ino) & MARK_CAME)
                return -EEXIST;
        if (row.entry.kind != ENTRY_UNKNOWN)
                update->removed++;
        r = update_folder_changed(update, here(update), row.entry.kind != ENTRY_UNKNOWN);
        return r < 0 ? r : update_retire(update, &row);
}

int catalog_update_put(struct catalog_update *update, const struct entry *entry)
{
        int r = update->failed;

        if (r == 0)
                r = catalog_check_entry(update->version.shown.hash, entry);
        if (r == 0 && ++update->n_put > CATALOG_ENTRIES_MAX)
                r = -EFBIG;
        if (r == 0)
                r = entry->gone ? put_gone(update, entry) : put_present(update, entry);
        update->failed = r;
        return r;
}
