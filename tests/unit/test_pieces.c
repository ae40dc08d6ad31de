/*
 * Contents by pieces as one process sees them: coming, being read, damaged, evicted, and becoming a blob.
 */
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>

#include "tests/unit/pieces_fixture.h"
#include "tests/unit/mounts.h"

/* ---- coming ---- */

/* P1, P4 */
static void test_piece_by_piece(void **state)
{
        static const uint64_t order[PIECES] = { 3, 0, 4, 2, 1 };
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = NULL, *again = NULL;
        uint64_t present = 0;
        int fd = -1;

        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, false, &pieces), STORE_MISS);
        pieces = open_listed(f->store, c);
        for (unsigned k = 0; k < PIECES; k++) {
                uint64_t i = order[k];
                assert_int_equal(store_pieces_state(pieces, i), PIECE_MISSING);
                assert_int_equal(store_pieces_claim(pieces, i, false), STORE_OK);
                assert_int_equal(put_claimed(pieces, c, i), STORE_OK);
                assert_int_equal(store_pieces_state(pieces, i), PIECE_HERE);
                assert_int_equal(store_pieces_claim(pieces, i, false), STORE_HAVE);
                assert_piece(pieces, c, i);
                present += piece_len(SIZE, i);
                assert_int_equal(store_pieces_present(pieces), present);
                assert_int_equal(store_has(f->store, &c->id), k == PIECES - 1);
        }
        assert_false(has_part(f, c));
        assert_int_equal(store_get_verified(f->store, &c->id, &fd), STORE_OK); /* S3 */
        close(fd);
        assert_blob(f->store, c);
        assert_int_equal(blob_stat(f, &c->id).st_mode & 07777, 0400);
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, true, &again), STORE_HAVE);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_piece(pieces, c, i);
        store_pieces_unref(pieces);
}

/* P1: without its list nothing of a content can be told right from wrong. */
static void test_list(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_pieces(f->store, c);
        uint8_t wrong[sizeof(c->list) + FIXTURE_LEN];

        memcpy(wrong, c->list, sizeof(c->list));
        wrong[17] ^= 1;
        assert_false(store_pieces_listed(pieces));
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_MISSING);
        assert_int_equal(store_pieces_set_list(pieces, wrong, sizeof(c->list)), STORE_MISMATCH);
        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list) - FIXTURE_LEN),
                         STORE_MISMATCH);
        assert_int_equal(store_pieces_set_list(pieces, wrong, sizeof(wrong)), STORE_MISMATCH);
        assert_false(store_pieces_listed(pieces));
        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
        assert_int_equal(store_pieces_set_list(pieces, wrong, sizeof(c->list)), STORE_OK);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_memory_equal(store_pieces_hash(pieces, i), c->list + i * FIXTURE_LEN, FIXTURE_LEN);
        store_pieces_unref(pieces);
        /* It stays. */
        pieces = open_pieces(f->store, c);
        assert_true(store_pieces_listed(pieces));
        store_pieces_unref(pieces);
}

/* P1: wrong bytes are not written, and end the claim nevertheless. */
static void test_wrong_bytes(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        assert_int_equal(store_pieces_put(pieces, 1, c->data, PIECE_BYTES), STORE_MISMATCH);
        assert_int_equal(mark_of(f, c, 1), PART_MARK_NONE);
        assert_int_equal(store_pieces_claim(pieces, 1, false), STORE_OK);
        assert_int_equal(store_pieces_put(pieces, 1, c->data + PIECE_BYTES, PIECE_BYTES - 1), STORE_MISMATCH);
        assert_int_equal(store_pieces_claim(pieces, 4, false), STORE_OK);
        assert_int_equal(store_pieces_put(pieces, 4, c->data + 4 * PIECE_BYTES, PIECE_BYTES), STORE_MISMATCH);
        assert_int_equal(store_pieces_state(pieces, 1), PIECE_MISSING);
        assert_int_equal(store_pieces_present(pieces), 0);
        assert_int_equal(store_pieces_claim(pieces, PIECES, false), -EINVAL);
        store_pieces_unref(pieces);
}

