/*
 * Who reads a large file on and on, and how far ahead of it to be. Pure arithmetic: told of reads, it says which pieces to want. A reader that goes on
 * where a read ended gets a window of a few pieces, which doubles as long as it goes on; one that jumps about gets nothing. What is wanted never goes beyond
 * the window, so that a reader that stops costs no more than that. Of a file of a few pieces the first read wants all: it is hardly more, and then a new
 * version on the master takes nothing away from who has begun to read the old one. For the same reason all the rest is wanted, behind everything else, when
 * somebody has read on for a while and not too much is left.
 *
 * Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_READERS      4  /* of one file that are followed at a time */
#define WINDOW_FIRST_PIECES 4  /* pieces */
#define WINDOW_MAX_PIECES   64 /* pieces: 16 MiB */
#define WINDOW_WHOLE_PIECES 12 /* a file of so many is wanted whole: 3 MiB */
#define WINDOW_SURE_PIECES  32 /* a reader with such a window will most likely go on: it has read some 4 MiB */
#define WINDOW_REST_PIECES  256 /* and so many are wanted behind its window: 64 MiB */

/* Somebody who reads on. All zero: nobody. */
struct window_reader {
        uint64_t next;   /* byte behind the last read */
        uint64_t ahead;  /* pieces before this one were wanted */
        uint64_t used;   /* when it last read, as a number of reads */
        unsigned pieces; /* the window; 0: it has read once, and nothing is known */
};

/* All zero at first. */
struct window {
        struct window_reader readers[WINDOW_READERS];
        uint64_t reads;
        bool whole; /* all of it was wanted */
        bool rest;  /* all of the rest was */
};

struct window_range {
        uint64_t begin, end; /* pieces; equal: none */
        uint64_t
                rest; /* from `end` to here: pieces to want when there is nothing else to do; not above `end`: none */
};

/**
 * LEN bytes at OFFSET, more than none, are read of a content of SIZE bytes: which pieces to want now that nobody waits for yet. LIMIT: the largest window,
 * in pieces.
 */
struct window_range window_note(struct window *window, uint64_t offset, size_t len, uint64_t size,
                                unsigned limit);
