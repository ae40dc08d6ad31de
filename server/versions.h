/*
 * The present version of each workspace, and one pass however many ask for it.
 *
 * A request is answered by what is known to be no older than the request: a pass that began later, or the watcher's word that nothing
 * happened since the last one; what the watcher names is looked at, and nothing else (a partial pass). At any time one pass at most runs for a
 * workspace and one waits; all requests that come meanwhile share the one that waits.
 *
 * As long as somebody subscribes to a workspace, what the watcher reports is looked at by itself (after a moment of quiet), and a stat pass
 * over everything is made every so often whatever the watcher says.
 * Thread-safe.
 */
#pragma once

#include "server/pool.h"
#include "server/tree.h"
#include "server/watcher.h"
#include "server/workspace.h"

struct versions;

struct versions_options {
        const struct workspace_root *root; /* borrowed */
        struct pool *pool;                 /* borrowed; freed before versions_free */
        const char *dir;                   /* where the trees are kept; copied */
        enum hash_algorithm hash;          /* the base of their hashes; HASH_NONE: HASH_XXH3 */
        enum watcher_kind watch;
        unsigned watch_drop_percent; /* for tests */
        int64_t stat_pass_ms;        /* how often everything is looked at, as long as anybody is interested */
        uint64_t journal_max;        /* 0: the default */
};

int versions_new(const struct versions_options *options, struct versions **ret);

/** Ends the watcher and the timer: no new pass begins by itself. Before the pool is freed. */
void versions_stop(struct versions *versions);

/** No pass may be under way, all views put back. NULL is fine. */
void versions_free(struct versions *versions);

/** Embedded in the asker's state, which lives until `done`. */
struct versions_request {
        struct versions_request *next; /* owned by versions meanwhile */
        /* Called exactly once, from a thread of the pool or from within versions_get. 0: it is there, and versions_view has it, or a newer one by
         * then; or the negative errno of workspace_open_folder or of the pass. Must not block for long. */
        void (*done)(struct versions_request *request, int error);
};

enum versions_freshness {
        VERSIONS_FRESH,     /* as of now; the watcher's word will do */
        VERSIONS_STAT_PASS, /* as of a walk begun now */
        VERSIONS_RECENT,    /* at most max_age_ms old */
};

/** Asks for SPIDER. Does not block. -ENOMEM: `done` does not follow. */
int versions_get(struct versions *versions, const char *spider, enum versions_freshness freshness,
                 int64_t max_age_ms, struct versions_request *request);

/**
 * A view of SPIDER's present version, now the caller's: TREE_OK; TREE_NONE (there was no pass, or its outcome is being closed); negative errno. Not before it is
 * used: it has descriptors of its own, and thousands may have asked.
 */
int versions_view(struct versions *versions, const char *spider, struct tree_view **ret);

/**
 * The row of file PATH of SPIDER as the last pass saw it: TREE_OK, TREE_NONE (also if there was no pass), negative errno. For downloads: whether the
 * stamp still fits is for the caller to see. RET's target is not valid.
 */
int versions_find(struct versions *versions, const char *spider, const char *path, struct tree_row *ret);

/** Somebody found PATH of SPIDER to be other than the last version says: the next pass looks at it, whatever the watcher says, and reads it. */
void versions_suspect(struct versions *versions, const char *spider, const char *path);

/**
 * The folder that SPIDER's tree lies in, appended to RET: for what else is to be kept as long as that. -ENOENT: it has none (yet). Reads a
 * small file.
 */
int versions_place(struct versions *versions, const char *spider, struct buffer *ret);

/** The MD5 of a file. */
struct versions_md5 {
        const char *path; /* borrowed */
        struct tree_stamp stamp;
        uint8_t md5[HASH_MD5_BYTES];
};

/** Keeps the MD5s of N files, in one transaction: of each whose stamp is still that. RET_STORED (may be NULL): how many. Negative errno: none. */
int versions_store_md5s(struct versions *versions, const char *spider, const struct versions_md5 *items,
                        size_t n, size_t *ret_stored);

/**
 * The list of the pieces of content ID (by pieces) of SIZE bytes, proved, in place of what is in RET: TREE_OK, TREE_NONE (the last version has
 * no such content, or its list was lost), negative errno.
 */
int versions_find_list(struct versions *versions, const char *spider, const struct content_id *id,
                       uint64_t size, struct buffer *ret);

/** Keeps such a list, as it was lost: TREE_OK, TREE_NONE (the last version has no such content), negative errno. */
int versions_store_list(struct versions *versions, const char *spider, const struct content_id *id,
                        const uint8_t *list, size_t len);

/** Somebody who wants to hear of new versions. */
struct versions_subscriber {
        /* A new version is there (versions_get RECENT has it). From a thread of the pool, never under a lock; must not block. */
        void (*changed)(struct versions_subscriber *subscriber);
        struct versions_subscriber *next;
};

int versions_subscribe(struct versions *versions, const char *spider, struct versions_subscriber *subscriber);

/** Afterwards `changed` is not called any more. */
void versions_unsubscribe(struct versions *versions, const char *spider,
                          struct versions_subscriber *subscriber);

/* ---- what is known, for who looks on ---- */

struct versions_summary {
        char spider[PATH_NAME_MAX + 1];
        struct tree_version version;
        int64_t changed_sec; /* time of day at which it came to be the present one; 0: before anybody asked for it */
        unsigned subscribers; /* who is told of changes */
};

/** Those of the workspaces that have been asked for which come first by name: how many are in RET; RET_ALL gets how many there are. -ENOMEM. */
int versions_list(struct versions *versions, struct versions_summary *ret, size_t max, size_t *ret_all);

/** The version of PATH ("": all of SPIDER), as a mount of it names it, as the last pass saw it: TREE_OK, TREE_NONE, negative errno. */
int versions_find_root(struct versions *versions, const char *spider, const char *path,
                       uint8_t ret[HASH_BYTES]);

/** Time of day at which the first version after REVISION came, or the oldest that is still known; 0: there is none. */
int64_t versions_outdated_sec(struct versions *versions, const char *spider, uint64_t revision);

/** Whether DIGEST is of SPIDER's version BASE, a digest too, or of one that came after it, as far as that is still known. */
bool versions_follows(struct versions *versions, const char *spider, const uint8_t base[HASH_BYTES],
                      const uint8_t digest[HASH_BYTES]);

/** Forgets workspaces that nobody has asked for since IDLE_MS and nobody subscribes to. Call it now and then. */
void versions_expire(struct versions *versions, int64_t idle_ms);