static void test_bad_names(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct content_id other = id_of_text("text");
        struct store_pieces *pieces = NULL, *second = NULL;

        assert_int_equal(store_pieces_open(f->store, &other, SIZE, true, &pieces), -EINVAL);
        assert_int_equal(store_pieces_open(f->store, &c->id, 0, true, &pieces), -EINVAL);
        assert_int_equal(store_pieces_open(f->store, &c->id, UINT64_MAX, true, &pieces), -EFBIG);
        assert_int_equal(store_pieces_open(f->store, &c->id, STORE_SIZE_LIMIT + 1, true, &pieces), -EFBIG);
        assert_false(has_part(f, c));
        /* A wrong size, of as many pieces: the last one never matches, or the size is in the name. */
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE + 1, true, &pieces), STORE_OK);
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, true, &second), -EINVAL);
        if (FIXTURE_BASE == HASH_XXH3) {
                assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
                assert_int_equal(bring(pieces, c, 0), STORE_OK);
                assert_int_equal(bring(pieces, c, 4), STORE_MISMATCH);
        } else {
                assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_MISMATCH);
        }
        store_pieces_unref(pieces);
        store_pieces_unref(NULL);
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_present(pieces), 0);
        store_pieces_unref(pieces);
}

static void test_one_handle(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *first = open_pieces(f->store, c), *second = open_pieces(f->store, c);

        assert_ptr_equal(first, second);
        assert_ptr_equal(store_pieces_ref(first), first);
        assert_true(content_id_equal(store_pieces_id(first), &c->id));
        assert_int_equal(store_pieces_size(first), SIZE);
        store_pieces_unref(first);
        store_pieces_unref(second);
        assert_ptr_equal(open_pieces(f->store, c), first);
        store_pieces_unref(first);
        store_pieces_unref(first);
}

/* ---- reading ---- */

static void test_read_ends_where_a_piece_is_missing(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        _cleanup_free_ char *got = malloc(SIZE + 1);

        assert_int_equal(bring(pieces, c, 1), STORE_OK);
        assert_int_equal(bring(pieces, c, 2), STORE_OK);
        assert_int_equal(bring(pieces, c, 4), STORE_OK);
        assert_int_equal(store_pieces_read(pieces, got, SIZE, 0), -ENODATA);
        assert_int_equal(store_pieces_read(pieces, got, SIZE, PIECE_BYTES + 100), 2 * PIECE_BYTES - 100);
        assert_memory_equal(got, c->data + PIECE_BYTES + 100, 2 * PIECE_BYTES - 100);
        assert_int_equal(store_pieces_read(pieces, got, 10, 3 * PIECE_BYTES - 5), 5);
        assert_int_equal(store_pieces_read(pieces, got, 10, 3 * PIECE_BYTES), -ENODATA);
        assert_int_equal(store_pieces_read(pieces, got, SIZE, SIZE - 7), 7);
        assert_memory_equal(got, c->data + SIZE - 7, 7);
        assert_int_equal(store_pieces_read(pieces, got, 10, SIZE), 0);
        assert_int_equal(store_pieces_read(pieces, got, SIZE_MAX, UINT64_MAX), 0);
        assert_int_equal(store_pieces_read(pieces, got, 0, 0), 0);
        store_pieces_unref(pieces);
}

/* ---- what an earlier process or boot left ---- */

static void test_resume(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        assert_int_equal(bring(pieces, c, 3), STORE_OK);
        store_pieces_unref(pieces);
        reopen(f);
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, false, &pieces), STORE_OK);
        assert_int_equal(store_pieces_present(pieces), 2 * PIECE_BYTES);
        assert_piece(pieces, c, 3);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), i == 0 || i == 3 ? STORE_HAVE : STORE_OK);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* P2: what another boot marked is served only after it was read. */
