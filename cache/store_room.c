/*
 * Room in the store: what a quota and a floor of free space allow, and the thread that keeps to it. Writers reserve what they are about to
 * write; above the high mark the thread evicts in the background down to the low mark, so that hardly anybody waits for it. A writer that
 * would go beyond the limit waits for one pass; if that finds nothing more that may go, the write goes on (S8).
 */
#include "cache/store_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"

#define FULL_PERCENT   100u                 /* of the quota: who wants more waits */
#define HIGH_PERCENT   95u                  /* from here on the thread evicts … */
#define LOW_PERCENT    90u                  /* … down to here */
#define WAIT_PASSES    2                    /* that a writer waits for at most */
#define FUTILE_NS      (20 * NSEC_PER_MSEC) /* how long a pass that found too little is not repeated … */
#define FUTILE_TIMES   9                    /* … or so many times as long as it took */
#define RETRY_MAX_NS   (64 * NSEC_PER_SEC)  /* the thread itself tries again, ever less often */
#define SILENT_NS      (600 * NSEC_PER_SEC) /* between lines in the log that say so */
#define COUNT_AGAIN_NS NSEC_PER_SEC         /* how often folders without a mark are looked after */
#define YOUNG_NS       (50 * NSEC_PER_MSEC) /* what was just published: who wanted it is about to open it */
#define HELD           16u
#define HELD_NS        NSEC_PER_SEC

/* A blob that was just published, kept open until it was asked for. */
struct held {
        struct content_id id;
        int fd; /* owned; -1: none */
        int64_t since_ns;
};

struct room {
        _Atomic uint64_t quota, floor; /* bytes; 0: none */
        atomic_bool limited;           /* store_limit was called; for good */
        atomic_bool stopping;
        _Atomic int64_t futile_until_ns, count_again_ns;
        int64_t retry_after_ns;  /* owned by the thread; 0: within its limits */
        int64_t silent_until_ns; /* owned by the thread */

        struct mutex lock;
        struct condition wake, done;
        bool kicked TSA_GUARDED(lock);
        bool running TSA_GUARDED(lock);
        uint64_t urgent TSA_GUARDED(lock); /* bytes wanted by a disk that is full */
        uint64_t passes TSA_GUARDED(lock); /* ended */
        uint64_t freed TSA_GUARDED(lock);  /* bytes, by the last of them */
        bool started;
        pthread_t thread;

        struct mutex pressure_lock; /* held across LET_GO, so that store_on_pressure can wait for its end */
        void (*let_go)(void *arg) TSA_GUARDED(pressure_lock);
        void *let_go_arg TSA_GUARDED(pressure_lock);

        struct mutex held_lock;
        struct held held[HELD] TSA_GUARDED(held_lock);
        unsigned held_next TSA_GUARDED(held_lock);
        atomic_uint held_count;
};

int room_new(struct store *store)
{
        struct room *room = calloc(1, sizeof(*room));

        if (!room)
                return -ENOMEM;
        mutex_init(&room->lock);
        mutex_init(&room->pressure_lock);
        mutex_init(&room->held_lock);
        condition_init(&room->wake);
        condition_init(&room->done);
        for (unsigned i = 0; i < HELD; i++)
                room->held[i].fd = -1;
        store->room = room;
        return 0;
}

/* ---- what was just published ---- */

void room_hold(struct store *store, const struct content_id *id, int fd)
{
        struct room *room = store->room;
        struct held *held;
        int old;

        if (!atomic_load(&room->limited)) {
                close(fd);
                return;
        }
        mutex_lock(&room->held_lock);
        held = &room->held[room->held_next++ % HELD];
        old = held->fd;
        *held = (struct held){ .id = *id, .fd = fd, .since_ns = clock_monotonic_ns() };
        if (old < 0)
                atomic_fetch_add(&room->held_count, 1);
        mutex_unlock(&room->held_lock);
        cleanup_close(&old);
}

