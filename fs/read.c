#include "fs/filesystem.h"

#include <string.h>

#include "base/log.h"
#include "fs/bindings.h"
#include "fs/blobs.h"
#include "sync/learned.h"
#include "sync/readahead.h"
#include "sync/siblings.h"

/*
 * A read: from an open blob, from the store, or, after a fetch, from the store. A read that has to wait holds no thread: it
 * becomes a struct pending and is answered by whoever ends the wait.
 *
 * A file that the master has replaced before anybody read it here is stale: its content is nowhere. The sync that this causes gives its
 * path another inode number, but the open file has the old one, and no page yet. It is then bound to the new entry (fs/bindings.h)
 * and reads wholly new. If a page was served before, nothing helps: ESTALE.
 */
#define REBIND_MAX 5 /* how often one read follows a file that the master goes on replacing */
#define MISS_MAX   3 /* how often it is fetched again because it was gone before it was opened */

typedef int (*store_get_fn)(struct store *store, const struct content_id *id, int *ret_fd);

struct pending {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct filesystem *fs;
        fuse_req_t req;
        uint64_t ino;
        uint64_t source; /* the entry whose content is waited for */
        size_t size;
        off_t offset;
        int rebound, missed;
};

static void reply_from(fuse_req_t req, struct filesystem *fs, struct blob *blob, size_t size, off_t offset)
{
        _cleanup_free_ char *data = malloc(MAX(size, (size_t)1));
        ssize_t n = data ? blob_read(blob, data, size, offset) : -ENOMEM;

        blobs_unref(fs->blobs, blob);
        if (n < 0) {
                log_limited(LOG_LEVEL_ERROR, "read", "cannot read the cache: %s", strerror((int)-n));
                fuse_reply_err(req, EIO);
        } else {
                fuse_reply_buf(req, data, (size_t)n);
        }
}

static int get_source(struct filesystem *fs, uint64_t ino, struct catalog_entry *ret)
{
        int r = catalog_get(fs->catalog, bindings_get(fs->bindings, ino), ret);

        if (r != CATALOG_OK)
                return r == CATALOG_NONE ? -ESTALE : -filesystem_reply_error(r);
        if (ret->content.algorithm == HASH_NONE) {
                log_limited(LOG_LEVEL_ERROR, "read",
                            "'%s' cannot be read: the master could not read it either", ret->name);
                return -EIO;
        }
        return 0;
}

/*
 * INO is about to show SOURCE instead of its own entry: the kernel has to learn the size before it gets bytes. A smaller one it takes
 * from the short reply itself, but only if nothing has touched the attributes since it asked; so only a larger one is told. This is
 * the one notification outside the notifier: one of attributes alone waits for nothing in the kernel, and it must come before
 * the reply.
 */
static void show_size(struct filesystem *fs, uint64_t ino, const struct catalog_entry *source)
{
        struct catalog_entry own;

        if (source->ino != ino && catalog_get(fs->catalog, ino, &own) == CATALOG_OK &&
            source->size > own.size)
                fuse_lowlevel_notify_inval_inode(fs->fuse, ino, -1, 0);
}

/* Opens what INO's bytes come from: as get_source and GET. */
static int open_source(struct filesystem *fs, uint64_t ino, store_get_fn get, struct catalog_entry *entry,
                       int *ret_fd)
{
        int r = get_source(fs, ino, entry);

        return r == 0 ? get(fs->store, &entry->content, ret_fd) : r;
}

/*
 * The blob in use that INO's bytes come from: STORE_OK; STORE_MISS or STORE_UNVERIFIED with the entry whose content has to be fetched or verified; or
 * negative errno. On a FUSE thread GET is store_get_verified: hashing a large blob there would hold up everybody's look-ups.
 */
static int get_blob(struct filesystem *fs, uint64_t ino, store_get_fn get, struct catalog_entry *entry,
                    struct blob **ret)
{
        int fd = -1, r;

        *ret = blobs_get(fs->blobs, ino);
        if (*ret)
                return STORE_OK;
        for (;;) {
                r = open_source(fs, ino, get, entry, &fd);
                if (r == -EMFILE || r == -ENFILE) {
                        blobs_drop_idle(fs->blobs);
                        r = open_source(fs, ino, get, entry, &fd);
                }
                if (r != STORE_OK)
                        return r;
                r = bindings_fix(fs->bindings, ino, entry->ino);
                if (r == 0)
                        break;
                close(fd);
                if (r != -EAGAIN) /* otherwise it was bound elsewhere just now, by another read */
                        return r;
        }
        show_size(fs, ino, entry);
        *ret = blobs_put(fs->blobs, ino, fd, entry->size);
        return *ret ? STORE_OK : -ENOMEM;
}