static void test_another_boot(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        char byte;

        for (uint64_t i = 0; i < PIECES - 1; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        age_marks(f, c);
        overwrite_at(f, c, 2 * PIECE_BYTES + 77);
        reopen(f);
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_UNCHECKED);
        assert_int_equal(store_pieces_state(pieces, 4), PIECE_MISSING);
        assert_int_equal(store_pieces_present(pieces), 4 * PIECE_BYTES);
        assert_int_equal(store_pieces_read(pieces, &byte, 1, 0), -ENODATA);
        assert_int_equal(bring(pieces, c, 4), STORE_OK);
        assert_false(store_has(f->store, &c->id)); /* P4 */
        assert_int_equal(store_pieces_check(pieces, 0), STORE_OK);
        assert_int_equal(store_pieces_check(pieces, 0), STORE_OK);
        assert_piece(pieces, c, 0);
        assert_int_equal(store_pieces_check(pieces, 1), STORE_OK);
        assert_int_equal(store_pieces_check(pieces, 2), STORE_MISS);
        assert_int_equal(store_pieces_state(pieces, 2), PIECE_MISSING);
        assert_int_equal(store_pieces_check(pieces, 2), STORE_MISS);
        assert_int_equal(bring(pieces, c, 3), STORE_OK); /* or it is brought anew, unread */
        assert_false(store_has(f->store, &c->id));
        assert_int_equal(bring(pieces, c, 2), STORE_OK);
        assert_blob(f->store, c);
        store_pieces_unref(pieces);
        (void)stats_of(f->store);
        assert_counted(f->store);
}

/* A check is what was left: it publishes. */
static void test_check_publishes(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        for (uint64_t i = 0; i < PIECES - 1; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        set_mark(f, c, 4, 4711); /* a mark that is damaged is no mark of this boot's */
        assert_int_equal(store_pieces_check(pieces, 4), STORE_MISS);
        assert_int_equal(bring(pieces, c, 4), STORE_OK);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* P4: a piece that another process found to be wrong meanwhile does not become part of a blob. */
static void test_found_wrong_meanwhile(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        for (uint64_t i = 0; i < PIECES - 1; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        overwrite_at(f, c, 100);
        set_mark(f, c, 0, PART_MARK_WRITING);
        assert_int_equal(bring(pieces, c, 4), STORE_OK);
        assert_false(store_has(f->store, &c->id));
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_MISSING);
        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* P4, S2: not while a claim is out, of this process … */
static void test_not_published_while_claimed(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        assert_int_equal(store_pieces_claim(pieces, 4, false), STORE_OK);
        bring_by_hand(f, f->store, c, 4);
        for (uint64_t i = 0; i < PIECES - 1; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        assert_true(has_part(f, c));
        store_pieces_give_up(pieces, 4);
        assert_false(has_part(f, c));
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* … or of another; who opens it after that one's death publishes. */
static void test_not_published_while_claimed_elsewhere(void **state)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 4, .l_len = 1 };
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        int other = open_part_file(f, c);

        assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), 0);
        bring_by_hand(f, f->store, c, 4);
        for (uint64_t i = 0; i < PIECES - 1; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        assert_true(has_part(f, c));
        close(other);
        pieces = open_pieces(f->store, c);
        assert_false(has_part(f, c));
        assert_piece(pieces, c, 4);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* ---- damage ---- */

static void test_damaged_list(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        assert_int_equal(bring(pieces, c, 2), STORE_OK);
        store_pieces_unref(pieces);
        overwrite_at(f, c, part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE).list + 20);
        pieces = open_pieces(f->store, c);
        assert_false(store_pieces_listed(pieces));
        assert_int_equal(store_pieces_state(pieces, 2), PIECE_MISSING);
        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
        assert_int_equal(store_pieces_state(pieces, 2), PIECE_UNCHECKED); /* somebody has written to it */
        assert_int_equal(store_pieces_check(pieces, 2), STORE_OK);
        assert_piece(pieces, c, 2);
        store_pieces_unref(pieces);
        pieces = open_pieces(f->store, c);
        assert_true(store_pieces_listed(pieces));
        store_pieces_unref(pieces);
}

static void test_damaged_tail(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);

        for (int i = 0; i < 3; i++) {
                struct store_pieces *pieces = open_listed(f->store, c);
                assert_int_equal(bring(pieces, c, 2), STORE_OK);
                store_pieces_unref(pieces);
                overwrite_at(f, c, part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE).tail + i * 8);
                pieces = open_pieces(f->store, c);
                assert_int_equal(store_pieces_state(pieces, 2), PIECE_MISSING);
                store_pieces_unref(pieces);
        }
}

