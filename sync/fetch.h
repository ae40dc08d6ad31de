/*
 * The one queue for all contents that reads wait for. Equal wants are joined: a content is downloaded once
 * however many wait for it, in this process and, through the store's locks, on this machine. Waiting costs no
 * thread: whoever waits is called back. Every wait ends: with the content, with an error, by its deadline, or
 * by fetch_interrupt.
 *
 * A content of a master of ours that has pieces (base/pieces.h) is wanted piece by piece, by who has it open as a struct fetch_large.
 *
 * Thread-safe. Callbacks come from the fetch's own threads or from fetch_want and fetch_want_piece, never under its lock.
 */
#pragma once

#include <stdatomic.h>

#include "cache/catalog.h"
#include "cache/pieces.h"
#include "sync/session.h"
#include "sync/window.h"

struct fetch;
struct fetch_job;
struct fetch_large;

/** A small content or a piece, whole and verified; immutable. Whoever keeps it beyond `done` takes a reference. */
struct fetch_content {
        atomic_uint refs;
        size_t len;
        const uint8_t *data;
        struct rpc_message *message; /* owned: DATA lies in it; NULL: in OWN */
        uint8_t own[];
};

struct fetch_content *fetch_content_ref(struct fetch_content *content);

/** NULL is fine. */
void fetch_content_unref(struct fetch_content *content);

/** Who goes first. */
enum fetch_class {
        FETCH_READ = 0,     /* a task is waiting */
        FETCH_AHEAD = 1,    /* will probably be read next */
        FETCH_PREFETCH = 2, /* somebody asked for it to be here some time */
};

/** Whether somebody else had wanted the same before, and how urgently. */
enum fetch_joined {
        FETCH_JOINED_NONE = 0,
        FETCH_JOINED_READ = 1 + FETCH_READ,
        FETCH_JOINED_AHEAD = 1 + FETCH_AHEAD,
        FETCH_JOINED_PREFETCH = 1 + FETCH_PREFETCH,
};

/** One wait, embedded in what waits; zeroed before first use; `done` may want another content with it. Its fields belong to the fetch until `done` was
 * called, but for `done` and `class`, which the caller sets. */
struct fetch_waiter {
        void (*done)(struct fetch_waiter *waiter, int error); /* exactly once: 0 or a negative errno */
        enum fetch_class class;
        struct fetch_content
                *content; /* for `done`, without an error: the bytes, borrowed; NULL: they are in the store */
        enum fetch_joined joined; /* what the want has met; for `done`, and afterwards */
        struct fetch_job *job;
        int64_t deadline_ns;
        bool interrupted;
        bool ending;                      /* taken from its job: `done` is about to be called */
        struct fetch_waiter *prev, *next; /* among the job's waiters */
        struct fetch_waiter *deadline_prev, *deadline_next; /* among all, the earliest deadline first */
};

struct fetch_options {
        struct session *session; /* all borrowed for the fetch's life */
        struct catalog *catalog;
        struct store *store;
        int timeout_ms;   /* a wait fails when its content has made no progress for so long */
        bool offline;     /* never ask the master: what is not here fails with -EHOSTUNREACH */
        unsigned threads; /* downloads at the same time */
        unsigned
                held_max; /* contents whose partial files may be open at the same time; 0: as many as are of use */
        /* Optional. The master's file no longer holds what the catalog names: brings the catalog up to date,
         * waits for that. */
        int (*refresh)(void *arg);
        void *refresh_arg;
};

struct fetch_stats {
        uint64_t files,
                bytes; /* downloaded and verified; a large content counts as a file with its first piece */
        uint64_t adopted_bytes; /* of pieces taken over from the content that a file had before */
        uint64_t failures;      /* waits that ended with an error other than an interrupt */
};

int fetch_new(const struct fetch_options *options, struct fetch **ret);

/** Ends every wait with -ECANCELED and stops the threads; fetch_want fails with it from now on. NULL is fine. */
void fetch_stop(struct fetch *fetch);

/** Stops if need be, frees. No large content may be open any more. NULL is fine. */
void fetch_free(struct fetch *fetch);

/**
 * Waits for the content of file ENTRY, or for the children of folder ENTRY, which is pending; LOCAL: it is in the store and only has to be verified.
 * DONE and CLASS are set by the caller before. 0: `done` will be called, maybe it was already, from this very call if the bytes are at hand. Negative
 * errno (-EINTR after an earlier fetch_interrupt, -EHOSTUNREACH, -ENOMEM; -EOPNOTSUPP: nothing can be had from this master but what a task waits for):
 * it will not. A wait that is not of class FETCH_READ may end with -EBUSY: another process is fetching it. Of a content that has pieces all of it is
 * downloaded: fetch_want_piece is the better way.
 */
int fetch_want(struct fetch *fetch, const struct catalog_entry *entry, bool local,
               struct fetch_waiter *waiter);

/** Has WAITER end soon with -EINTR, also if fetch_want has not been called yet. Does not block, calls nothing
 * back itself. */
void fetch_interrupt(struct fetch *fetch, struct fetch_waiter *waiter);

/* ---- contents that have pieces ---- */

/**
 * Opens the content of ENTRY, of which not all is here: STORE_OK with a reference in RET; STORE_HAVE: all of it is here; STORE_MISS: nothing is, and the
 * mount is offline. Negative errno as store_pieces_open. Looks into store and catalog; never waits for a master.
 */
int fetch_large_open(struct fetch *fetch, const struct catalog_entry *entry, struct fetch_large **ret);

struct fetch_large *fetch_large_ref(struct fetch_large *large);

/** NULL is fine. */
void fetch_large_unref(struct fetch_large *large);

/** What is here of it; borrowed. */
struct store_pieces *fetch_large_pieces(const struct fetch_large *large);

uint64_t fetch_large_size(const struct fetch_large *large);

/**
 * Waits for piece INDEX of LARGE, as fetch_want. A wait without an error and without `content` says that it is worth looking again: the piece is in the
 * store, or all of the content is, or (rarely) it has to be wanted once more.
 */
int fetch_want_piece(struct fetch *fetch, struct fetch_large *large, uint64_t index,
                     struct fetch_waiter *waiter);

/** Whether it was read to its end, since its beginning was read. */
bool fetch_large_ended(const struct fetch_large *large);

/** A task reads LEN bytes at OFFSET of LARGE: wants what comes next if it reads on and on (sync/window.h). Does not block. */
void fetch_read_ahead(struct fetch *fetch, struct fetch_large *large, uint64_t offset, size_t len);

/* ---- */

/** Whether CONTENT is in memory, verified, on its way into the store. */
bool fetch_holds(struct fetch *fetch, const struct content_id *content);

/** Waits until all that has come is in the store; for who counts it. Not for long: a few seconds at most. */
void fetch_settle(struct fetch *fetch);

void fetch_get_stats(struct fetch *fetch, struct fetch_stats *ret);
