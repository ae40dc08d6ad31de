#include "fs/filesystem.h"

#include <string.h>

#include "base/log.h"
#include "fs/bindings.h"
#include "fs/blobs.h"
#include "fs/progress.h"
#include "fs/read_private.h"
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

/* Where the bytes of a read are. */
struct found {
        struct catalog_entry entry; /* what they are of; set unless `blob` is */
        struct blob *blob;          /* in use; or */
        struct fetch_large *large;  /* a reference: some of them may be here; or both are NULL */
        bool bound;                 /* bytes of this content were served before */
        bool tiny;                  /* they came with the entry: the next two */
        size_t len;
        uint8_t data[ENTRY_TINY_MAX];
};

/* True: REQ was answered from BLOB, whose use ends here. False: a bad sector, or somebody has written to it; whoever looks again gets it verified, or anew. */
static bool reply_from(fuse_req_t req, struct filesystem *fs, struct blob *blob, size_t size, off_t offset)
{
        _cleanup_free_ char *data = malloc(MAX(size, (size_t)1));
        ssize_t n = data ? blob_read(blob, data, size, offset) : -ENOMEM;

        if (n < 0 && data) {
                log_limited(LOG_LEVEL_WARNING, "read", "cannot read a blob in the cache, trying again: %s",
                            n == -EBADMSG ? "somebody has written to it" : strerror((int)-n));
                blobs_discard(fs->blobs, blob);
                return false;
        }
        blobs_unref(fs->blobs, blob);
        if (n < 0)
                fuse_reply_err(req, ENOMEM);
        else
                fuse_reply_buf(req, data, (size_t)n);
        return true;
}

static void reply_tiny(fuse_req_t req, struct filesystem *fs, const struct found *found, size_t size,
                       off_t offset)
{
        size_t from = MIN((size_t)offset, found->len);

        fuse_reply_buf(req, (const char *)found->data + from, MIN(size, found->len - from));
        if (fs->siblings)
                siblings_note_tiny(fs->siblings, &found->entry);
}

/* As reply_from, from FOUND; false also if it has not got the whole content. */
static bool reply_whole(fuse_req_t req, struct filesystem *fs, struct found *found, size_t size, off_t offset)
{
        if (!found->tiny)
                return found->blob && reply_from(req, fs, TAKE_PTR(found->blob), size, offset);
        reply_tiny(req, fs, found, size, offset);
        return true;
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

/* Bytes of SOURCE are about to be served as INO's. -EAGAIN: INO was bound to another entry just now. */
static int fix(struct filesystem *fs, uint64_t ino, const struct catalog_entry *source)
{
        int r = bindings_fix(fs->bindings, ino, source->ino);

        if (r == 0)
                show_size(fs, ino, source);
        return r;
}

/* A blob that somebody has open already. */
static int use_blob(struct filesystem *fs, uint64_t ino, struct blob *blob, struct found *ret)
{
        struct fetch_large *large = blob_large(blob); /* once: it may become a blob at any time */

        if (!large) {
                ret->blob = blob;
                return STORE_OK;
        }
        ret->large = fetch_large_ref(large);
        ret->entry.ino = bindings_get(fs->bindings, ino);
        ret->bound = true;
        blobs_unref(fs->blobs, blob);
        return STORE_OK;
}

/* Takes over FD, the whole content of RET's entry. -EAGAIN as fix. */
static int use_fd(struct filesystem *fs, uint64_t ino, int fd, struct found *ret)
{
        int r = fix(fs, ino, &ret->entry);

        if (r < 0) {
                close(fd);
                return r;
        }
        ret->blob = blobs_put(fs->blobs, ino, fd, ret->entry.size);
        return ret->blob ? STORE_OK : -ENOMEM;
}

/* There is no blob of RET's entry: what is here of it, if it comes by pieces. -EAGAIN: there is one by now. */
static int use_large(struct filesystem *fs, struct found *ret)
{
        int r;

        if (!hash_by_pieces(ret->entry.content.algorithm))
                return STORE_MISS;
        r = fetch_large_open(fs->fetch, &ret->entry, &ret->large);
        return r == STORE_HAVE ? -EAGAIN : r;
}

static int find_once(struct filesystem *fs, uint64_t ino, store_get_fn get, struct found *ret)
{
        int fd = -1, r = get_source(fs, ino, &ret->entry);

        if (r < 0)
                return r;
        /* Damaged ones are fetched like any other content. */
        ret->tiny = ret->entry.tiny &&
                    catalog_get_tiny(fs->catalog, &ret->entry, ret->data, &ret->len) == CATALOG_OK;
        if (ret->tiny)
                return fix(fs, ino, &ret->entry);
        r = get(fs->store, &ret->entry.content, &fd);
        if (r == STORE_OK)
                return use_fd(fs, ino, fd, ret);
        return r == STORE_MISS ? use_large(fs, ret) : r;
}

/* As find, without what is open already. Descriptors that ran out are asked back once. */
static int find_afresh(struct filesystem *fs, uint64_t ino, store_get_fn get, struct found *ret)
{
        bool dropped = false;
        int r;

        *ret = (struct found){ 0 };
        while ((r = find_once(fs, ino, get, ret)) < 0) {
                bool ran_out = r == -EMFILE || r == -ENFILE;

                if (r != -EAGAIN && (!ran_out || dropped))
                        break;
                if (ran_out)
                        blobs_drop_idle(fs->blobs);
                dropped = dropped || ran_out;
        }
        return r;
}

/*
 * Where INO's bytes are: STORE_OK; STORE_MISS or STORE_UNVERIFIED with the entry whose content has to be fetched or verified; or
 * negative errno. On a FUSE thread GET is store_get_verified: hashing a large blob there would hold up everybody's look-ups.
 */
static int find(struct filesystem *fs, uint64_t ino, store_get_fn get, struct found *ret)
{
        struct blob *blob = blobs_get(fs->blobs, ino);

        *ret = (struct found){ 0 };
        return blob ? use_blob(fs, ino, blob, ret) : find_afresh(fs, ino, get, ret);
}

/* P's file is stale: binds it to what is at its path now. 0: there is something else to read; -ESTALE. */
static int rebind(struct pending *p)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct catalog_entry entry, old;
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
        /* The end of a smaller one the kernel learns from short replies, of which it believes the first: others under way would show zeros. */
        if (catalog_get(p->fs->catalog, p->source, &old) != CATALOG_OK || entry.size < old.size)
                return -ESTALE;
        return bindings_move(p->fs->bindings, p->ino, entry.ino);
}