void room_unhold(struct store *store, const struct content_id *id)
{
        struct room *room = store->room;
        int fd = -1;

        if (atomic_load(&room->held_count) == 0)
                return;
        mutex_lock(&room->held_lock);
        for (unsigned i = 0; fd < 0 && i < HELD; i++)
                if (room->held[i].fd >= 0 && content_id_equal(&room->held[i].id, id)) {
                        fd = take_fd(&room->held[i].fd);
                        atomic_fetch_sub(&room->held_count, 1);
                }
        mutex_unlock(&room->held_lock);
        cleanup_close(&fd);
}

static void drop_held(struct room *room, int64_t min_age_ns)
{
        int64_t now = clock_monotonic_ns();

        for (unsigned i = 0; i < HELD; i++) {
                int fd = -1;
                mutex_lock(&room->held_lock);
                if (room->held[i].fd >= 0 && now - room->held[i].since_ns >= min_age_ns) {
                        fd = take_fd(&room->held[i].fd);
                        atomic_fetch_sub(&room->held_count, 1);
                }
                mutex_unlock(&room->held_lock);
                cleanup_close(&fd);
        }
}

void room_drop_held(struct store *store)
{
        drop_held(store->room, 0);
}

/* ---- how much is too much ---- */

static uint64_t percent_of(uint64_t bytes, unsigned percent)
{
        return bytes / 100 * percent + bytes % 100 * percent / 100;
}

/* Bytes that must go so that the store is at PERCENT of its quota, and the file system as far above the floor. */
static uint64_t excess(struct store *store, const struct usage_sum *sum, unsigned percent)
{
        uint64_t quota = atomic_load(&store->room->quota), floor = atomic_load(&store->room->floor);
        uint64_t used = sum->bytes + sum->reserved, limit = percent_of(quota, percent), most = 0;
        struct statvfs vfs;

        if (quota > 0 && used > limit)
                most = used - limit;
        if (floor > 0 && fstatvfs(store->dir_fd, &vfs) == 0) {
                uint64_t available = (uint64_t)vfs.f_bavail * vfs.f_frsize;
                uint64_t needed = floor + percent_of(floor, 100 - percent) + sum->unwritten;
                if (available < needed)
                        most = MAX(most, needed - available);
        }
        return most;
}

static uint64_t excess_now(struct store *store, unsigned percent)
{
        struct usage_sum sum;

        usage_sum(store, &sum);
        return excess(store, &sum, percent);
}

/* ---- the thread ---- */

static void ask_to_let_go(struct room *room)
{
        mutex_lock(&room->pressure_lock);
        if (room->let_go)
                room->let_go(room->let_go_arg);
        mutex_unlock(&room->pressure_lock);
}

/* Rounds that look for what is not open, until one finds nothing. */
static int evict_closed(struct store *store, uint64_t wanted, struct store_evicted *evicted)
{
        struct evict_pass pass = { .young_ns = YOUNG_NS, .check_open = true, .stop = &store->room->stopping };
        uint64_t before;
        int r;

        do {
                if (evicted->bytes >= wanted)
                        return 0;
                before = evicted->blobs;
                pass.wanted = wanted - evicted->bytes;
                r = evict_run(store, &pass, evicted);
        } while (r == 0 && evicted->blobs > before);
        return r;
}

/* The dearer ways only as far as they are needed: WANTED leads to the low mark, which may wait. */
static int evict(struct store *store, uint64_t wanted, bool urgent, struct store_evicted *evicted)
{
        struct evict_pass pass = { .wanted = wanted, .young_ns = YOUNG_NS, .stop = &store->room->stopping };
        int r = evict_run(store, &pass, evicted);

        if (r < 0 || evicted->bytes >= wanted / 2)
                return r;
        r = evict_closed(store, wanted, evicted);
        if (r < 0 || evicted->bytes >= wanted || (excess_now(store, FULL_PERCENT) == 0 && !urgent))
                return r;
        drop_held(store->room, HELD_NS);
        ask_to_let_go(store->room);
        return evict_closed(store, wanted, evicted);
}

