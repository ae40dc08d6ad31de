#include "server/hashings.h"

#include <utlist.h>

#include "base/lock.h"

struct hashings {
        struct pool *pool;
        struct mutex lock;
        struct hashing *line TSA_GUARDED(lock); /* each peer's first; whose turn was longest ago is first */
};

int hashings_new(struct pool *pool, struct hashings **ret)
{
        struct hashings *hashings = calloc(1, sizeof(*hashings));

        if (!hashings)
                return -ENOMEM;
        hashings->pool = pool;
        mutex_init(&hashings->lock);
        *ret = hashings;
        return 0;
}

void hashings_free(struct hashings *hashings)
{
        if (!hashings)
                return;
        assert(!hashings->line);
        mutex_release(&hashings->lock);
        free(hashings);
}

/* ---- the line ---- */

static struct hashing *find_first_locked(struct hashings *hashings, const struct rpc_peer *peer)
        TSA_REQUIRES(hashings->lock)
{
        struct hashing *first;

        DL_FOREACH (hashings->line, first)
                if (first->peer == peer)
                        return first;
        return NULL;
}

static void enqueue_locked(struct hashings *hashings, struct hashing *hashing) TSA_REQUIRES(hashings->lock)
{
        struct hashing *first = find_first_locked(hashings, hashing->peer);

        hashing->waiting = true;
        hashing->behind = NULL;
        if (first)
                DL_APPEND(first->behind, hashing);
        else
                DL_APPEND(hashings->line, hashing);
}

/* What is behind it goes to the end of the line: it is the others' turn. */
static void take_first_locked(struct hashings *hashings, struct hashing *first) TSA_REQUIRES(hashings->lock)
{
        struct hashing *next = first->behind;

        DL_DELETE(hashings->line, first);
        first->waiting = false;
        if (!next)
                return;
        DL_DELETE(first->behind, next);
        next->behind = first->behind;
        DL_APPEND(hashings->line, next);
}

/* The first whose peer has room. There is none but after a job has come or ended, and then it is one. */
static void start_locked(struct hashings *hashings) TSA_REQUIRES(hashings->lock)
{
        struct hashing *first;

        DL_FOREACH (hashings->line, first) {
                if (!rpc_peer_charge(first->peer, RPC_HASHINGS, 1))
                        continue;
                take_first_locked(hashings, first);
                pool_submit(hashings->pool, &first->job);
                return;
        }
}

/* ---- jobs ---- */

void hashings_submit(struct hashings *hashings, struct hashing *hashing)
{
        mutex_lock(&hashings->lock);
        enqueue_locked(hashings, hashing);
        start_locked(hashings);
        mutex_unlock(&hashings->lock);
}

bool hashings_withdraw(struct hashings *hashings, struct hashing *hashing)
{
        struct hashing *first;
        bool waited;

        mutex_lock(&hashings->lock);
        waited = hashing->waiting;
        if (waited) {
                first = find_first_locked(hashings, hashing->peer);
                if (first == hashing)
                        take_first_locked(hashings, hashing);
                else
                        DL_DELETE(first->behind, hashing);
                hashing->waiting = false;
        }
        mutex_unlock(&hashings->lock);
        return waited;
}

void hashings_end(struct hashings *hashings, struct rpc_peer *peer)
{
        mutex_lock(&hashings->lock);
        rpc_peer_discharge(peer, RPC_HASHINGS, 1);
        start_locked(hashings);
        mutex_unlock(&hashings->lock);
}
