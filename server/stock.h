/*
 * A workspace as stock Crawlab workers know it: files with MD5 hashes, in which a symbolic link to a file within the workspace is that
 * file. A view is made once for a version, by a job of the pool that is charged to who asked first (server/turns.h), into a file without a name, and shared by
 * all who ask while anybody still uses it: nothing of it is held in memory. Thread-safe, but for the reader.
 */
#pragma once

#include "server/pool.h"
#include "server/turns.h"
#include "server/versions.h"
#include "server/workspace.h"

struct stock_views;
struct stock_view;

struct stock_views_options {
        const struct workspace_root *root; /* all borrowed */
        struct pool *pool;
        struct turns *hashings; /* of that */
        struct versions *versions;
        const char *dir; /* where the files without a name lie; copied */
};

/** -ENOMEM. */
int stock_views_new(const struct stock_views_options *options, struct stock_views **ret);

/** All views must have been put back; the pool is gone. NULL is fine. */
void stock_views_free(struct stock_views *views);

/** Embedded in the asker's state, which lives until `done`. */
struct stock_request {
        struct stock_request *next; /* owned by stock.c meanwhile */
        struct rpc_peer *peer;      /* who asks; borrowed */
        /* Once, from a thread of the pool or from within stock_views_get. 0 with a reference to a view; otherwise NULL: errors of
         * workspace_open_folder (-ENOENT, -ENOTDIR: no such folder in this version), -ENOMEM, -ENOSPC, -EIO, -ECANCELED. Must not
         * block for long. */
        void (*done)(struct stock_request *request, int error, struct stock_view *view);
};

/**
 * Asks for folder PATH (checked; "": all of it) of SPIDER at the version that VIEW shows. VIEW is taken over in every case. Does not
 * block. -ENOMEM, or -EMFILE, as there are too many already, of this peer's or in all: `done` does not follow.
 */
int stock_views_get(struct stock_views *views, const char *spider, const char *path, struct tree_view *view,
                    struct stock_request *request);

/** Gives a view back. NULL is fine. */
void stock_view_put(struct stock_view *view);

/** How many items a reader gives, in all. */
size_t stock_view_count(const struct stock_view *view);

struct stock_item {
        const char *
                path; /* relative to the folder listed; the folder itself: "". NUL-terminated UTF-8; borrowed until the next item */
        size_t path_len;
        uint64_t size;
        int64_t mtime_sec;
        uint32_t go_mode;
        bool is_dir;
        uint8_t md5[HASH_MD5_BYTES]; /* files only */
};

/** Gives the items one after the other, in the order of a tree_cursor: a folder before what is in it. Not thread-safe. */
struct stock_reader;

/** The view is borrowed. -ENOMEM. */
int stock_reader_new(const struct stock_view *view, struct stock_reader **ret);
void stock_reader_free(struct stock_reader *reader); /* NULL is fine */

/** The next item; NULL after the last. Reads a file that was just written: short. -EIO. */
int stock_reader_next(struct stock_reader *reader, const struct stock_item **ret);
