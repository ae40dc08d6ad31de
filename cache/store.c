#include "cache/store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/store_private.h"

#define FORMAT_TEXT   "fsyncfs-store 1\n"
#define FORMAT_MAX    256
#define BOOT_ID_PATH  "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX   256
#define USE_NOTED_SEC 600
#define LONG_USE_SEC  10                   /* from here on a use that ends is noted too */
#define CHECK_BYTES   ((size_t)256 * 1024) /* read at once while verifying */

void store_blob_path(const struct content_id *id, char path[STORE_BLOB_PATH_MAX])
{
        hex_encode(id->bytes, 1, path);
        path[2] = '/';
        hex_encode(id->bytes + 1, hash_len(id->algorithm) - 1, path + 3);
}

void store_flat_name(const struct content_id *id, char name[STORE_NAME_MAX])
{
        char hex[2 * HASH_BYTES + 1];

        hex_encode(id->bytes, hash_len(id->algorithm), hex);
        snprintf(name, STORE_NAME_MAX, "%s-%s", hash_algorithm_name(id->algorithm), hex);
}

int store_blob_dir(struct store *store, const struct content_id *id)
{
        if (id->algorithm <= HASH_NONE || id->algorithm >= STORE_ALGORITHMS)
                return -EINVAL;
        return store->blob_fds[id->algorithm];
}

int store_flock(int fd, int operation)
{
        int r;

        do
                r = flock(fd, operation);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

bool store_is_current(int fd, int dirfd, const char *name)
{
        struct stat a, b;

        return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
               a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* S3. Any two boots differ in it; a time set by a write of today differs from it, being one of 2^31 s times 10^9 ns. */
static int make_stamp(struct timespec *ret)
{
        _cleanup_buffer_ struct buffer id = { 0 };
        uint64_t hash;
        int r = io_read_file(AT_FDCWD, BOOT_ID_PATH, BOOT_ID_MAX, &id);

        if (r < 0)
                return r;
        hash = hash_xxh3_64(id.data, id.len);
        *ret = (struct timespec){
                .tv_sec = (time_t)((hash >> 32) & 0x7fffffff),
                .tv_nsec = (long)((hash & 0xffffffff) % (uint64_t)NSEC_PER_SEC),
        };
        return 0;
}

uint64_t store_boot_mark(const struct store *store)
{
        return ((uint64_t)store->stamp.tv_sec << 32 | (uint64_t)store->stamp.tv_nsec) | UINT64_C(1) << 63;
}

static int open_folder(int dirfd, const char *name, int *ret_fd)
{
        if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        *ret_fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return *ret_fd < 0 ? -errno : 0;
}

static int open_folders(struct store *store)
{
        _cleanup_close_ int blobs = -1;
        int r = open_folder(store->dir_fd, "partial", &store->partial_fd);

        if (r == 0)
                r = open_folder(store->dir_fd, "quarantine", &store->quarantine_fd);
        if (r == 0)
                r = open_folder(store->dir_fd, "pins", &store->pins_fd);
        if (r == 0)
                r = open_folder(store->dir_fd, "blobs", &blobs);
        for (enum hash_algorithm a = HASH_XXH3; r == 0 && a < STORE_ALGORITHMS; a++)
                r = open_folder(blobs, hash_algorithm_name(a), &store->blob_fds[a]);
        return r;
}

/*
 * Writes the format's text to a file and drops it: proves that the folder takes data, also where the format is there already. A disk
 * that is full is no proof of the contrary: what is here can be read, and evicted.
 */
static int probe_and_format(struct store *store, bool make_format)
{
        static const char name[] = "format.new";
        _cleanup_close_ int fd =
                openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : io_write_all(fd, FORMAT_TEXT, strlen(FORMAT_TEXT));

        if (r == 0 && make_format && renameat(store->dir_fd, name, store->dir_fd, "format") < 0)
                r = -errno;
        if (fd >= 0 && (r < 0 || !make_format))
                unlinkat(store->dir_fd, name, 0);
        return !make_format && (r == -ENOSPC || r == -EDQUOT) ? 0 : r;
}

/* Called with the folder locked. */
static int check_format(struct store *store)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        int r = io_read_file(store->dir_fd, "format", FORMAT_MAX, &text);

        if (r == -EFBIG)
                return -EPROTONOSUPPORT;
        if (r < 0 && r != -ENOENT)
                return r;
        /* A file of nothing, or of zeros, is a format written right before a power cut: its store is as empty. */
        if (text.len > 0 && text.data[0] == '\0')
                buffer_truncate(&text, 0);
        if (text.len > 0 && strcmp(text.data, FORMAT_TEXT) != 0)
                return -EPROTONOSUPPORT;
        return probe_and_format(store, text.len == 0);
}

/* One opener at a time, so that two that begin the same store do not see each other's half. -EBUSY: that one does not get on. */
static int set_up(struct store *store, const char *dir)
{
        _cleanup_close_ int lock = -1;
        struct store_evicted removed = { 0 };
        int r = io_mkdir_parents(dir, 0700);

        if (r < 0)
                return r;
        store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->dir_fd < 0 || lock < 0)
                return -errno;
        store->dir = realpath(dir, NULL);
        if (!store->dir)
                return -errno;
        r = store_wait_setup();
        if (r == 0)
                r = store_flock(lock, LOCK_EX | LOCK_NB);
        if (r == -EWOULDBLOCK)
                r = store_wait_bounded(&store->patience, store_block_in_flock, &lock);
        if (r == 0)
                r = check_format(store);
        if (r == 0)
                r = open_folders(store);
        if (r == 0)
                r = store_remove_dead_partials(store, &removed);
        if (r == 0)
                r = make_stamp(&store->stamp);
        if (r == 0)
                r = usage_open(store);
        if (r == 0)
                r = room_new(store);
        if (r == 0)
                r = pieces_table_new(store);
        return r;
}