static void note_outcome(struct store *store, int64_t began_ns)
{
        struct room *room = store->room;
        uint64_t over = excess_now(store, FULL_PERCENT);
        int64_t now = clock_monotonic_ns(), pause = MAX(FUTILE_NS, FUTILE_TIMES * (now - began_ns));

        if (over == 0) {
                atomic_store(&room->futile_until_ns, 0);
                room->retry_after_ns = 0;
                return;
        }
        atomic_store(&room->futile_until_ns, now + pause);
        room->retry_after_ns = MAX(pause, room->retry_after_ns);
        if (now < room->silent_until_ns)
                return;
        room->silent_until_ns = now + SILENT_NS;
        log_warning("the cache is %llu bytes beyond its quota or its free space: all else is open, pinned or "
                    "just "
                    "written; contents are fetched nevertheless",
                    (unsigned long long)over);
}

static int keep(struct store *store, uint64_t urgent, struct store_evicted *evicted)
{
        int64_t began_ns = clock_monotonic_ns();
        uint64_t wanted = 0;
        int r;

        usage_drop_dead(store);
        r = usage_count_missing(store, &store->room->stopping);
        if (r < 0)
                return r;
        if (excess_now(store, HIGH_PERCENT) > 0)
                wanted = excess_now(store, LOW_PERCENT);
        wanted = MAX(wanted, urgent);
        if (wanted > 0)
                r = evict(store, wanted, urgent > 0, evicted);
        if (r == 0 && !atomic_load(&store->room->stopping))
                note_outcome(store, began_ns);
        return r;
}

/* Beyond its limits the store is looked at again in a while: what was open may be closed by then. */
static void await_kick(struct room *room) TSA_REQUIRES(room->lock)
{
        int64_t after = room->retry_after_ns;

        if (after == 0) {
                condition_wait(&room->wake, &room->lock);
        } else if (condition_wait_until(&room->wake, &room->lock, clock_monotonic_ns() + after) ==
                   -ETIMEDOUT) {
                room->retry_after_ns = MIN(after * 2, RETRY_MAX_NS);
                room->kicked = true;
        } else {
                room->retry_after_ns = 0; /* a writer: things have changed */
        }
}

static void *room_main(void *arg)
{
        struct store *store = arg;
        struct room *room = store->room;

        thread_name("store-room");
        mutex_lock(&room->lock);
        while (!atomic_load(&room->stopping)) {
                struct store_evicted evicted = { 0 };
                uint64_t urgent = room->urgent;
                int r;

                if (!room->kicked) {
                        await_kick(room);
                        continue;
                }
                room->kicked = false;
                room->urgent = 0;
                room->running = true;
                mutex_unlock(&room->lock);
                r = keep(store, urgent, &evicted);
                if (r < 0 && r != -ECANCELED)
                        log_limited(LOG_LEVEL_WARNING, "store", "cannot make room in the cache: %s",
                                    strerror(-r));
                mutex_lock(&room->lock);
                room->running = false;
                room->freed = evicted.bytes;
                room->passes++;
                condition_broadcast(&room->done);
        }
        mutex_unlock(&room->lock);
        return NULL;
}

static void kick(struct room *room)
{
        mutex_lock(&room->lock);
        room->kicked = true;
        condition_signal(&room->wake);
        mutex_unlock(&room->lock);
}

/* Waits for a pass that begins after this call. Bytes freed by the last pass. -EINTR: shutting down. */
static int await_pass(struct room *room, uint64_t urgent, uint64_t *ret_freed)
{
        uint64_t target;
        int r;

        mutex_lock(&room->lock);
        target = room->passes + (room->running ? 2 : 1);
        room->urgent = MAX(room->urgent, urgent);
        room->kicked = true;
        condition_signal(&room->wake);
        while (room->passes < target && !atomic_load(&room->stopping))
                condition_wait(&room->done, &room->lock);
        r = atomic_load(&room->stopping) ? -EINTR : 0;
        *ret_freed = room->freed;
        mutex_unlock(&room->lock);
        return r;
}

/* ---- for writers ---- */

static bool is_futile(const struct room *room)
{
        return clock_monotonic_ns() < atomic_load(&room->futile_until_ns);
}

void room_recount(struct store *store)
{
        if (atomic_load(&store->room->limited))
                kick(store->room);
}

