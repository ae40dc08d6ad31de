/*
 * The list of a content's hashes: proved against the content's name, kept in memory by each handle, and in the part for the next one.
 */
#include <string.h>

#include "base/io.h"
#include "cache/pieces_private.h"

bool store_pieces_listed(const struct store_pieces *pieces)
{
        return atomic_load(&pieces->listed);
}

const uint8_t *store_pieces_hash(const struct store_pieces *pieces, uint64_t index)
{
        assert(store_pieces_listed(pieces) && index < pieces->layout.count);
        return pieces->list + index * pieces->layout.hash_len;
}

/* Takes LIST over, proved. */
static int keep_list(struct store_pieces *pieces, uint8_t *list, bool written) TSA_REQUIRES(pieces->list_lock)
{
        pieces->known = calloc(pieces->layout.count, sizeof(*pieces->known));
        if (!pieces->known) {
                free(list);
                return -ENOMEM;
        }
        pieces->list = list;
        pieces->written = written;
        (void)pieces_load_marks(pieces); /* what cannot be read is missing */
        atomic_store(&pieces->listed, true);
        return 0;
}

/* 0, -ENODATA: there is none, or not the content's; negative errno. */
static int read_list(struct store_pieces *pieces, uint8_t **ret)
{
        size_t len = pieces->layout.count * pieces->layout.hash_len;
        _cleanup_free_ uint8_t *list = NULL;
        struct part_info info;
        ssize_t n;
        int r = part_read_info(pieces->fd, pieces->id.algorithm, pieces->layout.size, &info);

        if (r < 0 || info.whole || !info.listed)
                return r < 0 ? r : -ENODATA;
        list = malloc(len);
        if (!list)
                return -ENOMEM;
        n = io_pread_all(pieces->fd, list, len, pieces->layout.list);
        if (n < 0 || !pieces_prove(&pieces->id, pieces->layout.size, list, (size_t)n))
                return n < 0 && n != -EIO ? (int)n : -ENODATA;
        *ret = TAKE_PTR(list);
        return 0;
}

int pieces_load_list(struct store_pieces *pieces)
{
        uint8_t *list = NULL;
        int r = 0;

        if (store_pieces_listed(pieces))
                return 0;
        mutex_lock(&pieces->list_lock);
        if (!store_pieces_listed(pieces)) {
                r = read_list(pieces, &list);
                if (r == 0)
                        r = keep_list(pieces, list, true);
        }
        mutex_unlock(&pieces->list_lock);
        return r == -ENODATA ? 0 : r;
}

int store_pieces_set_list(struct store_pieces *pieces, const uint8_t *list, size_t len)
{
        uint8_t *copy;
        int r = 0;

        if (store_pieces_listed(pieces))
                return STORE_OK;
        if (!pieces_prove(&pieces->id, pieces->layout.size, list, len))
                return STORE_MISMATCH;
        copy = malloc(len);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, list, len);
        mutex_lock(&pieces->list_lock);
        if (store_pieces_listed(pieces))
                free(copy);
        else
                r = keep_list(pieces, copy, false);
        mutex_unlock(&pieces->list_lock);
        if (r == 0)
                (void)pieces_write_list(pieces); /* on a full disk put says so */
        return r;
}

/* The list and what it counts for. Two processes may write the same one at the same time; one of them counts it. */
static int write_and_count(struct store_pieces *pieces)
{
        unsigned shard = usage_shard_of(&pieces->id);
        struct usage_turn turn = usage_begin(pieces->store, shard);
        struct part_info info;
        int64_t charge = 0;
        int r = part_read_info(pieces->fd, pieces->id.algorithm, pieces->layout.size, &info);

        if (r == 0 && !info.whole)
                r = part_write_list(pieces->fd, &pieces->layout, pieces->list);
        if (r == 0 && !info.whole && !info.listed && pieces_is_current(pieces))
                charge = (int64_t)part_list_charge(&pieces->layout);
        usage_end(pieces->store, shard, turn, charge, 0);
        return r;
}

int pieces_write_list(struct store_pieces *pieces)
{
        bool written;
        int r;

        mutex_lock(&pieces->list_lock);
        written = pieces->written;
        mutex_unlock(&pieces->list_lock);
        if (written)
                return 0;
        do
                r = write_and_count(pieces);
        while (r == -ENOSPC && store_make_room(pieces->store, PIECES_MAKE_BYTES) == 0);
        if (r < 0)
                return r;
        mutex_lock(&pieces->list_lock);
        pieces->written = true;
        mutex_unlock(&pieces->list_lock);
        return 0;
}
