/*
 * The folders that are watched: from what the kernel calls a folder in its events (a key) to spider and path. A tree of names, so that a folder
 * goes with all below it in one step and no path is kept twice.
 *
 * It mirrors what the scanner last saw, not what is there: a folder that was moved stays where it was until the scanner adds it elsewhere
 * or forgets it. It may come back before anybody looked, and then nobody would add it again.
 * A key may stand for several folders (one that is mounted twice beneath the root): all are told about.
 * Not thread-safe: the watcher's lock guards it.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"

struct watcher_folder {
        struct watcher_folder *parent;          /* NULL: the workspace root; its children are the spiders */
        struct watcher_folder *child;           /* one of those in it */
        struct watcher_folder *next, *previous; /* those with the same parent */
        struct watcher_folder *next_key, *next_place; /* chains of the two tables */
        uint64_t key;                                 /* if has_key */
        int error;                                    /* spiders: why it is not covered, negative errno; 0 */
        bool has_key;                                 /* false: it only leads to others */
        uint16_t name_len;
        char name[];
};

struct watcher_table {
        struct watcher_folder **by_key;   /* by key */
        struct watcher_folder **by_place; /* by parent and name */
        size_t slots;                     /* of each; a power of two */
        size_t count;                     /* folders, the root included */
        struct watcher_folder *root;
        /* No folder has KEY any more. Must not use the table. */
        void (*key_unused)(void *arg, uint64_t key);
        void *arg;
};

/** Empty but for the root. The caller sets `key_unused` and `arg`. -ENOMEM. */
int watcher_table_init(struct watcher_table *table);

/** Frees all, without a word about keys. A zeroed table is fine. */
void watcher_table_release(struct watcher_table *table);

/** The folder PATH of SPIDER; NULL if it is not there. */
struct watcher_folder *watcher_table_find(const struct watcher_table *table, const char *spider,
                                          const char *path);

/** The same, made if need be without a key, and so are the folders on the way. -ENOMEM. */
int watcher_table_place(struct watcher_table *table, const char *spider, const char *path,
                        struct watcher_folder **ret);

/**
 * FOLDER is known by KEY from now on. If it was known by another one, it is another folder now: what was below the old one is dropped.
 */
void watcher_table_set_key(struct watcher_table *table, struct watcher_folder *folder, uint64_t key);

/** Takes FOLDER's key away, if it has one. */
void watcher_table_clear_key(struct watcher_table *table, struct watcher_folder *folder);

/** The folders with KEY, one after the other; NULL at the end. */
struct watcher_folder *watcher_table_first(const struct watcher_table *table, uint64_t key);
struct watcher_folder *watcher_table_next(const struct watcher_folder *folder);

/** Frees all below FOLDER. */
void watcher_table_drop_below(struct watcher_table *table, struct watcher_folder *folder);

/** The same, and FOLDER; the root only loses its key. */
void watcher_table_drop(struct watcher_table *table, struct watcher_folder *folder);

/** Appends the spider's name, a NUL, the path within it and a NUL. FOLDER is not the root. -ENOMEM. */
int watcher_table_describe(const struct watcher_folder *folder, struct buffer *ret);