/* S3 for parts: what was closed well needs no second look, what somebody has written to meanwhile does, piece by piece. */
static void test_written_by_somebody(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        assert_int_equal(bring(pieces, c, 1), STORE_OK);
        assert_int_equal(bring(pieces, c, 2), STORE_OK);
        store_pieces_unref(pieces);
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_state(pieces, 1), PIECE_HERE);
        store_pieces_unref(pieces);
        overwrite_at(f, c, PIECE_BYTES + 77);
        for (int i = 0; i < 2; i++) { /* what nobody has looked at yet is doubted again */
                pieces = open_pieces(f->store, c);
                assert_int_equal(store_pieces_state(pieces, 1), PIECE_UNCHECKED);
                store_pieces_unref(pieces);
        }
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_check(pieces, 1), STORE_MISS);
        assert_int_equal(store_pieces_check(pieces, 2), STORE_OK);
        assert_piece(pieces, c, 2);
        store_pieces_unref(pieces);
        pieces = open_pieces(f->store, c);
        assert_int_equal(store_pieces_state(pieces, 1), PIECE_MISSING);
        assert_int_equal(store_pieces_state(pieces, 2), PIECE_HERE);
        store_pieces_unref(pieces);
}

/* Cut by somebody, with a handle open or without: no signal, no wrong byte, and it becomes whole. */
static void test_truncated(void **state)
{
        struct fixture *f = *state;
        const struct part_layout layout = part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE);
        const off_t sizes[] = {
                0, 1, PIECE_BYTES + 5, (off_t)SIZE - 1, layout.list, layout.marks + 8, layout.end - 1
        };
        char got[100];

        for (unsigned k = 0; k < 2 * ARRAY_SIZE(sizes); k++) {
                const struct content *c = content_of(k);
                struct store_pieces *pieces = open_listed(f->store, c);
                char path[256];
                int r;
                path_of_part(f, c, path);
                for (uint64_t i = 0; i < PIECES - 1; i++)
                        assert_int_equal(bring(pieces, c, i), STORE_OK);
                if (k % 2 == 0)
                        store_pieces_unref(TAKE_PTR(pieces));
                assert_int_equal(truncate(path, sizes[k / 2]), 0);
                if (!pieces)
                        pieces = open_listed(f->store, c);
                /* Some bytes of its file may be gone: those are not here any more. */
                for (uint64_t i = 0; i < PIECES; i++) {
                        (void)store_pieces_check(pieces, i);
                        r = (int)store_pieces_read(pieces, got, sizeof(got), i * PIECE_BYTES + 1000);
                        assert_true(r == -ENODATA || r == sizeof(got));
                        assert_int_equal(store_pieces_state(pieces, i), r > 0 ? PIECE_HERE : PIECE_MISSING);
                        if (r > 0)
                                assert_memory_equal(got, c->data + i * PIECE_BYTES + 1000, sizeof(got));
                }
                while (bring(pieces, c, PIECES - 1) == -ESTALE) {
                        store_pieces_unref(pieces);
                        pieces = open_listed(f->store, c);
                }
                for (uint64_t i = 0; i < PIECES; i++)
                        assert_true(bring(pieces, c, i) >= 0);
                store_pieces_unref(pieces);
                assert_blob(f->store, c);
        }
}

