/*
 * Which blobs go, and how one goes. A pass walks all blobs, folder by folder, counts them on the way (S7) and keeps the least recently
 * used in a heap of bounded size; no lock is held for longer than one folder's walk.
 */
#include "cache/store_private.h"

#include <fcntl.h>
#include <signal.h>

#include "base/clock.h"
#include "cache/part.h"

#define CANDIDATES_MAX 65536u /* of one round: 2.5 MiB; more are found by another */

struct candidate {
        int64_t used_ns;
        uint64_t bytes;
        struct content_id id;
        bool part;
};

/* The oldest that make up WANTED bytes; the youngest of them on top (a max-heap by used_ns). */
struct oldest {
        struct candidate *items; /* owned */
        size_t count, capacity;
        uint64_t bytes, wanted;
        int error;
};

static void swap(struct candidate *a, struct candidate *b)
{
        struct candidate c = *a;

        *a = *b;
        *b = c;
}

static void sift_up(struct oldest *o, size_t i)
{
        for (; i > 0 && o->items[i].used_ns > o->items[(i - 1) / 2].used_ns; i = (i - 1) / 2)
                swap(&o->items[i], &o->items[(i - 1) / 2]);
}

static void drop_top(struct oldest *o)
{
        size_t i = 0;

        o->bytes -= o->items[0].bytes;
        o->items[0] = o->items[--o->count];
        for (;;) {
                size_t top = i;
                for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < o->count; child++)
                        if (o->items[child].used_ns > o->items[top].used_ns)
                                top = child;
                if (top == i)
                        return;
                swap(&o->items[i], &o->items[top]);
                i = top;
        }
}

static bool is_wanted(const struct oldest *o, int64_t used_ns)
{
        return (o->bytes < o->wanted && o->count < CANDIDATES_MAX) || used_ns < o->items[0].used_ns;
}

static void add(struct oldest *o, const struct candidate *candidate)
{
        if (o->count == o->capacity) {
                size_t capacity = MAX(o->capacity * 2, (size_t)256);
                struct candidate *items = reallocarray(o->items, capacity, sizeof(*items));
                if (!items) {
                        o->error = -ENOMEM;
                        return;
                }
                o->items = items;
                o->capacity = capacity;
        }
        o->items[o->count] = *candidate;
        o->bytes += candidate->bytes;
        sift_up(o, o->count++);
        while (o->count > 1 && (o->bytes - o->items[0].bytes >= o->wanted || o->count > CANDIDATES_MAX))
                drop_top(o);
}

bool store_is_open_elsewhere(int fd)
{
        if (fcntl(fd, F_SETSIG, SIGURG) < 0)
                return false;
        if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
                return errno == EAGAIN;
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
}

struct round {
        struct store *store;
        const struct evict_pass *pass;
        struct pins pins;
        struct oldest oldest;
        int64_t now_ns;
};

static int64_t to_ns(const struct timespec *ts)
{
        return ts->tv_sec * NSEC_PER_SEC + ts->tv_nsec;
}

static bool is_open_at(int dirfd, const char *name)
{
        int fd = store_open_blob(dirfd, name, false);
        bool open = fd >= 0 ? store_is_open_elsewhere(fd) : fd == -EWOULDBLOCK;

        if (fd >= 0)
                close(fd);
        return open;
}

static void consider(const struct store_found *found, const struct stat *st, uint64_t bytes, void *arg)
{
        struct round *round = arg;
        struct candidate candidate = {
                .used_ns = to_ns(&st->st_atim), .bytes = bytes, .id = found->id, .part = found->part
        };
        int64_t age_ns = round->now_ns - to_ns(&st->st_ctim);

        if (round->oldest.error < 0 || !is_wanted(&round->oldest, candidate.used_ns) ||
            pins_find(&round->pins, &found->id) || (age_ns >= 0 && age_ns < round->pass->young_ns))
                return;
        if (round->pass->check_open && is_open_at(found->dirfd, found->name))
                return;
        add(&round->oldest, &candidate);
}

static bool is_stopped(const struct evict_pass *pass)
{
        return pass->stop && atomic_load(pass->stop);
}