/* P's file is stale: binds it to what is at its path now. 0: there is something else to read; -ESTALE. */
static int rebind(struct pending *p)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct catalog_entry entry;
        int r;

        if (bindings_get(p->fs->bindings, p->ino) != p->source)
                return 0; /* another read was quicker */
        r = catalog_path(p->fs->catalog, p->ino, &path);
        if (r == CATALOG_OK)
                r = catalog_find_path(p->fs->catalog, path.data, path.len, &entry);
        if (r != CATALOG_OK || entry.kind != ENTRY_FILE || ++p->rebound > REBIND_MAX)
                return -ESTALE;
        if (entry.ino == p->source)
                return -ESTALE; /* the catalog has nothing newer */
        return bindings_move(p->fs->bindings, p->ino, entry.ino);
}

static void reply_pending(struct pending *p, int result, struct blob *blob)
{
        /* Waits for an interrupt handler under way: afterwards nobody but us knows P. */
        fuse_req_interrupt_func(p->req, NULL, NULL);
        if (result == STORE_OK)
                reply_from(p->req, p->fs, blob, p->size, p->offset);
        else
                fuse_reply_err(p->req, result < 0 ? -result : EIO);
        free(p);
}

/* Replies from CONTENT, which is in memory and not yet in the store. -EAGAIN: INO was bound to another entry just now. */
static int reply_from_memory(struct pending *p, const struct fetch_content *content)
{
        size_t from = MIN((uint64_t)p->offset, content->len);
        struct catalog_entry source;
        int r = bindings_fix(p->fs->bindings, p->ino, p->source);

        if (r < 0)
                return r;
        if (p->source != p->ino && catalog_get(p->fs->catalog, p->source, &source) == CATALOG_OK)
                show_size(p->fs, p->ino, &source);
        fuse_req_interrupt_func(p->req, NULL, NULL);
        fuse_reply_buf(p->req, (const char *)content->data + from, MIN(p->size, content->len - from));
        free(p);
        return 0;
}

/* The wait is over: from the fetch, or at once. */
static void read_done(struct fetch_waiter *waiter, int error)
{
        struct pending *p = (struct pending *)waiter;
        struct catalog_entry entry;
        struct blob *blob = NULL;
        int r = error == -ESTALE ? rebind(p) : error;

        if (error == 0 && waiter->content && reply_from_memory(p, waiter->content) == 0)
                return;
        if (r == 0)
                r = get_blob(p->fs, p->ino, store_get, &entry, &blob);
        /* Bound to another file, or evicted again before it was opened. */
        if (r == STORE_MISS && (entry.ino != p->source || ++p->missed <= MISS_MAX)) {
                p->source = entry.ino;
                r = fetch_want(p->fs->fetch, &entry, false, &p->waiter);
                if (r == 0)
                        return;
        }
        reply_pending(p, r, blob);
}

/* From libfuse, holding the request's lock: must not reply. */
static void read_interrupted(fuse_req_t req, void *arg)
{
        struct pending *p = arg;

        fetch_interrupt(p->fs->fetch, &p->waiter);
}

/* Replies: buf (short only at the end of the file), error: EIO (damaged or unknown content), ESTALE (the master's file has changed
 * and the old content is nowhere), EHOSTUNREACH, ETIMEDOUT (no master in time), EINTR, ENOSPC (no room in the cache). */
void filesystem_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
        struct filesystem *fs = fuse_req_userdata(req);
        struct catalog_entry entry;
        struct pending *p;
        struct blob *blob;
        bool coming = false;
        int r;

        if (offset == 0 && fs->readahead)
                readahead_note_read(fs->readahead, ino);
        if (offset == 0 && fs->learned)
                coming = learned_note_read(fs->learned, ino);
        r = get_blob(fs, ino, store_get_verified, &entry, &blob);
        if (r >= 0)
                atomic_fetch_add(r == STORE_OK ? &fs->hits : &fs->misses, 1);
        if (r == STORE_MISS && fs->siblings && !coming)
                siblings_note_miss(fs->siblings, &entry);
        if (r == STORE_OK) {
                reply_from(req, fs, blob, size, offset);
                return;
        }
        p = r > 0 ? calloc(1, sizeof(*p)) : NULL;
        if (!p) {
                fuse_reply_err(req, r < 0 ? -r : ENOMEM);
                return;
        }
        *p = (struct pending){
                .waiter = { .done = read_done },
                .fs = fs,
                .req = req,
                .ino = ino,
                .source = entry.ino,
                .size = size,
                .offset = offset,
        };
        fuse_req_interrupt_func(req, read_interrupted, p);
        r = fetch_want(fs->fetch, &entry, r == STORE_UNVERIFIED, &p->waiter);
        if (r < 0)
                read_done(&p->waiter, r);
}