int store_mend_format(const char *dir)
{
        static const char known[] = "fsyncfs-store ";
        _cleanup_buffer_ struct buffer text = { 0 };
        struct store store = { 0 };
        int r;

        store.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store.dir_fd < 0)
                return -errno;
        r = io_read_file(store.dir_fd, "format", FORMAT_MAX, &text);
        if (faccessat(store.dir_fd, "blobs", F_OK, 0) < 0 ||
            faccessat(store.dir_fd, "partial", F_OK, 0) < 0 ||
            (r == 0 && text.len > 0 && strncmp(text.data, known, strlen(known)) == 0 &&
             text.data[text.len - 1] == '\n' &&
             strspn(text.data + strlen(known), "0123456789") == text.len - strlen(known) - 1))
                r = -EPROTONOSUPPORT;
        else
                r = probe_and_format(&store, true);
        close(store.dir_fd);
        return r;
}

int store_open(const char *dir, struct store **ret)
{
        struct store *store = calloc(1, sizeof(*store));
        int r;

        if (!store)
                return -ENOMEM;
        store->dir_fd = store->partial_fd = store->quarantine_fd = store->pins_fd = -1;
        for (size_t i = 0; i < STORE_ALGORITHMS; i++)
                store->blob_fds[i] = -1;
        mutex_init(&store->mutex);
        mutex_init(&store->revive_lock);
        condition_init(&store->waiter_left);
        store->patience.most_ns = STORE_OWNER_MAX_NS;
        r = set_up(store, dir);
        if (r < 0) {
                store_free(store);
                return r;
        }
        *ret = store;
        return 0;
}

void store_free(struct store *store)
{
        if (!store)
                return;
        pieces_table_free(store);
        room_free(store);
        usage_close(store);
        for (size_t i = 0; i < STORE_ALGORITHMS; i++)
                cleanup_close(&store->blob_fds[i]);
        cleanup_close(&store->pins_fd);
        cleanup_close(&store->quarantine_fd);
        cleanup_close(&store->partial_fd);
        cleanup_close(&store->dir_fd);
        condition_release(&store->waiter_left);
        mutex_release(&store->revive_lock);
        mutex_release(&store->mutex);
        free(store->dir);
        free(store);
}

static int hash_file(int fd, enum hash_algorithm algorithm, struct content_id *ret)
{
        _cleanup_hasher_ struct hasher *hasher = NULL;
        _cleanup_free_ char *chunk = malloc(CHECK_BYTES);
        ssize_t n;
        int r;

        if (!chunk)
                return -ENOMEM;
        r = hasher_new(algorithm, &hasher);
        if (r < 0)
                return r;
        for (off_t offset = 0;; offset += n) {
                n = io_pread_all(fd, chunk, CHECK_BYTES, offset);
                if (n < 0)
                        return (int)n;
                hasher_update(hasher, chunk, (size_t)n);
                if ((size_t)n < CHECK_BYTES)
                        break;
        }
        hasher_final(hasher, ret);
        return 0;
}

/* FD: the blob, or negative if it cannot even be opened. */
static int quarantine(struct store *store, const struct content_id *id, int fd)
{
        char path[STORE_BLOB_PATH_MAX], name[STORE_NAME_MAX], text[HASH_TEXT_MAX];
        int dirfd = store_blob_dir(store, id), r;
        unsigned shard = usage_shard_of(id);
        struct usage_turn turn;

        store_blob_path(id, path);
        store_flat_name(id, name);
        if (fd >= 0 && !store_is_current(fd, dirfd, path))
                return STORE_MISS; /* somebody else moved it, and may have put a good one there */
        turn = usage_begin(store, shard);
        r = renameat(dirfd, path, store->quarantine_fd, name) < 0 && errno != ENOENT ? -errno : 0;
        turn.counted = false; /* it may not have the size any more that it was counted with */
        usage_end(store, shard, turn, 0, 0);
        if (r < 0)
                return r;
        log_limited(LOG_LEVEL_WARNING, "store",
                    "blob %s does not hold what its name says: moved to quarantine",
                    content_id_format(id, text));
        return STORE_MISS;
}

