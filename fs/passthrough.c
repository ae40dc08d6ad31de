#include "fs/passthrough.h"

#include <fcntl.h>
#include <string.h>

#include <uthash.h>

#include "base/lock.h"
#include "base/log.h"
#include "fs/bindings.h"
#include "fs/channel.h"
#include "fs/handles.h"
#include "fs/kernel_abi.h"
#include "fs/takeover.h"
#include "sync/learned.h"

/* What `auto` weighs: see docs/performance.md. */
#define SAVED_NS_PER_MIB 250000u /* by reading a large file's content from the blob, once */
#define OPEN_NS          20000u  /* a round trip for an open that needed none */

#define NO_HANDLE 0u /* of files that are always read through the page cache */

/* An inode that is open and large: how it is read, until it is closed last. */
struct opened {
        uint64_t ino;
        int fd;         /* of the blob, owned; -1: none, or a daemon that died had it */
        int backing_id; /* owned; 0: none */
        unsigned opens; /* guarded by passthrough->lock: its handles */
        UT_hash_handle hh;
};

struct passthrough {
        struct filesystem *fs; /* borrowed */
        unsigned limit;        /* how many blobs may be open */
        _Atomic uint64_t opens;
        struct mutex lock;
        struct opened *all TSA_GUARDED(lock);      /* by ino */
        unsigned blobs TSA_GUARDED(lock);          /* of them, with a blob */
        struct handles *handles TSA_GUARDED(lock); /* owned */
};

/* ---- whether ---- */

/*
 * Every file opened once costs a round trip each, every large content read once saves what there is to save. Of all bytes at least those are in large files that
 * smaller ones could not hold: an estimate from below that walks no tree, and is right where passthrough matters.
 */
static bool pays(const struct catalog_version *version)
{
        uint64_t small_at_most = version->files * PASSTHROUGH_MIN_BYTES;
        uint64_t large = version->bytes > small_at_most ? version->bytes - small_at_most : 0;

        return (large >> 20) * SAVED_NS_PER_MIB > version->files * OPEN_NS;
}

const char *passthrough_unwanted(const struct filesystem *fs)
{
        struct catalog_version version;

        if (takeover_is_due(fs->takeover))
                return fs->takeover->passthrough ? NULL : "it was not used when the mount began";
        catalog_get_version(fs->catalog, &version);
        if (fs->options.passthrough == PASSTHROUGH_OFF)
                return "off by the mount option";
        if (!(channel_get_greeting(fs->channel)->offered & FUSE_PASSTHROUGH))
                return "this kernel does not have it";
        if (fs->options.passthrough == PASSTHROUGH_ON)
                return NULL;
        if (version.loading)
                return "not all of the tree is known yet";
        if (!pays(&version))
                return "a round trip for each open would cost this tree more than it saves";
        return NULL;
}

static const char *refusal(int error)
{
        switch (error) {
        case -EPERM:
                return "the kernel allows it only to root (CAP_SYS_ADMIN)";
        case -ELOOP:
                return "the cache folder lies on a file system that is stacked on another";
        default:
                return "the kernel refuses files of the cache folder";
        }
}

/* The store's own mark of its format is as good a file as any blob. */
static int probe(const struct filesystem *fs)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        int id;

        if (asprintf(&path, "%s/format", fs->options.cache_dir) < 0)
                return -ENOMEM;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        id = channel_backing_open(fs->channel, fd);
        if (id > 0)
                channel_backing_close(fs->channel, id);
        return id < 0 ? id : 0;
}

/* ---- the files that are open ---- */

static void let_go(const struct passthrough *p, const struct opened *opened)
{
        if (opened->backing_id > 0)
                channel_backing_close(p->fs->channel, opened->backing_id);
        cleanup_close(&opened->fd);
}

void passthrough_free(struct passthrough *passthrough) TSA_NONE
{
        struct opened *opened, *next;

        if (!passthrough)
                return;
        HASH_ITER (hh, passthrough->all, opened, next) {
                HASH_DEL(passthrough->all, opened);
                let_go(passthrough, opened);
                free(opened);
        }
        handles_free(passthrough->handles);
        mutex_release(&passthrough->lock);
        free(passthrough);
}

