/*
 * What the units of the store share: its folders, the names of blobs, and the check of a blob's bytes.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "cache/store.h"

#define STORE_ALGORITHMS HASH_ALGORITHMS /* slots by enum hash_algorithm; that of HASH_NONE stays empty */

struct store_waiter {
        pthread_t thread;
        struct store_waiter *next;
};

/* How long to wait for a lock of another process. The next waits after one in vain are short: who is away is away for all. */
struct store_patience {
        int64_t most_ns;
        _Atomic int64_t vain_ns; /* when a wait was in vain last; 0: none since one that was not */
};

#define STORE_OWNER_MAX_NS (10 * NSEC_PER_SEC) /* for who brings a content, and is not seen to */

#define STORE_SIZE_LIMIT ((uint64_t)INT64_MAX / 2) /* of a content, so that sums of sizes do not wrap */

struct usage;
struct room;
struct pieces_table;

struct store {
        char *dir; /* owned; absolute */
        int dir_fd;
        int partial_fd;
        int quarantine_fd;
        int pins_fd;
        int blob_fds[STORE_ALGORITHMS];
        struct timespec stamp;       /* S3: the mtime of blobs verified in this boot */
        struct usage *usage;         /* owned: store_usage.c */
        struct room *room;           /* owned: store_room.c */
        struct pieces_table *pieces; /* owned: pieces.c */
        struct mutex mutex;
        struct condition waiter_left;
        struct store_waiter *waiters TSA_GUARDED(mutex); /* threads blocked in flock(2) */
        bool interrupted TSA_GUARDED(mutex);
        struct store_patience patience; /* for who brings a content */
        struct mutex revive_lock;       /* held over store_revive: one thread makes the folders */
};

#define STORE_BLOB_PATH_MAX (2 * HASH_BYTES + 2)
#define STORE_NAME_MAX      HASH_TEXT_MAX

/* What a walk finds: a blob, or what is here of one (cache/pieces.h). */
struct store_found {
        struct content_id id;
        bool part;
        int dirfd;
        const char *name; /* within DIRFD */
};

/* Called for every name that a blob or part may have. A non-zero return ends the walk and is returned. */
typedef int (*store_found_fn)(const struct store_found *found, void *arg);

/** "<2 hex>/<30 hex or more>", relative to the algorithm's folder. */
void store_blob_path(const struct content_id *id, char path[STORE_BLOB_PATH_MAX]);

/** "<algorithm>-<hex>": the name within partial/ and quarantine/. */
void store_flat_name(const struct content_id *id, char name[STORE_NAME_MAX]);

/** The folder of the algorithm's blobs, or -EINVAL for an id that names no content. */
int store_blob_dir(struct store *store, const struct content_id *id);

/**
 * After -ENOENT where only the cache folder itself can be missing: 0 if it is there (again), so that another try is worth it. No lock of a shard
 * may be held.
 */
int store_revive(struct store *store);

/** flock(2) that goes on after signals. */
int store_flock(int fd, int operation);

/** Whether NAME in folder DIRFD is still the file open as FD. */
bool store_is_current(int fd, int dirfd, const char *name);

/** S3: verified in this boot, and not written to since. */
bool store_is_stamped(const struct store *store, const struct stat *st);

/**
 * Reads all of FD, the blob ID, and compares: STORE_OK (and stamped), or STORE_MISS: it was wrong or unreadable and is in
 * quarantine now (S5, logged); negative errno: could not be checked. FD may be the negative errno with which it could not be opened.
 */
int store_check_blob(struct store *store, const struct content_id *id, int fd);

/** The stamp as a number: neither 0 nor 1. */
uint64_t store_boot_mark(const struct store *store);

/** Notes that the blob open as FD was asked for, unless that was noted not long ago. */
void store_touch(int fd, const struct stat *st);

/** Unblocks the waiting threads' signal; once per process. */
int store_wait_setup(void);

