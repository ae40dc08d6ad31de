/*
 * One pass over a workspace: compares what is on disk with the tree's rows and hands the tree the differences, in one update. Either everything
 * is walked, or only the spots that somebody named are looked at. In parallel on the pool's threads, each folder opened beneath its
 * parent's descriptor; of what was found nothing is kept in memory but for the folders under way. Files whose stamp is their row's
 * are not read. Where a spot leads to a file with several names, all of them in the tree are looked at, in a second round of the same pass: who
 * tells of a change knows one name only. If they are more than SPOTS_MAX the pass walks over everything after all.
 *
 * What changes meanwhile harms nothing: what vanished is left out, what cannot be read is "unknown", a file's hash and stamp always
 * belong together. Entries' metadata is no older than the pass. If the pass fails, nothing of it is in the tree.
 *
 * A folder is known again by device, inode and time of birth, so that neither a folder moved here nor one that got the inode of one that
 * was removed is taken for the one that the rows are about. Files in a folder that was moved are not read again. The time of birth is kept
 * in place of the time of change in the stamp of a folder's row.
 */
#pragma once

#include "server/pool.h"
#include "server/spots.h"
#include "server/tree.h"
#include "server/watcher.h"

/** What the pass is about. All borrowed until it is done. */
struct scanner_pass {
        struct pool *pool;
        struct tree *tree;
        struct watcher *watcher;   /* every folder that is read is told to it before; NULL: none */
        const char *spider;        /* for the watcher and the log */
        bool full;                 /* everything; otherwise SPOTS */
        const struct spots *spots; /* of a full pass, only what is suspect in it counts */
};

struct scanner_result {
        bool changed; /* there is a new version */
        struct tree_version version;
        uint64_t left_out; /* sockets, fifos, devices, over-long paths, as far as they were met */
};

/**
 * Called once from a thread of the pool. 0 with RESULT (borrowed); otherwise NULL with a negative errno: the top folder could not be read, -ENOMEM, -ECANCELED
 * (pool_cancel), errors of the tree.
 */
typedef void (*scanner_done_fn)(void *arg, int error, const struct scanner_result *result);

/**
 * Begins a pass over the spider's folder FD (taken, also on failure). Blocks no longer than tree_update_begin does; DONE comes after a return of 0
 * only. -ENOMEM; errors of tree_update_begin.
 */
int scanner_start(const struct scanner_pass *pass, int fd, scanner_done_fn done, void *arg);