/* ---- waiting ---- */

static void read_interrupted(fuse_req_t req, void *arg);

static void pending_free(struct pending *p)
{
        trace_end(p->fs->trace, &p->trace);
        reading_end(&p->fs->reading, p->ino);
        for (unsigned i = 0; i < p->n; i++)
                fetch_content_unref(p->waits[i].content);
        fetch_large_unref(p->large);
        free(p->data);
        free(p);
}

/* As before its first wait. No interrupt handler may be set. */
static void reset(struct pending *p)
{
        for (unsigned i = 0; i < p->n; i++) {
                fetch_content_unref(p->waits[i].content);
                p->waits[i] = (struct read_wait){ .pending = p };
        }
        fetch_large_unref(TAKE_PTR(p->large));
        free(TAKE_PTR(p->data));
        p->error = 0;
}

/* Has P wait for what FOUND says, which it takes over; RESULT as of find. */
static void wait_for(struct pending *p, struct found *found, int result)
{
        int r;

        p->source = found->entry.ino;
        p->large = TAKE_PTR(found->large);
        p->bound = found->bound;
        atomic_store(&p->left, 1);
        fuse_req_interrupt_func(p->req, read_interrupted, p);
        if (p->large) {
                read_pieces_begin(p);
                fetch_read_ahead(p->fs->fetch, p->large, (uint64_t)p->offset, p->size);
                read_end_wait(p, 0);
                return;
        }
        p->waits[0].waiter.done = read_wait_done;
        r = fetch_want(p->fs->fetch, &found->entry, result == STORE_UNVERIFIED, &p->waits[0].waiter);
        if (r < 0)
                read_end_wait(p, r); /* for `done` will not */
}

/* From libfuse, holding the request's lock: must not reply. */
static void read_interrupted(fuse_req_t req, void *arg)
{
        struct pending *p = arg;

        for (unsigned i = 0; i < p->n; i++)
                fetch_interrupt(p->fs->fetch, &p->waits[i].waiter);
}

