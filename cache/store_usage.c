#include "cache/store_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/guarded_map.h"

#define USAGE_NAME  "usage"
#define USAGE_MAGIC UINT64_C(0x3320656761737566) /* "fusage 3" */
#define SLOTS       64u
#define LOCK_MAX_NS (2 * NSEC_PER_SEC) /* a FUSE thread may be waiting */
#define SLOT_LOCK   USAGE_SHARDS       /* the byte of the first slot's lock; below are those of the shards */
#define MARK_TAKEN  UINT64_C(0)        /* who has the lock is changing the shard */
#define MARK_PASSED                                                                                          \
        UINT64_C(1) /* somebody changed it without the lock: who has it must not put the mark back */

struct usage_shard {
        _Atomic uint64_t
                mark; /* S7: the running boot's, or anything else: not counted, BYTES and BLOBS are a guess */
        _Atomic uint64_t bytes, blobs;
};

/* One for each process that has the store open, which holds the lock of the slot's byte as long as it lives. */
struct usage_slot {
        _Atomic int64_t reserved, unwritten;
        _Atomic uint64_t quota;
};

struct usage_file {
        uint64_t magic;
        struct usage_shard shards[USAGE_SHARDS];
        struct usage_slot slots[SLOTS];
};

struct usage {
        int fd; /* owned; -1: not shared, the disk was full */
        uint64_t mark;
        struct usage_file
                *file; /* mapped; if somebody truncates it, zeros of this process alone, and counted anew */
        struct usage_slot *_Atomic own; /* in FILE, or FALLBACK; changed by usage_move alone */
        struct usage_slot fallback;
        struct store_patience patience;   /* for a shard's lock in another process */
        struct mutex locks[USAGE_SHARDS]; /* of the shards, among this process's threads */
};

