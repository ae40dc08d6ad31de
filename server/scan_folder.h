/*
 * What the units of one pass (server/scanner.h) share: the pass, a folder that is looked at, the names in it, and what a thread has in hand
 * meanwhile. Nobody else includes this.
 */
#pragma once

#include <stdatomic.h>

#include "base/buffer.h"
#include "base/lock.h"
#include "server/filehash.h"
#include "server/scanner.h"

#define SCAN_TRIES 3 /* times that an entry which changes its kind under our eyes is looked at */

/* What the tree knows of an entry, as far as comparing needs it. */
struct scan_old {
        uint64_t id;
        struct tree_stamp stamp;
        uint32_t mode;
        uint8_t kind; /* enum entry_kind */
        bool unknown, racy, has_md5, linked;
        uint8_t digest[HASH_BYTES];
        uint8_t md5[HASH_MD5_BYTES];
};

/*
 * One pass. Freed when its root folder is finished. One that looks at spots may have a second round: names of files that were met under
 * another name (tree_update_each_link).
 */
struct scan {
        struct scanner_pass pass;
        struct pool_walk walk;
        bool second;        /* round */
        int top;            /* owned; the folder, for a second round; -1 */
        struct spots links; /* what the second round looks at */
        scanner_done_fn done;
        void *arg;
        struct tree_update *update; /* owned */
        uint64_t revision;          /* before the pass */
        atomic_int error;           /* the first that ends the whole pass */
        _Atomic uint64_t left_out, unknown;
        struct mutex lock;
        struct scan_lane *lanes TSA_GUARDED(&lock); /* owned; those that no job has in hand */
};

/* A name in a folder that is looked at. */
struct scan_node {
        const char *name;           /* borrowed from the folder's names or from a spot; NUL-terminated */
        const struct scan_old *old; /* borrowed from the folder; NULL: the tree knows of no such entry */
        const struct spot *spot;    /* NULL: nobody named it */
        uint64_t inode;             /* as the listing of the folder says; 0: not known */
        uint8_t name_len;
        uint8_t type; /* DT_*, as the listing says */
};

/* The names in a folder that are to be looked at. */
struct scan_names {
        struct scan_node *nodes; /* owned */
        size_t count;
        struct buffer listing;        /* what the folder's listing said */
        struct scan_old *olds;        /* owned; rows of names that are listed, or named */
        struct scan_missing *missing; /* owned; rows whose names are not listed */
};

/* A run of a folder's names, as a job. */
struct scan_slice {
        struct pool_job job;
        struct scan_folder *folder;
        size_t first, count;
};

/*
 * A folder that is looked at: from the moment its parent has seen it until all in it is finished. Descriptors stay open only while something
 * has yet to be opened beneath them; as jobs run last come first served, that is the way down to where the pool's threads are. No limit
 * of depth is needed: a path's length bounds it to 2,048.
 */
struct scan_folder {
        struct pool_job job;
        struct scan *scan;
        struct scan_folder *parent; /* lives longer: it waits for us; NULL for the root */
        const struct spot *spot;    /* what is to be looked at in it; NULL: nothing was named */
        bool full;                  /* everything in it and below is looked at */
        bool is_new;                /* its id is of this pass: all that is in it has to be put */
        bool has_old;
        struct scan_old old; /* its own row, if HAS_OLD */
        uint64_t id;         /* of the rows of what is in it */
        uint64_t
                base; /* the folder whose rows are compared with: its own, or, if it is new, that which it was elsewhere; 0: none */
        struct scan_names names;   /* until the slices are done */
        struct scan_slice *slices; /* owned */
        unsigned tries;            /* times that it has turned out to be no folder */
        int fd;
        atomic_uint
                fd_users; /* its own job, slices not done and child folders not opened; the last closes fd */
        atomic_uint looking; /* slices not done; the last frees the names */
        atomic_uint pending; /* its own job, slices and child folders not finished; the last finishes us */
        size_t path_len;
        uint8_t name_len;
        char name[]; /* NUL-terminated; "" for the root */
};

