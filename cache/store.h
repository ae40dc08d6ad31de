/*
 * The content store: complete, verified contents ("blobs") in a folder, each named by its hash, shared by all mounts of
 * the machine that use the same cache folder. It knows nothing of paths, masters or FUSE.
 *
 * Invariants (tests cite them):
 *  S1 A file under blobs/ was complete and matched its name when it was put there by rename(2).
 *  S2 Nothing writes to a blob ever again; the file is read-only.
 *  S3 A blob is served without reading it only if its mtime is the stamp of the running boot; otherwise its bytes are verified
 *     once and stamped. So neither a power cut nor a write by somebody else yields a wrong byte, and no fsync is needed.
 *  S4 A partial content is owned by who holds flock(2) on it; a dead owner's is taken over or removed by the next.
 *  S5 A blob that does not match its name is moved to quarantine/, reported, and counts as missing.
 *  S6 Eviction takes the least recently used blobs first, and none that a process has open or that is pinned. A blob that is evicted
 *     while somebody opens it stays readable for who has it: eviction removes names, never bytes.
 *  S7 A folder of blobs whose count in DIR/usage bears the mark of the running boot is counted right. The mark is off while a
 *     blob comes or goes; if its process dies meanwhile, or a blob comes without the folder's lock, because a process that is stopped
 *     has it, it stays off, and the folder is counted anew before it matters.
 *  S8 A quota fails no write: room is made before, and where none can be made the write goes on beyond the quota. -ENOSPC means that the disk
 *     is full although all that may go has gone.
 *
 * Layout: DIR/format (text, "fsyncfs-store 1"), DIR/blobs/<algorithm>/<2 hex>/<30 hex> (with ".part": cache/pieces.h), DIR/partial/,
 * DIR/quarantine/, DIR/pins/, DIR/usage. A blob's atime is when it was last asked for, to ten minutes; nothing else moves it.
 * Thread-safe; processes share it through the file system alone.
 */
#pragma once

#include "base/hash.h"

struct store;
struct store_writer;

/**
 * Opens the store in folder DIR, made (0700) if missing. -EACCES, -EROFS, -ENOSPC and so on; -EPROTONOSUPPORT: a format this
 * build does not know; the folder is probed by writing, so that an unwritable one is found now.
 */
int store_open(const char *dir, struct store **ret);

/** Writes DIR's format anew if it is damaged, and not just another build's (-EPROTONOSUPPORT): for after store_open has refused it. */
int store_mend_format(const char *dir);

/** NULL is fine. Writers must have ended. */
void store_free(struct store *store);

/** A size: BYTES, or PERCENT of the cache's file system if that is not 0. */
struct store_amount {
        uint64_t bytes;
        unsigned percent;
};

struct store_limits {
        struct store_amount
                quota; /* of all blobs; 0: none. Each process keeps its own, so the smallest rules */
        struct store_amount floor; /* what stays free on the file system; 0: none */
};

/** 5 % or 1 GiB of the file system, whichever is smaller: an amount for `floor` that says so. */
#define STORE_FLOOR_DEFAULT ((struct store_amount){ .bytes = (uint64_t)1 << 30, .percent = 5 })

/**
 * Keeps the store within LIMITS from now on, by a thread of its own ("store-room", ended by store_free), which also counts the blobs
 * if nobody has since the machine started. Once, before the first writer. With a percentage and bytes the smaller counts.
 */
int store_limit(struct store *store, const struct store_limits *limits);

/**
 * LET_GO is called, from a thread of the store, when nothing can be evicted because it is open: it should close what it keeps open without
 * need. NULL: nobody is any more; a call under way has ended on return.
 */
void store_on_pressure(struct store *store, void (*let_go)(void *arg), void *arg);

enum store_result {
        STORE_OK = 0,
        STORE_MISS = 1,       /* the content is not here */
        STORE_HAVE = 2,       /* it is here already: nothing to write */
        STORE_MISMATCH = 3,   /* the bytes written are not the content named */
        STORE_UNVERIFIED = 4, /* it is here, but was not verified since the machine started */
        STORE_BUSY = 5,       /* store_write_try: it would have to wait */
};

/** An O_RDONLY descriptor of the whole, verified content, the caller's: STORE_OK, STORE_MISS or negative errno. */
int store_get(struct store *store, const struct content_id *id, int *ret_fd);

/** The same without ever reading the blob: quick, for who must not wait for a disk. STORE_UNVERIFIED: store_get would read it. */
int store_get_verified(struct store *store, const struct content_id *id, int *ret_fd);

/** The blob open as FD could not be read: who asks for it next verifies it first, and quarantines it (S5). */
void store_doubt(int fd);

