#include "server/tree_folders.h"

#include <string.h>

void tree_folders_release(struct tree_folders *set)
{
        free(set->items);
        free(set->slots);
        buffer_release(&set->names);
        *set = (struct tree_folders){ 0 };
}

/* Ids are given one after the other: a multiplication spreads them (Fibonacci hashing). N_SLOTS is a power of two. */
static size_t first_slot(const struct tree_folders *set, uint64_t id)
{
        return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (set->n_slots - 1);
}

static size_t find_slot(const struct tree_folders *set, uint64_t id)
{
        size_t slot = first_slot(set, id);

        while (set->slots[slot] != 0 && set->items[set->slots[slot] - 1].id != id)
                slot = (slot + 1) & (set->n_slots - 1);
        return slot;
}

uint32_t tree_folders_find(const struct tree_folders *set, uint64_t id)
{
        if (set->n == 0)
                return TREE_FOLDER_NONE;
        return set->slots[find_slot(set, id)] - 1; /* 0 becomes TREE_FOLDER_NONE */
}

/* Room for one more, with at least half of the slots free. */
static int reserve(struct tree_folders *set)
{
        uint32_t capacity = set->capacity ? set->capacity * 2 : 64;
        struct tree_folder *items;
        uint32_t *slots;

        if (set->n < set->capacity)
                return 0;
        if (capacity > TREE_FOLDER_NONE / 4)
                return -ENOMEM;
        items = reallocarray(set->items, capacity, sizeof(*items));
        if (!items)
                return -ENOMEM;
        set->items = items;
        slots = calloc((size_t)capacity * 2, sizeof(*slots));
        if (!slots)
                return -ENOMEM;
        free(set->slots);
        set->slots = slots;
        set->n_slots = (size_t)capacity * 2;
        set->capacity = capacity;
        for (uint32_t i = 0; i < set->n; i++)
                set->slots[find_slot(set, set->items[i].id)] = i + 1;
        return 0;
}

int tree_folders_add(struct tree_folders *set, uint64_t id, uint32_t *ret)
{
        uint32_t node = tree_folders_find(set, id);
        int r;

        if (node == TREE_FOLDER_NONE) {
                r = reserve(set);
                if (r < 0)
                        return r;
                node = set->n++;
                set->items[node] = (struct tree_folder){ .id = id,
                                                         .above = TREE_FOLDER_NONE,
                                                         .depth = TREE_FOLDER_NONE };
                set->slots[find_slot(set, id)] = node + 1;
        }
        *ret = node;
        return 0;
}

const char *tree_folders_name(const struct tree_folders *set, const struct tree_folder *folder)
{
        return folder->name_len > 0 ? set->names.data + folder->name : "";
}

/* Reads where node I lies and adds the folder above it. */
static int resolve(struct tree_folders *set, struct tree_db *db, uint32_t i)
{
        struct tree_db_folder folder;
        uint32_t above = TREE_FOLDER_NONE;
        uint64_t id = set->items[i].id;
        struct tree_folder *item;
        int r = tree_db_get_folder(db, id, &folder);

        if (r < 0)
                return r;
        if (r == TREE_OK && id != TREE_ROOT_ID) {
                int added = tree_folders_add(set, folder.parent, &above);
                if (added < 0)
                        return added;
        }
        item = &set->items[i];
        item->known = true;
        item->lost = r == TREE_NONE;
        if (item->lost)
                return 0;
        item->above = above;
        item->parent = folder.parent;
        item->name = set->names.len;
        item->name_len = (uint16_t)folder.name_len;
        return buffer_append(&set->names, folder.name, folder.name_len);
}

/* Goes up from node I to one whose depth is known, and down again. */
static int reckon(struct tree_folders *set, struct tree_db *db, uint32_t i)
{
        uint32_t top = i, steps = 0, depth;
        bool lost;

        while (set->items[top].depth == TREE_FOLDER_NONE && set->items[top].above != TREE_FOLDER_NONE) {
                top = set->items[top].above;
                if (++steps > PATH_BYTES_MAX)
                        return tree_db_damaged(db); /* a circle */
        }
        if (set->items[top].depth == TREE_FOLDER_NONE)
                set->items[top].depth = 0;
        depth = set->items[top].depth + steps;
        lost = set->items[top].lost;
        for (; i != top; i = set->items[i].above) {
                set->items[i].depth = depth--;
                set->items[i].lost |= lost;
        }
        return 0;
}

int tree_folders_climb(struct tree_folders *set, struct tree_db *db)
{
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < set->n; i++)
                if (!set->items[i].known)
                        r = resolve(set, db, i);
        for (uint32_t i = 0; r == 0 && i < set->n; i++)
                r = reckon(set, db, i);
        return r;
}