#define SCAN_CHANGES                                                                                         \
        512 /* told to the tree at a time, of whatever folders: its lock is taken that much less often */

#define SCAN_DETAIL_BYTES 65536

/* What a job has in hand: a view of the tree before the pass, and changes not yet told to the tree. */
struct scan_lane {
        struct scan_lane *next;
        struct tree_view *view;
        struct file_hasher *hasher;
        struct tree_change changes[SCAN_CHANGES]; /* targets owned */
        size_t n_changes;
        uint8_t details[SCAN_DETAIL_BYTES]; /* of the changes, as far as they fit */
        size_t details_len;
        struct buffer path;
        char block[65536]; /* for listings */
};

/* ---- the pass ---- */

/* True once the pass has failed or is cancelled: nothing needs to be done any more. */
bool scan_stopped(struct scan *scan);
void scan_fail(struct scan *scan, int error);

/* Queues the root folder, open as FD (taken, also on failure), of which everything or what SPOTS (borrowed; NULL: none) say is looked at. */
int scan_begin_round(struct scan *scan, int fd, const struct spots *spots);

/* Nobody has a lane in hand, and none has changes that were not told. */
void scan_free_lanes(struct scan *scan);

/* Queues the job for child folder NODE of F, of which everything (FULL) or what its spot says is looked at. -ENOMEM. */
int scan_push_folder(struct scan_folder *f, const struct scan_node *node, bool full, unsigned tries);

/* The row of NAME in folder PARENT as this round compares with it, of what is to be looked at by name. Without a target. TREE_OK, TREE_NONE, negative errno. */
int scan_lookup(struct scan_lane *lane, struct scan *scan, uint64_t parent, const struct spot *spot,
                struct tree_row *ret);

static inline bool scan_has_vanished(int error)
{
        return error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
}

/* Errors that say nothing about the entry: the whole pass fails. */
static inline bool scan_is_fatal(int error)
{
        return error == -ENOMEM || error == -ECANCELED || error == -EMFILE || error == -ENFILE;
}

/* The path of NAME in F (NULL: of F itself), for the log and the watcher, in a buffer of the lane's; "" without memory. */
const char *scan_path(struct scan_lane *lane, const struct scan_folder *f, const char *name);

/* ---- what is found (scan_entry.c) ---- */

/* Looks at NODE, the TRIES'th time, and gathers or queues what follows from it. Fails the pass where need be. */
void scan_entry(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node, unsigned tries);

/* Gathers the row of folder F itself, whose state on disk is ST, born at BORN_NS; F->id and is_new are set. */
void scan_put_folder(struct scan_lane *lane, struct scan_folder *f, const struct stat *st, int64_t born_ns);

/* NODE in F cannot be read. */
void scan_put_unknown(struct scan_lane *lane, struct scan_folder *f, const struct scan_node *node, int error);

/* Stat and time of birth (0: the file system does not tell) of NAME in FD, or of FD itself if NAME is "". */
int scan_stat_folder(int fd, const char *name, struct stat *ret_st, int64_t *ret_born_ns);

/* True if a folder with this state is the one that OLD is about. */
bool scan_same_folder(const struct scan_old *old, const struct stat *st, int64_t born_ns);

/* Hands the changes gathered to the tree. */
void scan_flush(struct scan_lane *lane, struct scan *scan);

/* ---- other names of files (scan_links.c) ---- */

/* After the first round over spots: has the other names of files that were met looked at. False: there are none, or the pass has failed. */
bool scan_look_again(struct scan *scan);

/* ---- names (scan_names.c) ---- */

/* Whether the listing of F is read. */
static inline bool scan_reads_all(const struct scan_folder *f)
{
        return f->full || (f->spot && f->spot->all);
}

/* What in F is to be looked at: everything that is listed or known, or what was named. Errors of reading the folder; of the tree; -ENOMEM. */
int scan_names_collect(struct scan_lane *lane, struct scan_folder *f);
void scan_names_release(struct scan_names *names);