/* A death between the cut and the name: what is there is all there is of a content. */
static void test_cut_and_not_renamed(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_usage usage;
        char path[256];
        int fd;

        for (uint64_t i = 1; i < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        store_pieces_unref(pieces);
        fd = open_part_file(f, c);
        assert_int_equal(pwrite(fd, c->data, PIECE_BYTES, 0), PIECE_BYTES);
        close(fd);
        path_of_part(f, c, path);
        (void)stats_of(f->store);
        assert_int_equal(truncate(path, SIZE), 0);
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, false, &pieces), STORE_HAVE);
        assert_false(has_part(f, c));
        assert_blob(f->store, c);
        store_get_usage(f->store, &usage);
        assert_false(usage.counted); /* S7 */
        /* Not what it seems: store_get finds out (S3). */
        c = content_of(2);
        pieces = open_listed(f->store, c);
        store_pieces_unref(pieces);
        path_of_part(f, c, path);
        assert_int_equal(truncate(path, SIZE), 0);
        assert_int_equal(store_pieces_open(f->store, &c->id, SIZE, false, &pieces), STORE_HAVE);
        assert_int_equal(store_get(f->store, &c->id, &fd), STORE_MISS);
        assert_int_equal(stats_of(f->store).quarantined, 1);
}

/* ---- other ways in ---- */

static void test_adopt(void **state)
{
        struct fixture *f = *state;
        const struct content *old = content_of(1);
        _cleanup_close_ int fd = -1;
        struct store_pieces *pieces;
        struct content *new = malloc(sizeof(*new));

        assert_int_equal(put(f->store, &old->id, old->data, SIZE), STORE_OK);
        *new = *old;
        new->data[2 * PIECE_BYTES + 5] ^= 1;
        hash_piece(new, 2);
        name_content(new);
        assert_int_equal(store_get(f->store, &old->id, &fd), STORE_OK);
        pieces = open_listed(f->store, new);
        for (uint64_t i = 0; i < PIECES; i++) {
                assert_int_equal(store_pieces_claim(pieces, i, false), STORE_OK);
                assert_int_equal(store_pieces_adopt(pieces, i, fd), i == 2 ? STORE_MISS : STORE_OK);
        }
        assert_int_equal(store_pieces_claim(pieces, 2, false), STORE_BUSY); /* it is still ours */
        assert_int_equal(put_claimed(pieces, new, 2), STORE_OK);
        store_pieces_unref(pieces);
        assert_blob(f->store, new);
        free(new);
}

/* Written as a whole meanwhile: the part goes, and who has it open reads on. */
static void test_written_as_a_whole(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);

        (void)stats_of(f->store);
        assert_int_equal(bring(pieces, c, 2), STORE_OK);
        assert_int_equal(put(f->store, &c->id, c->data, SIZE), STORE_OK);
        assert_false(has_part(f, c));
        assert_counted(f->store);
        assert_piece(pieces, c, 2);
        for (uint64_t i = 0; i < PIECES; i++) {
                assert_int_equal(bring(pieces, c, i), STORE_HAVE);
                assert_piece(pieces, c, i);
        }
        assert_counted(f->store);
        assert_int_equal(stats_of(f->store).blobs, 1);
        assert_int_equal(stats_of(f->store).partials, 0);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* The same before there is a list, and while another piece is being brought: that one is not written. */
static void test_written_as_a_whole_without_list(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_pieces(f->store, c);

        assert_int_equal(store_pieces_claim(pieces, 3, false), STORE_OK);
        assert_int_equal(put(f->store, &c->id, c->data, SIZE), STORE_OK);
        assert_int_equal(store_pieces_claim(pieces, 0, false), STORE_HAVE);
        assert_int_equal(store_pieces_state(pieces, 4), PIECE_HERE);
        assert_int_equal(store_pieces_present(pieces), SIZE);
        assert_piece(pieces, c, 0);
        assert_int_equal(store_pieces_set_list(pieces, c->list, sizeof(c->list)), STORE_OK);
        assert_true(put_claimed(pieces, c, 3) < 0);
        store_pieces_unref(pieces);
        assert_int_equal(blob_stat(f, &c->id).st_size, SIZE);
        assert_blob(f->store, c);
        (void)stats_of(f->store);
        assert_counted(f->store);
}

