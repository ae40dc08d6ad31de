#include "fs/blobs.h"

#include <stdatomic.h>

#include <uthash.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/util.h"
#include "cache/store.h"

struct blob {
        uint64_t ino;
        int fd; /* owned */
        uint64_t size;
        unsigned users;    /* guarded by blobs->lock */
        int64_t used_ns;   /* when the last use ended; guarded by blobs->lock */
        atomic_bool ended; /* read to its end, since its beginning was read; set by any reader */
        UT_hash_handle hh;
};

struct blobs {
        unsigned limit;
        struct mutex lock;
        struct blob *all TSA_GUARDED(
                lock); /* by ino; uthash keeps insertion order: the least recently used comes first */
};

int blobs_new(unsigned limit, struct blobs **ret)
{
        struct blobs *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        mutex_init(&b->lock);
        b->limit = limit;
        *ret = b;
        return 0;
}

static void drop(struct blobs *b, struct blob *blob) TSA_REQUIRES(b->lock)
{
        HASH_DEL(b->all, blob);
        close(blob->fd);
        free(blob);
}

void blobs_free(struct blobs *blobs) TSA_NONE
{
        struct blob *blob, *next;

        if (!blobs)
                return;
        HASH_ITER (hh, blobs->all, blob, next)
                drop(blobs, blob);
        mutex_release(&blobs->lock);
        free(blobs);
}

/* Finds and moves to the recently used end. */
static struct blob *find(struct blobs *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        struct blob *blob;

        HASH_FIND(hh, b->all, &ino, sizeof(ino), blob);
        if (blob) {
                HASH_DEL(b->all, blob);
                HASH_ADD(hh, b->all, ino, sizeof(blob->ino), blob);
                blob->users++;
        }
        return blob;
}

struct blob *blobs_get(struct blobs *blobs, uint64_t ino)
{
        struct blob *blob;

        mutex_lock(&blobs->lock);
        blob = find(blobs, ino);
        mutex_unlock(&blobs->lock);
        return blob;
}

/* Drops idle ones, the least recently used first, until fewer than LIMIT are left. */
static void make_room(struct blobs *b, unsigned limit) TSA_REQUIRES(b->lock)
{
        struct blob *blob, *next;

        HASH_ITER (hh, b->all, blob, next) {
                if (HASH_COUNT(b->all) < limit)
                        return;
                if (blob->users == 0)
                        drop(b, blob);
        }
}

void blobs_drop_idle(struct blobs *blobs)
{
        mutex_lock(&blobs->lock);
        make_room(blobs, 0);
        mutex_unlock(&blobs->lock);
}

void blobs_drop_unused(struct blobs *blobs, int64_t unused_ns)
{
        int64_t now = clock_monotonic_ns();
        struct blob *blob, *next;

        mutex_lock(&blobs->lock);
        HASH_ITER (hh, blobs->all, blob, next) {
                if (blob->users == 0 && (atomic_load(&blob->ended) || now - blob->used_ns >= unused_ns)) {
                        store_note_use(blob->fd, now - blob->used_ns);
                        drop(blobs, blob);
                }
        }
        mutex_unlock(&blobs->lock);
}

struct blob *blobs_put(struct blobs *blobs, uint64_t ino, int fd, uint64_t size)
{
        struct blob *blob;

        mutex_lock(&blobs->lock);
        blob = find(blobs, ino);
        if (blob) {
                close(fd);
        } else {
                make_room(blobs, blobs->limit);
                blob = calloc(1, sizeof(*blob));
                if (blob) {
                        *blob = (struct blob){ .ino = ino, .fd = fd, .size = size, .users = 1 };
                        HASH_ADD(hh, blobs->all, ino, sizeof(blob->ino), blob);
                } else {
                        close(fd);
                }
        }
        mutex_unlock(&blobs->lock);
        return blob;
}

ssize_t blob_read(struct blob *blob, void *data, size_t len, off_t offset)
{
        if (offset < 0 || (uint64_t)offset >= blob->size)
                return 0;
        /* Reads ahead overtake each other, so only one of the beginning takes it back. */
        if (len >= blob->size - (uint64_t)offset)
                atomic_store(&blob->ended, true);
        else if (offset == 0)
                atomic_store(&blob->ended, false);
        /* Bounded by the size, or each small file would cost a second read that finds its end. */
        return io_pread_all(blob->fd, data, MIN(len, blob->size - (uint64_t)offset), offset);
}

void blobs_unref(struct blobs *blobs, struct blob *blob)
{
        mutex_lock(&blobs->lock);
        blob->users--;
        blob->used_ns = clock_monotonic_ns();
        mutex_unlock(&blobs->lock);
}
