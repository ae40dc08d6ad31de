/*
 * What the parts of the tree share: tree.c (opening, views), tree_update.c and tree_commit.c (writing), tree_cursor.c, tree_changes.c.
 */
#pragma once

#include <stdatomic.h>

#include "base/lock.h"
#include "server/tree_db.h"
#include "server/tree_folders.h"

struct tree {
        char *dir, *label, *path; /* owned */
        uint64_t journal_max;
        enum hash_algorithm hash;
        atomic_bool suspect; /* damage was met: any thread */

        /* Serializes the writing connection, also over its commits: SQLite allows no second writer anyway. */
        struct mutex write_lock;
        struct tree_db *writer TSA_GUARDED(&write_lock); /* owned */
        bool updating TSA_GUARDED(&write_lock);

        struct mutex lock; /* leaf; no I/O under it */
        struct tree_version version TSA_GUARDED(&lock);
        struct tree_view *idle TSA_GUARDED(&lock); /* views that nobody uses now */
        unsigned n_idle TSA_GUARDED(&lock);
        unsigned n_taken TSA_GUARDED(&lock);
};

struct tree_view {
        struct tree *tree;
        struct tree_view *next; /* while idle */
        struct tree_db *db;     /* owned; in a read transaction while taken */
        struct tree_version version;
};

/* Files with several names that were met, in the order of meeting, some of them many times. A zeroed struct is empty. */
struct tree_link {
        uint64_t device, inode;
        bool suspect;
};

struct tree_links {
        struct tree_link *items; /* owned */
        size_t n, capacity;
        bool too_many; /* not all could be noted */
};

/* Contents that lost a row, some of them many times. A zeroed struct is empty. */
struct tree_details {
        uint8_t (*items)[HASH_BYTES]; /* owned */
        size_t n, capacity;
        bool too_many; /* not all could be noted */
};

struct tree_update {
        struct tree *tree;
        struct tree_meta
                meta; /* as it will be; guarded by the tree's write_lock, as is all of this but next_id */
        uint64_t old_revision;       /* of the version it began on */
        uint64_t first_new_id;       /* folders from here on are new in this update */
        _Atomic uint64_t next_id;    /* given from many threads */
        struct tree_folders folders; /* those whose digest may change are marked */
        struct tree_links links;     /* what tree_update_each_link is to tell of */
        struct tree_details details; /* whose details may be in vain now */
        int failed;                  /* the first error: only abort is possible */
};

/** Notes that the database is damaged, so that it is begun anew when it is opened next (T6). */
void tree_suspect(struct tree *tree);

/** ROW as it is sent under PATH. */
struct entry tree_row_entry(const struct tree_row *row, const char *path, size_t path_len);

/** Gives ENTRY, which is ROW's, the bytes of a tiny file, if they are kept: in DATA, whose contents they take the place of. */
int tree_give_data(struct tree_db *db, const struct tree_row *row, struct buffer *data, struct entry *entry);

/** A row of what ROW holds goes, or gets another content. */
void tree_details_note(struct tree_details *details, const struct tree_row *row);

/** Deletes the details (T7) of what was noted and no row names any more. */
int tree_details_prune(const struct tree_details *details, struct tree_db *db);
void tree_details_release(struct tree_details *details);

/** Removes all rows below folder ID and reckons them out of UPDATE; the folder's own row is the caller's. */
int tree_remove_below(struct tree_update *update, struct tree_db *db, uint64_t id);

/** As tree_view_path. */
int tree_path(struct tree_db *db, uint64_t id, struct buffer *ret);

/** Notes the file that STAMP is of. */
void tree_links_note(struct tree_links *links, const struct tree_stamp *stamp, bool suspect);
void tree_links_clear(struct tree_links *links);

/** Adds ROW to META's counts, or takes it out. */
void tree_count(struct tree_version *version, const struct tree_row *row, bool add);

/** Renews the digests of the marked folders and of those above them. RET_ROOT gets the root's row. The write_lock is held. */
int tree_renew_digests(struct tree_update *update, struct tree_row *ret_root);

/** As tree_cursor_new, with paths that begin with BASE, which is ROW's path. */
int tree_cursor_new_at(struct tree_view *view, const struct tree_row *row, const struct buffer *base,
                       struct tree_cursor **ret);
