/*
 * What the units of the store share: its folders, the names of blobs, and the check of a blob's bytes.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "cache/store.h"

#define STORE_ALGORITHMS 3 /* slots by enum hash_algorithm; that of HASH_NONE stays empty */

struct store_waiter {
        pthread_t thread;
        struct store_waiter *next;
};

struct usage;
struct room;

struct store {
        int dir_fd;
        int partial_fd;
        int quarantine_fd;
        int pins_fd;
        int blob_fds[STORE_ALGORITHMS];
        struct timespec stamp; /* S3: the mtime of blobs verified in this boot */
        struct usage *usage;   /* owned: store_usage.c */
        struct room *room;     /* owned: store_room.c */
        struct mutex mutex;
        struct condition waiter_left;
        struct store_waiter *waiters TSA_GUARDED(mutex); /* threads blocked in flock(2) */
        bool interrupted TSA_GUARDED(mutex);
};

#define STORE_BLOB_PATH_MAX (2 * HASH_BYTES + 2)
#define STORE_NAME_MAX      HASH_TEXT_MAX

/* Called for every name that a blob may have. A non-zero return ends the walk and is returned. */
typedef int (*store_blob_fn)(const struct content_id *id, int dirfd, const char *name, void *arg);

/** "<2 hex>/<30 hex>", relative to the algorithm's folder. */
void store_blob_path(const struct content_id *id, char path[STORE_BLOB_PATH_MAX]);

/** "<algorithm>-<32 hex>": the name within partial/ and quarantine/. */
void store_flat_name(const struct content_id *id, char name[STORE_NAME_MAX]);

/** The folder of the algorithm's blobs, or -EINVAL for an id that names no content. */
int store_blob_dir(struct store *store, const struct content_id *id);

/** flock(2) that goes on after signals. */
int store_flock(int fd, int operation);

/** Whether NAME in folder DIRFD is still the file open as FD. */
bool store_is_current(int fd, int dirfd, const char *name);

/**
 * Reads all of FD, the blob ID, and compares: STORE_OK (and stamped), or STORE_MISS: it was wrong or unreadable and is in
 * quarantine now (S5, logged); negative errno: could not be checked.
 */
int store_check_blob(struct store *store, const struct content_id *id, int fd);

/** Unblocks the waiting threads' signal; once per process. */
int store_wait_setup(void);

/** The blob for reading, without moving its atime: the descriptor or negative errno. */
int store_open_blob(int dirfd, const char *path);

/** S4: removes what nobody holds a lock on; adds to RET. */
int store_remove_dead_partials(struct store *store, struct store_evicted *ret);

/* ---- walks (store_walk.c) ---- */

/** Every blob whose name begins with byte FIRST; no such folder is no error. */
int store_walk_folder(struct store *store, enum hash_algorithm algorithm, uint8_t first, store_blob_fn each,
                      void *arg);

/** Every name in folder DIRFD but "." and ".."; a non-zero return ends the walk and is returned. */
int store_walk_names(int dirfd, int (*each)(const char *name, void *arg), void *arg);

/* ---- accounting (store_usage.c) ---- */

/*
 * DIR/usage, mapped by all processes: blobs and bytes of each folder of blobs (a "shard"), with the mark of S7, and what each process
 * has reserved for what it writes. A shard changes under its lock: a mutex among threads, a lock of a byte of the file among processes.
 */
#define USAGE_SHARDS 512u

/** Called with the folder locked against other openers. A disk that is full costs the sharing, not the store. */
int usage_open(struct store *store);

void usage_close(struct store *store);

/** What a blob of SIZE bytes counts for. */
uint64_t usage_charge(uint64_t size);

unsigned usage_shard_of(const struct content_id *id);

/** Locks the shard and takes its mark off; returns whether it had one: usage_end wants to know. */
bool usage_begin(struct store *store, unsigned shard);

/** Applies the change, puts the mark back if COUNTED, unlocks. */
void usage_end(struct store *store, unsigned shard, bool counted, int64_t bytes, int64_t blobs);

typedef void (*usage_blob_fn)(const struct content_id *id, int dirfd, const char *name, const struct stat *st,
                              void *arg);

/** Counts the shard and marks it; EACH (optional) hears of every blob, under the shard's lock. */
int usage_count(struct store *store, unsigned shard, usage_blob_fn each, void *arg);

/** Counts those that have no mark, unless *STOP. */
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

/** The disk is full: evicts BYTES beyond what limits ask. 0: something went; -ENOSPC: nothing may go; -EINTR. */
int room_make(struct store *store, uint64_t bytes);

/** Takes FD over, which keeps a blob just published open (S6) until somebody here asks for it, or many have come after it. */
void room_hold(struct store *store, const struct content_id *id, int fd);

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

/* ---- pins (store_pins.c) ---- */

bool pins_has(struct store *store, const struct content_id *id);

struct pins {
        struct content_id *ids; /* owned, sorted */
        size_t count, capacity;
};

int pins_load(struct store *store, struct pins *ret);
void pins_release(struct pins *pins);
bool pins_find(const struct pins *pins, const struct content_id *id);
