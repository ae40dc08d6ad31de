#include "fs/filesystem.h"

#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/blobs.h"

/*
 * A read: from an open blob, from the store, or, after a fetch, from the store. A read that has to wait holds
 * no thread: it becomes a struct pending and is answered by whoever ends the wait.
 */
struct pending {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct filesystem *fs;
        fuse_req_t req;
        uint64_t ino;
        struct content_id content;
        size_t size;
        off_t offset;
};

static void reply_from(fuse_req_t req, struct filesystem *fs, struct blob *blob, size_t size, off_t offset)
{
        _cleanup_free_ char *data = malloc(MAX(size, (size_t)1));
        ssize_t n = data ? io_pread_all(blob_get_fd(blob), data, size, offset) : -ENOMEM;

        blobs_unref(fs->blobs, blob);
        if (n < 0) {
                log_limited(LOG_LEVEL_ERROR, "read", "cannot read the cache: %s", strerror((int)-n));
                fuse_reply_err(req, EIO);
        } else {
                fuse_reply_buf(req, data, (size_t)n);
        }
}

/* The blob of INO in use, opened if need be: STORE_OK, STORE_MISS or negative errno. */
static int open_blob(struct filesystem *fs, uint64_t ino, const struct content_id *content, struct blob **ret)
{
        int fd, r = store_get(fs->store, content, &fd);

        if (r != STORE_OK)
                return r;
        *ret = blobs_put(fs->blobs, ino, fd);
        return *ret ? STORE_OK : -ENOMEM;
}

static void read_done(struct fetch_waiter *waiter, int error)
{
        struct pending *p = (struct pending *)waiter;
        struct blob *blob;
        int r = error < 0 ? error : open_blob(p->fs, p->ino, &p->content, &blob);

        /* Waits for an interrupt handler under way: afterwards nobody but us knows P. */
        fuse_req_interrupt_func(p->req, NULL, NULL);
        if (r == STORE_OK)
                reply_from(p->req, p->fs, blob, p->size, p->offset);
        else
                fuse_reply_err(p->req, r < 0 ? -r : EIO);
        free(p);
}

/* From libfuse, holding the request's lock: must not reply. */
static void read_interrupted(fuse_req_t req, void *arg)
{
        struct pending *p = arg;

        fetch_interrupt(p->fs->fetch, &p->waiter);
}

static void read_later(fuse_req_t req, struct filesystem *fs, const struct catalog_entry *entry, size_t size,
                       off_t offset)
{
        struct pending *p = calloc(1, sizeof(*p));
        int r;

        if (!p) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        *p = (struct pending){
                .waiter = { .done = read_done },
                .fs = fs,
                .req = req,
                .ino = entry->ino,
                .content = entry->content,
                .size = size,
                .offset = offset,
        };
        fuse_req_interrupt_func(req, read_interrupted, p);
        r = fetch_want(fs->fetch, entry, &p->waiter);
        if (r < 0)
                read_done(&p->waiter, r);
}

/* Replies: buf (short only at the end of the file), error: EIO (damaged or unknown content), ESTALE (the
 * master's file has changed and the old content is nowhere), EHOSTUNREACH, ETIMEDOUT (no master in time),
 * EINTR, ENOSPC (no room in the cache). */
void filesystem_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
        struct filesystem *fs = fuse_req_userdata(req);
        struct blob *blob = blobs_get(fs->blobs, ino);
        struct catalog_entry entry;
        int r;

        if (blob) {
                atomic_fetch_add(&fs->hits, 1);
                reply_from(req, fs, blob, size, offset);
                return;
        }
        r = catalog_get(fs->catalog, ino, &entry);
        if (r != CATALOG_OK) {
                fuse_reply_err(req, r == CATALOG_NONE ? ESTALE : filesystem_reply_error(r));
                return;
        }
        if (entry.size == 0) {
                fuse_reply_buf(req, NULL, 0);
                return;
        }
        if (entry.content.algorithm == HASH_NONE) {
                log_limited(LOG_LEVEL_ERROR, "read",
                            "'%s' cannot be read: the master could not read it either", entry.name);
                fuse_reply_err(req, EIO);
                return;
        }
        r = open_blob(fs, ino, &entry.content, &blob);
        atomic_fetch_add(r == STORE_OK ? &fs->hits : &fs->misses, 1);
        if (r == STORE_OK)
                reply_from(req, fs, blob, size, offset);
        else if (r == STORE_MISS)
                read_later(req, fs, &entry, size, offset);
        else
                fuse_reply_err(req, -r);
}