static void look_after_counts(struct room *room, const struct usage_sum *sum)
{
        int64_t now, next = atomic_load(&room->count_again_ns);

        if (sum->uncounted == 0)
                return;
        now = clock_monotonic_ns();
        if (now >= next && atomic_compare_exchange_strong(&room->count_again_ns, &next, now + COUNT_AGAIN_NS))
                kick(room);
}

static int wait_for_room(struct store *store)
{
        for (int i = 0; i < WAIT_PASSES && !is_futile(store->room); i++) {
                uint64_t freed;
                int r = await_pass(store->room, 0, &freed);
                if (r < 0)
                        return r;
                if (excess_now(store, FULL_PERCENT) == 0)
                        break;
        }
        return 0;
}

static int find_room(struct store *store, bool may_wait)
{
        struct room *room = store->room;
        struct usage_sum sum;

        usage_sum(store, &sum);
        look_after_counts(room, &sum);
        if (excess(store, &sum, HIGH_PERCENT) == 0 || is_futile(room))
                return 0;
        kick(room);
        if (excess(store, &sum, FULL_PERCENT) == 0)
                return 0;
        return may_wait ? wait_for_room(store) : STORE_BUSY;
}

int room_take(struct store *store, uint64_t size, bool may_wait)
{
        int r = 0;

        usage_reserve(store, (int64_t)size, (int64_t)size);
        if (atomic_load(&store->room->limited))
                r = find_room(store, may_wait);
        if (r != 0)
                usage_reserve(store, -(int64_t)size, -(int64_t)size);
        return r;
}

int store_make_room(struct store *store, uint64_t bytes)
{
        uint64_t freed;
        int r;

        if (!atomic_load(&store->room->limited))
                return -ENOSPC;
        r = await_pass(store->room, bytes, &freed);
        if (r == 0 && freed == 0)
                r = -ENOSPC;
        /* Journaling file systems give blocks back with the next commit, and it would all have to go until then. */
        if (r == 0)
                (void)fsync(store->dir_fd);
        return r;
}

/* ---- life ---- */

static uint64_t resolve(const struct store_amount *amount, uint64_t total)
{
        uint64_t part = percent_of(total, amount->percent);

        if (amount->percent == 0)
                return amount->bytes;
        return amount->bytes > 0 ? MIN(amount->bytes, part) : part;
}

int store_limit(struct store *store, const struct store_limits *limits)
{
        struct room *room = store->room;
        struct statvfs vfs;
        uint64_t total;
        int r;

        if (fstatvfs(store->dir_fd, &vfs) < 0)
                return -errno;
        total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
        atomic_store(&room->quota, resolve(&limits->quota, total));
        atomic_store(&room->floor, resolve(&limits->floor, total));
        usage_set_quota(store, atomic_load(&room->quota));
        room->kicked = true; /* nobody else knows of it yet: counts, and evicts what a larger quota left */
        r = -pthread_create(&room->thread, NULL, room_main, store);
        room->started = r == 0;
        atomic_store(&room->limited, r == 0);
        return r;
}

void store_on_pressure(struct store *store, void (*let_go)(void *arg), void *arg)
{
        mutex_lock(&store->room->pressure_lock);
        store->room->let_go = let_go;
        store->room->let_go_arg = arg;
        mutex_unlock(&store->room->pressure_lock);
}

void room_interrupt(struct store *store)
{
        struct room *room = store->room;

        mutex_lock(&room->lock);
        atomic_store(&room->stopping, true);
        condition_broadcast(&room->wake);
        condition_broadcast(&room->done);
        mutex_unlock(&room->lock);
}

void room_free(struct store *store)
{
        struct room *room = store->room;

        if (!room)
                return;
        room_interrupt(store);
        if (room->started)
                pthread_join(room->thread, NULL);
        drop_held(room, 0);
        condition_release(&room->wake);
        condition_release(&room->done);
        mutex_release(&room->lock);
        mutex_release(&room->pressure_lock);
        mutex_release(&room->held_lock);
        free(room);
        store->room = NULL;
}
