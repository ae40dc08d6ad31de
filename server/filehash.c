#include "server/filehash.h"

#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "server/metrics.h"
#include "server/tree.h"

#define READ_BYTES ((size_t)256 * 1024)
#define TRIES      3

struct file_hasher {
        struct pool *pool;
        struct hasher *hasher; /* owned */
        enum hash_algorithm algorithm;
        uint8_t block[READ_BYTES];
};

int file_hasher_new(enum hash_algorithm algorithm, struct pool *pool, struct file_hasher **ret)
{
        struct file_hasher *h =
                malloc(sizeof(*h)); /* the block need not be zeroed: its pages come when they are used */
        int r;

        if (!h)
                return -ENOMEM;
        h->pool = pool;
        h->algorithm = algorithm;
        r = hasher_new(algorithm, &h->hasher);
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

/* The first bytes of the file are in the block and fill it: takes them and what follows. */
static int hash_rest(struct file_hasher *h, int fd, struct content_id *ret)
{
        ssize_t n = READ_BYTES;
        off_t offset = 0;

        hasher_reset(h->hasher);
        for (;;) {
                hasher_update(h->hasher, h->block, (size_t)n);
                offset += n;
                if ((size_t)n < READ_BYTES)
                        break;
                if (pool_cancelled(h->pool))
                        return -ECANCELED;
                n = io_pread_all(fd, h->block, READ_BYTES, offset);
                if (n < 0)
                        return (int)n;
        }
        hasher_final(h->hasher, ret);
        return 0;
}

static int hash_once(struct file_hasher *h, int fd, off_t expected, struct content_id *ret)
{
        /* One byte more than the file has, so that the first read of a small file meets its end. */
        size_t wanted = expected < (off_t)READ_BYTES ? (size_t)expected + 1 : READ_BYTES;
        ssize_t n = pread(fd, h->block, wanted, 0);

        /* As many bytes as the file had: it is not worth another call to hear that this is the end, the stamp will tell. */
        if (n < 0 || n != expected || wanted == READ_BYTES)
                n = io_pread_all(fd, h->block, wanted, 0);
        if (n < 0)
                return (int)n;
        if ((size_t)n == wanted && wanted < READ_BYTES)
                return -EAGAIN; /* it has grown */
        if ((size_t)n == READ_BYTES)
                return hash_rest(h, fd, ret);
        if (h->algorithm == HASH_XXH3) { /* at one go: half the price for small files */
                ret->algorithm = HASH_XXH3;
                hash_xxh3(h->block, (size_t)n, ret->bytes);
                return 0;
        }
        hasher_reset(h->hasher);
        hasher_update(h->hasher, h->block, (size_t)n);
        hasher_final(h->hasher, ret);
        return 0;
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
                struct stat before, after;
                struct content_id id;
                struct tree_stamp stamp;
                int r;

                if (fstat(fd, &before) < 0)
                        return -errno;
                if (!S_ISREG(before.st_mode))
                        return -ELOOP;
                r = hash_once(h, fd, before.st_size, &id);
                if (r < 0 && r != -EAGAIN)
                        return r;
                if (fstat(fd, &after) < 0)
                        return -errno;
                if (r < 0 || !same_state(&before, &after))
                        continue;
                stamp = tree_stamp_of(&before);
                ret->st = before;
                ret->id = id;
                ret->racy = tree_stamp_racy(&stamp, taken_ns);
                return 0;
        }
        return -EAGAIN;
}

int file_hash(int fd, enum hash_algorithm algorithm, struct pool *pool, struct file_state *ret)
{
        struct file_hasher *hasher;
        int r = file_hasher_new(algorithm, pool, &hasher);

        if (r < 0)
                return r;
        r = file_hasher_run(hasher, fd, ret);
        file_hasher_free(hasher);
        return r;
}