/* S7: written as a whole, while all its pieces have come and made it a blob. */
static void test_come_both_ways(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_writer *writer;

        (void)stats_of(f->store);
        assert_int_equal(store_write_begin(f->store, &c->id, SIZE, &writer), STORE_OK);
        assert_int_equal(store_write(writer, c->data, SIZE), 0);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        assert_true(store_has(f->store, &c->id));
        assert_int_equal(store_write_commit(writer), STORE_OK);
        assert_counted(f->store);
        assert_int_equal(stats_of(f->store).blobs, 1);
        assert_piece(pieces, c, 0);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
}

/* ---- the operator's view ---- */

static void count_damaged(const char *name, void *arg)
{
        (*(unsigned *)arg)++;
}

static void test_stat_and_verify(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_stats stats;
        unsigned damaged = 0;

        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        assert_int_equal(bring(pieces, c, 4), STORE_OK);
        assert_int_equal(stats_of(f->store).partials, 1);
        assert_int_equal(stats_of(f->store).blobs, 0);
        assert_int_equal(stats_of(f->store).partial_bytes, PIECE_BYTES + 16384 + part_tail_charge() + 4096);
        assert_int_equal(store_verify(f->store, count_damaged, &damaged, &stats), 0);
        assert_int_equal(damaged, 0);
        overwrite_at(f, c, 5);
        assert_int_equal(store_verify(f->store, count_damaged, &damaged, &stats), 0);
        assert_int_equal(damaged, 1);
        assert_int_equal(stats.damaged, 1);
        assert_int_equal(store_pieces_state(pieces, 0), PIECE_MISSING);
        assert_int_equal(store_pieces_state(pieces, 4), PIECE_HERE);
        assert_counted(f->store);
        for (uint64_t i = 0; i < PIECES; i++)
                (void)bring(pieces, c, i);
        store_pieces_unref(pieces);
        assert_blob(f->store, c);
        assert_counted(f->store);
}

static void test_collect(void **state)
{
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_evicted removed = { 0 };

        (void)stats_of(f->store);
        assert_int_equal(store_collect(f->store, &removed), 0); /* empty, and in use */
        assert_int_equal(removed.blobs, 0);
        store_pieces_unref(pieces);
        assert_int_equal(store_collect(f->store, &removed), 0);
        assert_int_equal(removed.blobs, 1);
        assert_false(has_part(f, c));
        assert_counted(f->store);
        pieces = open_listed(f->store, c);
        assert_int_equal(bring(pieces, c, 3), STORE_OK);
        store_pieces_unref(pieces);
        assert_int_equal(store_collect(f->store, &removed), 0); /* worth keeping */
        assert_true(has_part(f, c));
        overwrite_at(f, c, part_layout(content_algorithm(FIXTURE_BASE, SIZE), SIZE).tail);
        assert_int_equal(store_collect(f->store, &removed), 0);
        assert_int_equal(removed.blobs, 2);
        assert_false(has_part(f, c));
        assert_int_equal(stats_of(f->store).partials, 0);
}

/* ---- room ---- */

/* S6: as a blob: not while it is open, and the least recently used first. */
static void test_eviction(void **state)
{
        const struct timespec long_ago[2] = { { .tv_sec = 1000 }, { .tv_nsec = UTIME_OMIT } };
        struct fixture *f = *state;
        const struct content *c = content_of(1);
        struct store_pieces *pieces = open_listed(f->store, c);
        struct store_evicted evicted = { 0 };
        struct content_id text;
        char path[256];

        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_int_equal(evicted.blobs, 0);
        assert_true(has_part(f, c));
        store_pieces_unref(pieces);
        text = put_text(f->store, "younger");
        path_of_part(f, c, path);
        assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
        assert_int_equal(store_evict(f->store, 8192, &evicted), 0);
        assert_false(has_part(f, c));
        assert_true(store_has(f->store, &text));
        assert_int_equal(evicted.blobs, 1);
        assert_int_equal(evicted.bytes, PIECE_BYTES + part_tail_charge() + 4096);
        assert_counted(f->store);
        /* Pinned. */
        pieces = open_listed(f->store, c);
        assert_int_equal(bring(pieces, c, 0), STORE_OK);
        store_pieces_unref(pieces);
        assert_int_equal(store_pin(f->store, &c->id), 0);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_true(has_part(f, c));
        assert_counted(f->store);
}