/** The blob open as FD, which is about to be closed, was in use until AGO_NS ago: for who keeps blobs open for long. */
void store_note_use(int fd, int64_t ago_ns);

/** Bytes written so far of a content that some process is writing; 0: nobody is. */
uint64_t store_partial_size(struct store *store, const struct content_id *id);

/** Whether a blob is there, without verifying it. */
bool store_has(struct store *store, const struct content_id *id);

/**
 * Starts writing a content of SIZE bytes. Blocks while another thread or process is writing the same one (and then usually
 * returns STORE_HAVE), and while room is made for it (S8). STORE_OK with a writer, STORE_HAVE, -ENOSPC, -EINTR (store_interrupt), -EBUSY (who is writing it
 * has brought nothing for ten seconds), and so on.
 */
int store_write_begin(struct store *store, const struct content_id *id, uint64_t size,
                      struct store_writer **ret);

/** The same without ever waiting: STORE_BUSY where store_write_begin would. For who serves many contents on one thread. */
int store_write_try(struct store *store, const struct content_id *id, uint64_t size,
                    struct store_writer **ret);

/** Appends bytes. -EFBIG: more than SIZE. -ENOSPC and so on; the writer then only takes abort. */
int store_write(struct store_writer *writer, const void *data, size_t len);

/**
 * Verifies all that was written against id and size and publishes it: STORE_OK, STORE_MISMATCH (nothing published) or negative
 * errno. Frees the writer in every case.
 */
int store_write_commit(struct store_writer *writer);

/** Drops what was written and frees the writer; NULL is fine. */
void store_write_abort(struct store_writer *writer);

/** From now on every store_write_begin that waits or would wait returns -EINTR: for shutting down. Thread-safe. */
void store_interrupt(struct store *store);

struct store_stats {
        uint64_t blobs;
        uint64_t blob_bytes; /* apparent sizes */
        uint64_t pinned;     /* blobs with a pin */
        uint64_t pinned_bytes;
        uint64_t partials;      /* contents that are not whole yet (cache/pieces.h), or being written */
        uint64_t partial_bytes; /* what they count for */
        uint64_t quarantined;
        uint64_t verified; /* store_verify: blobs whose bytes were read and are right */
        uint64_t
                damaged; /* store_verify: blobs moved to quarantine, and partials with pieces that were wrong */
};

/** Walks the store and counts. Negative errno if it cannot be read. */
int store_stat(struct store *store, struct store_stats *ret);

/**
 * Reads every blob, and every piece that is here of others, and quarantines or forgets what does not match; ON_DAMAGED (optional) hears of
 * each content.
 */
int store_verify(struct store *store, void (*on_damaged)(const char *name, void *arg), void *arg,
                 struct store_stats *ret);

/** Calls EACH for every blob (unverified); a non-zero return ends the walk and is returned. */
int store_list(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
               void *arg);

/** The same for every content of which some pieces may be here (cache/pieces.h says which). */
int store_list_parts(struct store *store, int (*each)(const struct content_id *id, void *arg), void *arg);

struct store_usage {
        uint64_t blobs;
        uint64_t
                bytes; /* of blobs, and of what is here of others, rounded up to STORE_CHARGE_BYTES: what a quota is compared with */
        uint64_t reserved; /* what is being written will come to, by all processes */
        uint64_t quota;    /* the smallest of the processes that have the store open; 0: none */
        bool counted;      /* false: BYTES is from before the machine started, or still being counted */
};

#define STORE_CHARGE_BYTES 4096u

/** What the store holds, without a walk; what is not counted yet will be soon, if the store has limits. */
void store_get_usage(struct store *store, struct store_usage *ret);

/** The disk is full: evicts BYTES beyond what limits ask. 0: something went; -ENOSPC: nothing may go, or the store has no limits; -EINTR. */
int store_make_room(struct store *store, uint64_t bytes);

struct store_evicted {
        uint64_t blobs;
        uint64_t bytes;
};

/** Evicts until the blobs are TO_BYTES or less (as counted by store_usage), or no more may go (S6). Adds to RET. */
int store_evict(struct store *store, uint64_t to_bytes, struct store_evicted *ret);

/** From now on the content is not evicted; it need not be here yet. 0 or negative errno; -EBUSY: an eviction that another process has begun, and does not end, may still take it. */
int store_pin(struct store *store, const struct content_id *id);

/** STORE_OK; STORE_MISS: there was no pin. */
int store_unpin(struct store *store, const struct content_id *id);

/** As store_list, for pins: SIZE is that of the content, 0 if it is not here. */
int store_list_pins(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
                    void *arg);

/** Removes what is in quarantine/, what dead writers left, and parts of which nobody can use anything. Adds to RET. */
int store_collect(struct store *store, struct store_evicted *ret);
