/*
 * The one queue for all contents that reads wait for. Equal wants are joined: a content is downloaded once
 * however many wait for it, in this process and, through the store's locks, on this machine. Waiting costs no
 * thread: whoever waits is called back. Every wait ends: with the content, with an error, by its deadline, or
 * by fetch_interrupt.
 *
 * Thread-safe. Callbacks come from the fetch's own threads or from fetch_want, never under its lock.
 */
#pragma once

#include <stdatomic.h>

#include "cache/catalog.h"
#include "cache/store.h"
#include "sync/session.h"

struct fetch;
struct fetch_job;

/** Whole and verified; immutable. Whoever keeps it beyond `done` takes a reference. */
struct fetch_content {
        atomic_uint refs;
        size_t len;
        uint8_t data[];
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

/** One wait, embedded in what waits; zeroed before first use; `done` may want another content with it. Its fields belong to the fetch until `done` was
 * called, but for `done` and `class`, which the caller sets. */
struct fetch_waiter {
        void (*done)(struct fetch_waiter *waiter, int error); /* exactly once: 0 or a negative errno */
        enum fetch_class class;
        struct fetch_content
                *content; /* for `done`, without an error: the bytes, borrowed; NULL: they are in the store */
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
        uint64_t files, bytes; /* downloaded and verified */
        uint64_t failures;     /* waits that ended with an error other than an interrupt */
};

int fetch_new(const struct fetch_options *options, struct fetch **ret);

/** Ends every wait with -ECANCELED and stops the threads; fetch_want fails with it from now on. NULL is fine. */
void fetch_stop(struct fetch *fetch);

/** Stops if need be, frees. NULL is fine. */
void fetch_free(struct fetch *fetch);

/**
 * Waits for the content of file ENTRY, or for the children of folder ENTRY, which is pending; LOCAL: it is in the store and only has to be verified.
 * DONE and CLASS are set by the caller before. 0: `done` will be called, maybe it was already, from this very call if the bytes are at hand. Negative
 * errno (-EINTR after an earlier fetch_interrupt, -EHOSTUNREACH, -ENOMEM; -EOPNOTSUPP: nothing can be had from this master but what a task waits for):
 * it will not. A wait that is not of class FETCH_READ may end with -EBUSY: another process is fetching it.
 */
int fetch_want(struct fetch *fetch, const struct catalog_entry *entry, bool local,
               struct fetch_waiter *waiter);

/** Has WAITER end soon with -EINTR, also if fetch_want has not been called yet. Does not block, calls nothing
 * back itself. */
void fetch_interrupt(struct fetch *fetch, struct fetch_waiter *waiter);

/** Whether CONTENT is in memory, verified, on its way into the store. */
bool fetch_holds(struct fetch *fetch, const struct content_id *content);

/** Waits until all that has come is in the store; for who counts it. Not for long: a few seconds at most. */
void fetch_settle(struct fetch *fetch);

void fetch_get_stats(struct fetch *fetch, struct fetch_stats *ret);