bool store_is_stamped(const struct store *store, const struct stat *st)
{
        return clock_same(st->st_mtim, store->stamp);
}

/* As hash_file; -EIO: somebody wrote to it meanwhile. That another process has verified it is well. */
static int hash_unchanged(struct store *store, int fd, enum hash_algorithm algorithm, struct content_id *ret)
{
        struct stat before, after;
        int r;

        if (fstat(fd, &before) < 0)
                return -errno;
        r = hash_file(fd, algorithm, ret);
        if (r < 0)
                return r;
        if (fstat(fd, &after) < 0)
                return -errno;
        return clock_same(after.st_mtim, before.st_mtim) || store_is_stamped(store, &after) ? 0 : -EIO;
}

/* A bad sector, and what is damaged of the file system's own, is damage like any other: the content can be had from the master again. */
static bool is_damage(int error)
{
        return error == -EIO || error == -EUCLEAN || error == -EBADMSG;
}

int store_check_blob(struct store *store, const struct content_id *id, int fd)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, store->stamp };
        struct content_id found;
        int r = fd < 0 ? fd : hash_unchanged(store, fd, id->algorithm, &found);

        if (is_damage(r) || (r == 0 && !content_id_equal(&found, id)))
                return quarantine(store, id, fd);
        if (r < 0)
                return r;
        /* Where the stamp cannot be set (a store that others own), the next open verifies again: slow, not wrong. */
        (void)futimens(fd, times);
        return STORE_OK;
}

int store_open_blob(int dirfd, const char *path, bool may_wait)
{
        const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (may_wait ? 0 : O_NONBLOCK);
        int fd = openat(dirfd, path, flags | O_NOATIME);

        if (fd < 0 && errno == EPERM) /* another user's: then every read counts as a use */
                fd = openat(dirfd, path, flags);
        return fd < 0 ? -errno : fd;
}

/* The order of eviction need not be exact, so that asking for a blob again and again writes nothing. */
void store_touch(int fd, const struct stat *st)
{
        static const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
        int64_t age_sec = clock_coarse_ns() / NSEC_PER_SEC - st->st_atim.tv_sec;

        if (age_sec >= USE_NOTED_SEC || age_sec <= -USE_NOTED_SEC)
                (void)futimens(fd, times);
}

/* Not for every use: a change of times makes a blob look new for a moment (evict_pass.young_ns). */
void store_note_use(int fd, int64_t ago_ns)
{
        const struct timespec times[2] = { clock_timespec(clock_coarse_ns() - ago_ns),
                                           { .tv_nsec = UTIME_OMIT } };
        struct stat st;

        if (fstat(fd, &st) == 0 && times[0].tv_sec - st.st_atim.tv_sec >= LONG_USE_SEC)
                (void)futimens(fd, times);
}

void store_doubt(int fd)
{
        static const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };

        (void)futimens(fd, times);
}

static int get(struct store *store, const struct content_id *id, bool may_read, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        char path[STORE_BLOB_PATH_MAX];
        struct stat st;
        int dirfd = store_blob_dir(store, id);

        if (dirfd < 0)
                return dirfd;
        store_blob_path(id, path);
        fd = store_open_blob(dirfd, path, may_read);
        if (fd == -EMFILE || fd == -ENFILE) {
                room_drop_held(store);
                fd = store_open_blob(dirfd, path, may_read);
        }
        if (fd == -EWOULDBLOCK)
                return STORE_UNVERIFIED; /* for who may wait */
        if (fd < 0)
                return fd == -ENOENT ? STORE_MISS : store_check_blob(store, id, fd);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!store_is_stamped(store, &st)) {
                int r = may_read ? store_check_blob(store, id, fd) : STORE_UNVERIFIED;
                if (r != STORE_OK)
                        return r;
        }
        store_touch(fd, &st);
        room_unhold(store, id);
        *ret_fd = take_fd(&fd);
        return STORE_OK;
}

int store_get(struct store *store, const struct content_id *id, int *ret_fd)
{
        return get(store, id, true, ret_fd);
}

int store_get_verified(struct store *store, const struct content_id *id, int *ret_fd)
{
        return get(store, id, false, ret_fd);
}

uint64_t store_partial_size(struct store *store, const struct content_id *id)
{
        char name[STORE_NAME_MAX];
        struct stat st;

        store_flat_name(id, name);
        return fstatat(store->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
}

bool store_has(struct store *store, const struct content_id *id)
{
        char path[STORE_BLOB_PATH_MAX];
        int dirfd = store_blob_dir(store, id);

        if (dirfd < 0)
                return false;
        store_blob_path(id, path);
        return faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