/**
 * Calls BLOCK, which waits in the kernel for a lock, until it returns anything but -EINTR, and returns that; -EINTR after store_interrupt; -EBUSY when it has waited for as long as the store's
 * patience allows.
 */
int store_wait(struct store *store, int (*block)(void *arg), void *arg);

/** The same by a PATIENCE of its own, and whatever is interrupted. */
int store_wait_bounded(struct store_patience *patience, int (*block)(void *arg), void *arg);

/** A BLOCK for the two above: flock(2) of the descriptor that ARG points at. */
int store_block_in_flock(void *arg);

bool store_is_interrupted(struct store *store);

/**
 * The blob for reading, without moving its atime: the descriptor or negative errno. -EWOULDBLOCK, if not MAY_WAIT: another process just looks whether it is open (store_is_open_elsewhere), which it may be stopped at.
 */
int store_open_blob(int dirfd, const char *path, bool may_wait);

/**
 * Whether anybody but FD has the file open or mapped. The kernel grants a lease for writing to the only opener of a file and to
 * no other, so that whoever opens a blob need not say so. Who opens it right now waits for a moment; the signal that would tell is one that
 * is ignored. On a file system without leases nothing counts as open: safe, as who has a file keeps it (S6).
 */
bool store_is_open_elsewhere(int fd);

/** S4: removes what nobody holds a lock on; adds to RET. */
int store_remove_dead_partials(struct store *store, struct store_evicted *ret);

/* ---- walks (store_walk.c) ---- */

/** Every blob and part whose name begins with byte FIRST; no such folder is no error. */
int store_walk_folder(struct store *store, enum hash_algorithm algorithm, uint8_t first, store_found_fn each,
                      void *arg);

/** Every blob and part. */
int store_walk_all(struct store *store, store_found_fn each, void *arg);

/** Every name in folder DIRFD but "." and ".."; a non-zero return ends the walk and is returned. */
int store_walk_names(int dirfd, int (*each)(const char *name, void *arg), void *arg);

/* ---- accounting (store_usage.c) ---- */

/*
 * DIR/usage, mapped by all processes: blobs and bytes of each folder of blobs (a "shard"), with the mark of S7, and what each process
 * has reserved for what it writes. A shard changes under its lock: a mutex among threads, a lock of a byte of the file among processes.
 */
#define USAGE_SHARDS ((STORE_ALGORITHMS - HASH_XXH3) * 256u)

/** Called with the folder locked against other openers. A disk that is full costs the sharing, not the store. */
int usage_open(struct store *store);

void usage_close(struct store *store);

/** From now on STORE, whose file is gone, counts in FRESH's, in which its own slot is taken over. */
void usage_move(struct store *store, struct store *fresh);

/** What a blob of SIZE bytes counts for. */
uint64_t usage_charge(uint64_t size);

unsigned usage_shard_of(const struct content_id *id);

/* A change of a shard, from usage_begin to usage_end. */
struct usage_turn {
        bool locked; /* false: another process has the lock, and has not given it back for two seconds: it is stopped, or its disk is stuck */
        bool counted; /* the count was right; who does something else than it says to usage_end sets it to false */
};

/**
 * Locks the shard and takes its mark off. Not locked, a change that is one step of the file system may be made nevertheless, and is counted later: the shard is left without a mark, whatever who has the lock does. Only
 * what is of use must not be evicted then: that it is not just being opened, or pinned, is what the lock is for.
 */
struct usage_turn usage_begin(struct store *store, unsigned shard);

/** Applies the change, puts the mark back if TURN is counted, unlocks. */
void usage_end(struct store *store, unsigned shard, struct usage_turn turn, int64_t bytes, int64_t blobs);

/* BYTES: what it counts for. */
typedef void (*usage_found_fn)(const struct store_found *found, const struct stat *st, uint64_t bytes,
                               void *arg);

