#include "server/workers.h"

#include <string.h>

#include <uthash.h>

#include "base/lock.h"

#define WORKERS_MAX 4096
#define SEEN_NS     (60 * NSEC_PER_SEC)

struct worker {
        char key[WORKERS_TEXT_MAX];
        unsigned calls;
        int64_t seen_ns;
        char address[WORKERS_TEXT_MAX];
        char spider[PATH_NAME_MAX + 1]; /* asked for last as a stock worker; "": it is none */
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
        char cut[WORKERS_TEXT_MAX];
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

void workers_note_stock(struct workers *workers, struct worker *worker, const char *spider,
                        const char *address)
{
        if (!worker)
                return;
        mutex_lock(&workers->lock);
        snprintf(worker->spider, sizeof(worker->spider), "%s", spider);
        snprintf(worker->address, sizeof(worker->address), "%s", address);
        mutex_unlock(&workers->lock);
}

size_t workers_list_stock(struct workers *workers, const char *spider, size_t max, struct workers_stock *ret,
                          size_t *ret_all)
{
        struct worker *worker, *next;
        size_t n = 0;

        *ret_all = 0;
        mutex_lock(&workers->lock);
        forget_locked(workers, clock_monotonic_ns() - SEEN_NS);
        HASH_ITER (hh, workers->table, worker, next) {
                if (!worker->spider[0] || (spider && strcmp(worker->spider, spider) != 0))
                        continue;
                if ((*ret_all)++ >= max)
                        continue;
                strcpy(ret[n].key, worker->key);
                strcpy(ret[n].address, worker->address);
                strcpy(ret[n++].spider, worker->spider);
        }
        mutex_unlock(&workers->lock);
        return n;
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