/*
 * Bytes of SOURCE are about to be served as INO's. The first time the kernel may have to learn its size, and what comes by pieces is kept open. -EAGAIN: INO is
 * bound to another entry.
 */
static int bind(struct filesystem *fs, uint64_t ino, uint64_t source, struct fetch_large *large)
{
        struct catalog_entry entry;
        struct blob *blob;
        int r = bindings_fix(fs->bindings, ino, source);

        if (r < 0)
                return r;
        if (source != ino && catalog_get(fs->catalog, source, &entry) == CATALOG_OK)
                show_size(fs, ino, &entry);
        blob = large ? blobs_put_large(fs->blobs, ino, fetch_large_ref(large)) : NULL;
        if (blob)
                blobs_unref(fs->blobs, blob);
        return 0;
}

/* Replies to P from what its waits have brought. -EAGAIN: it has to look again; nothing was replied. */
static int reply_brought(struct pending *p)
{
        const struct fetch_content *content = p->waits[0].content;
        size_t from;

        if (p->large ? read_pieces_gather(p) < 0 : !content)
                return -EAGAIN;
        if (!p->bound && bind(p->fs, p->ino, p->source, p->large) < 0)
                return -EAGAIN;
        if (p->large) {
                read_pieces_reply(p);
                return 0;
        }
        from = MIN((size_t)p->offset, content->len);
        fuse_reply_buf(p->req, (const char *)content->data + from, MIN(p->size, content->len - from));
        return 0;
}

static void reply_error(struct pending *p, int error)
{
        p->trace.error = error;
        fuse_reply_err(p->req, -error);
}

/* What P's first waits have met says why it waited, if they found all of it on its way already. */
static void note_joined(struct pending *p)
{
        static const enum trace_why whys[] = { [FETCH_JOINED_READ] = TRACE_SHARED,
                                               [FETCH_JOINED_AHEAD] = TRACE_AHEAD,
                                               [FETCH_JOINED_PREFETCH] = TRACE_PREFETCH };
        enum fetch_joined joined = FETCH_JOINED_NONE;

        for (unsigned i = 0; i < p->n; i++) {
                if (!p->waits[i].waiter.done)
                        continue;
                if (p->waits[i].waiter.joined == FETCH_JOINED_NONE)
                        return;
                joined = MAX(joined, p->waits[i].waiter.joined);
        }
        if (joined != FETCH_JOINED_NONE && p->rebound + p->missed == 0 && p->trace.why <= TRACE_EVICTED)
                p->trace.why = whys[joined];
}

/* What P waited for did not do: looks again, and waits again. */
static void look_again(struct pending *p)
{
        uint64_t source = p->source;
        struct found found = { 0 };
        bool replied;
        int r;

        reset(p);
        do {
                r = find_afresh(p->fs, p->ino, store_get, &found);
                replied = r == STORE_OK && reply_whole(p->req, p->fs, &found, p->size, p->offset);
        } while (r == STORE_OK && !replied && !found.large && ++p->missed <= MISS_MAX);
        if (replied) {
                /* that was all */
        } else if (r >= 0 && (r != STORE_OK || found.large) &&
                   (found.entry.ino != source || ++p->missed <= MISS_MAX)) {
                wait_for(p, &found, r);
                return;
        } else {
                reply_error(p, r < 0 ? r : -EIO);
        }
        fetch_large_unref(found.large);
        pending_free(p);
}

/* All waits of P are over. */
static void finish(struct pending *p)
{
        int error = atomic_load(&p->error), r = error == -ESTALE ? rebind(p) : error;

        /* Waits for an interrupt handler under way: afterwards nobody but us knows P. */
        fuse_req_interrupt_func(p->req, NULL, NULL);
        note_joined(p);
        if (p->rebound > 0)
                p->trace.why = TRACE_STALE;
        if (error == 0 && reply_brought(p) == 0) {
                pending_free(p);
        } else if (r == 0) {
                look_again(p);
        } else {
                reply_error(p, r);
                pending_free(p);
        }
}

void read_end_wait(struct pending *p, int error)
{
        int none = 0;

        if (error < 0)
                atomic_compare_exchange_strong(&p->error, &none, error);
        if (atomic_fetch_sub(&p->left, 1) != 1)
                return;
        progress_begin(PROGRESS_REPLY);
        finish(p);
        progress_end();
}