/* A lock of one byte, which dies with the process. 0 or negative errno, -EAGAIN if another process has it. */
static int lock_byte(const struct usage *u, unsigned byte, short type)
{
        struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return u->fd >= 0 && fcntl(u->fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

struct byte_wait {
        int fd;
        unsigned byte;
};

static int wait_for_byte(void *arg)
{
        const struct byte_wait *wait = arg;
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = wait->byte, .l_len = 1 };

        return fcntl(wait->fd, F_OFD_SETLKW, &lock) < 0 ? -errno : 0;
}

/* Written out in full before it gets its name: a mapped hole on a full disk is a SIGBUS. */
static int make_file(struct store *store, int *ret_fd)
{
        static const char fresh[] = USAGE_NAME ".new";
        static const struct usage_file empty = { .magic = USAGE_MAGIC };
        _cleanup_close_ int fd =
                openat(store->dir_fd, fresh, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return -errno;
        r = io_write_all(fd, &empty, sizeof(empty));
        if (r == 0)
                r = -posix_fallocate(fd, 0, sizeof(empty));
        if (r == 0 && renameat(store->dir_fd, fresh, store->dir_fd, USAGE_NAME) < 0)
                r = -errno;
        if (r < 0) {
                unlinkat(store->dir_fd, fresh, 0);
                return r;
        }
        *ret_fd = take_fd(&fd);
        return 0;
}

/* The file if it is one of this build's, else a new one: the counts are made again, so nothing is lost. */
static int open_file(struct store *store, int *ret_fd)
{
        _cleanup_close_ int fd = openat(store->dir_fd, USAGE_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        uint64_t magic = 0;
        struct stat st;

        if (fd < 0 && errno != ENOENT && errno != ELOOP)
                return -errno;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != sizeof(struct usage_file) ||
            io_pread_all(fd, &magic, sizeof(magic), 0) != sizeof(magic) || magic != USAGE_MAGIC)
                return make_file(store, ret_fd);
        *ret_fd = take_fd(&fd);
        return 0;
}

static void take_slot(struct usage *u)
{
        u->own = &u->fallback;
        for (unsigned i = 0; u->fd >= 0 && i < SLOTS; i++)
                if (lock_byte(u, SLOT_LOCK + i, F_WRLCK) == 0) {
                        u->own = &u->file->slots[i];
                        break;
                }
        atomic_store(&u->own->reserved, 0);
        atomic_store(&u->own->unwritten, 0);
        atomic_store(&u->own->quota, 0);
}

int usage_open(struct store *store)
{
        struct usage *u = calloc(1, sizeof(*u));
        int r;

        if (!u)
                return -ENOMEM;
        store->usage = u;
        u->fd = -1;
        u->mark = store_boot_mark(store);
        u->patience.most_ns = LOCK_MAX_NS;
        for (unsigned i = 0; i < USAGE_SHARDS; i++)
                mutex_init(&u->locks[i]);
        r = open_file(store, &u->fd);
        if (r < 0 && r != -ENOSPC && r != -EDQUOT)
                return r;
        r = guarded_map(u->fd, sizeof(*u->file), (void **)&u->file);
        if (r < 0)
                return r;
        take_slot(u);
        return 0;
}

void usage_close(struct store *store)
{
        struct usage *u = store->usage;

        if (!u)
                return;
        if (u->own) {
                atomic_store(&u->own->reserved, 0);
                atomic_store(&u->own->unwritten, 0);
                atomic_store(&u->own->quota, 0);
        }
        guarded_unmap(u->file, sizeof(*u->file));
        cleanup_close(&u->fd);
        for (unsigned i = 0; i < USAGE_SHARDS; i++)
                mutex_release(&u->locks[i]);
        free(u);
        store->usage = NULL;
}

/* The locks of bytes belong to the open file, which both descriptors share: FRESH's end gives none up. */
static void move_locked(struct usage *u, struct usage *fresh)
{
        const bool fallback = fresh->own == &fresh->fallback;
        const size_t slot = fallback ? 0 : (size_t)(fresh->own - fresh->file->slots);
        int64_t reserved = atomic_load(&u->own->reserved), unwritten = atomic_load(&u->own->unwritten);
        uint64_t quota = atomic_load(&u->own->quota);

        if (u->fd < 0 || fresh->fd < 0 || dup3(fresh->fd, u->fd, O_CLOEXEC) < 0 ||
            mmap(u->file, sizeof(*u->file), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, u->fd, 0) ==
                    MAP_FAILED)
                return; /* goes on counting for itself alone */
        u->own = fallback ? &u->fallback : &u->file->slots[slot];
        atomic_store(&u->own->reserved, reserved);
        atomic_store(&u->own->unwritten, unwritten);
        atomic_store(&u->own->quota, quota);
        fresh->own = NULL;
}

void usage_move(struct store *store, struct store *fresh) TSA_NONE
{
        struct usage *u = store->usage;

        for (unsigned i = 0; i < USAGE_SHARDS; i++)
                mutex_lock(&u->locks[i]);
        move_locked(u, fresh->usage);
        for (unsigned i = 0; i < USAGE_SHARDS; i++)
                mutex_unlock(&u->locks[i]);
}

uint64_t usage_charge(uint64_t size)
{
        return (size + STORE_CHARGE_BYTES - 1) / STORE_CHARGE_BYTES * STORE_CHARGE_BYTES;
}

unsigned usage_shard_of(const struct content_id *id)
{
        return ((unsigned)id->algorithm - HASH_XXH3) * 256 + id->bytes[0];
}

static bool is_counted(const struct usage *u, unsigned shard)
{
        return atomic_load(&u->file->shards[shard].mark) == u->mark;
}

/* 0 or -EBUSY. */
static int lock_shard(struct usage *u, unsigned shard) TSA_NONE
{
        struct byte_wait wait = { .fd = u->fd, .byte = shard };
        int r;

        mutex_lock(&u->locks[shard]);
        r = lock_byte(u, shard, F_WRLCK);
        if (r == -EAGAIN || r == -EACCES)
                r = store_wait_bounded(&u->patience, wait_for_byte, &wait);
        if (r == -EBUSY)
                mutex_unlock(&u->locks[shard]);
        return r == -EBUSY ? r : 0; /* any other error: what cannot be locked at all is not shared */
}

static void unlock_shard(struct usage *u, unsigned shard) TSA_NONE
{
        (void)lock_byte(u, shard, F_UNLCK);
        mutex_unlock(&u->locks[shard]);
}

struct usage_turn usage_begin(struct store *store, unsigned shard)
{
        struct usage *u = store->usage;
        const bool locked = lock_shard(u, shard) == 0;
        uint64_t before = atomic_exchange(&u->file->shards[shard].mark, locked ? MARK_TAKEN : MARK_PASSED);

        return (struct usage_turn){ .locked = locked, .counted = locked && before == u->mark };
}

/* What is not counted may be any number: it must not wrap. */
static void add(_Atomic uint64_t *where, int64_t delta)
{
        uint64_t now = atomic_load(where), next;

        do
                next = delta < 0 && now < (uint64_t)-delta ? 0 : now + (uint64_t)delta;
        while (!atomic_compare_exchange_weak(where, &now, next));
}

/* Unless somebody has changed the shard without the lock since it was MARK_TAKEN. */
static void put_mark_back(struct usage *u, unsigned shard)
{
        uint64_t taken = MARK_TAKEN;

        (void)atomic_compare_exchange_strong(&u->file->shards[shard].mark, &taken, u->mark);
}

void usage_end(struct store *store, unsigned shard, struct usage_turn turn, int64_t bytes, int64_t blobs)
{
        struct usage *u = store->usage;

        add(&u->file->shards[shard].bytes, bytes);
        add(&u->file->shards[shard].blobs, blobs);
        if (!turn.locked) {
                /* Once more, and last: who counted since usage_begin may have seen the change or not. */
                atomic_store(&u->file->shards[shard].mark, MARK_PASSED);
                return;
        }
        if (turn.counted)
                put_mark_back(u, shard);
        unlock_shard(u, shard);
}

struct count_state {
        uint64_t bytes, blobs;
        bool exact;
        usage_found_fn each;
        void *arg;
};

static int count_found(const struct store_found *found, void *arg)
{
        struct count_state *state = arg;
        struct stat st;
        uint64_t bytes;

        if (fstatat(found->dirfd, found->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISREG(st.st_mode))
                return 0;
        bytes = found->part ? pieces_charge(found, &st, &state->exact) : usage_charge((uint64_t)st.st_size);
        state->blobs += !found->part;
        state->bytes += bytes;
        if (state->each)
                state->each(found, &st, bytes, state->arg);
        return 0;
}

static int walk(struct store *store, unsigned shard, struct count_state *state)
{
        return store_walk_folder(store, HASH_XXH3 + shard / 256, (uint8_t)(shard % 256), count_found, state);
}

static int count_locked(struct store *store, unsigned shard, usage_found_fn each, void *arg)
{
        struct usage_shard *s = &store->usage->file->shards[shard];
        struct count_state state = { .exact = true, .each = each, .arg = arg };
        int r;

        if (!is_counted(store->usage, shard))
                atomic_store(&s->mark, MARK_TAKEN);
        r = walk(store, shard, &state);
        if (r < 0)
                return r;
        atomic_store(&s->bytes, state.bytes);
        atomic_store(&s->blobs, state.blobs);
        if (state.exact)
                put_mark_back(store->usage, shard);
        else
                atomic_store(&s->mark, MARK_TAKEN);
        return 0;
}

int usage_count(struct store *store, unsigned shard, usage_found_fn each, void *arg)
{
        int r = lock_shard(store->usage, shard);

        if (r < 0)
                return r;
        r = count_locked(store, shard, each, arg);
        unlock_shard(store->usage, shard);
        return r;
}

int usage_look(struct store *store, unsigned shard, usage_found_fn each, void *arg)
{
        struct count_state state = { .each = each, .arg = arg };
        int r = usage_count(store, shard, each, arg);

        return r == -EBUSY ? walk(store, shard, &state) : r;
}

int usage_count_missing(struct store *store, const atomic_bool *stop)
{
        struct usage *u = store->usage;
        int r = 0;

        for (unsigned i = 0; r == 0 && i < USAGE_SHARDS && !atomic_load(stop); i++) {
                if (is_counted(u, i) || lock_shard(u, i) < 0)
                        continue;
                if (!is_counted(u, i)) /* it may have been in the middle of a change */
                        r = count_locked(store, i, NULL, NULL);
                unlock_shard(u, i);
        }
        return r;
}

void usage_reserve(struct store *store, int64_t bytes, int64_t unwritten)
{
        atomic_fetch_add(&store->usage->own->reserved, bytes);
        atomic_fetch_add(&store->usage->own->unwritten, unwritten);
}

void usage_set_quota(struct store *store, uint64_t quota)
{
        atomic_store(&store->usage->own->quota, quota);
}

static void add_slot(const struct usage_slot *slot, struct usage_sum *sum)
{
        int64_t reserved = atomic_load(&slot->reserved), unwritten = atomic_load(&slot->unwritten);
        uint64_t quota = atomic_load(&slot->quota);

        sum->reserved += (uint64_t)MAX(reserved, (int64_t)0);
        sum->unwritten += (uint64_t)MAX(unwritten, (int64_t)0);
        if (quota > 0 && (sum->quota == 0 || quota < sum->quota))
                sum->quota = quota;
}

void usage_sum(struct store *store, struct usage_sum *ret)
{
        struct usage *u = store->usage;
        struct usage_sum sum = { 0 };

        for (unsigned i = 0; i < USAGE_SHARDS; i++) {
                sum.bytes += atomic_load_explicit(&u->file->shards[i].bytes, memory_order_relaxed);
                sum.blobs += atomic_load_explicit(&u->file->shards[i].blobs, memory_order_relaxed);
                sum.uncounted += !is_counted(u, i);
        }
        for (unsigned i = 0; i < SLOTS; i++)
                add_slot(&u->file->slots[i], &sum);
        if (u->own == &u->fallback)
                add_slot(u->own, &sum);
        *ret = sum;
}

void usage_drop_dead(struct store *store)
{
        struct usage *u = store->usage;

        for (unsigned i = 0; u->fd >= 0 && i < SLOTS; i++) {
                struct usage_slot *slot = &u->file->slots[i];
                if (slot == u->own || (atomic_load(&slot->reserved) == 0 &&
                                       atomic_load(&slot->unwritten) == 0 && atomic_load(&slot->quota) == 0))
                        continue;
                if (lock_byte(u, SLOT_LOCK + i, F_WRLCK) < 0)
                        continue; /* alive */
                atomic_store(&slot->reserved, 0);
                atomic_store(&slot->unwritten, 0);
                atomic_store(&slot->quota, 0);
                (void)lock_byte(u, SLOT_LOCK + i, F_UNLCK);
        }
}

void store_get_usage(struct store *store, struct store_usage *ret)
{
        struct usage_sum sum;

        usage_drop_dead(store);
        usage_sum(store, &sum);
        if (sum.uncounted > 0)
                room_recount(store);
        *ret = (struct store_usage){
                .blobs = sum.blobs,
                .bytes = sum.bytes,
                .reserved = sum.reserved,
                .quota = sum.quota,
                .counted = sum.uncounted == 0,
        };
}
