/*
 * The tree's database: tables, queries, rows. The only unit of server/ that knows SQLite (base/sql.h); it knows
 * nothing of versions, views or digests beyond storing them.
 *
 * A connection is used by one thread at a time. Functions return TREE_OK, TREE_NONE where it says so, or negative errno:
 * -ENOSPC, -EIO, -ENOMEM, -EBUSY, -EROFS, -EACCES, -EBADMSG (the database is damaged or not ours).
 */
#pragma once

#include "server/tree.h"

struct tree_db;

/** The one row about the present version. */
struct tree_meta {
        struct tree_version version;
        uint64_t next_id;      /* never used before */
        uint64_t journal_rows; /* in all */
};

/** What the folder table says of a folder. */
struct tree_db_folder {
        uint64_t parent;
        size_t name_len;
        char name[PATH_NAME_MAX + 1];
};

/** Lists of rows that can be under way at the same time on one connection. */
enum tree_db_list { TREE_DB_LIST, TREE_DB_WALK, TREE_DB_LISTS };

/** Opens the database at PATH for the one writer; begins it if it is empty. -EPROTONOSUPPORT: of another format, or by another base than BASE. */
int tree_db_open_writer(const char *path, enum hash_algorithm base, struct tree_db **ret);

/** Opens for reading only. */
int tree_db_open_reader(const char *path, enum hash_algorithm base, struct tree_db **ret);

/** NULL is fine. Drops an open transaction. */
void tree_db_close(struct tree_db *db);

/** True once anything that was read cannot have been written by us. */
bool tree_db_is_damaged(const struct tree_db *db);

/** Says that what was read makes no sense. -EBADMSG. */
int tree_db_damaged(struct tree_db *db);

/** Begins a transaction: a snapshot for a reader (taken at its first query), the one write lock for the writer. */
int tree_db_begin(struct tree_db *db);

/** -EIO also if SQLite has dropped the transaction because of an earlier error. */
int tree_db_commit(struct tree_db *db);
void tree_db_rollback(struct tree_db *db);

/** Ends all lists and the transaction of a reader. */
void tree_db_end(struct tree_db *db);
bool tree_db_in_transaction(const struct tree_db *db);

/** If the write-ahead log has grown, moves it into the database as far as views allow; does not wait for them. Gives memory back. */
int tree_db_checkpoint(struct tree_db *db);

int tree_db_read_meta(struct tree_db *db, struct tree_meta *ret);
int tree_db_write_meta(struct tree_db *db, const struct tree_meta *meta);

/* ---- rows ---- */

/** TREE_NONE. RET's target is valid until the next lookup. */
int tree_db_lookup(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                   struct tree_row *ret);

/** Begins LIST over the rows of folder PARENT in order of their names; whatever it was at before is dropped. */
int tree_db_list_begin(struct tree_db *db, enum tree_db_list list, uint64_t parent);

/** The next row, its target valid until the next one; TREE_NONE after the last, and then the list has ended. */
int tree_db_list_next(struct tree_db *db, enum tree_db_list list, struct tree_row *ret);
void tree_db_list_end(struct tree_db *db, enum tree_db_list list);

/** Gets one row's folder and name; what is not 0 ends the list and is returned. */
typedef int (*tree_db_name_fn)(uint64_t parent, const char *name, size_t name_len, void *arg);

int tree_db_each_racy(struct tree_db *db, tree_db_name_fn each, void *arg);

/** Sees to it that files can be found by inode, from now on and for good. The first time it reads all rows. */
int tree_db_index_files(struct tree_db *db);

/** The names of a file; tree_db_index_files comes first. */
int tree_db_each_file(struct tree_db *db, uint64_t device, uint64_t inode, tree_db_name_fn each, void *arg);

/** Adds a row. -EEXIST: there is one of that name. */
int tree_db_insert(struct tree_db *db, const struct tree_row *row);

/** Puts ROW in the place of the one of its name. */
int tree_db_replace(struct tree_db *db, const struct tree_row *row);
int tree_db_delete(struct tree_db *db, uint64_t parent, const char *name, size_t name_len);

/** All rows directly in folder PARENT. */
int tree_db_delete_children(struct tree_db *db, uint64_t parent);
int tree_db_set_digest(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                       const uint8_t digest[HASH_BYTES]);
int tree_db_set_md5(struct tree_db *db, uint64_t parent, const char *name, size_t name_len,
                    const uint8_t md5[HASH_MD5_BYTES]);

/* ---- details (T7) ---- */

/** The detail of DIGEST in place of what is in RET. TREE_NONE: there is none of LEN bytes with that hash. */
int tree_db_get_detail(struct tree_db *db, const struct content_id *id, uint64_t size, struct buffer *ret);

/** Keeps a detail, unless there is one. */
int tree_db_put_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES], const uint8_t *data, size_t len);

/** Keeps a detail in place of one that is there. TREE_NONE: no row names it. */
int tree_db_replace_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES], const uint8_t *data,
                           size_t len);

/** Deletes the detail of DIGEST if no row names it; of all that no row names. */
int tree_db_drop_detail(struct tree_db *db, const uint8_t digest[HASH_BYTES]);
int tree_db_sweep_details(struct tree_db *db);

/* ---- folders by id ---- */

int tree_db_get_folder(struct tree_db *db, uint64_t id, struct tree_db_folder *ret); /* TREE_NONE */
int tree_db_find_folder(struct tree_db *db, uint64_t device, uint64_t inode,
                        uint64_t *ret_id); /* TREE_NONE */

/** -EEXIST: the id is in use. */
int tree_db_insert_folder(struct tree_db *db, const struct tree_row *row);
int tree_db_restamp_folder(struct tree_db *db, const struct tree_row *row);
int tree_db_delete_folder(struct tree_db *db, uint64_t id);

/* ---- journal ---- */

struct tree_db_change {
        uint64_t revision, parent;
        const char *name;
        size_t name_len;
        bool whole;
};

/** Noting the same name again in one revision keeps `whole`. */
int tree_db_note(struct tree_db *db, const struct tree_db_change *change);

/** What was noted for revisions after SINCE, in order of (revision, parent, name). */
int tree_db_each_change(struct tree_db *db, uint64_t since,
                        int (*each)(const struct tree_db_change *change, void *arg), void *arg);

/** Makes what was noted for revision FROM part of revision TO. */
int tree_db_move_changes(struct tree_db *db, uint64_t from, uint64_t to);
int tree_db_count_changes(struct tree_db *db, uint64_t revision, uint64_t *ret);

/** Notes REVISION with its digest and how many journal rows it has; one that is there is replaced. */
int tree_db_put_version(struct tree_db *db, uint64_t revision, const uint8_t digest[HASH_BYTES],
                        uint64_t changes);
int tree_db_get_version(struct tree_db *db, uint64_t revision,
                        uint8_t ret_digest[HASH_BYTES]); /* TREE_NONE */

/** The second oldest revision, and how many journal rows there are up to it: what goes if it becomes the oldest. TREE_NONE. */
int tree_db_next_floor(struct tree_db *db, uint64_t *ret_revision, uint64_t *ret_changes);

/** Makes REVISION the oldest one that is known. */
int tree_db_set_floor(struct tree_db *db, uint64_t revision);
