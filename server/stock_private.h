/*
 * What the units of stock.h share. Nobody else includes this.
 */
#pragma once

#include "base/lock.h"
#include "server/stock.h"

/* How an item lies in the file; its path and a NUL follow. */
struct stock_record {
        uint64_t size;
        int64_t mtime_sec;
        uint32_t go_mode;
        uint16_t path_len;
        bool is_dir;
        uint8_t md5[HASH_MD5_BYTES];
};

/* One view, from the first request for it until the last user has put it back. */
struct stock_view {
        struct turn job;
        struct rpc_peer *asker; /* a reference: who asked first, charged with a listing */
        struct stock_views *owner;
        char *spider, *path; /* owned */
        uint64_t revision;
        int fd;                 /* of the file without a name; -1: none yet */
        size_t count;           /* written by the building job, immutable once `ready` */
        struct tree_view *tree; /* owned, while building */
        /* Guarded by owner->lock. */
        struct stock_view *next;
        struct stock_request *waiting; /* while it is built */
        unsigned users;
        bool ready;
};

struct stock_views {
        struct stock_views_options options; /* dir is owned */
        char *dir;
        struct mutex lock;
        struct stock_view *
                list TSA_GUARDED(&lock);   /* short: one for each version that stock workers get right now */
        unsigned count TSA_GUARDED(&lock); /* of these */
};

/* Writes the view's file: stock_build.c. Errors as stock_request's. */
int stock_build(struct stock_view *view);
