/*
 * How a piece comes into a part: room, a mark that says "being written" and counts, the bytes, the mark of this boot (P2). How the last one makes it a blob.
 */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "cache/pieces_private.h"

/* ---- one piece ---- */

static bool is_right(const struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        return len == piece_len(pieces->layout.size, index) &&
               hash_proves(hash_base(pieces->id.algorithm), data, len, store_pieces_hash(pieces, index));
}

/* Piece INDEX from FD: its bytes and STORE_OK; STORE_MISS: there are others, or fewer; negative errno. */
static int read_verified(const struct store_pieces *pieces, uint64_t index, int fd, void **ret)
{
        size_t len = piece_len(pieces->layout.size, index);
        _cleanup_free_ void *data = malloc(len);
        ssize_t n;

        if (!data)
                return -ENOMEM;
        n = io_pread_all(fd, data, len, (off_t)(index * PIECE_BYTES));
        if (n < 0 && n != -EIO)
                return (int)n;
        if (n < 0 || !is_right(pieces, index, data, (size_t)n))
                return STORE_MISS;
        *ret = TAKE_PTR(data);
        return STORE_OK;
}

/* Marks the piece as one that takes room and holds nothing, or, with PART_MARK_NONE, not even that. The mark and the count change together (S7). */
static int mark_and_count(struct store_pieces *pieces, uint64_t index, uint64_t mark)
{
        int64_t charge = (int64_t)part_piece_charge(&pieces->layout, index);
        unsigned shard = usage_shard_of(&pieces->id);
        struct usage_turn turn = usage_begin(pieces->store, shard);
        int r = part_write_mark(pieces->fd, &pieces->layout, index, mark);

        if (r < 0 || !pieces_is_current(pieces))
                charge = 0;
        usage_end(pieces->store, shard, turn, mark == PART_MARK_NONE ? -charge : charge, 0);
        return r;
}

/* A write that failed: what it left takes no room. */
static void take_back(struct store_pieces *pieces, uint64_t index)
{
        (void)fallocate(pieces->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(index * PIECE_BYTES),
                        (off_t)part_piece_charge(&pieces->layout, index));
        (void)mark_and_count(pieces, index, PART_MARK_NONE);
}

/* S8 */
static int write_data(struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        int r;

        do
                r = io_pwrite_all(pieces->fd, data, len, (off_t)(index * PIECE_BYTES));
        while (r == -ENOSPC && store_make_room(pieces->store, PIECE_BYTES) == 0);
        return r;
}

/* P2: in this order. */
static int write_counted(struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        int r = write_data(pieces, index, data, len);

        if (r == 0)
                r = part_write_mark(pieces->fd, &pieces->layout, index, store_boot_mark(pieces->store));
        if (r == 0)
                pieces_note(pieces, index, PIECE_HERE);
        else
                take_back(pieces, index);
        return r;
}

static int write_first(struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        int64_t charge = (int64_t)part_piece_charge(&pieces->layout, index);
        int r = room_take(pieces->store, (uint64_t)charge, true);

        if (r < 0)
                return r;
        r = mark_and_count(pieces, index, PART_MARK_WRITING);
        usage_reserve(pieces->store, -charge, 0);
        if (r == 0)
                r = write_counted(pieces, index, data, len);
        usage_reserve(pieces->store, 0, -charge);
        return r;
}

/* The mark of a claimed piece, once the file has a place for it. */
static int find_mark(struct store_pieces *pieces, uint64_t index, uint64_t *ret)
{
        struct part_info info;
        int r = pieces_write_list(pieces);

        if (r == 0)
                r = part_read_info(pieces->fd, pieces->id.algorithm, pieces->layout.size, &info);
        if (r == 0)
                r = info.whole ? -ESTALE : part_read_mark(pieces->fd, &pieces->layout, index, ret);
        if (r != -ENODATA)
                return r;
        pieces_lose(pieces);
        return -ESTALE;
}

/* The verified bytes of a piece that is claimed. */
static int write_piece(struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        uint64_t mark;
        int r = find_mark(pieces, index, &mark);

        if (r < 0)
                return r;
        if (mark == PART_MARK_NONE)
                return write_first(pieces, index, data, len);
        /* It has its room already. */
        r = part_write_mark(pieces->fd, &pieces->layout, index, PART_MARK_WRITING);
        return r < 0 ? r : write_counted(pieces, index, data, len);
}

int store_pieces_put_verified(struct store_pieces *pieces, uint64_t index, const void *data)
{
        int r;

        assert(store_pieces_listed(pieces));
        r = write_piece(pieces, index, data, piece_len(pieces->layout.size, index));
        pieces_release(pieces, index);
        return r;
}

int store_pieces_put(struct store_pieces *pieces, uint64_t index, const void *data, size_t len)
{
        assert(store_pieces_listed(pieces));
        if (is_right(pieces, index, data, len))
                return store_pieces_put_verified(pieces, index, data);
        pieces_release(pieces, index);
        return STORE_MISMATCH;
}

