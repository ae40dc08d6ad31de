#include "cache/catalog_update.h"

#include "cache/catalog.h"

#include <string.h>

#define ENTRIES_MAX UINT64_C(50000000)  /* of one version */
#define INO_MAX     (UINT64_C(1) << 43) /* what a listing's cookie has room for */

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

static bool is_seen(uint8_t marks)
{
        return marks & (MARK_CAME | MARK_KEPT);
}

static int set_marks(struct catalog_update *update, uint64_t ino, uint8_t marks)
{
        bool before = is_seen(ino_map_get(&update->marks, ino));
        int r = ino_map_set(&update->marks, ino, marks);

        if (r < 0)
                return r;
        if (ino < update->first_new_ino && before != is_seen(marks))
                update->unmarked += before ? 1 : -UINT64_C(1);
        return 0;
}

int update_mark(struct catalog_update *update, uint64_t ino, uint8_t flags)
{
        return set_marks(update, ino, ino_map_get(&update->marks, ino) | flags);
}

static int add_dirty(struct catalog_update *update, uint64_t ino, size_t depth)
{
        if (update->n_dirty == update->dirty_capacity) {
                size_t capacity = MAX(update->dirty_capacity * 2, (size_t)64);
                struct dirty_folder *dirty = reallocarray(update->dirty, capacity, sizeof(*dirty));
                if (!dirty)
                        return -ENOMEM;
                update->dirty = dirty;
                update->dirty_capacity = capacity;
        }
        update->dirty[update->n_dirty++] = (struct dirty_folder){ .ino = ino, .depth = depth };
        return 0;
}

int update_folder_changed(struct catalog_update *update, uint64_t ino, size_t depth, bool listing)
{
        uint8_t marks = ino_map_get(&update->marks, ino);
        int r = 0;

        if (!(marks & MARK_DIRTY))
                r = add_dirty(update, ino, depth);
        if (r == 0 && listing && !(marks & MARK_LISTING) && !update->first)
                r = ino_list_add(&update->listings, ino);
        if (r < 0)
                return r;
        return update_mark(update, ino, listing ? MARK_DIRTY | MARK_LISTING : MARK_DIRTY);
}

/* Counts are unsigned and wrap: BY is 1 or -1 as such. */
static void count_row(struct db_version *version, const struct db_row *row, uint64_t by)
{
        struct catalog_version *v = &version->shown;

        version->rows += by;
        if (row->unknown)
                v->unknown += by;
        switch (row->entry.kind) {
        case ENTRY_FILE:
                v->files += by;
                v->bytes += by * row->entry.size;
                break;
        case ENTRY_DIRECTORY:
                v->directories += by;
                break;
        case ENTRY_SYMLINK:
                v->symlinks += by;
                break;
        case ENTRY_UNKNOWN:
                break;
        }
}

/* The name of ROW leads elsewhere now. Rows that are never shown change nothing for anybody. */
static int entry_changed(struct catalog_update *update, const struct db_row *row)
{
        update->changed = true;
        if (update->first || row->entry.kind == ENTRY_UNKNOWN)
                return 0;
        return ino_list_add(&update->entries, row->entry.ino);
}

int update_retire(struct catalog_update *update, const struct db_row *row)
{
        int r = db_retire(update->db, row->entry.ino, update->generation);

        if (r < 0)
                return r;
        count_row(&update->version, row, -UINT64_C(1));
        r = entry_changed(update, row);
        return r < 0 ? r : update_mark(update, row->entry.ino, MARK_GONE);
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
        update->first = !update->version.shown.valid;
        update->first_new_ino = update->first ? CATALOG_ROOT_INO : update->version.next_ino;
        update->unmarked = update->version.rows;
        r = trail_init(&update->trail, CATALOG_ROOT_INO);
        if (r < 0) {
                catalog_update_abort(update);
                return r;
        }
        *ret = update;
        return 0;
}

