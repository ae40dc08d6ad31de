/*
 * One mount: what the FUSE operations, the notifier and the control socket work on together. Built by
 * mount_run in the order of its members, taken down in reverse; the pointers do not change in between, and
 * what they point at is thread-safe.
 */
#pragma once

#include <stdatomic.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "cache/catalog.h"
#include "cache/store.h"
#include "fs/feature.h"
#include "fs/options.h"
#include "fs/reading.h"
#include "sync/fetch.h"
#include "sync/session.h"
#include "sync/syncer.h"

struct bindings;
struct blobs;
struct channel;
struct notifier;
struct control;
struct passthrough;
struct readahead;
struct learned;
struct siblings;
struct takeover;
struct attend;
struct metrics;
struct trace;

struct filesystem {
        struct takeover *takeover; /* borrowed: what the daemon before left, and this one leaves */
        struct mount_options options;
        struct source source;
        unsigned open_files; /* the limit of descriptors */
        char *target;        /* owned: the mount point, absolute */
        struct store *store;
        struct catalog *catalog;
        struct session *session;
        struct fuse_session *fuse;
        struct notifier *notifier;
        struct syncer *syncer;
        struct fetch *fetch;
        struct blobs *blobs;
        struct bindings *bindings;
        struct trace *trace;
        struct reading reading;
        struct readahead *readahead; /* NULL: mounted with prefetch=off; as are the next two */
        struct siblings *siblings;
        struct learned *learned;         /* NULL also if mounted with `offline` */
        struct channel *channel;         /* since the mount point is mounted */
        struct passthrough *passthrough; /* NULL: opens are not asked for */
        const char *no_passthrough;      /* why; borrowed, for ever; NULL if there is */
        struct features features;        /* as the kernel agreed; constant from then on */
        struct control *control;
        struct attend *_Atomic attend; /* NULL: mounted with `offline`, or not yet there */
        struct metrics *metrics;       /* NULL: nobody wants them */
        int ready_fd;                  /* told once that the tree can be read; -1: nobody waits */
        atomic_bool mounted;           /* the kernel may know something */
        _Atomic uint64_t hits, misses; /* reads whose content was, or was not, in the store */
};

/** The FUSE operations; their userdata is the struct filesystem. */
extern const struct fuse_lowlevel_ops filesystem_operations;

/** The read operation; see fs/read.c. */
void filesystem_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file);

/** ENTRY as stat(2) shows it on this mount. */
void filesystem_stat(const struct filesystem *fs, const struct catalog_entry *entry, struct stat *ret);

/** A catalog_result or negative errno as the positive errno for a reply: nothing found is ENOENT. */
int filesystem_reply_error(int result);
