/*
 * Reading small files ahead. A task that goes through a tree (tar, grep -r, an interpreter's imports) reads files in the tree's order, and each
 * first read costs a round trip to the daemon, maybe one to the master. When reads follow that order, the files that come next are brought, from the
 * store or from the master, and pushed into the kernel's page cache, so that their reads ask nobody.
 *
 * What is read from the page cache is not seen here. So some files, the markers, are brought but not pushed: the read of one tells how far the
 * task has come, and has more brought. A reader that stops, or goes elsewhere, therefore costs no more than one window.
 *
 * Thread-safe. Nothing but its own threads ever waits for a push.
 */
#pragma once

#include "sync/fetch.h"

struct readahead;

struct readahead_options {
        struct catalog *catalog; /* all borrowed for its life */
        struct store *store;
        struct fetch *fetch; /* NULL: only what is in the store */
        /*
         * Puts the whole content of INO into the kernel's page cache. 0; -ENOENT: the kernel does not know the number (yet); or another negative
         * errno: it cannot be. From threads of this module, never under a lock; may wait for a read of the same page.
         */
        int (*push)(uint64_t ino, const void *data, size_t len, void *arg);
        void *arg;
};

struct readahead_stats {
        uint64_t files, bytes; /* pushed */
        uint64_t hits;         /* of these, files that a task has passed */
        uint64_t wasted;       /* and files that were given up before one did */
};

int readahead_new(const struct readahead_options *options, struct readahead **ret);

/** Ends its threads. The fetch must be freed after this and before readahead_free. NULL is fine. */
void readahead_stop(struct readahead *readahead);

/** NULL is fine. */
void readahead_free(struct readahead *readahead);

/** A task reads INO from its beginning, and the kernel has asked for it. Quick; does not block. */
void readahead_note_read(struct readahead *readahead, uint64_t ino);

/** The kernel has been told what is in FOLDER, inode numbers included. Quick; does not block. */
void readahead_note_listed(struct readahead *readahead, uint64_t folder);

void readahead_get_stats(struct readahead *readahead, struct readahead_stats *ret);
