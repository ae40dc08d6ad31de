#include "server/turns.h"

#include <utlist.h>

#include "base/lock.h"

#define SEVERAL "several" /* the origin, so to speak, of what several peers want */

struct turns {
        struct pool *pool;
        enum rpc_scarce what;
        struct mutex lock;
        struct turn *line TSA_GUARDED(lock); /* each peer's first; whose turn was longest ago is first */
};

int turns_new(struct pool *pool, enum rpc_scarce what, struct turns **ret)
{
        struct turns *turns = calloc(1, sizeof(*turns));

        if (!turns)
                return -ENOMEM;
        turns->pool = pool;
        turns->what = what;
        mutex_init(&turns->lock);
        *ret = turns;
        return 0;
}

void turns_free(struct turns *turns)
{
        if (!turns)
                return;
        assert(!turns->line);
        mutex_release(&turns->lock);
        free(turns);
}

/* ---- the line ---- */

static struct turn *find_first_locked(struct turns *turns, const struct rpc_peer *peer)
        TSA_REQUIRES(turns->lock)
{
        struct turn *first;

        DL_FOREACH (turns->line, first)
                if (first->peer == peer)
                        return first;
        return NULL;
}

static void enqueue_locked(struct turns *turns, struct turn *turn) TSA_REQUIRES(turns->lock)
{
        struct turn *first = find_first_locked(turns, turn->peer);

        turn->waiting = true;
        turn->behind = NULL;
        if (first)
                DL_APPEND(first->behind, turn);
        else
                DL_APPEND(turns->line, turn);
}

/* What is behind it goes to the end of the line: it is the others' turn. */
static void take_first_locked(struct turns *turns, struct turn *first) TSA_REQUIRES(turns->lock)
{
        struct turn *next = first->behind;

        DL_DELETE(turns->line, first);
        first->waiting = false;
        if (!next)
                return;
        DL_DELETE(first->behind, next);
        next->behind = first->behind;
        DL_APPEND(turns->line, next);
}

static void dequeue_locked(struct turns *turns, struct turn *turn) TSA_REQUIRES(turns->lock)
{
        struct turn *first = find_first_locked(turns, turn->peer);

        if (first == turn)
                take_first_locked(turns, turn);
        else
                DL_DELETE(first->behind, turn);
        turn->waiting = false;
}

/* The first whose peer has room. There is none but after a job has come or ended, and then it is one. */
static void start_locked(struct turns *turns) TSA_REQUIRES(turns->lock)
{
        struct turn *first;

        DL_FOREACH (turns->line, first) {
                if (!rpc_peer_charge(first->peer, turns->what, 1))
                        continue;
                take_first_locked(turns, first);
                pool_submit(turns->pool, &first->job);
                return;
        }
}

/* ---- jobs ---- */

void turns_submit(struct turns *turns, struct turn *turn, struct rpc_peer *peer)
{
        mutex_lock(&turns->lock);
        turn->peer = rpc_peer_ref(peer);
        enqueue_locked(turns, turn);
        start_locked(turns);
        mutex_unlock(&turns->lock);
}

/* Takes SEVERAL over; NULL, without memory: it waits as before. */
static void share_locked(struct turns *turns, struct turn *turn, struct rpc_peer *several)
        TSA_REQUIRES(turns->lock)
{
        if (several && several != turn->peer) {
                dequeue_locked(turns, turn);
                rpc_peer_unref(turn->peer);
                turn->peer = rpc_peer_ref(several);
                enqueue_locked(turns, turn);
                start_locked(turns);
        }
        rpc_peer_unref(several);
}

void turns_share(struct turns *turns, struct turn *turn, struct rpc_peer *peer)
{
        mutex_lock(&turns->lock);
        if (turn->waiting && turn->peer != peer)
                share_locked(turns, turn, rpc_peer_get(peer->owner, SEVERAL));
        mutex_unlock(&turns->lock);
}

bool turns_withdraw(struct turns *turns, struct turn *turn)
{
        bool waited;

        mutex_lock(&turns->lock);
        waited = turn->waiting;
        if (waited) {
                dequeue_locked(turns, turn);
                rpc_peer_unref(TAKE_PTR(turn->peer));
        }
        mutex_unlock(&turns->lock);
        return waited;
}

void turns_end(struct turns *turns, struct turn *turn)
{
        mutex_lock(&turns->lock);
        rpc_peer_discharge(turn->peer, turns->what, 1);
        rpc_peer_unref(TAKE_PTR(turn->peer));
        start_locked(turns);
        mutex_unlock(&turns->lock);
}