void update_free(struct catalog_update *update)
{
        ino_map_release(&update->marks);
        trail_release(&update->trail);
        free(update->dirty);
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

static int check_entry(const struct entry *entry)
{
        int64_t seconds = clock_timespec(entry->mtime_ns).tv_sec;
        int r = path_check(entry->path, entry->path_len);

        if (r < 0)
                return r;
        if ((unsigned)entry->kind > ENTRY_SYMLINK || entry->mode > 07777 || seconds > ENTRY_MTIME_SEC_MAX ||
            seconds < -ENTRY_MTIME_SEC_MAX)
                return -EINVAL;
        if (entry->path_len == 0 && entry->kind != ENTRY_DIRECTORY)
                return -EINVAL;
        if (entry->size > INT64_MAX)
                return -EFBIG;
        if (entry->kind == ENTRY_FILE && (unsigned)entry->content.algorithm > HASH_MD5)
                return -EINVAL;
        if (entry->kind == ENTRY_SYMLINK && !entry->unknown &&
            (entry->target_len == 0 || entry->target_len > ENTRY_TARGET_MAX ||
             memchr(entry->target, '\0', entry->target_len)))
                return -EINVAL;
        return 0;
}

/* The row that ENTRY would be, its numbers aside. */
static void row_from_entry(const struct entry *entry, struct db_row *row)
{
        struct catalog_entry *e = &row->entry;

        row->unknown = entry->unknown || entry->kind == ENTRY_UNKNOWN;
        *e = (struct catalog_entry){ .kind = entry->kind, .mode = entry->mode, .mtime_ns = entry->mtime_ns };
        /* A link that leads nowhere known cannot be shown. */
        if (entry->kind == ENTRY_UNKNOWN || (entry->kind == ENTRY_SYMLINK && row->unknown)) {
                *e = (struct catalog_entry){ .kind = ENTRY_UNKNOWN };
        } else if (entry->kind == ENTRY_SYMLINK) {
                e->size = entry->target_len;
                hash_xxh3(entry->target, entry->target_len, e->content.bytes);
        } else if (entry->kind == ENTRY_FILE) {
                e->size = entry->size;
                if (!row->unknown && entry->content.algorithm != HASH_NONE)
                        e->content = entry->content;
        }
}

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

static int collect_folder(const struct db_row *row, void *arg)
{
        return row->entry.kind == ENTRY_DIRECTORY ? ino_list_add(arg, row->entry.ino) : 0;
}

struct marking {
        struct catalog_update *update;
        struct ino_list folders; /* still to be gone into */
        bool kept;
};

static int mark_child(const struct db_row *row, void *arg)
{
        struct marking *marking = arg;
        uint8_t marks = ino_map_get(&marking->update->marks, row->entry.ino);
        int r;

        marks = marking->kept ? marks | MARK_KEPT : marks & (uint8_t)~MARK_KEPT;
        r = set_marks(marking->update, row->entry.ino, marks);
        return r < 0 ? r : collect_folder(row, &marking->folders);
}

/* Marks all that is below folder INO as kept, or no longer kept. */
static int mark_subtree(struct catalog_update *update, uint64_t ino, bool kept)
{
        struct marking marking = { .update = update, .kept = kept };
        int r = ino_list_add(&marking.folders, ino);

        while (r == 0 && marking.folders.count > 0) {
                struct db_list list = { .parent = marking.folders.items[--marking.folders.count],
                                        .after = "",
                                        .generation = DB_LIVE };
                r = db_list(update->db, &list, mark_child, &marking);
        }
        free(marking.folders.items);
        return r;
}

static int write_attributes(struct catalog_update *update, const struct db_row *old, const struct db_row *new)
{
        int r = db_set_attributes(update->db, old->entry.ino, new->entry.mode, new->entry.mtime_ns,
                                  new->unknown);

        if (r < 0)
                return r;
        update->changed = true;
        update->version.shown.unknown += (uint64_t) new->unknown - (uint64_t)old->unknown;
        if (old->entry.parent == 0)
                return 0;
        return update_folder_changed(update, old->entry.parent, update->trail.depth, false);
}

/* C5: nothing new is known of it: only that it is unknown now. */
static int keep_old(struct catalog_update *update, const struct db_row *old)
{
        struct db_row new = *old;
        int r = 0;

        new.unknown = true;
        if (!old->unknown)
                r = write_attributes(update, old, &new);
        if (r == 0 && old->entry.kind == ENTRY_DIRECTORY)
                r = mark_subtree(update, old->entry.ino, true);
        return r;
}

static int insert(struct catalog_update *update, struct db_row *row, const struct entry *entry)
{
        bool link = row->entry.kind == ENTRY_SYMLINK, root = row->entry.parent == 0;
        int r;

        if (update->version.next_ino >= INO_MAX)
                return -EFBIG;
        row->entry.ino = root ? CATALOG_ROOT_INO : update->version.next_ino++;
        row->born = update->generation;
        r = db_insert(update->db, row, link ? entry->target : NULL, link ? entry->target_len : 0);
        if (r < 0)
                return r;
        count_row(&update->version, row, 1);
        r = entry_changed(update, row);
        if (r == 0)
                r = update_mark(update, row->entry.ino, MARK_CAME);
        if (r == 0 && row->entry.kind == ENTRY_DIRECTORY) /* an empty folder has a digest, too */
                r = update_folder_changed(update, row->entry.ino, update->trail.depth + !root, false);
        if (r == 0 && !root)
                r = update_folder_changed(update, row->entry.parent, update->trail.depth,
                                          row->entry.kind != ENTRY_UNKNOWN);
        return r;
}

void catalog_update_on_replaced(struct catalog_update *update,
                                void (*hear)(const struct content_id *old, const struct entry *now,
                                             void *arg),
                                void *arg)
{
        update->on_replaced = hear;
        update->on_replaced_arg = arg;
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
        int r = update_retire(update, old);

        /* What a replaced folder held goes with it, even if it was below something unknown. */
        if (r == 0 && old->entry.kind == ENTRY_DIRECTORY)
                r = mark_subtree(update, old->entry.ino, false);
        if (r == 0 && old->entry.kind != ENTRY_UNKNOWN)
                r = update_folder_changed(update, old->entry.parent, update->trail.depth, true);
        if (r == 0)
                r = insert(update, new, entry);
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
                r = ino_list_add(&update->attributes, old->entry.ino);
        }
        return r;
}