/**
 * Counts the shard and marks it, unless a part could not be read; EACH (optional) hears of every blob and part, under the shard's lock. -EBUSY: another process has that, as above.
 */
int usage_count(struct store *store, unsigned shard, usage_found_fn each, void *arg);

/** As usage_count; a shard that another process keeps locked is walked nevertheless, and not marked. */
int usage_look(struct store *store, unsigned shard, usage_found_fn each, void *arg);

/** Counts those that have no mark and can be locked, unless *STOP. */
int usage_count_missing(struct store *store, const atomic_bool *stop);

/** Notes what is about to be written, or, negative, no longer is; UNWRITTEN is the part that takes no disk yet. */
void usage_reserve(struct store *store, int64_t bytes, int64_t unwritten);

void usage_set_quota(struct store *store, uint64_t quota);

struct usage_sum {
        uint64_t bytes, blobs;
        uint64_t reserved, unwritten;
        uint64_t quota;     /* as struct store_usage */
        unsigned uncounted; /* shards without the mark */
};

void usage_sum(struct store *store, struct usage_sum *ret);

/** Forgets what dead processes had reserved. */
void usage_drop_dead(struct store *store);

/* ---- room (store_room.c, store_evict.c) ---- */

int room_new(struct store *store);
void room_free(struct store *store);
void room_interrupt(struct store *store);

/** Reserves SIZE bytes and makes room for them: 0; STORE_BUSY (only if not MAY_WAIT), -EINTR: nothing is reserved. */
int room_take(struct store *store, uint64_t size, bool may_wait);

/** Has the thread, if there is one, count what has no mark. */
void room_recount(struct store *store);

/** Takes FD over, which keeps a blob just published open (S6) until somebody here asks for it, or many have come after it. */
void room_hold(struct store *store, const struct content_id *id, int fd);

/** Closes all that room_hold keeps open: for who has run out of descriptors. */
void room_drop_held(struct store *store);

/** Somebody has the blob. */
void room_unhold(struct store *store, const struct content_id *id);

/**
 * One pass over all blobs: evicts the least recently used until WANTED bytes are gone. CHECK_OPEN: knows while choosing which ones are open,
 * so that these do not hide others; dearer. YOUNG_NS: what was published less long ago stays. 0 or negative errno; -ECANCELED: *STOP.
 */
struct evict_pass {
        uint64_t wanted;
        int64_t young_ns;
        bool check_open;
        const atomic_bool *stop;
};

int evict_run(struct store *store, const struct evict_pass *pass, struct store_evicted *ret);

/* ---- contents by pieces (pieces.c) ---- */

int pieces_table_new(struct store *store);

/** No handle is in use any more. */
void pieces_table_free(struct store *store);

/** What the part FOUND counts for; as part_charge. */
uint64_t pieces_charge(const struct store_found *found, const struct stat *st, bool *exact);

/** The part is of no use any more, if there is one: removes it. The blob's folder is locked; returns how many bytes less that is, as part_charge. */
int64_t pieces_drop_part(struct store *store, const struct content_id *id, bool *exact);

/** Reads again all pieces of the part FOUND that are said to be here: 0 or negative errno. RET_WRONG: how many were wrong, and are missing now. */
int pieces_verify_part(struct store *store, const struct store_found *found, uint64_t *ret_wrong);

/** Removes the part FOUND if it holds nothing that could be used, and nobody has it open; adds to RET. */
int pieces_collect_part(struct store *store, const struct store_found *found, struct store_evicted *ret);

/** Wakes who waits for another thread's claim. */
void pieces_interrupt(struct store *store);

/* ---- pins (store_pins.c) ---- */

bool pins_has(struct store *store, const struct content_id *id);

struct pins {
        struct content_id *ids; /* owned, sorted */
        size_t count, capacity;
};

int pins_load(struct store *store, struct pins *ret);
void pins_release(struct pins *pins);
bool pins_find(const struct pins *pins, const struct content_id *id);