void read_wait_done(struct fetch_waiter *waiter, int error)
{
        struct read_wait *w = (struct read_wait *)waiter;

        if (error == 0 && waiter->content)
                w->content = fetch_content_ref(waiter->content);
        read_end_wait(w->pending, error);
}

static struct pending *pending_new(struct filesystem *fs, fuse_req_t req, uint64_t ino, size_t size,
                                   off_t offset)
{
        unsigned n = read_waits_max(size);
        struct pending *p = calloc(1, sizeof(*p) + n * sizeof(p->waits[0]));

        if (!p)
                return NULL;
        p->fs = fs;
        p->req = req;
        p->ino = ino;
        p->size = size;
        p->offset = offset;
        p->n = n;
        for (unsigned i = 0; i < n; i++)
                p->waits[i].pending = p;
        return p;
}

/* True: REQ was answered at once from FOUND. */
static bool reply_found(fuse_req_t req, struct filesystem *fs, uint64_t ino, struct found *found, size_t size,
                        off_t offset)
{
        if (reply_whole(req, fs, found, size, offset))
                return true;
        if (!found->large || !read_pieces_here(found->large, size, offset) ||
            (!found->bound && bind(fs, ino, found->entry.ino, found->large) < 0) ||
            !read_pieces_now(req, fs, found->large, size, offset))
                return false;
        fetch_read_ahead(fs->fetch, found->large, (uint64_t)offset, size);
        fetch_large_unref(TAKE_PTR(found->large));
        return true;
}

/* Why a read has to wait whose bytes find, with RESULT, has not got. */
static enum trace_why get_why(const struct found *found, int result)
{
        if (found->large)
                return TRACE_PIECE;
        return result == STORE_MISS ? TRACE_MISS : result == STORE_OK ? TRACE_DAMAGED : TRACE_UNVERIFIED;
}

/* How much of the SIZE bytes at OFFSET that are read there is: the kernel asks for whole pages. */
static size_t get_len(const struct found *found, size_t size, off_t offset)
{
        uint64_t total = found->large ? fetch_large_size(found->large) : found->entry.size;

        return (uint64_t)offset < total ? (size_t)MIN((uint64_t)size, total - (uint64_t)offset) : 0;
}

static void begin_trace(struct pending *p, const struct found *found, enum trace_why why, bool listed)
{
        p->trace = (struct trace_wait){
                .ino = p->ino,
                .offset = (uint64_t)p->offset,
                .size = get_len(found, p->size, p->offset),
                .why = why,
                .listed = listed,
        };
        trace_begin(p->fs->trace, fuse_req_ctx(p->req)->pid, &p->trace);
}

/* Replies: buf (short only at the end of the file), error: EIO (damaged or unknown content), ESTALE (the master's file has changed
 * and the old content is nowhere), EHOSTUNREACH, ETIMEDOUT (no master in time), EINTR, ENOSPC (no room in the cache). */
void filesystem_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
        struct filesystem *fs = fuse_req_userdata(req);
        struct found found = { 0 };
        bool coming = false;
        enum trace_why why;
        struct pending *p;
        int r;

        reading_begin(&fs->reading, ino);
        if (offset == 0 && fs->readahead)
                readahead_note_read(fs->readahead, ino);
        if (offset == 0 && fs->learned)
                coming = learned_note_read(fs->learned, ino);
        r = find(fs, ino, store_get_verified, &found);
        if (r >= 0 && reply_found(req, fs, ino, &found, size, offset)) {
                atomic_fetch_add(&fs->hits, 1);
                reading_end(&fs->reading, ino);
                return;
        }
        why = get_why(&found, r);
        if (r == STORE_OK && !found.large) { /* a blob that could not be read */
                r = get_source(fs, ino, &found.entry);
                r = r < 0 ? r : STORE_UNVERIFIED;
        }
        if (r >= 0)
                atomic_fetch_add(&fs->misses, 1);
        if (r == STORE_MISS && fs->siblings && !coming)
                siblings_note_miss(fs->siblings, &found.entry);
        p = r >= 0 ? pending_new(fs, req, ino, size, offset) : NULL;
        if (!p) {
                fetch_large_unref(found.large);
                fuse_reply_err(req, r < 0 ? -r : ENOMEM);
                reading_end(&fs->reading, ino);
                return;
        }
        begin_trace(p, &found, why, coming);
        wait_for(p, &found, r);
}
