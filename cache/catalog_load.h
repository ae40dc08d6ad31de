/*
 * A load under way: the state that putting entries (catalog_load.c) and beginning, going on and ending (catalog_load_begin.c) share.
 *
 * One write transaction is open for as long as the load exists; a save commits it and begins the next. So that a commit may come at any
 * entry, a folder is `pending` from the moment its own row comes until the digest of all its children was found right: what of it
 * lies in the database before that is shown to nobody.
 *
 * A load that goes on later finds rows of folders it did not finish. Those that came before the saved offset are `load_rows` of
 * `load_folder`, and are taken up again. Others came after it, because somebody asked for a folder and that committed what there
 * was: they come again, and are removed first; they are all in `load_open`.
 */
#pragma once

#include "cache/catalog_private.h"
#include "cache/catalog_trail.h"

struct catalog_load {
        struct catalog *catalog;
        struct db *db;               /* the catalog's writer, borrowed */
        struct db_version version;   /* as the next commit will write it; its counts run along */
        struct hasher *hasher;       /* owned; of the folder's children */
        struct hasher *spare;        /* owned; for folders out of turn */
        uint8_t nothing[HASH_BYTES]; /* the digest of a folder without children */
        bool root;                   /* the root came in this transfer */
        int failed;                  /* the error after which only free is possible, or 0 */

        /* The folder whose children are coming. */
        struct trail trail;         /* the way to it */
        uint64_t folder;            /* 0: none */
        bool here;                  /* it is complete already: what comes of it is dropped */
        uint8_t digest[HASH_BYTES]; /* that its children must have */
        uint64_t rows;
        uint64_t dropped; /* entries that were here already */
        size_t last_len;
        char last[PATH_NAME_MAX]; /* name of the child that came last */
};

/* Within the load: what came is wrong. -EBADMSG is a damaged database there, as everywhere below. */
#define REFUSED (-EPROTO)

/** What the caller is told of R: "not what was named" is -EBADMSG there. */
int load_verdict(struct catalog *catalog, int r);

/** For the load's own thread: takes load_lock, but lets those go first that want one folder. */
void load_lock_last(struct catalog *catalog) TSA_ACQUIRES(&catalog->load_lock);

/** Commits what there is as a version of its own to readers, which see more folders in it, and goes on. */
int load_commit(struct catalog_load *load);

/** Makes the folder PATH the one whose children are coming. */
int load_open_folder(struct catalog_load *load, const char *path, size_t len);

/** The end of the folder whose children were coming, if any: proves it. */
int load_close_folder(struct catalog_load *load);

/** Removes what pending folder INO has after the name AFTER. Such rows were never shown, and nothing is below them. */
int load_forget_children(struct catalog_load *load, uint64_t ino, const char *after, size_t after_len);
