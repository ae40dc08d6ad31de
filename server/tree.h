/*
 * The entries of one workspace at its present version, in SQLite, with the stamps that say which file was hashed when, and a journal of
 * what changed in which revision. "What changed since" costs the change; no process holds the tree in memory.
 *
 * Invariants (tests cite them):
 *  T1 A version is one transaction: a view sees one revision, whole, for as long as it is held; updates do not wait for views.
 *  T2 A stored hash belongs to the content under the row's stamp (device, inode, size, mtime, ctime), unless the row is `racy`: then the
 *     file's times lay within a tick of the clock when it was read, and the next pass reads it again.
 *  T3 Revisions only rise, also when the database is lost: a new one begins with the time of day in seconds.
 *  T4 The journal names every difference between any revision from `floor` on and the present one. Older ones are not known.
 *  T5 What could not be read is `unknown`; its rows, subtree included, stay as they were. Views that walk leave the subtree out.
 *  T6 It is only a cache: damaged or of another format, it is moved aside and begun anew. So it is when the base of
 *     its hashes (base/hash.h) is to be another one.
 *  T7 What is kept of a content, its detail, is what its digest is the hash of: of a large file the list of its pieces' hashes (base/pieces.h), of a tiny
 *     one its bytes. It is kept by content: no detail outlives the commit that took the last row that names it. Damage may
 *     take one from its rows; otherwise a tiny row has its detail from the first, so that the same version is always sent in the same bytes.
 *
 * Folders have an id, never used twice. A folder that is replaced by another one (other device or inode) gets a new id.
 * Thread-safe: any number of views; one update at a time.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/entry.h"
#include "base/path.h"

#define TREE_ROOT_ID 1

struct tree;
struct tree_view;
struct tree_update;

/** What tells one state of a file from another without reading it. */
struct tree_stamp {
        uint64_t device, inode, size;
        int64_t mtime_ns, ctime_ns;
};

struct tree_row {
        uint64_t parent; /* the folder's id; 0 for the root */
        uint64_t id;     /* folders: their own; others 0 */
        enum entry_kind kind;
        bool unknown;
        bool racy;               /* files: T2 */
        bool linked;             /* files: it had several names when the stamp was taken, here or elsewhere */
        uint32_t mode;           /* permission bits */
        struct tree_stamp stamp; /* its size is the entry's: a symlink's target's; 0 for folders */
        enum hash_algorithm hash; /* the tree's base; set by the tree */
        uint8_t digest
                [HASH_BYTES]; /* file: tree_row_content; symlink: hash_bytes of its target; folder: its digest, kept by the tree */
        bool has_md5;
        uint8_t md5[HASH_MD5_BYTES]; /* files, once a stock worker asked */
        const char *target;          /* symlinks; borrowed; NUL-terminated */
        size_t target_len;
        size_t name_len;
        char name[PATH_NAME_MAX + 1]; /* "" for the root */
};

struct tree_version {
        bool valid; /* false: nothing was ever scanned */
        uint8_t digest[HASH_BYTES];
        uint64_t revision;
        uint64_t entries; /* the root included; what is below something unknown as well */
        uint64_t files, folders, symlinks, bytes, unknown;
};

enum tree_result {
        TREE_OK = 0,
        TREE_NONE = 1,     /* no such entry */
        TREE_TOO_OLD = 2,  /* the journal does not reach back that far, or never knew that revision */
        TREE_TOO_MANY = 3, /* more changes than asked for */
};

struct tree_options {
        const char *dir;          /* the folder for its files; made if need be */
        const char *label;        /* of the workspace, for the log; copied */
        enum hash_algorithm hash; /* the base of its hashes; HASH_NONE: HASH_XXH3 */
        uint64_t journal_max;     /* rows kept at least; 0: the default */
};

/**
 * Opens or begins it. -EIO, -EACCES, -ENOSPC, -ENOMEM … (a damaged one is no error: T6, with a warning. Damage that is met later is -EBADMSG
 * where it is met, and mended by the next tree_open.)
 */
int tree_open(const struct tree_options *options, struct tree **ret);

/** No view or update may be left. NULL is fine. */
void tree_close(struct tree *tree);

/** True if views are taken that were not put back. */
bool tree_has_views(struct tree *tree);

/** True once damage was met, by whomever: it is to be closed and opened anew (T6). */
bool tree_is_suspect(struct tree *tree);

