#include "server/watcher_table.h"

#include <string.h>

#include "base/hash.h"
#include "base/path.h"

#define FIRST_SLOTS 64

static size_t key_slot(uint64_t key, size_t slots)
{
        return (key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (slots - 1);
}

static size_t place_slot(const struct watcher_folder *parent, const char *name, size_t len, size_t slots)
{
        return key_slot(hash_xxh3_64(name, len) ^ (uint64_t)(uintptr_t)parent, slots);
}

static struct watcher_folder *folder_new(const char *name, size_t len)
{
        struct watcher_folder *folder = calloc(1, sizeof(*folder) + len + 1);

        if (folder) {
                memcpy(folder->name, name, len);
                folder->name_len = (uint16_t)len;
        }
        return folder;
}

int watcher_table_init(struct watcher_table *table)
{
        *table = (struct watcher_table){
                .by_key = calloc(FIRST_SLOTS, sizeof(struct watcher_folder *)),
                .by_place = calloc(FIRST_SLOTS, sizeof(struct watcher_folder *)),
                .slots = FIRST_SLOTS,
                .count = 1,
                .root = folder_new("", 0),
        };
        if (table->by_key && table->by_place && table->root)
                return 0;
        watcher_table_release(table);
        return -ENOMEM;
}

static void link_key(struct watcher_folder **slots, size_t n, struct watcher_folder *folder)
{
        struct watcher_folder **slot = &slots[key_slot(folder->key, n)];

        folder->next_key = *slot;
        *slot = folder;
}

static void link_place(struct watcher_folder **slots, size_t n, struct watcher_folder *folder)
{
        struct watcher_folder **slot = &slots[place_slot(folder->parent, folder->name, folder->name_len, n)];

        folder->next_place = *slot;
        *slot = folder;
}

/* Twice the slots. Without memory for it the chains get longer, that is all. */
static void grow(struct watcher_table *table)
{
        size_t n = table->slots * 2;
        struct watcher_folder **by_key = calloc(n, sizeof(struct watcher_folder *));
        struct watcher_folder **by_place = calloc(n, sizeof(struct watcher_folder *));

        if (!by_key || !by_place) {
                free(by_key);
                free(by_place);
                return;
        }
        for (size_t i = 0; i < table->slots; i++) {
                for (struct watcher_folder *f = table->by_key[i], *next; f; f = next) {
                        next = f->next_key;
                        link_key(by_key, n, f);
                }
                for (struct watcher_folder *f = table->by_place[i], *next; f; f = next) {
                        next = f->next_place;
                        link_place(by_place, n, f);
                }
        }
        free(table->by_key);
        free(table->by_place);
        table->by_key = by_key;
        table->by_place = by_place;
        table->slots = n;
}

static struct watcher_folder *find_child(const struct watcher_table *table,
                                         const struct watcher_folder *parent, const char *name, size_t len)
{
        struct watcher_folder *folder = table->by_place[place_slot(parent, name, len, table->slots)];

        while (folder &&
               !(folder->parent == parent && folder->name_len == len && memcmp(folder->name, name, len) == 0))
                folder = folder->next_place;
        return folder;
}

static struct watcher_folder *add_child(struct watcher_table *table, struct watcher_folder *parent,
                                        const char *name, size_t len)
{
        struct watcher_folder *folder = folder_new(name, len);

        if (!folder)
                return NULL;
        folder->parent = parent;
        folder->next = parent->child;
        if (folder->next)
                folder->next->previous = folder;
        parent->child = folder;
        if (table->count >= table->slots)
                grow(table);
        link_place(table->by_place, table->slots, folder);
        table->count++;
        return folder;
}

struct watcher_folder *watcher_table_find(const struct watcher_table *table, const char *spider,
                                          const char *path)
{
        struct watcher_folder *folder = find_child(table, table->root, spider, strlen(spider));
        size_t len = strlen(path), name_len;
        const char *name;

        while (folder && path_next(&path, &len, &name, &name_len))
                folder = find_child(table, folder, name, name_len);
        return folder;
}

static struct watcher_folder *child(struct watcher_table *table, struct watcher_folder *parent,
                                    const char *name, size_t len)
{
        struct watcher_folder *folder = find_child(table, parent, name, len);

        return folder ? folder : add_child(table, parent, name, len);
}

int watcher_table_place(struct watcher_table *table, const char *spider, const char *path,
                        struct watcher_folder **ret)
{
        struct watcher_folder *folder = child(table, table->root, spider, strlen(spider));
        size_t len = strlen(path), name_len;
        const char *name;

        while (folder && path_next(&path, &len, &name, &name_len))
                folder = child(table, folder, name, name_len);
        if (!folder)
                return -ENOMEM;
        *ret = folder;
        return 0;
}

static struct watcher_folder *same_key(struct watcher_folder *folder, uint64_t key)
{
        while (folder && folder->key != key)
                folder = folder->next_key;
        return folder;
}

struct watcher_folder *watcher_table_first(const struct watcher_table *table, uint64_t key)
{
        return same_key(table->by_key[key_slot(key, table->slots)], key);
}

struct watcher_folder *watcher_table_next(const struct watcher_folder *folder)
{
        return same_key(folder->next_key, folder->key);
}

static void unlink_key(struct watcher_table *table, struct watcher_folder *folder)
{
        struct watcher_folder **at = &table->by_key[key_slot(folder->key, table->slots)];

        while (*at != folder)
                at = &(*at)->next_key;
        *at = folder->next_key;
        folder->next_key = NULL;
        folder->has_key = false;
}

static void let_go(struct watcher_table *table, uint64_t key)
{
        if (table->key_unused && !watcher_table_first(table, key))
                table->key_unused(table->arg, key);
}

void watcher_table_clear_key(struct watcher_table *table, struct watcher_folder *folder)
{
        if (!folder->has_key)
                return;
        unlink_key(table, folder);
        let_go(table, folder->key);
}

void watcher_table_set_key(struct watcher_table *table, struct watcher_folder *folder, uint64_t key)
{
        uint64_t old = folder->key;
        bool had_key = folder->has_key;

        if (had_key && old == key)
                return;
        if (had_key)
                unlink_key(table, folder);
        /* The new key before the old ones are let go: a folder that moved up has it still further down, and would lose its watch. */
        folder->key = key;
        folder->has_key = true;
        link_key(table->by_key, table->slots, folder);
        if (had_key) {
                watcher_table_drop_below(table, folder);
                let_go(table, old);
        }
}

/* FOLDER has no children and is not the root. */
static void remove_leaf(struct watcher_table *table, struct watcher_folder *folder)
{
        struct watcher_folder **at =
                &table->by_place[place_slot(folder->parent, folder->name, folder->name_len, table->slots)];

        watcher_table_clear_key(table, folder);
        while (*at != folder)
                at = &(*at)->next_place;
        *at = folder->next_place;
        if (folder->previous)
                folder->previous->next = folder->next;
        else
                folder->parent->child = folder->next;
        if (folder->next)
                folder->next->previous = folder->previous;
        table->count--;
        free(folder);
}

void watcher_table_drop_below(struct watcher_table *table, struct watcher_folder *folder)
{
        struct watcher_folder *at = folder;

        /* Down to a leaf, away with it, up again: as deep as the tree may be, without recursion. */
        while (folder->child) {
                while (at->child)
                        at = at->child;
                struct watcher_folder *parent = at->parent;
                remove_leaf(table, at);
                at = parent;
        }
}

void watcher_table_drop(struct watcher_table *table, struct watcher_folder *folder)
{
        watcher_table_drop_below(table, folder);
        if (folder->parent)
                remove_leaf(table, folder);
        else
                watcher_table_clear_key(table, folder);
}

void watcher_table_release(struct watcher_table *table)
{
        table->key_unused = NULL;
        if (table->root)
                watcher_table_drop_below(table, table->root);
        free(table->root);
        free(table->by_key);
        free(table->by_place);
        *table = (struct watcher_table){ 0 };
}

int watcher_table_describe(const struct watcher_folder *folder, struct buffer *ret)
{
        size_t len = 0;
        char *end;
        int r;

        /* Each name and what ends it; a spider without a path has an empty one. */
        for (const struct watcher_folder *f = folder; f->parent; f = f->parent)
                len += f->name_len + 1u;
        if (!folder->parent->parent)
                len++;
        r = buffer_reserve(ret, len);
        if (r < 0)
                return r;
        ret->len += len;
        end = ret->data + ret->len;
        *end = '\0';
        *--end = '\0';
        if (!folder->parent->parent)
                *--end = '\0';
        for (const struct watcher_folder *f = folder; f->parent; f = f->parent) {
                end -= f->name_len;
                memcpy(end, f->name, f->name_len);
                if (f->parent->parent)
                        *--end = f->parent->parent->parent ? '/' : '\0';
        }
        return 0;
}
