/*
 * A workspace straight from its master, without a mount: what ls, cat and export stand on. The worker's own engine (session, syncer, fetch) over a
 * catalog in a temporary folder, which goes with it, and the machine's cache if there is one: contents that are here are not asked for, and what comes
 * stays. Without a cache they lie in the temporary folder as well.
 *
 * SIGINT, SIGTERM and SIGHUP, which are blocked meanwhile, end every wait with -ECANCELED; remote_close then removes the folder, and the process dies of the
 * signal: so it does without it after some seconds, as who reads our output may never go on. One thread uses a remote.
 */
#pragma once

#include "base/failure.h"
#include "cache/catalog.h"
#include "fs/options.h"
#include "sync/fetch.h"

struct remote;

struct remote_options {
        const char *source;          /* HOST[:PORT][,HOST...]:/SPIDER[/PATH] */
        struct mount_options *mount; /* taken over (emptied) */
        bool cache_named;            /* its cache was asked for, and not only the default */
        bool folder; /* PATH is most likely a folder, and all below it is wanted; otherwise its parent is listed */
        bool whole; /* wait until all names are here; otherwise folders come as they are looked at */
};

/**
 * Connects and finds PATH: RET_TOP is its entry, the workspace's root or what PATH names. -ENOENT: there is no such spider or path; -EHOSTUNREACH,
 * -ETIMEDOUT, -ECONNREFUSED, -EACCES, … as session_connect; a line in FAILURE. Blocks.
 */
int remote_open(const struct remote_options *options, struct remote **ret, struct catalog_entry *ret_top,
                struct failure *failure);

/** Frees; does not return if a signal has come. CODE, which is also what it returns. NULL is fine. */
int remote_close(struct remote *remote, int code);

/** Whether a signal has come: what fails then fails for that. */
bool remote_is_interrupted(const struct remote *remote);

struct catalog *remote_catalog(struct remote *remote);
struct session *remote_session(struct remote *remote);

/** What all exchanges since the beginning have brought. */
void remote_get_stats(struct remote *remote, struct fetch_stats *ret);

/** The children of FOLDER by name, each borrowed for the call; what EACH returns other than 0 ends it and is returned. Fetches them if need be. */
int remote_each(struct remote *remote, const struct catalog_entry *folder,
                int (*each)(const struct catalog_entry *child, void *arg), void *arg);

/* ---- the tree: remote_walk.c ---- */

/** One entry; all is borrowed for the call. */
struct remote_visit {
        const struct catalog_entry *entry;
        const char *path; /* from the top on, NUL-terminated; "" for the top itself */
        size_t path_len;
        bool leaving; /* a folder, for the second time: all in it was visited */
};

/** TOP and all below it, folders before what is in them, by name. What VISIT returns other than 0 ends it and is returned. */
int remote_walk(struct remote *remote, const struct catalog_entry *top,
                int (*visit)(const struct remote_visit *visit, void *arg), void *arg);

/* ---- contents: remote_read.c ---- */

/** A content on its way; zeroed at first. */
struct remote_wait {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct remote *remote;
        struct fetch_content *content; /* a reference; NULL: it is in the store, or has not come */
        int error;
        bool begun, over;
};

/** Begins to fetch small file ENTRY before it is its turn; what is here, or comes by pieces, is left alone. Does not block. */
void remote_want(struct remote *remote, const struct catalog_entry *entry, struct remote_wait *wait);

/** Ends WAIT, which must be before its memory goes. Blocks for a moment. */
void remote_drop(struct remote *remote, struct remote_wait *wait);

/**
 * All bytes of file ENTRY to SINK, in order and verified; AHEAD as remote_want left it, or zeroed; it is dropped. What SINK returns below 0 ends it. -ESTALE: the
 * master has another content there by now (remote_follow); -EIO: the master could not name it, or what came was damaged; errors of fetch_want.
 */
int remote_read(struct remote *remote, const struct catalog_entry *entry, struct remote_wait *ahead,
                int (*sink)(const void *data, size_t len, void *arg), void *arg);

/** After -ESTALE: the file that is at ENTRY's path now. -ESTALE: none, or the same. */
int remote_follow(struct remote *remote, struct catalog_entry *entry);
