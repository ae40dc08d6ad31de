/*
 * Who brings a piece (P3): first among the threads of this process, then among processes.
 */
#include <fcntl.h>

#include "cache/pieces_private.h"

int pieces_lock_range(int fd, uint64_t first, uint64_t count, short type)
{
        struct flock lock = {
                .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = (off_t)count
        };

        if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
                return 0;
        return errno == EAGAIN || errno == EACCES ? STORE_BUSY : -errno;
}

struct lock_wait {
        int fd;
        uint64_t index;
};

static int wait_in_kernel(void *arg)
{
        struct lock_wait *wait = arg;
        struct flock lock = {
                .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)wait->index, .l_len = 1
        };

        return fcntl(wait->fd, F_OFD_SETLKW, &lock) < 0 ? -errno : 0;
}

static int lock_among_processes(struct store_pieces *pieces, uint64_t index, bool may_wait)
{
        struct lock_wait wait = { .fd = pieces->fd, .index = index };
        int r = pieces_lock_range(pieces->fd, index, 1, F_WRLCK);

        return r == STORE_BUSY && may_wait ? store_wait(pieces->store, wait_in_kernel, &wait) : r;
}

static bool is_claimed(const struct store_pieces *pieces, uint64_t index)
        TSA_REQUIRES(pieces->store->pieces->lock)
{
        const struct claim *c = pieces->claims;

        while (c && c->index != index)
                c = c->next;
        return c || pieces->publishing;
}

/* While a claim of another thread is out: 0, STORE_BUSY or -EINTR. */
static int await_thread(struct store_pieces *pieces, uint64_t index, bool may_wait)
        TSA_REQUIRES(pieces->store->pieces->lock)
{
        while (is_claimed(pieces, index)) {
                if (!may_wait)
                        return STORE_BUSY;
                if (store_is_interrupted(pieces->store))
                        return -EINTR;
                condition_wait(&pieces->store->pieces->released, &pieces->store->pieces->lock);
        }
        return 0;
}

static int claim_among_threads(struct store_pieces *pieces, uint64_t index, bool may_wait)
{
        struct claim *claim = malloc(sizeof(*claim));
        int r;

        if (!claim)
                return -ENOMEM;
        claim->index = index;
        mutex_lock(&pieces->store->pieces->lock);
        r = await_thread(pieces, index, may_wait);
        if (r == 0) {
                claim->next = pieces->claims;
                pieces->claims = claim;
        }
        mutex_unlock(&pieces->store->pieces->lock);
        if (r != 0)
                free(claim);
        return r;
}

static void unclaim(struct store_pieces *pieces, uint64_t index)
{
        struct claim **p, *claim;

        mutex_lock(&pieces->store->pieces->lock);
        for (p = &pieces->claims; *p && (*p)->index != index; p = &(*p)->next)
                ;
        assert(*p);
        claim = *p;
        *p = claim->next;
        condition_broadcast(&pieces->store->pieces->released);
        mutex_unlock(&pieces->store->pieces->lock);
        free(claim);
}

int pieces_claim_any(struct store_pieces *pieces, uint64_t index, bool may_wait)
{
        int r;

        if (index >= pieces->layout.count)
                return -EINVAL;
        r = claim_among_threads(pieces, index, may_wait);
        if (r != 0)
                return r;
        r = lock_among_processes(pieces, index, may_wait);
        if (r != 0) {
                unclaim(pieces, index);
                return r;
        }
        r = pieces_load_list(pieces); /* another process may have brought it */
        if (r < 0)
                pieces_release(pieces, index);
        return r;
}

/*
 * The part is gone because the content has come whole, by store_write: from now on the handle's file is that. It cannot be written to, so that
 * who still brings another piece fails, and does no harm (S2).
 */
static bool has_come_whole(struct store_pieces *pieces)
{
        _cleanup_close_ int fd = -1;

        if (pieces_is_current(pieces) || store_get_verified(pieces->store, &pieces->id, &fd) != STORE_OK ||
            dup3(fd, pieces->fd, O_CLOEXEC) < 0)
                return false;
        atomic_store(&pieces->whole, true);
        return true;
}

int store_pieces_claim(struct store_pieces *pieces, uint64_t index, bool may_wait)
{
        int r;

        if (store_pieces_state(pieces, index) == PIECE_HERE)
                return STORE_HAVE;
        r = pieces_claim_any(pieces, index, may_wait);
        if (r != STORE_OK || (pieces_look(pieces, index) != PIECE_HERE && !has_come_whole(pieces)))
                return r;
        pieces_release(pieces, index);
        return STORE_HAVE;
}

/* In this order: a thread that claimed in between would lose its lock. */
void pieces_release(struct store_pieces *pieces, uint64_t index)
{
        (void)pieces_lock_range(pieces->fd, index, 1, F_UNLCK);
        unclaim(pieces, index);
        pieces_finish(pieces);
}

void store_pieces_give_up(struct store_pieces *pieces, uint64_t index)
{
        pieces_release(pieces, index);
}