/** The base of its hashes. */
enum hash_algorithm tree_get_hash(const struct tree *tree);

/** The present version, from memory. */
void tree_get_version(struct tree *tree, struct tree_version *ret);

struct tree_stamp tree_stamp_of(const struct stat *st);
bool tree_stamp_equal(const struct tree_stamp *a, const struct tree_stamp *b);

/** What ROW's digest names: by content_algorithm of a file's size, by the tree's base of everything else. */
struct content_id tree_row_content(const struct tree_row *row);

/** The bytes of the detail (T7) of what ROW holds; 0: it has none. */
size_t tree_row_detail_len(const struct tree_row *row);

/** True if a content read at TAKEN_NS (clock_coarse_ns, before the stamp was taken) may yet change under the same stamp. */
bool tree_stamp_racy(const struct tree_stamp *stamp, int64_t taken_ns);

/* ---- reading ---- */

/** A view of the present version. Cheap: connections are kept. One thread at a time may use it. -EIO, -ENOMEM … */
int tree_view_take(struct tree *tree, struct tree_view **ret);
void tree_view_put(struct tree_view *view); /* NULL is fine */

/** The version that the view shows. */
const struct tree_version *tree_view_version(const struct tree_view *view);

/** The row NAME in folder PARENT (0, "": the root). RET's target borrows from the view until its next use. TREE_OK, TREE_NONE or negative errno. */
int tree_view_lookup(struct tree_view *view, uint64_t parent, const char *name, size_t name_len,
                     struct tree_row *ret);

/** The row at PATH (checked; "": the root). */
int tree_view_find(struct tree_view *view, const char *path, size_t len, struct tree_row *ret);

/** Where the folder that once was (DEVICE, INODE) is in this version: its id. For reusing the hashes of what was in it. */
int tree_view_find_folder(struct tree_view *view, uint64_t device, uint64_t inode, uint64_t *ret_id);

/** The path of folder ID, appended to RET. TREE_NONE if there is no such folder (any more). */
int tree_view_path(struct tree_view *view, uint64_t id, struct buffer *ret);

/** The rows of folder PARENT in ascending order of their names. EACH may use other functions of the view but this and the like; non-zero ends it, and is returned. */
int tree_view_list(struct tree_view *view, uint64_t parent,
                   int (*each)(const struct tree_row *row, void *arg), void *arg);

/**
 * The detail (T7) of content ID, of SIZE bytes, in place of what is in RET: TREE_OK, TREE_NONE (there is none, or what is there is not it),
 * negative errno.
 */
int tree_view_detail(struct tree_view *view, const struct content_id *id, uint64_t size, struct buffer *ret);

/** The files whose hash may not be trusted (T2), by folder. */
int tree_view_racy(struct tree_view *view,
                   int (*each)(uint64_t parent, const char *name, size_t name_len, void *arg), void *arg);

/** The version of the folder ROW as the root of a mount: entry_root_digest of it. */
void tree_row_root_digest(const struct tree_row *row, uint8_t ret[HASH_BYTES]);

/* ---- walking: entries as they are sent (base/entry.h) ---- */

/**
 * Walks folder ROW, its own entry first ("" path), then the children of a folder one after the other in order of their names, then each of
 * its subfolders likewise, depth first. Paths are relative to the folder walked. A pull iterator, so that it can rest between two messages.
 */
struct tree_cursor;

/** The view is borrowed and used by nothing else meanwhile but the cursor. -ENOMEM. */
int tree_cursor_new(struct tree_view *view, const struct tree_row *row, struct tree_cursor **ret);
void tree_cursor_free(struct tree_cursor *cursor); /* NULL is fine */

/** The next entry, borrowed until the next call; RET_ENTRY NULL after the last. RET_ROW (may be NULL): its row. Negative errno. */
int tree_cursor_next(struct tree_cursor *cursor, const struct entry **ret_entry,
                     const struct tree_row **ret_row);

/**
 * The difference between revision SINCE and the view's, as far as it lies in folder ROW: calls EACH for what changed, in an order in which it can be
 * applied: `gone` entries, entries as they are now, and `whole` folders followed by all below them. Each path comes once. TREE_OK;
 * TREE_TOO_OLD; TREE_TOO_MANY if there were more than LIMIT entries (EACH may have been called); EACH's non-zero result; negative errno.
 * SINCE_DIGEST (NULL: not known, as for subfolders) must be the digest that SINCE had, otherwise TREE_TOO_OLD.
 */
