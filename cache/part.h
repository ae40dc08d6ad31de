/*
 * The file of a content that is not whole yet (cache/pieces.h): "<hex>.part" beside the blobs. Its data lies, sparse, where the content has
 * it; behind that, from a page's boundary on, the list of the pieces' hashes and a mark for each piece, and in a last page of its own the
 * tail, which says what all this is. Cut off behind its data it is the blob. docs/formats.md has the exact bytes.
 *
 * This is the file alone: no locks, no accounting, no memory. Everything is read and written in place and nothing is mapped, so that a file
 * that somebody truncates is a short read and no SIGBUS.
 */
#pragma once

#include <sys/stat.h>

#include "base/pieces.h"

#define PART_SUFFIX   ".part"
#define PART_PATH_MAX (2 * HASH_BYTES + 2 + sizeof(PART_SUFFIX))

/* Of a piece: one of these, or the mark of the boot in which its bytes were verified and written. */
#define PART_MARK_NONE UINT64_C(0) /* nothing is here */
#define PART_MARK_WRITING                                                                                    \
        UINT64_C(1) /* bytes are, but worth nothing: being written, left behind, or found to be wrong */

struct part_layout {
        uint64_t size, count; /* of the content; of its pieces */
        size_t hash_len;      /* of each in the list */
        off_t list, marks;    /* offsets */
        off_t tail, end;
};

struct part_layout part_layout(enum hash_algorithm algorithm, uint64_t size);

/** Writes "<2 hex>/<hex>.part", relative to the folder of the algorithm. */
void part_path(const struct content_id *id, char path[PART_PATH_MAX]);

/** All bytes of the id, which says its algorithm, but the first from "<hex>.part"; -EINVAL for any other name. */
int part_parse_name(const char *name, struct content_id *id);

struct part_info {
        uint64_t size; /* of the content */
        bool listed;   /* the list is here, and all that is behind the data has its room on the disk */
        bool whole; /* cut off behind the data: it is the blob but for the name; then nothing else is known */
};

/** Of a content by ALGORITHM. -ENODATA: not a part, a damaged one, or, unless SIZE is 0, one of another size. Negative errno. */
int part_read_info(int fd, enum hash_algorithm algorithm, uint64_t size, struct part_info *ret);

/** Makes the empty file FD a part that holds nothing. -ENOSPC, -EFBIG and so on. */
int part_format(int fd, const struct part_layout *layout);

/** Writes the list, and says so in the tail. -ENOSPC and so on: it holds none. */
int part_write_list(int fd, const struct part_layout *layout, const uint8_t *list);

/** The mark of piece INDEX: 0; -ENODATA: the file ends before it; negative errno. */
int part_read_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t *ret);

/** The same if it takes no disk to know it, else -EAGAIN. */
int part_peek_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t *ret);

int part_write_mark(int fd, const struct part_layout *layout, uint64_t index, uint64_t mark);

/** Calls EACH for the mark of every piece. -ENODATA: the file ends before the last one. */
int part_each_mark(int fd, const struct part_layout *layout,
                   void (*each)(uint64_t index, uint64_t mark, void *arg), void *arg);

/**
 * What the file counts for, in bytes of the disk: what lies behind the data, and all pieces with a mark. A damaged one: what it takes. That is
 * said of one that cannot be read now, too, and then *EXACT is made false.
 */
uint64_t part_charge(int fd, enum hash_algorithm algorithm, const struct stat *st, bool *exact);

/** What of that are the pieces behind marks, and the room for the list. */
uint64_t part_piece_charge(const struct part_layout *layout, uint64_t index);
uint64_t part_list_charge(const struct part_layout *layout);
uint64_t part_tail_charge(void);
