#include "server/content_cache.h"

#include <string.h>

#include <utlist.h>

#include "base/clock.h"
#include "base/lock.h"

#define BUCKETS   16384
#define READ_SETS 4096
#define READ_WAYS                                                                                            \
        4 /* so that one that happens to come to the same place does not have another forgotten each time */

/* A run that was read. */
struct past_read {
        uint64_t some;  /* bytes of its hash; 0: none */
        uint64_t until; /* when BYTES_READ is beyond this it was not of late */
};

struct content_cache {
        size_t bytes_max;
        struct mutex lock;
        size_t bytes TSA_GUARDED(lock);
        struct content_run *runs TSA_GUARDED(lock); /* used longest ago first */
        struct content_run *buckets[BUCKETS] TSA_GUARDED(lock);
        struct past_read reads[READ_SETS][READ_WAYS] TSA_GUARDED(lock); /* the last one first in each set */
        uint64_t bytes_read TSA_GUARDED(lock);                          /* of all runs that were read, ever */
};

int content_cache_new(size_t bytes_max, struct content_cache **ret)
{
        struct content_cache *cache = calloc(1, sizeof(*cache));

        if (!cache)
                return -ENOMEM;
        cache->bytes_max = bytes_max;
        mutex_init(&cache->lock);
        *ret = cache;
        return 0;
}

/* ---- runs ---- */

static size_t bytes_of(size_t len, const char *spider)
{
        return sizeof(struct content_run) + len + strlen(spider) + 1;
}

static struct content_run *run_new(const struct content_key *key, const uint8_t *data)
{
        struct content_run *run = malloc(bytes_of(key->len, key->spider));

        if (!run)
                return NULL;
        *run = (struct content_run){ .refs = 1, .len = key->len };
        run->base = key->base;
        hash_take(run->hash, key->hash, hash_len(key->base));
        memcpy(run->data, data, key->len);
        run->spider = strcpy((char *)run->data + key->len, key->spider);
        return run;
}

static uint64_t some_of(const uint8_t *hash)
{
        uint64_t some;

        memcpy(&some, hash, sizeof(some));
        return some;
}

static bool is_of(const struct content_run *run, const struct content_key *key)
{
        return run->len == key->len && run->base == key->base &&
               memcmp(run->hash, key->hash, hash_len(key->base)) == 0 &&
               strcmp(run->spider, key->spider) == 0;
}

/* What points to KEY's run, or would. */
static struct content_run **find_locked(struct content_cache *cache, const struct content_key *key)
        TSA_REQUIRES(cache->lock)
{
        struct content_run **at = &cache->buckets[some_of(key->hash) % BUCKETS];

        while (*at && !is_of(*at, key))
                at = &(*at)->same_bucket;
        return at;
}

/* Takes the run used longest ago out; the cache's reference goes to the list RET_GONE, to be let go when the lock is. */
static void drop_oldest_locked(struct content_cache *cache, struct content_run **ret_gone)
        TSA_REQUIRES(cache->lock)
{
        struct content_run *run = cache->runs;
        const struct content_key key = {
                .spider = run->spider, .hash = run->hash, .base = run->base, .len = run->len
        };

        *find_locked(cache, &key) = run->same_bucket;
        DL_DELETE(cache->runs, run);
        cache->bytes -= bytes_of(run->len, run->spider);
        DL_APPEND(*ret_gone, run);
}

static void let_go(struct content_run *gone)
{
        while (gone) {
                struct content_run *run = gone;

                DL_DELETE(gone, run);
                content_cache_unref(run);
        }
}

static void touch_locked(struct content_cache *cache, struct content_run *run) TSA_REQUIRES(cache->lock)
{
        DL_DELETE(cache->runs, run);
        DL_APPEND(cache->runs, run);
        run->used_ns = clock_monotonic_ns();
}

void content_cache_free(struct content_cache *cache)
{
        if (!cache)
                return;
        content_cache_expire(cache, 0);
        mutex_release(&cache->lock);
        free(cache);
}

/* ---- finding ---- */

struct content_run *content_cache_get(struct content_cache *cache, const struct content_key *key)
{
        struct content_run *run;

        mutex_lock(&cache->lock);
        run = *find_locked(cache, key);
        if (run) {
                atomic_fetch_add(&run->refs, 1);
                touch_locked(cache, run);
        }
        mutex_unlock(&cache->lock);
        return run;
}

void content_cache_unref(void *arg)
{
        struct content_run *run = arg;

        if (atomic_fetch_sub(&run->refs, 1) == 1)
                free(run);
}

/* ---- keeping ---- */

bool content_cache_note_read(struct content_cache *cache, const struct content_key *key)
{
        uint64_t some = some_of(key->hash);
        struct past_read *set = cache->reads[some % READ_SETS];
        bool again = false;
        size_t i = 0;

        mutex_lock(&cache->lock);
        cache->bytes_read += key->len;
        while (i < READ_WAYS - 1 && set[i].some != some)
                i++;
        again = set[i].some == some && cache->bytes_read <= set[i].until;
        memmove(set + 1, set, i * sizeof(*set));
        set[0] = (struct past_read){ .some = some, .until = cache->bytes_read + cache->bytes_max };
        mutex_unlock(&cache->lock);
        return again;
}

void content_cache_put(struct content_cache *cache, const struct content_key *key, const uint8_t *data)
{
        size_t bytes = bytes_of(key->len, key->spider);
        struct content_run *run = bytes <= cache->bytes_max ? run_new(key, data) : NULL;
        struct content_run *gone = NULL, **at;

        if (!run)
                return;
        mutex_lock(&cache->lock);
        if (*find_locked(cache, key)) { /* another thread was faster */
                DL_APPEND(gone, run);
        } else {
                while (cache->runs && cache->bytes + bytes > cache->bytes_max)
                        drop_oldest_locked(cache, &gone);
                at = find_locked(cache, key);
                *at = run;
                DL_APPEND(cache->runs, run);
                run->used_ns = clock_monotonic_ns();
                cache->bytes += bytes;
        }
        mutex_unlock(&cache->lock);
        let_go(gone);
}

void content_cache_expire(struct content_cache *cache, int64_t idle_ms)
{
        int64_t before_ns = clock_monotonic_ns() - idle_ms * NSEC_PER_MSEC;
        struct content_run *gone = NULL;

        mutex_lock(&cache->lock);
        while (cache->runs && cache->runs->used_ns <= before_ns)
                drop_oldest_locked(cache, &gone);
        mutex_unlock(&cache->lock);
        let_go(gone);
}

size_t content_cache_get_bytes(struct content_cache *cache)
{
        size_t bytes;

        mutex_lock(&cache->lock);
        bytes = cache->bytes;
        mutex_unlock(&cache->lock);
        return bytes;
}
