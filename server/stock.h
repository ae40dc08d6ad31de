/*
 * A workspace as stock Crawlab workers know it: a listing with MD5 hashes, in which a symbolic link to a file within the workspace is
 * that file. Views are shared by all who ask while anybody still uses one. Thread-safe.
 */
#pragma once

#include "server/listing.h"
#include "server/index.h"
#include "server/pool.h"
#include "server/workspace.h"

struct stock_item {
        uint64_t size;
        int64_t mtime_sec;
        uint32_t go_mode;
        bool shown; /* false: stock workers do not get to see it */
        bool is_dir;
        uint8_t md5[HASH_BYTES]; /* files only */
};

/** One item for each node of the listing, in the order of a listing_cursor. */
struct stock_view {
        struct listing *listing; /* referenced */
        struct stock_item *items;
        size_t n_items, n_shown;
};

struct stock_views;

struct stock_views_options {
        const struct workspace_root *root; /* all borrowed */
        struct pool *pool;
        struct index *index;
};

/** -ENOMEM. */
int stock_views_new(const struct stock_views_options *options, struct stock_views **ret);

/** All views must have been put back. NULL is fine. */
void stock_views_free(struct stock_views *views);

/** Embedded in the asker's state, which lives until `done`. */
struct stock_request {
        struct stock_request *next; /* owned by stock.c meanwhile */
        /* Once, from a thread of the pool or from within stock_views_get. 0 with a reference to a view; or -ENOMEM and errors
         * of workspace_open_folder with NULL. Must not block for long. */
        void (*done)(struct stock_request *request, int error, struct stock_view *view);
};

/** Asks for the view of LISTING, which is of folder PATH of SPIDER. Does not block. -ENOMEM: `done` does not follow. */
int stock_views_get(struct stock_views *views, struct listing *listing, const char *spider, const char *path,
                    struct stock_request *request);

/** Gives a view back. NULL is fine. */
void stock_view_put(struct stock_views *views, struct stock_view *view);