/* Makes the trail end at the folder PATH, which must have come in this update. */
static int go_to_folder(struct catalog_update *update, const char *path, size_t len)
{
        struct trail *trail = &update->trail;
        const char *name;
        size_t name_len;
        int r;

        trail_go_up(trail, path, len);
        path += trail->path.len;
        len -= trail->path.len;
        if (len > 0 && path[0] == '/') {
                path++;
                len--;
        }
        while (path_next(&path, &len, &name, &name_len)) {
                struct db_row row;
                r = db_lookup(update->db, trail_top(trail)->ino, name, name_len, &row);
                if (r < 0)
                        return r;
                if (r != CATALOG_OK || !(ino_map_get(&update->marks, row.entry.ino) & MARK_CAME))
                        return -ENOENT;
                if (row.entry.kind != ENTRY_DIRECTORY)
                        return -ENOTDIR;
                r = trail_go_down(trail, name, name_len, row.entry.ino);
                if (r < 0)
                        return r;
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

static int put_checked(struct catalog_update *update, const struct entry *entry)
{
        const char *name = "";
        size_t name_len = 0;
        struct db_row row = { 0 };
        int r = 0;

        row_from_entry(entry, &row);
        if (entry->path_len > 0) {
                size_t parent_len = path_split(entry->path, entry->path_len, &name);
                name_len = (size_t)(entry->path + entry->path_len - name);
                if (!(ino_map_get(&update->marks, CATALOG_ROOT_INO) & MARK_CAME))
                        return -ENOENT;
                r = go_to_folder(update, entry->path, parent_len);
                row.entry.parent = trail_top(&update->trail)->ino;
        } else {
                trail_go_up(&update->trail, "", 0);
        }
        row.entry.name_len = name_len;
        memcpy(row.entry.name, name, name_len);
        row.entry.name[name_len] = '\0';
        return r < 0 ? r : put_row(update, &row, entry);
}

int catalog_update_put(struct catalog_update *update, const struct entry *entry)
{
        int r = update->failed;

        if (r == 0)
                r = check_entry(entry);
        if (r == 0 && ++update->n_put > ENTRIES_MAX)
                r = -EFBIG;
        if (r == 0)
                r = put_checked(update, entry);
        update->failed = r;
        return r;
}
