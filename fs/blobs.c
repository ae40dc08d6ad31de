#include "fs/blobs.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include <uthash.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/util.h"
#include "cache/store.h"
#include "sync/fetch.h"

struct blob {
        uint64_t ino;
        atomic_int fd;             /* owned; -1: it comes by pieces; guarded by blobs->lock when it is set */
        struct fetch_large *large; /* a reference; NULL: it is a blob */
        uint64_t size;
        struct timespec mtime; /* when it was opened: whoever writes to it moves this (S3) */
        bool gone;             /* nobody finds it any more; guarded by blobs->lock */
        unsigned users;        /* guarded by blobs->lock */
        int64_t used_ns;       /* when the last use ended; guarded by blobs->lock */
        atomic_bool ended;     /* read to its end, since its beginning was read; set by any reader */
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
        if (!blob->gone)
                HASH_DEL(b->all, blob);
        if (blob->fd >= 0)
                close(blob->fd);
        fetch_large_unref(blob->large);
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

/* Finds and moves to the recently used end. Without the memory for that it is found no more, and goes after this use. */
static struct blob *find(struct blobs *b, uint64_t ino) TSA_REQUIRES(b->lock)
{
        struct blob *blob;

        HASH_FIND(hh, b->all, &ino, sizeof(ino), blob);
        if (blob) {
                HASH_DEL(b->all, blob);
                HASH_ADD(hh, b->all, ino, sizeof(blob->ino), blob);
                blob->gone = !blob->hh.tbl;
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

struct fetch_large *blob_large(const struct blob *blob)
{
        return blob->fd < 0 ? blob->large : NULL;
}

static bool has_ended(const struct blob *blob)
{
        return blob_large(blob) ? fetch_large_ended(blob->large) : atomic_load(&blob->ended);
}

void blobs_drop_unused(struct blobs *blobs, int64_t unused_ns)
{
        int64_t now = clock_monotonic_ns();
        struct blob *blob, *next;

        mutex_lock(&blobs->lock);
        HASH_ITER (hh, blobs->all, blob, next) {
                if (blob->users == 0 && (has_ended(blob) || now - blob->used_ns >= unused_ns)) {
                        if (blob->fd >= 0)
                                store_note_use(blob->fd, now - blob->used_ns);
                        drop(blobs, blob);
                }
        }
        mutex_unlock(&blobs->lock);
}

/* The blob of INO, in use; a new one has nothing yet. NULL: out of memory. */
static struct blob *find_or_add(struct blobs *b, uint64_t ino, uint64_t size) TSA_REQUIRES(b->lock)
{
        struct blob *blob = find(b, ino);

        if (blob)
                return blob;
        make_room(b, b->limit);
        blob = calloc(1, sizeof(*blob));
        if (!blob)
                return NULL;
        blob->ino = ino;
        blob->fd = -1;
        blob->size = size;
        blob->users = 1;
        HASH_ADD(hh, b->all, ino, sizeof(blob->ino), blob);
        if (!blob->hh.tbl) {
                free(blob);
                return NULL;
        }
        return blob;
}

struct blob *blobs_put(struct blobs *blobs, uint64_t ino, int fd, uint64_t size)
{
        struct blob *blob;
        struct stat st = { 0 };

        (void)fstat(fd, &st);
        mutex_lock(&blobs->lock);
        blob = find_or_add(blobs, ino, size);
        if (blob && blob->fd < 0) {
                blob->mtime = st.st_mtim;
                blob->fd = fd; /* what came by pieces until now is here as a blob */
                fd = -1;
        }
        mutex_unlock(&blobs->lock);
        if (fd >= 0)
                close(fd);
        return blob;
}

struct blob *blobs_put_large(struct blobs *blobs, uint64_t ino, struct fetch_large *large)
{
        struct blob *blob;

        mutex_lock(&blobs->lock);
        blob = find_or_add(blobs, ino, fetch_large_size(large));
        if (blob && blob->fd < 0 && !blob->large)
                blob->large = TAKE_PTR(large);
        mutex_unlock(&blobs->lock);
        fetch_large_unref(large);
        return blob;
}

static bool is_unchanged(const struct blob *blob)
{
        struct stat st;

        return fstat(blob->fd, &st) == 0 && clock_same(st.st_mtim, blob->mtime);
}

ssize_t blob_read(struct blob *blob, void *data, size_t len, off_t offset)
{
        ssize_t n;

        if (offset < 0 || (uint64_t)offset >= blob->size)
                return 0;
        /* Reads ahead overtake each other, so only one of the beginning takes it back. */
        if (len >= blob->size - (uint64_t)offset)
                atomic_store(&blob->ended, true);
        else if (offset == 0)
                atomic_store(&blob->ended, false);
        /* Bounded by the size, or each small file would cost a second read that finds its end. */
        n = io_pread_all(blob->fd, data, MIN(len, blob->size - (uint64_t)offset), offset);
        return n >= 0 && !is_unchanged(blob) ? -EBADMSG : n;
}

void blobs_discard(struct blobs *blobs, struct blob *blob)
{
        store_doubt(blob->fd);
        mutex_lock(&blobs->lock);
        if (!blob->gone)
                HASH_DEL(blobs->all, blob);
        blob->gone = true;
        mutex_unlock(&blobs->lock);
        blobs_unref(blobs, blob);
}

void blobs_unref(struct blobs *blobs, struct blob *blob)
{
        mutex_lock(&blobs->lock);
        blob->users--;
        blob->used_ns = clock_monotonic_ns();
        if (blob->gone && blob->users == 0)
                drop(blobs, blob);
        mutex_unlock(&blobs->lock);
}
