/*
 * What the store keeps beside the bytes of contents, as hostile input: the accounting, the tail of a content that is not whole, what names pins. The
 * first byte says which. Whatever they hold, what is given out is right.
 */
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/part.h"
#include "cache/pieces.h"
#include "cache/store.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/folder.h"

#define PIECES 3u
#define SIZE   ((PIECES - 1) * PIECE_BYTES + 1234)
#define HERE   1u /* the piece that is here */

static char folder[64], dir[128], part[256], good_part[128], good_usage[128];
static uint8_t bytes[SIZE], list[PIECES * 16];
static struct content_id large, small;

static void name_piece(unsigned i)
{
        uint8_t hash[HASH_BYTES];

        hash_bytes(HASH_XXH3, bytes + i * PIECE_BYTES, piece_len(SIZE, i), hash);
        memcpy(list + i * 16, hash, 16);
}

static void name_contents(void)
{
        for (size_t i = 0; i < SIZE; i++)
                bytes[i] = (uint8_t)(i * 2654435761u >> 13);
        for (unsigned i = 0; i < PIECES; i++)
                name_piece(i);
        pieces_name(HASH_XXH3_PIECES, SIZE, list, sizeof(list), &large);
        small.algorithm = HASH_XXH3;
        hash_bytes(HASH_XXH3, "small", 5, small.bytes);
}

static void put_small(struct store *store)
{
        struct store_writer *writer;
        int r = store_write_begin(store, &small, 5, &writer);

        assert(r == STORE_OK || r == STORE_HAVE);
        if (r == STORE_OK)
                assert(store_write(writer, "small", 5) == 0 && store_write_commit(writer) == STORE_OK);
}

static void put_piece(struct store *store)
{
        struct store_pieces *pieces;

        assert(store_pieces_open(store, &large, SIZE, true, &pieces) == STORE_OK);
        assert(store_pieces_set_list(pieces, list, sizeof(list)) == STORE_OK);
        assert(store_pieces_claim(pieces, HERE, false) == STORE_OK);
        assert(store_pieces_put(pieces, HERE, bytes + HERE * PIECE_BYTES, PIECE_BYTES) == STORE_OK);
        store_pieces_unref(pieces);
}

static void make_good(void)
{
        struct store *store;
        char path[160], name[PART_PATH_MAX];

        snprintf(folder, sizeof(folder), "%s", folder_new());
        log_setup("fuzz", LOG_LEVEL_ERROR);
        name_contents();
        snprintf(dir, sizeof(dir), "%s/store", folder);
        assert(mkdir(dir, 0700) == 0 && store_open(dir, &store) == 0);
        put_small(store);
        put_piece(store);
        store_free(store);
        part_path(&large, name);
        snprintf(part, sizeof(part), "%s/blobs/%s/%s", dir, hash_algorithm_name(large.algorithm), name);
        snprintf(good_part, sizeof(good_part), "%s/part", folder);
        snprintf(good_usage, sizeof(good_usage), "%s/usage", folder);
        folder_copy_damaged(part, good_part, NULL, 0);
        snprintf(path, sizeof(path), "%s/usage", dir);
        folder_copy_damaged(path, good_usage, NULL, 0);
}

/* The changes of a part are to what lies behind its data: what somebody writes into that is not noticed by the promise (cache/pieces.h). */
static void damage_part(const uint8_t *data, size_t len)
{
        off_t behind = part_layout(HASH_XXH3_PIECES, SIZE).list;
        char rest[160], damaged[160];
        _cleanup_buffer_ struct buffer text = { 0 };

        snprintf(rest, sizeof(rest), "%s/rest", folder);
        snprintf(damaged, sizeof(damaged), "%s/damaged", folder);
        assert(io_read_file(AT_FDCWD, good_part, 8u << 20, &text) == 0);
        {
                _cleanup_close_ int fd = open(rest, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                assert(io_write_all(fd, text.data + behind, text.len - (size_t)behind) == 0);
        }
        folder_copy_damaged(rest, damaged, data, len);
        {
                _cleanup_close_ int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                _cleanup_buffer_ struct buffer tail = { 0 };
                assert(io_read_file(AT_FDCWD, damaged, 8u << 20, &tail) == 0);
                assert(io_write_all(fd, text.data, (size_t)behind) == 0 &&
                       io_write_all(fd, tail.data, tail.len) == 0);
        }
}

static void damage_usage(const uint8_t *data, size_t len)
{
        char path[160];

        snprintf(path, sizeof(path), "%s/usage", dir);
        folder_copy_damaged(good_usage, path, data, len);
}

static void name_pin(const uint8_t *data, size_t len)
{
        char name[NAME_MAX + 1], path[512];
        int fd;

        if (len == 0 || len > NAME_MAX || memchr(data, '/', len) || memchr(data, '\0', len))
                return;
        memcpy(name, data, len);
        name[len] = '\0';
        snprintf(path, sizeof(path), "%s/pins/%s", dir, name);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0)
                close(fd);
}

static int count(const struct content_id *id, uint64_t size, void *arg)
{
        (void)arg;
        (void)size;
        assert(id->algorithm != HASH_NONE);
        return 0;
}

static void read_pieces(struct store *store)
{
        struct store_pieces *pieces;
        static uint8_t got[PIECE_BYTES];

        if (store_pieces_open(store, &large, SIZE, true, &pieces) != STORE_OK)
                return;
        for (unsigned i = 0; i < PIECES; i++)
                if (store_pieces_state(pieces, i) == PIECE_HERE) {
                        ssize_t n = store_pieces_read(pieces, got, sizeof(got), i * PIECE_BYTES);
                        assert(n < 0 || i == HERE); /* P2: nothing else was ever brought */
                        assert(n < 0 || memcmp(got, bytes + i * PIECE_BYTES, (size_t)n) == 0); /* P1 */
                }
        store_pieces_unref(pieces);
}

static void use(struct store *store)
{
        struct store_evicted evicted = { 0 };
        struct store_usage usage;
        struct store_stats stats;

        put_small(store);
        read_pieces(store);
        store_get_usage(store, &usage);
        (void)store_stat(store, &stats);
        (void)store_list_pins(store, count, NULL);
        (void)store_evict(store, 1, &evicted);
        assert(store_collect(store, &evicted) == 0);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        static void (*const damage[])(const uint8_t *data, size_t len) = { damage_part, damage_usage,
                                                                           name_pin };
        struct store *store;

        if (!folder[0])
                make_good();
        if (len == 0)
                return;
        damage[data[0] % ARRAY_SIZE(damage)](data + 1, len - 1);
        if (store_open(dir, &store) < 0)
                return;
        use(store);
        store_free(store);
}
