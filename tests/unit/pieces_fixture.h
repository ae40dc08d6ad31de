/*
 * What the tests of contents by pieces share: a content of several pieces with its list, and looks at the part that holds some of them.
 */
#pragma once

#include "base/pieces.h"
#include "cache/part.h"
#include "cache/pieces.h"
#include "cache/store_private.h"
#include "tests/unit/store_fixture.h"

/* By what contents are hashed: another one, where a test is built a second time. */
#ifndef FIXTURE_BASE
#define FIXTURE_BASE HASH_XXH3
#define FIXTURE_LEN  16
#endif

#define PIECES 5u
#define SIZE   ((PIECES - 1) * PIECE_BYTES + 12345)

struct content {
        struct content_id id;
        uint8_t list[PIECES * FIXTURE_LEN];
        char data[SIZE];
};

static inline void hash_piece(struct content *c, unsigned i)
{
        uint8_t hash[HASH_BYTES];

        hash_bytes(FIXTURE_BASE, c->data + i * PIECE_BYTES, piece_len(SIZE, i), hash);
        memcpy(c->list + i * FIXTURE_LEN, hash, FIXTURE_LEN);
}

static inline void name_content(struct content *c)
{
        pieces_name(content_algorithm(FIXTURE_BASE, SIZE), SIZE, c->list, sizeof(c->list), &c->id);
}

/* Content NUMBER; a static one, as large as it is. */
static inline const struct content *content_of(unsigned number)
{
        static struct content content;
        static unsigned made = UINT32_MAX;
        uint32_t x = number * 2654435761u + 1;

        if (made == number)
                return &content;
        for (size_t i = 0; i < SIZE; i++) {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                content.data[i] = (char)x;
        }
        for (unsigned i = 0; i < PIECES; i++)
                hash_piece(&content, i);
        name_content(&content);
        made = number;
        return &content;
}

static inline struct store_pieces *open_pieces(struct store *store, const struct content *c)
{
        struct store_pieces *pieces = NULL;

        assert_int_equal(store_pieces_open(store, &c->id, SIZE, true, &pieces), STORE_OK);
        return pieces;
}

/* The same with its list. */
static inline struct store_pieces *open_listed(struct store *store, const struct content *c)
{
        struct store_pieces *pieces = open_pieces(store, c);

        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
        return pieces;
}

static inline int put_claimed(struct store_pieces *pieces, const struct content *c, uint64_t i)
{
        return store_pieces_put(pieces, i, c->data + i * PIECE_BYTES, piece_len(SIZE, i));
}

/* Claims and puts: STORE_HAVE, or what put says. */
static inline int bring(struct store_pieces *pieces, const struct content *c, uint64_t i)
{
        int r = store_pieces_claim(pieces, i, true);

        return r == STORE_OK ? put_claimed(pieces, c, i) : r;
}

static inline void assert_piece(struct store_pieces *pieces, const struct content *c, uint64_t i)
{
        _cleanup_free_ char *got = malloc(PIECE_BYTES);
        size_t len = piece_len(SIZE, i);

        assert_int_equal(store_pieces_read(pieces, got, len, i * PIECE_BYTES), len);
        assert_memory_equal(got, c->data + i * PIECE_BYTES, len);
}

/* The blob is there, right, and nothing is left of the part. */
static inline void assert_blob(struct store *store, const struct content *c)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        _cleanup_close_ int fd = -1;

        assert_int_equal(store_get(store, &c->id, &fd), STORE_OK);
        assert_int_equal(io_read_to_end(fd, 1 << 24, &got), 0);
        assert_int_equal(got.len, SIZE);
        assert_memory_equal(got.data, c->data, SIZE);
}

static inline void path_of_part(const struct fixture *f, const struct content *c, char path[256])
{
        blob_path(f, &c->id, path);
        strcat(path, PART_SUFFIX);
}

static inline bool has_part(const struct fixture *f, const struct content *c)
{
        char path[256];

        path_of_part(f, c, path);
        return access(path, F_OK) == 0;
}

static inline int open_part_file(const struct fixture *f, const struct content *c)
{
        char path[256];
        int fd;

        path_of_part(f, c, path);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

static inline uint64_t mark_of(const struct fixture *f, const struct content *c, uint64_t i)
{
        _cleanup_close_ int fd = open_part_file(f, c);
        struct part_layout layout = part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE);
        uint64_t mark;

        assert_int_equal(part_read_mark(fd, &layout, i, &mark), 0);
        return mark;
}

static inline void set_mark(const struct fixture *f, const struct content *c, uint64_t i, uint64_t mark)
{
        _cleanup_close_ int fd = open_part_file(f, c);
        struct part_layout layout = part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE);

        assert_int_equal(part_write_mark(fd, &layout, i, mark), 0);
}

/* As after a restart: what was marked was marked in another boot. */
static inline void age_marks(const struct fixture *f, const struct content *c)
{
        for (uint64_t i = 0; i < PIECES; i++)
                if (mark_of(f, c, i) != PART_MARK_NONE && mark_of(f, c, i) != PART_MARK_WRITING)
                        set_mark(f, c, i, UINT64_C(0x8000000012345678));
}

/* As another process would: bytes and mark, whoever has claimed it here. */
static inline void bring_by_hand(const struct fixture *f, struct store *store, const struct content *c,
                                 uint64_t i)
{
        int fd = open_part_file(f, c);
        size_t len = piece_len(SIZE, i);

        assert_int_equal(pwrite(fd, c->data + i * PIECE_BYTES, len, (off_t)(i * PIECE_BYTES)), len);
        close(fd);
        set_mark(f, c, i, store_boot_mark(store));
}

static inline void overwrite_at(const struct fixture *f, const struct content *c, off_t at)
{
        _cleanup_close_ int fd = open_part_file(f, c);

        assert_int_equal(pwrite(fd, "\x5a\xa5\x5a", 3, at), 3);
}

/* What the accounting says is what a count says. */
static inline void assert_counted(struct store *store)
{
        struct store_usage before, after;

        store_get_usage(store, &before);
        (void)stats_of(store); /* counts */
        store_get_usage(store, &after);
        assert_true(before.counted && after.counted);
        assert_int_equal(before.bytes, after.bytes);
        assert_int_equal(before.blobs, after.blobs);
        assert_int_equal(after.reserved, 0);
}

static inline void reopen(struct fixture *f)
{
        store_free(TAKE_PTR(f->store));
        assert_int_equal(store_open(f->dir, &f->store), 0);
}