/* What another process keeps locked is left to another pass. */
static int count_if_free(struct round *round, unsigned shard)
{
        int r = usage_count(round->store, shard, consider, round);

        return r == -EBUSY ? 0 : r;
}

static int find_oldest(struct round *round)
{
        int r = pins_load(round->store, &round->pins);

        for (unsigned i = 0; r == 0 && i < USAGE_SHARDS; i++)
                r = is_stopped(round->pass) ? -ECANCELED : count_if_free(round, i);
        pins_release(&round->pins);
        return r < 0 ? r : round->oldest.error;
}

/*
 * Takes away the name; the bytes go when FD, or whoever has them, is closed. Who opens a part does so under the same lock: it either has it by now,
 * or finds none. What a part counts for may have changed since it was chosen. Returns how many bytes have gone.
 */
static uint64_t unlink_found(struct store *store, const struct candidate *candidate, int fd, const char *path)
{
        int dirfd = store_blob_dir(store, &candidate->id);
        unsigned shard = usage_shard_of(&candidate->id);
        struct usage_turn turn = usage_begin(store, shard);
        uint64_t bytes = candidate->bytes;
        struct stat st;
        bool gone;

        if (candidate->part && fstat(fd, &st) == 0)
                bytes = part_charge(fd, candidate->id.algorithm, &st, &turn.counted);
        gone = turn.locked && store_is_current(fd, dirfd, path) && !pins_has(store, &candidate->id) &&
               !(candidate->part && store_is_open_elsewhere(fd)) && unlinkat(dirfd, path, 0) == 0;
        usage_end(store, shard, turn, gone ? -(int64_t)bytes : 0, gone && !candidate->part ? -1 : 0);
        return gone ? bytes : 0;
}

static void evict_one(struct store *store, const struct candidate *candidate, struct store_evicted *evicted)
{
        char path[PART_PATH_MAX];
        struct stat st;
        uint64_t gone;
        int fd;

        if (candidate->part)
                part_path(&candidate->id, path);
        else
                store_blob_path(&candidate->id, path);
        fd = store_open_blob(store_blob_dir(store, &candidate->id), path, false);
        if (fd < 0)
                return;
        /* Used since it was chosen, or put there anew: not the least recently used any more. Whether a part is open is looked at under the lock alone: who is stopped at that then holds up nobody. */
        if (fstat(fd, &st) == 0 && to_ns(&st.st_atim) == candidate->used_ns &&
            (candidate->part || !store_is_open_elsewhere(fd))) {
                gone = unlink_found(store, candidate, fd, path);
                evicted->blobs += gone > 0;
                evicted->bytes += gone;
        }
        close(fd);
}

static int compare_age(const void *a, const void *b)
{
        const struct candidate *x = a, *y = b;

        return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

int evict_run(struct store *store, const struct evict_pass *pass, struct store_evicted *ret)
{
        struct round round = {
                .store = store,
                .pass = pass,
                .oldest = { .wanted = pass->wanted },
                .now_ns = clock_coarse_ns(),
        };
        uint64_t before = ret->bytes;
        int r = pass->wanted == 0 ? 0 : find_oldest(&round);

        if (r == 0 && round.oldest.count > 0)
                qsort(round.oldest.items, round.oldest.count, sizeof(*round.oldest.items), compare_age);
        for (size_t i = 0; r == 0 && i < round.oldest.count && ret->bytes - before < pass->wanted; i++) {
                if (is_stopped(pass))
                        r = -ECANCELED;
                else
                        evict_one(store, &round.oldest.items[i], ret);
        }
        free(round.oldest.items);
        return r;
}

int store_evict(struct store *store, uint64_t to_bytes, struct store_evicted *ret)
{
        static const atomic_bool never = false;
        int r = usage_count_missing(store, &never);

        while (r == 0) {
                struct usage_sum sum;
                uint64_t before = ret->blobs;
                usage_sum(store, &sum);
                if (sum.bytes <= to_bytes)
                        break;
                r = evict_run(store,
                              &(struct evict_pass){ .wanted = sum.bytes - to_bytes, .check_open = true },
                              ret);
                if (ret->blobs == before)
                        break;
        }
        return r;
}