int store_pieces_adopt(struct store_pieces *pieces, uint64_t index, int fd)
{
        _cleanup_free_ void *data = NULL;
        int r;

        assert(store_pieces_listed(pieces));
        r = read_verified(pieces, index, fd, &data);
        if (r == STORE_MISS)
                return r;
        if (r == STORE_OK)
                r = write_piece(pieces, index, data, piece_len(pieces->layout.size, index));
        pieces_release(pieces, index);
        return r;
}

int pieces_reread(struct store_pieces *pieces, uint64_t index)
{
        _cleanup_free_ void *data = NULL;
        int r;

        /* S2: another process was quicker to publish it than we to claim the piece. */
        if (atomic_load(&pieces->whole))
                return STORE_OK;
        r = read_verified(pieces, index, pieces->fd, &data);
        if (r == STORE_MISS) { /* it keeps its room, for who brings it anew */
                (void)part_write_mark(pieces->fd, &pieces->layout, index, PART_MARK_WRITING);
                pieces_note(pieces, index, PIECE_MISSING);
        } else if (r == STORE_OK) {
                r = part_write_mark(pieces->fd, &pieces->layout, index, store_boot_mark(pieces->store));
                if (r == 0)
                        pieces_note(pieces, index, PIECE_HERE);
        }
        return r;
}

int store_pieces_check(struct store_pieces *pieces, uint64_t index)
{
        enum piece_state state;
        int r;

        if (store_pieces_state(pieces, index) == PIECE_HERE)
                return STORE_OK;
        r = pieces_claim_any(pieces, index, true);
        if (r != STORE_OK)
                return r;
        state = pieces_look(pieces, index);
        if (state == PIECE_UNCHECKED)
                r = pieces_reread(pieces, index);
        else
                r = state == PIECE_HERE ? STORE_OK : STORE_MISS;
        pieces_release(pieces, index);
        return r;
}

/* ---- all of them ---- */

/* P4: what this process knows is not enough; a piece may have been found to be wrong since (store_verify). */
static bool are_all_marked(struct store_pieces *pieces)
{
        uint64_t i = 0;

        if (pieces_load_marks(pieces) < 0)
                return false;
        while (i < pieces->layout.count && atomic_load(&pieces->known[i]) == PIECE_HERE)
                i++;
        return i == pieces->layout.count;
}

/* As publish in store_write.c. A death after the truncation is mended by who opens it next: its length says what it is. */
static int cut_and_rename(struct store_pieces *pieces)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, pieces->store->stamp };
        char from[PART_PATH_MAX], to[STORE_BLOB_PATH_MAX];
        int dirfd = store_blob_dir(pieces->store, &pieces->id);

        part_path(&pieces->id, from);
        store_blob_path(&pieces->id, to);
        if (fchmod(pieces->fd, 0400) < 0 || ftruncate(pieces->fd, (off_t)pieces->layout.size) < 0)
                return -errno;
        atomic_store(&pieces->whole, true);
        if (futimens(pieces->fd, times) < 0 || renameat(dirfd, from, dirfd, to) < 0)
                return -errno;
        return 0;
}

/* What is published has its pieces counted already; what it no longer has is all that lay behind them. */
static void become_blob(struct store_pieces *pieces)
{
        struct store *store = pieces->store;
        int64_t trailer = (int64_t)(part_tail_charge() + part_list_charge(&pieces->layout));
        unsigned shard = usage_shard_of(&pieces->id);
        struct usage_turn turn = usage_begin(store, shard);
        int r = -ESTALE;

        if (pieces_is_current(pieces) && !store_has(store, &pieces->id))
                r = cut_and_rename(pieces);
        turn.counted &= r == 0 || r == -ESTALE;
        usage_end(store, shard, turn, r == 0 ? -trailer : 0, r == 0);
}

static void publish(struct store_pieces *pieces)
{
        if (pieces_lock_range(pieces->fd, 0, pieces->layout.count, F_WRLCK) != 0)
                return; /* another process has a claim, or publishes: it comes here when that ends */
        if (are_all_marked(pieces))
                become_blob(pieces);
        (void)pieces_lock_range(pieces->fd, 0, pieces->layout.count, F_UNLCK);
}

static bool is_complete(struct store_pieces *pieces)
{
        uint64_t i = atomic_load(&pieces->first);

        while (i < pieces->layout.count && store_pieces_state(pieces, i) == PIECE_HERE)
                i++;
        atomic_store(&pieces->first, i);
        return i == pieces->layout.count;
}

void pieces_finish(struct store_pieces *pieces)
{
        struct pieces_table *table = pieces->store->pieces;
        bool mine;

        if (atomic_load(&pieces->whole) || !is_complete(pieces) || atomic_load(&pieces->whole))
                return;
        mutex_lock(&table->lock);
        mine = !pieces->claims && !pieces->publishing;
        pieces->publishing |= mine;
        mutex_unlock(&table->lock);
        if (!mine)
                return;
        publish(pieces);
        mutex_lock(&table->lock);
        pieces->publishing = false;
        condition_broadcast(&table->released);
        mutex_unlock(&table->lock);
}
