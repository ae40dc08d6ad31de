/*
 * What the units of reading share: read.c finds out where a read's bytes come from and waits for them, read_pieces.c does so for contents that come by
 * pieces.
 */
#pragma once

#include "fs/filesystem.h"
#include "fs/trace.h"

struct pending;

/* One thing that a read waits for: all of a content, or a piece of it. */
struct read_wait {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct pending *pending;
        struct fetch_content *content; /* a reference; NULL: not in memory */
        bool copied;                   /* its bytes are in `data` already */
};

/* A read that waits. Owned by the request's thread until all waits were begun, then by whoever ends the last one. */
struct pending {
        struct filesystem *fs;
        fuse_req_t req;
        uint64_t ino;
        uint64_t source; /* the entry whose content is waited for */
        size_t size;
        off_t offset;
        int rebound, missed;
        struct fetch_large *large; /* a reference; NULL: it is wanted as a whole */
        bool bound;                /* bytes of this content were served before */
        char *data; /* owned: `size` bytes, for those that come from the store; NULL: none did */
        struct trace_wait trace;
        atomic_uint left; /* waits that are not over, and one while they are begun */
        atomic_int error; /* the first wait's that failed */
        unsigned n;       /* as many waits as pieces may be touched */
        struct read_wait waits[];
};

/* ---- read.c ---- */

/** A wait of P is over: see fetch_waiter. */
void read_wait_done(struct fetch_waiter *waiter, int error);

/** One of P's waits is over, or could not begin (ERROR < 0), or all were begun: the last one has P answered. */
void read_end_wait(struct pending *p, int error);

/* ---- read_pieces.c ---- */

/** How many waits a read of SIZE bytes may need. */
unsigned read_waits_max(size_t size);

/** Whether all pieces of LARGE that a read needs are here. Cheap. */
bool read_pieces_here(const struct fetch_large *large, size_t size, off_t offset);

/** Answers REQ from LARGE, all of it from the store. False: that cannot be, and nothing was answered. */
bool read_pieces_now(fuse_req_t req, struct filesystem *fs, struct fetch_large *large, size_t size,
                     off_t offset);

/** Wants all pieces that P, whose `large` is set, needs and that are not here; reads the others. The waits are counted in `left`. */
void read_pieces_begin(struct pending *p);

/** Gets from the store what P's waits, which are over without an error, left there. Negative errno: not all bytes are at hand. */
int read_pieces_gather(struct pending *p);

/** Answers P, all of whose bytes are at hand. */
void read_pieces_reply(struct pending *p);
