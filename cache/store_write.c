#include "cache/store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/io.h"
#include "cache/store_private.h"

#define MAKE_BYTES (1 << 20) /* evicted at least, when the disk is full */

struct store_writer {
        struct store *store;
        struct content_id id;
        uint64_t size;
        uint64_t written;
        bool reserved;         /* SIZE bytes, of which WRITTEN are on the disk */
        struct hasher *hasher; /* owned; runs along, so that nothing is read again */
        int fd;                /* owned; the partial file, locked (S4) */
        int failed;            /* the error after which only abort is possible, or 0 */
        char name[STORE_NAME_MAX];
};

/* Until the owner of the lock has finished or died. But not for one that brings nothing: -EBUSY. */
static int outwait_owner(struct store *store, int fd)
{
        struct stat before, now;
        int r;

        do {
                if (fstat(fd, &before) < 0)
                        return -errno;
                r = store_wait(store, store_block_in_flock, &fd);
        } while (r == -EBUSY && fstat(fd, &now) == 0 && now.st_size != before.st_size);
        return r;
}

/*
 * Opens and locks the partial file: 0 and *RET_FD, -EAGAIN if it went to another owner's end meanwhile; STORE_BUSY: it has an owner, and
 * MAY_WAIT is false.
 */
static int own_partial(struct store *store, const char *name, bool may_wait, int *ret_fd)
{
        _cleanup_close_ int fd =
                openat(store->partial_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return -errno;
        r = store_flock(fd, LOCK_EX | LOCK_NB);
        if (r == -EWOULDBLOCK)
                r = may_wait ? outwait_owner(store, fd) : STORE_BUSY;
        if (r != 0)
                return r;
        if (!store_is_current(fd, store->partial_fd, name))
                return -EAGAIN;
        *ret_fd = take_fd(&fd);
        return 0;
}

static void writer_free(struct store_writer *writer)
{
        if (writer->reserved)
                usage_reserve(writer->store, -(int64_t)usage_charge(writer->size),
                              -(int64_t)(usage_charge(writer->size) - writer->written));
        cleanup_close(&writer->fd);
        hasher_free(writer->hasher);
        free(writer);
}

/*
 * A dead owner's bytes go. Only if there are any: ext4 takes a truncation to nothing for the beginning of a replacement, and writes
 * the file out as soon as it is closed.
 */
static int empty_partial(int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        return st.st_size > 0 && ftruncate(fd, 0) < 0 ? -errno : 0;
}

/* The partial is ours. Somebody may have published the content after it was looked for; otherwise start from nothing. */
static int start_partial(struct store_writer *writer)
{
        int r;

        if (store_has(writer->store, &writer->id)) {
                unlinkat(writer->store->partial_fd, writer->name, 0);
                return STORE_HAVE;
        }
        r = empty_partial(writer->fd);
        if (r < 0)
                unlinkat(writer->store->partial_fd, writer->name, 0);
        return r;
}

/* Until the partial is this writer's, or the content is here. */
static int own(struct store_writer *writer, bool may_wait)
{
        struct store *store = writer->store;
        bool revived = false;
        int r;

        do {
                r = own_partial(store, writer->name, may_wait, &writer->fd);
                if (r == -EAGAIN && store_has(store, &writer->id))
                        return STORE_HAVE;
                if (r == -ENOSPC && !may_wait)
                        return STORE_BUSY; /* room is made by who may wait for it */
                if (r == -ENOSPC && store_make_room(store, MAKE_BYTES) == 0)
                        r = -EAGAIN;
                if (r == -ENOENT && !revived) {
                        revived = true;
                        r = store_revive(store) == 0 ? -EAGAIN : r;
                }
        } while (r == -EAGAIN);
        return r;
}

/* The partial is locked: nobody else makes room for the same content. */
static int reserve(struct store_writer *writer, bool may_wait)
{
        int r = room_take(writer->store, usage_charge(writer->size), may_wait);

        writer->reserved = r == 0;
        if (r != 0)
                unlinkat(writer->store->partial_fd, writer->name, 0);
        return r;
}

static int begin(struct store *store, const struct content_id *id, uint64_t size, bool may_wait,
                 struct store_writer **ret)
{
        struct store_writer *writer;
        int r;

        if (store_blob_dir(store, id) < 0)
                return -EINVAL;
        if (size > STORE_SIZE_LIMIT)
                return -EFBIG;
        if (store_has(store, id))
                return STORE_HAVE;
        writer = calloc(1, sizeof(*writer));
        if (!writer)
                return -ENOMEM;
        *writer = (struct store_writer){ .store = store, .id = *id, .size = size, .fd = -1 };
        store_flat_name(id, writer->name);
        r = hasher_new(id->algorithm, &writer->hasher);
        if (r == 0)
                r = own(writer, may_wait);
        if (r == 0)
                r = start_partial(writer);
        if (r == STORE_OK)
                r = reserve(writer, may_wait);
        if (r != STORE_OK) {
                writer_free(writer);
                return r;
        }
        *ret = writer;
        return STORE_OK;
}

int store_write_begin(struct store *store, const struct content_id *id, uint64_t size,
                      struct store_writer **ret)
{
        return begin(store, id, size, true, ret);
}

int store_write_try(struct store *store, const struct content_id *id, uint64_t size,
                    struct store_writer **ret)
{
        return begin(store, id, size, false, ret);
}

/* S8: a disk that is full is given room, as long as there is something that may go. */
static int write_all(struct store_writer *writer, const void *data, size_t len)
{
        off_t start = (off_t)writer->written;
        int r = io_write_all(writer->fd, data, len);

        while (r == -ENOSPC) {
                off_t at = lseek(writer->fd, 0, SEEK_CUR);
                if (at < start)
                        return -EIO;
                if (store_make_room(writer->store, MAX(writer->size - (uint64_t)at, (uint64_t)MAKE_BYTES)) <
                    0)
                        return r;
                r = io_write_all(writer->fd, (const char *)data + (at - start), len - (size_t)(at - start));
        }
        return r;
}

int store_write(struct store_writer *writer, const void *data, size_t len)
{
        if (writer->failed < 0)
                return writer->failed;
        if (len > writer->size - writer->written)
                return writer->failed = -EFBIG;
        writer->failed = write_all(writer, data, len);
        if (writer->failed < 0)
                return writer->failed;
        hasher_update(writer->hasher, data, len);
        writer->written += len;
        usage_reserve(writer->store, 0, -(int64_t)len);
        return 0;
}

static int rename_into_place(struct store_writer *writer)
{
        struct store *store = writer->store;
        char path[STORE_BLOB_PATH_MAX], folder[3];
        int dirfd = store_blob_dir(store, &writer->id);

        store_blob_path(&writer->id, path);
        snprintf(folder, sizeof(folder), "%.2s", path);
        if (renameat(store->partial_fd, writer->name, dirfd, path) == 0)
                return 0;
        if (errno != ENOENT)
                return -errno;
        if (mkdirat(dirfd, folder, 0700) < 0 && errno != EEXIST)
                return -errno;
        return renameat(store->partial_fd, writer->name, dirfd, path) < 0 ? -errno : 0;
}

/* S7: named and counted in one step. It may have come by its pieces meanwhile: then one takes the other's place. */
static int name_and_count(struct store_writer *writer)
{
        unsigned shard = usage_shard_of(&writer->id);
        struct usage_turn turn = usage_begin(writer->store, shard);
        const bool first = !store_has(writer->store, &writer->id);
        int64_t bytes = 0;
        int r = rename_into_place(writer);

        if (r == 0)
                bytes = (first ? (int64_t)usage_charge(writer->size) : 0) -
                        pieces_drop_part(writer->store, &writer->id, &turn.counted);
        usage_end(writer->store, shard, turn, bytes, r == 0 && first);
        return r;
}

/* S1, S2, S3: complete, read-only and stamped before it has its name. */
static int publish(struct store_writer *writer)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, writer->store->stamp };
        int r;

        if (fchmod(writer->fd, 0400) < 0 || futimens(writer->fd, times) < 0)
                return -errno;
        r = name_and_count(writer);
        if (r == -ENOSPC && store_make_room(writer->store, MAKE_BYTES) == 0)
                r = name_and_count(writer);
        if (r < 0)
                return r;
        (void)store_flock(writer->fd,
                          LOCK_UN); /* it may stay open: who waits for it must not wait for that */
        room_hold(writer->store, &writer->id, take_fd(&writer->fd));
        return 0;
}

int store_write_commit(struct store_writer *writer)
{
        struct content_id found;
        int r = writer->failed;

        if (r == 0) {
                hasher_final(writer->hasher, &found);
                if (writer->written != writer->size || !content_id_equal(&found, &writer->id))
                        r = STORE_MISMATCH;
        }
        if (r == 0)
                r = publish(writer);
        if (r != STORE_OK) {
                store_write_abort(writer);
                return r;
        }
        writer_free(writer);
        return STORE_OK;
}

void store_write_abort(struct store_writer *writer)
{
        if (!writer)
                return;
        unlinkat(writer->store->partial_fd, writer->name, 0);
        writer_free(writer);
}