int tree_view_changes(struct tree_view *view, const struct tree_row *row, uint64_t since,
                      const uint8_t *since_digest, uint64_t limit,
                      int (*each)(const struct entry *entry, void *arg), void *arg);

/* ---- writing: one pass ---- */

/** Begins an update on the present version; its rows can be read through a view taken before. -EBUSY: one is under way. */
int tree_update_begin(struct tree *tree, struct tree_update **ret);

/** A new folder id. Thread-safe. */
uint64_t tree_update_new_id(struct tree_update *update);

/* PUT and RESTAMP say what the pass expects; the tree itself compares what a worker sees, with what is there. */
enum tree_op {
        TREE_PUT, /* the row is new, or differs in what a worker sees: it takes the place of what was there */
        TREE_RESTAMP, /* only stamp, racy or md5 differ: no worker needs to hear of it */
        TREE_REMOVE,  /* the name is gone; a folder's subtree with it */
};

struct tree_change {
        enum tree_op op;
        struct tree_row row; /* REMOVE: parent and name count */
        const uint8_t *
                detail; /* of the row's content (T7), tree_row_detail_len bytes, borrowed; NULL: not at hand, which is fine */
};

/**
 * Takes N changes over, best all of one folder, in any order of folders, from any thread. A PUT of a folder whose id is not the present row's
 * removes the old subtree and is journaled as `whole`; so is a folder that is no longer unknown. Rows beneath a new folder need no journal; if the
 * folder itself is never PUT they are dropped at the commit. A PUT that is `unknown` over a row of the same kind and id, or one of ENTRY_UNKNOWN
 * over any row, sets that row's `unknown` and nothing else (T5). Digests of folders are ignored; an MD5 is kept as long as the content is the same.
 * -EINVAL: a row that makes no sense; -EIO, -ENOSPC, -ENOMEM, -EBADMSG. After an error only abort is possible.
 */
int tree_update_apply(struct tree_update *update, const struct tree_change *changes, size_t n);

/** As tree_view_lookup, but of what the update has made of the rows so far, and without a target. Thread-safe. */
int tree_update_lookup(struct tree_update *update, uint64_t parent, const char *name, size_t name_len,
                       struct tree_row *ret);

/**
 * Notes the file that STAMP is of for tree_update_each_link. It notes by itself whatever was or became `linked` and came, went, or got another stamp
 * or content. Thread-safe.
 */
void tree_update_note_link(struct tree_update *update, const struct tree_stamp *stamp);

/** SUSPECT: the content changed under the same stamp. What is not 0 ends it. */
typedef int (*tree_link_fn)(const char *path, const char *name, bool suspect, void *arg);

/**
 * Tells the names of all files noted since it was called last, with the paths of their folders, as the update has them now. EACH may not use the
 * tree. The first time in a tree's life that there is anything to tell, all rows are read once, for an index. TREE_OK; TREE_TOO_MANY: more were noted than is good; EACH's; negative errno.
 */
int tree_update_each_link(struct tree_update *update, tree_link_fn each, void *arg);

/**
 * Brings the digests of changed folders and their ancestors up to date, and commits. If the tree's digest differs from the last version's the
 * revision rises by one and the journal is pruned; otherwise version and revision stay. RET (may be NULL) gets the version.
 * -EINVAL: there is no root. Frees the update in every case; after a failure nothing has changed.
 */
int tree_update_commit(struct tree_update *update, struct tree_version *ret);

void tree_update_abort(struct tree_update *update); /* NULL is fine */

/* ---- writing: what is found out between passes. A transaction of its own, or part of the update that is under way (and lost with it). May wait for a
 * commit. ---- */

/** The MD5 of a file. */
struct tree_md5 {
        uint64_t parent;
        const char *name; /* borrowed */
        size_t name_len;
        struct tree_stamp stamp;
        uint8_t md5[HASH_MD5_BYTES];
};

/** Notes the MD5s of N files, of each whose stamp is still that; RET_STORED (may be NULL): how many. Negative errno: none. */
int tree_store_md5s(struct tree *tree, const struct tree_md5 *items, size_t n, size_t *ret_stored);

/** Keeps the detail (T7) of content ID, in place of one that is there: TREE_OK; TREE_NONE if no row names that content. */
int tree_store_detail(struct tree *tree, const struct content_id *id, const uint8_t *data, size_t len);