/* One more of the handles that another daemon left: opened before, and to be read as it was. */
static int adopt(const struct handle *handle, void *arg) TSA_NONE
{
        struct passthrough *p = arg;
        struct opened *opened;

        HASH_FIND(hh, p->all, &handle->ino, sizeof(handle->ino), opened);
        if (!opened) {
                opened = malloc(sizeof(*opened));
                if (!opened)
                        return -ENOMEM;
                *opened = (struct opened){ .ino = handle->ino, .fd = -1, .backing_id = handle->backing_id };
                HASH_ADD(hh, p->all, ino, sizeof(opened->ino), opened);
                if (!opened->hh.tbl) {
                        free(opened);
                        return -ENOMEM;
                }
                p->blobs += opened->backing_id > 0;
        }
        opened->opens++;
        return 0;
}

static int open_handles(struct passthrough *p) TSA_NONE
{
        int r = handles_new(p->fs->takeover->handles_fd, &p->handles);

        return r < 0 ? r : handles_each(p->handles, adopt, p);
}

int passthrough_new(struct filesystem *fs, struct passthrough **ret, const char **ret_reason)
{
        struct passthrough *p;
        int r = takeover_is_due(fs->takeover) ? 0 : probe(fs);

        if (r < 0) {
                *ret_reason = refusal(r);
                return r;
        }
        p = calloc(1, sizeof(*p));
        if (!p) {
                *ret_reason = "out of memory";
                return -ENOMEM;
        }
        p->fs = fs;
        p->limit = fs->open_files / 4;
        mutex_init(&p->lock);
        r = open_handles(p);
        if (r < 0) {
                *ret_reason = "out of memory";
                passthrough_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

bool passthrough_has(struct passthrough *passthrough, uint64_t ino)
{
        struct opened *opened;
        bool has;

        if (!passthrough)
                return false;
        mutex_lock(&passthrough->lock);
        HASH_FIND(hh, passthrough->all, &ino, sizeof(ino), opened);
        has = opened && opened->backing_id > 0;
        mutex_unlock(&passthrough->lock);
        return has;
}

uint64_t passthrough_opens(struct passthrough *passthrough)
{
        return passthrough ? atomic_load(&passthrough->opens) : 0;
}

/* What an open is answered with. */
struct answer {
        uint64_t number; /* of its handle */
        int backing_id;
};

static int add_handle(struct passthrough *p, struct opened *opened, uint64_t unique, struct answer *ret)
        TSA_REQUIRES(p->lock)
{
        const struct handle handle = { .ino = opened->ino,
                                       .unique = unique,
                                       .backing_id = opened->backing_id };
        int r = handles_add(p->handles, &handle, &ret->number);

        if (r < 0)
                return r;
        ret->backing_id = opened->backing_id;
        opened->opens++;
        return 0;
}

/* One more open of INO if it is open already: 1, and how; 0: it is not; or a negative errno. */
static int join(struct passthrough *p, uint64_t ino, uint64_t unique, struct answer *ret)
{
        struct opened *opened;
        int r = 0;

        mutex_lock(&p->lock);
        HASH_FIND(hh, p->all, &ino, sizeof(ino), opened);
        if (opened) {
                r = add_handle(p, opened, unique, ret);
                r = r < 0 ? r : 1;
        }
        mutex_unlock(&p->lock);
        return r;
}

/* The first open of INO, as in WAY, which it takes over if nobody was quicker. */
static int begin(struct passthrough *p, struct opened *way, uint64_t unique, struct answer *ret)
{
        struct opened *opened = malloc(sizeof(*opened)), *other;
        int r;

        if (!opened)
                return -ENOMEM;
        mutex_lock(&p->lock);
        HASH_FIND(hh, p->all, &way->ino, sizeof(way->ino), other);
        if (!other) {
                *opened = *way;
                HASH_ADD(hh, p->all, ino, sizeof(opened->ino), opened);
                other = opened->hh.tbl ? opened : NULL;
        }
        r = other ? add_handle(p, other, unique, ret) : -ENOMEM;
        if (other == opened && r < 0) {
                HASH_DEL(p->all, opened);
        } else if (other == opened) {
                *way = (struct opened){ .fd = -1 };
                p->blobs += opened->backing_id > 0;
                opened = NULL;
        }
        mutex_unlock(&p->lock);
        free(opened);
        return r;
}

/* A handle that was closed before, by a daemon that died before it could say so, is none any more. */
static void leave(struct passthrough *p, uint64_t number)
{
        struct opened *opened = NULL;
        struct handle handle;

        mutex_lock(&p->lock);
        if (handles_remove(p->handles, number, &handle))
                HASH_FIND(hh, p->all, &handle.ino, sizeof(handle.ino), opened);
        if (opened && --opened->opens == 0) {
                HASH_DEL(p->all, opened);
                p->blobs -= opened->backing_id > 0;
        } else {
                opened = NULL;
        }
        mutex_unlock(&p->lock);
        if (!opened)
                return;
        if (opened->fd >= 0)
                store_note_use(opened->fd, 0);
        let_go(p, opened);
        free(opened);
}

/* The open with the number UNIQUE was done already, but its answer was lost with a daemon. */
static bool find_again(struct passthrough *p, uint64_t unique, struct answer *ret)
{
        struct handle handle;
        bool found;

        mutex_lock(&p->lock);
        found = handles_find(p->handles, unique, &ret->number, &handle);
        mutex_unlock(&p->lock);
        if (found)
                ret->backing_id = handle.backing_id;
        return found;
}

static bool has_room(struct passthrough *p)
{
        bool room;

        mutex_lock(&p->lock);
        room = p->blobs < p->limit;
        mutex_unlock(&p->lock);
        return room;
}

/* Gives the kernel ENTRY's blob, if it is here, whole and verified, and INO shows no other content. Otherwise WAY stays as it is: the page cache. */
static void find_blob(struct passthrough *p, const struct catalog_entry *entry, struct opened *way)
{
        int fd, id;

        if (entry->content.algorithm == HASH_NONE || !has_room(p) ||
            store_get_verified(p->fs->store, &entry->content, &fd) != STORE_OK)
                return;
        id = channel_backing_open(p->fs->channel, fd);
        if (id > 0 && bindings_fix(p->fs->bindings, entry->ino, entry->ino) == 0) {
                way->fd = fd;
                way->backing_id = id;
                return;
        }
        if (id > 0)
                channel_backing_close(p->fs->channel, id);
        else
                log_limited(LOG_LEVEL_WARNING, "passthrough", "the kernel takes no blob of '%s': %s",
                            entry->name, strerror(-id));
        close(fd);
}

/* ---- the operations ---- */

static int reply_open(fuse_req_t req, const struct answer *answer)
{
        struct kernel_open_out out = {
                .fh = answer->number,
                /* With passthrough the kernel refuses every flag that is about its page cache. */
                .open_flags = FOPEN_NOFLUSH | (answer->backing_id > 0 ? FOPEN_PASSTHROUGH : FOPEN_KEEP_CACHE),
                .backing_id = answer->backing_id,
        };

        return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static int open_large(struct passthrough *p, const struct catalog_entry *entry, struct answer *ret)
{
        struct opened way = { .ino = entry->ino, .fd = -1 };
        bool again;
        uint64_t unique = channel_get_request(&again);
        int r;

        if (again && find_again(p, unique, ret))
                return 0;
        r = join(p, entry->ino, unique, ret);
        if (r != 0)
                return MIN(r, 0);
        find_blob(p, entry, &way);
        r = begin(p, &way, unique, ret);
        let_go(p, &way);
        return r;
}

/* Replies: open, error. */
void filesystem_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        struct filesystem *fs = fuse_req_userdata(req);
        struct passthrough *p = fs->passthrough;
        struct answer answer = { .number = NO_HANDLE };
        struct catalog_entry entry;
        int r;

        if (!p) {
                fuse_reply_err(req, ENOSYS);
                return;
        }
        r = catalog_get(fs->catalog, ino, &entry);
        if (r == CATALOG_OK && entry.size > PASSTHROUGH_MIN_BYTES)
                r = open_large(p, &entry, &answer);
        if (r != 0) {
                fuse_reply_err(req, r == CATALOG_NONE ? ESTALE : filesystem_reply_error(r));
                return;
        }
        if (reply_open(req, &answer) < 0) {
                leave(p, answer.number); /* whoever opened it is gone: no release will come */
        } else if (answer.backing_id > 0) {
                atomic_fetch_add(&p->opens, 1);
                atomic_fetch_add(&fs->hits, 1);
                if (fs->learned)
                        learned_note_read(fs->learned, ino);
        }
}

void filesystem_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
        struct filesystem *fs = fuse_req_userdata(req);

        if (fs->passthrough && file->fh != NO_HANDLE)
                leave(fs->passthrough, file->fh);
        fuse_reply_err(req, 0);
}
