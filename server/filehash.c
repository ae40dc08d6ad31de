#include "server/filehash.h"

#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/pieces.h"
#include "server/metrics.h"
#include "server/tree.h"

#define READ_BYTES ((size_t)PIECE_BYTES)
#define TRIES      3

struct file_hasher {
        struct pool *pool;                   /* borrowed */
        const struct file_hash_asker *asker; /* borrowed; NULL: nobody may change his mind */
        enum hash_algorithm base;            /* HASH_MD5, or of a tree */
        struct hasher *hasher;               /* owned; of what is not hashed at one go */
        uint8_t block[READ_BYTES + 1];
};

int file_hasher_new(enum hash_algorithm base, struct pool *pool, struct file_hasher **ret)
{
        struct file_hasher *h =
                malloc(sizeof(*h)); /* the block need not be zeroed: its pages come when they are used */
        int r;

        if (!h)
                return -ENOMEM;
        h->pool = pool;
        h->asker = NULL;
        h->base = base;
        r = hasher_new(hash_is_base(base) ? content_algorithm(base, UINT64_MAX) : base, &h->hasher);
        if (r < 0) {
                free(h);
                return r;
        }
        *ret = h;
        return 0;
}

void file_hasher_free(struct file_hasher *hasher)
{
        if (!hasher)
                return;
        hasher_free(hasher->hasher);
        free(hasher);
}

static bool is_unwanted(const struct file_hasher *h)
{
        return pool_cancelled(h->pool) || (h->asker && h->asker->unwanted(h->asker->arg));
}

/* Hashes all SIZE bytes, of which N are in the block. */
static int hash_all(struct file_hasher *h, int fd, uint64_t size, size_t n)
{
        uint64_t offset = 0;

        hasher_reset(h->hasher);
        for (;;) {
                ssize_t more;

                hasher_update(h->hasher, h->block, n);
                offset += n;
                if (offset == size)
                        return 0;
                if (is_unwanted(h))
                        return -ECANCELED;
                more = io_pread_all(fd, h->block, (size_t)MIN(size - offset, (uint64_t)READ_BYTES),
                                    (off_t)offset);
                if (more <= 0)
                        return more < 0 ? (int)more : -EAGAIN; /* it has shrunk */
                n = (size_t)more;
        }
}

/* At one go: half the price for small files. */
static void name_small(struct file_hasher *h, size_t n, struct file_state *ret)
{
        ret->id.algorithm = h->base;
        hash_bytes(h->base, h->block, n, ret->id.bytes);
        if (n > 0 && n <= ENTRY_TINY_MAX) {
                ret->detail = h->block;
                ret->detail_len = n;
        }
}

static int hash_once(struct file_hasher *h, int fd, uint64_t size, struct file_state *ret)
{
        /* One byte more than the file has, so that the first read of a small file meets its end. */
        size_t wanted = size <= READ_BYTES ? (size_t)size + 1 : READ_BYTES;
        ssize_t n = pread(fd, h->block, wanted, 0);
        int r;

        /* As many bytes as the file had: it is not worth another call to hear that this is the end, the stamp will tell. */
        if (n < 0 || (uint64_t)n != size || wanted == READ_BYTES)
                n = io_pread_all(fd, h->block, wanted, 0);
        if (n < 0)
                return (int)n;
        if ((uint64_t)n != MIN(size, (uint64_t)READ_BYTES))
                return -EAGAIN; /* it has grown, or shrunk */
        ret->detail = NULL;
        ret->detail_len = 0;
        if (hash_is_base(h->base) && size <= PIECE_BYTES) {
                name_small(h, (size_t)n, ret);
                return 0;
        }
        r = hash_all(h, fd, size, (size_t)n);
        if (r < 0)
                return r;
        hasher_final(h->hasher, &ret->id);
        return hash_is_base(h->base) ? hasher_get_pieces(h->hasher, &ret->detail, &ret->detail_len) : 0;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
        struct tree_stamp x = tree_stamp_of(a), y = tree_stamp_of(b);

        return tree_stamp_equal(&x, &y);
}

int file_hasher_run(struct file_hasher *h, int fd, struct file_state *ret)
{
        metrics_add(METRIC_FILES_HASHED, 1);
        for (unsigned i = 0; i < TRIES; i++) {
                int64_t taken_ns = clock_coarse_ns();
                struct file_state state;
                struct stat after;
                struct tree_stamp stamp;
                int r;

                if (fstat(fd, &state.st) < 0)
                        return -errno;
                if (!S_ISREG(state.st.st_mode))
                        return -ELOOP;
                r = hash_once(h, fd, (uint64_t)state.st.st_size, &state);
                if (r < 0 && r != -EAGAIN)
                        return r;
                if (fstat(fd, &after) < 0)
                        return -errno;
                if (r < 0 || !same_state(&state.st, &after))
                        continue;
                stamp = tree_stamp_of(&state.st);
                state.racy = tree_stamp_racy(&stamp, taken_ns);
                *ret = state;
                return 0;
        }
        return -EAGAIN;
}

int file_hash(int fd, enum hash_algorithm base, const struct file_hash_asker *asker, struct file_state *ret,
              struct buffer *ret_list)
{
        struct file_hasher *hasher;
        struct file_state state;
        int r = file_hasher_new(base, asker->pool, &hasher);

        if (r < 0)
                return r;
        hasher->asker = asker;
        r = file_hasher_run(hasher, fd, &state);
        if (r == 0 && hash_by_pieces(state.id.algorithm))
                r = buffer_append(ret_list, state.detail, state.detail_len);
        file_hasher_free(hasher);
        state.detail = NULL;
        state.detail_len = 0;
        if (r == 0)
                *ret = state;
        return r;
}
