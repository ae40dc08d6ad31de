#include "server/workers.h"

#include <string.h>

#include <uthash.h>

#include "base/lock.h"

#define WORKERS_MAX 4096
#define KEY_MAX     128 /* longer keys count by their beginning */
#define SEEN_NS     (60 * NSEC_PER_SEC)

struct worker {
        char key[KEY_MAX + 1];
        unsigned calls;
        int64_t seen_ns;
        UT_hash_handle hh;
};

struct workers {
        struct mutex lock;
        struct worker *table TSA_GUARDED(&lock);
};

int workers_new(struct workers **ret)
{
        struct workers *workers = calloc(1, sizeof(*workers));

        if (!workers)
                return -ENOMEM;
        mutex_init(&workers->lock);
        *ret = workers;
        return 0;
}

/* Forgets whom nobody has seen since BEFORE_NS. */
static void forget_locked(struct workers *workers, int64_t before_ns) TSA_REQUIRES(workers->lock)
{
        struct worker *worker, *next;

        HASH_ITER (hh, workers->table, worker, next) {
                if (worker->calls > 0 || worker->seen_ns > before_ns)
                        continue;
                HASH_DEL(workers->table, worker);
                free(worker);
        }
}

void workers_free(struct workers *workers)
{
        if (!workers)
                return;
        mutex_lock(&workers->lock);
        forget_locked(workers, INT64_MAX);
        mutex_unlock(&workers->lock);
        mutex_release(&workers->lock);
        free(workers);
}

static struct worker *add_locked(struct workers *workers, const char *key) TSA_REQUIRES(workers->lock)
{
        struct worker *worker;

        if (HASH_COUNT(workers->table) >= WORKERS_MAX)
                forget_locked(workers, clock_monotonic_ns() - SEEN_NS);
        worker = HASH_COUNT(workers->table) < WORKERS_MAX ? calloc(1, sizeof(*worker)) : NULL;
        if (!worker)
                return NULL;
        strcpy(worker->key, key);
        HASH_ADD_STR(workers->table, key, worker);
        if (!worker->hh.tbl) {
                free(worker);
                return NULL;
        }
        return worker;
}

struct worker *workers_enter(struct workers *workers, const char *key)
{
        char cut[KEY_MAX + 1];
        struct worker *worker;

        if (key[0] == '\0')
                return NULL;
        snprintf(cut, sizeof(cut), "%s", key);
        mutex_lock(&workers->lock);
        HASH_FIND_STR(workers->table, cut, worker);
        if (!worker)
                worker = add_locked(workers, cut);
        if (worker)
                worker->calls++;
        mutex_unlock(&workers->lock);
        return worker;
}

void workers_leave(struct workers *workers, struct worker *worker)
{
        if (!worker)
                return;
        mutex_lock(&workers->lock);
        worker->calls--;
        worker->seen_ns = clock_monotonic_ns();
        mutex_unlock(&workers->lock);
}

unsigned workers_count(struct workers *workers)
{
        unsigned n;

        mutex_lock(&workers->lock);
        forget_locked(workers, clock_monotonic_ns() - SEEN_NS);
        n = HASH_COUNT(workers->table);
        mutex_unlock(&workers->lock);
        return n;
}
