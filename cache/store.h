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
 *
 * Layout: DIR/format (text, "fsyncfs-store 1"), DIR/blobs/<algorithm>/<2 hex>/<30 hex>, DIR/partial/, DIR/quarantine/.
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

/** NULL is fine. Writers must have ended. */
void store_free(struct store *store);

enum store_result {
        STORE_OK = 0,
        STORE_MISS = 1,       /* the content is not here */
        STORE_HAVE = 2,       /* it is here already: nothing to write */
        STORE_MISMATCH = 3,   /* the bytes written are not the content named */
        STORE_UNVERIFIED = 4, /* it is here, but was not verified since the machine started */
};

/** An O_RDONLY descriptor of the whole, verified content, the caller's: STORE_OK, STORE_MISS or negative errno. */
int store_get(struct store *store, const struct content_id *id, int *ret_fd);

/** The same without ever reading the blob: quick, for who must not wait for a disk. STORE_UNVERIFIED: store_get would read it. */
int store_get_verified(struct store *store, const struct content_id *id, int *ret_fd);

/** Bytes written so far of a content that some process is writing; 0: nobody is. */
uint64_t store_partial_size(struct store *store, const struct content_id *id);

/** Whether a blob is there, without verifying it. */
bool store_has(struct store *store, const struct content_id *id);

/**
 * Starts writing a content of SIZE bytes. Blocks while another thread or process is writing the same one (and then usually
 * returns STORE_HAVE). STORE_OK with a writer, STORE_HAVE, -ENOSPC, -EINTR (store_interrupt), and so on.
 */
int store_write_begin(struct store *store, const struct content_id *id, uint64_t size,
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
        uint64_t partials;
        uint64_t quarantined;
        uint64_t verified; /* store_verify: blobs whose bytes were read and are right */
        uint64_t damaged;  /* store_verify: blobs moved to quarantine */
};

/** Walks the store and counts. Negative errno if it cannot be read. */
int store_stat(struct store *store, struct store_stats *ret);

/** Reads every blob and quarantines what does not match; ON_DAMAGED (optional) hears of each. */
int store_verify(struct store *store, void (*on_damaged)(const char *name, void *arg), void *arg,
                 struct store_stats *ret);

/** Calls EACH for every blob (unverified); a non-zero return ends the walk and is returned. */
int store_list(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
               void *arg);