/* S8: larger than the quota: it comes nevertheless, and what is not open goes. */
static void test_quota(void **state)
{
        struct fixture *f = *state;
        const struct content *c;
        const struct store_limits limits = { .quota = { .bytes = 2 * PIECE_BYTES } };
        struct store_pieces *pieces;
        struct content_id text = put_text(f->store, "old");

        assert_int_equal(store_limit(f->store, &limits), 0);
        usleep(60000); /* no longer young */
        c = content_of(1);
        pieces = open_listed(f->store, c);
        for (uint64_t i = 0; i < PIECES; i++)
                assert_int_equal(bring(pieces, c, i), STORE_OK);
        assert_false(store_has(f->store, &text));
        assert_true(store_has(f->store, &c->id));
        store_pieces_unref(pieces);
}

static int with_small_disk(struct fixture *f, const char *size, struct store **ret)
{
        char options[32];

        snprintf(options, sizeof(options), "size=%s", size);
        if (unit_own_mounts() < 0 || mount("none", f->dir, "tmpfs", 0, options) < 0)
                return SKIPPED;
        return store_open(f->dir, ret) == 0 ? 0 : 1;
}

static void run_on_small_disk(int (*body)(struct fixture *f), struct fixture *f)
{
        int r;

        store_free(TAKE_PTR(f->store));
        r = in_child(body, f);
        if (r == SKIPPED)
                unit_skip("needs the right to mount a tmpfs");
        assert_int_equal(r, 0);
}

static uint64_t du_bytes;

static int add_blocks(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        if (type == FTW_F)
                du_bytes += (uint64_t)st->st_blocks * 512;
        return 0;
}

/* What is on the disk, as du(1) says; on tmpfs, which has no blocks of its own in a file. */
static bool is_du(const struct fixture *f, struct store *store)
{
        struct store_usage usage;
        char path[128];

        du_bytes = 0;
        snprintf(path, sizeof(path), "%s/blobs", f->dir);
        nftw(path, add_blocks, 16, FTW_PHYS);
        store_get_usage(store, &usage);
        return usage.bytes == du_bytes && usage.reserved == 0;
}

/* Each step leaves the count equal to what is on the disk. */
static int compare_with_du(struct fixture *f)
{
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct store *store;
        int r = with_small_disk(f, "16m", &store);

        if (r != 0)
                return r;
        (void)stats_of(store);
        pieces = open_pieces(store, c);
        if (!is_du(f, store))
                return 2;
        if (store_pieces_set_list(pieces, c->list, sizeof(c->list)) != STORE_OK || !is_du(f, store))
                return 3;
        for (uint64_t i = PIECES; i-- > 0;) {
                if (bring(pieces, c, i) != STORE_OK || !is_du(f, store))
                        return 4;
                if (i == 2 && (store_pieces_claim(pieces, 0, false) != STORE_OK ||
                               store_pieces_put(pieces, 0, c->data, 5) != STORE_MISMATCH || !is_du(f, store)))
                        return 5;
        }
        if (!store_has(store, &c->id) || !is_du(f, store))
                return 6;
        store_pieces_unref(pieces);
        store_free(store);
        return 0;
}

static void test_du(void **state)
{
        run_on_small_disk(compare_with_du, *state);
}

