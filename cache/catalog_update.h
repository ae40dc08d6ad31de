/*
 * A version being built: the state that putting entries (catalog_update.c), retiring what is gone (catalog_sweep.c) and committing
 * (catalog_commit.c) share. Owned by one thread at a time.
 */
#pragma once

#include "cache/catalog_private.h"
#include "cache/catalog_trail.h"
#include "cache/ino_map.h"

/* What is known of each entry, by its number. */
enum {
        MARK_CAME = 1,     /* it was put */
        MARK_UNKNOWN = 2,  /* folder: it came as unknown, and keeps what it has: C5 */
        MARK_GONE = 4,     /* it was retired */
        MARK_DIRTY = 8,    /* folder: its digest is to be made anew; it is in `dirty` */
        MARK_LISTING = 16, /* folder: it lists other entries; it is in `listings` */
        MARK_SWEPT = 32,   /* folder: what did not come was retired */
        MARK_WHOLE = 64,   /* folder: it came as such */
        MARK_UNSEEN = 128, /* folder: it was pending, so nobody has seen what is in it */
};

struct update_folder {
        uint64_t ino;
        size_t depth; /* the root's is 0 */
};

struct folder_list {
        struct update_folder *items; /* owned */
        size_t count, capacity;
};

struct catalog_update {
        struct catalog *catalog;
        struct db *db;             /* the catalog's writer, borrowed */
        struct db_version version; /* as it will be; its counts run along */
        uint64_t generation;       /* of this update */
        uint64_t first_new_ino;    /* rows from here on came with this update */
        uint64_t unseen;           /* older live rows that neither came nor were retired */
        uint64_t n_put;
        bool first;    /* nothing before it: no changes to tell */
        bool complete; /* a load was given up: only a full listing will do */
        bool changed;  /* some row was written */
        bool all;      /* the root came as `whole` */
        bool rehash;   /* the base is another than before */
        int failed;    /* the error after which only abort is possible, or 0 */
        struct ino_map marks;
        struct trail trail;
        struct folder_list whole;                      /* folders that came as such */
        struct folder_list dirty;                      /* folders with another digest than before */
        struct ino_list entries, attributes, listings; /* changes, by inode number */
        uint64_t added, removed, modified;
        void (*on_replaced)(const struct content_id *old, const struct entry *now, void *arg); /* or NULL */
        void *on_replaced_arg;
};

/** Appends FOLDER; -ENOMEM. */
int folder_list_add(struct folder_list *list, struct update_folder folder);

/** Adds FLAGS to the marks of INO. -ENOMEM. */
int update_mark(struct catalog_update *update, uint64_t ino, uint8_t flags);

/** The folder has another digest than before (and other names or numbers, if LISTING). -ENOMEM. */
int update_folder_changed(struct catalog_update *update, struct update_folder folder, bool listing);

/** Whether what comes or goes in folder PARENT is news to anybody: not if nobody has ever seen what is in it. */
bool update_is_news(const struct catalog_update *update, uint64_t parent);

/* ---- catalog_commit.c ---- */

/** What is left to do before a commit: retires what did not come, renews the digests, compares the root's with EXPECTED. As catalog_update_commit. */
int update_complete(struct catalog_update *update, const uint8_t *expected);

/* ---- catalog_sweep.c ---- */

/** Retires live row ROW and all below it: counts and changes; its folder is for the caller to mark. */
int update_retire(struct catalog_update *update, const struct db_row *row);

/** Retires what did not come in the folders that came as `whole`. */
int update_sweep(struct catalog_update *update);

/** A load was given up: folders that were pending are ordinary ones from here on, with what they have. */
int update_settle_load(struct catalog_update *update);

/* ---- catalog_forget.c ---- */

/** Removes some of the rows that nobody holds. Those of an update that is rolled back are found again by the next catalog_forget. */
int update_forget(struct catalog_update *update);

/** Frees all but the writer's transaction. */
void update_free(struct catalog_update *update);
