/*
 * A version being built: the state that putting entries (catalog_update.c) and committing (catalog_commit.c) share.
 * Owned by one thread at a time.
 */
#pragma once

#include "cache/catalog_private.h"
#include "cache/catalog_trail.h"
#include "cache/ino_map.h"

/* What is known of each entry, by its number. */
enum {
        MARK_CAME = 1,     /* it was put */
        MARK_KEPT = 2,     /* it is below something unknown: C5 */
        MARK_GONE = 4,     /* it was retired */
        MARK_DIRTY = 8,    /* folder: its digest is to be made anew; it is in `dirty` */
        MARK_LISTING = 16, /* folder: it lists other entries; it is in `listings` */
};

struct dirty_folder {
        uint64_t ino;
        size_t depth; /* the root's is 0 */
};

struct ino_list {
        uint64_t *items; /* owned */
        size_t count, capacity;
};

struct catalog_update {
        struct catalog *catalog;
        struct db *db;             /* the catalog's writer, borrowed */
        struct db_version version; /* as it will be; its counts run along */
        uint64_t generation;       /* of this update */
        uint64_t first_new_ino;    /* rows from here on came with this update */
        uint64_t unmarked;         /* older live rows that are neither marked CAME or KEPT, nor retired */
        uint64_t n_put;
        bool first;   /* nothing before it: no changes to tell */
        bool changed; /* some row was written */
        int failed;   /* the error after which only abort is possible, or 0 */
        struct ino_map marks;
        struct trail trail;
        struct dirty_folder *dirty; /* owned */
        size_t n_dirty, dirty_capacity;
        struct ino_list entries, attributes, listings; /* changes, by inode number */
        uint64_t added, removed, modified;
        void (*on_replaced)(const struct content_id *old, const struct entry *now, void *arg); /* or NULL */
        void *on_replaced_arg;
};

/** Appends INO; -ENOMEM. */
int ino_list_add(struct ino_list *list, uint64_t ino);

/** Adds FLAGS to the marks of INO. -ENOMEM. */
int update_mark(struct catalog_update *update, uint64_t ino, uint8_t flags);

/** Folder INO has another digest than before (and other names or numbers, if LISTING). -ENOMEM. */
int update_folder_changed(struct catalog_update *update, uint64_t ino, size_t depth, bool listing);

/** Retires live row ROW: counts and changes; its folder is for the caller to mark. */
int update_retire(struct catalog_update *update, const struct db_row *row);

/** Frees all but the writer's transaction. */
void update_free(struct catalog_update *update);