/* A full disk: the piece is not there, nothing is counted for it, and it comes when there is room. */
static int fill_disk(struct fixture *f)
{
        static const char junk[1 << 16];
        const struct content *c = content_of(1);
        struct store_pieces *pieces;
        struct store *store;
        char path[128];
        int r = with_small_disk(f, "2m", &store), others;

        if (r != 0)
                return r;
        (void)stats_of(store);
        pieces = open_listed(store, c);
        if (bring(pieces, c, 0) != STORE_OK || bring(pieces, c, 1) != STORE_OK)
                return 2;
        snprintf(path, sizeof(path), "%s/others", f->dir);
        others = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        while (write(others, junk, sizeof(junk)) > 0)
                ;
        if (bring(pieces, c, 2) != -ENOSPC || !is_du(f, store) ||
            store_pieces_state(pieces, 2) != PIECE_MISSING)
                return 3;
        assert_piece(pieces, c, 1);
        /* Room for a part of it. */
        if (ftruncate(others, lseek(others, 0, SEEK_END) - (off_t)PIECE_BYTES / 2) < 0 ||
            bring(pieces, c, 2) != -ENOSPC || !is_du(f, store))
                return 8;
        if (store_pieces_claim(pieces, 2, false) != STORE_OK)
                return 4;
        if (ftruncate(others, 0) < 0 || put_claimed(pieces, c, 2) != STORE_OK || !is_du(f, store))
                return 5;
        store_pieces_unref(pieces);
        /* No room for the list: what comes can be verified, and served by who has it. */
        while (write(others, junk, sizeof(junk)) > 0 || write(others, junk, 1) > 0)
                ;
        c = content_of(2);
        if (store_pieces_open(store, &c->id, SIZE, true, &pieces) != -ENOSPC || !is_du(f, store))
                return 6;
        close(others);
        if (unlink(path) < 0)
                return 7;
        pieces = open_listed(store, c);
        if (bring(pieces, c, 0) != STORE_OK || !is_du(f, store))
                return 7;
        store_pieces_unref(pieces);
        store_free(store);
        return 0;
}

static void test_full_disk(void **state)
{
        run_on_small_disk(fill_disk, *state);
}

/* S8: on a full disk a store with limits makes room by evicting. */
static int make_room(struct fixture *f)
{
        const struct store_limits none = { 0 };
        struct store *store;
        int r = with_small_disk(f, "4m", &store);

        if (r != 0)
                return r;
        if (store_limit(store, &none) != 0)
                return 2;
        for (unsigned number = 0; number < 12; number++) {
                const struct content *c = content_of(number);
                struct store_pieces *pieces = open_listed(store, c);
                for (uint64_t i = 0; i < PIECES; i++)
                        if (bring(pieces, c, i) != STORE_OK)
                                return 3;
                store_pieces_unref(pieces);
                if (!store_has(store, &c->id))
                        return 4;
                usleep(60000); /* no longer young */
        }
        store_free(store);
        return 0;
}

static void test_room_on_full_disk(void **state)
{
        run_on_small_disk(make_room, *state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_piece_by_piece),
                TEST(test_list),
                TEST(test_wrong_bytes),
                TEST(test_bad_names),
                TEST(test_one_handle),
                TEST(test_read_ends_where_a_piece_is_missing),
                TEST(test_resume),
                TEST(test_another_boot),
                TEST(test_check_publishes),
                TEST(test_found_wrong_meanwhile),
                TEST(test_not_published_while_claimed),
                TEST(test_not_published_while_claimed_elsewhere),
                TEST(test_damaged_list),
                TEST(test_damaged_tail),
                TEST(test_written_by_somebody),
                TEST(test_truncated),
                TEST(test_cut_and_not_renamed),
                TEST(test_adopt),
                TEST(test_written_as_a_whole),
                TEST(test_written_as_a_whole_without_list),
                TEST(test_come_both_ways),
                TEST(test_stat_and_verify),
                TEST(test_collect),
                TEST(test_eviction),
                TEST(test_quota),
                TEST(test_du),
                TEST(test_full_disk),
                TEST(test_room_on_full_disk),
        };

        log_setup("test_pieces", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
