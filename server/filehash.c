#include "server/filehash.h"

#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "server/metrics.h"

#define READ_BYTES (256 * 1024)
#define TRIES      3

struct hashing {
        struct pool *pool;
        struct hasher *hasher;
        uint8_t *block;
        size_t block_len;
};

static int hash_once(int fd, const struct hashing *h)
{
        off_t offset = 0;

        hasher_reset(h->hasher);
        while (!pool_cancelled(h->pool)) {
                ssize_t n = io_pread_all(fd, h->block, h->block_len, offset);
                if (n < 0)
                        return (int)n;
                hasher_update(h->hasher, h->block, (size_t)n);
                offset += n;
                if ((size_t)n < h->block_len)
                        return 0;
        }
        return -ECANCELED;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
        struct index_stamp x = index_stamp_of(a), y = index_stamp_of(b);

        return index_stamp_equal(&x, &y);
}

static void remember(struct index *index, const struct file_state *state, int64_t taken_ns)
{
        struct index_stamp stamp = index_stamp_of(&state->st);
        int r;

        if (index_stamp_racy(&stamp, taken_ns))
                return;
        r = index_store(index, &stamp, &state->id);
        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "index",
                            "hashes could not be kept: %s; the files will be hashed again", strerror(-r));
}

int file_hash(int fd, enum hash_algorithm algorithm, struct index *index, struct pool *pool,
              struct file_state *ret)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        _cleanup_free_ uint8_t *block = NULL;
        struct stat before, after;
        int64_t taken_ns = clock_coarse_ns();
        size_t block_len;
        int r = hasher_new(algorithm, &hasher);

        if (r < 0)
                return r;
        if (fstat(fd, &before) < 0)
                return -errno;
        /* One byte more than the file has, so that the first read of a small file meets its end. */
        block_len = before.st_size < READ_BYTES ? (size_t)before.st_size + 1 : READ_BYTES;
        block = malloc(block_len);
        if (!block)
                return -ENOMEM;
        metrics_add(METRIC_FILES_HASHED, 1);
        for (unsigned i = 0; i < TRIES; i++) {
                r = hash_once(fd, &(struct hashing){ pool, hasher, block, block_len });
                if (r < 0)
                        return r;
                if (fstat(fd, &after) < 0)
                        return -errno;
                if (same_state(&before, &after)) {
                        ret->st = before;
                        hasher_final(hasher, &ret->id);
                        remember(index, ret, taken_ns);
                        return 0;
                }
                taken_ns = clock_coarse_ns();
                if (fstat(fd, &before) < 0)
                        return -errno;
        }
        return -EAGAIN;
}
