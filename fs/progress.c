#include "fs/progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/util.h"

#define OLD_LOOKS 2u /* a work seen so often is old */

/* Of one thread, which alone writes what is atomic. */
struct worker {
        _Atomic pid_t thread;  /* 0: free */
        _Atomic uint64_t turn; /* odd: at work */
        _Atomic uint32_t opcode;
        unsigned depth; /* owned by the thread */

        uint64_t seen; /* owned by who looks: TURN at its last look */
        uint32_t looks;
};

static struct worker workers[PROGRESS_THREADS];
static _Thread_local struct worker *own;
static _Thread_local bool refused;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t leaving;

static void leave(void *arg)
{
        struct worker *w = arg;

        atomic_store(&w->turn, (atomic_load(&w->turn) | 1) + 1);
        atomic_store(&w->thread, 0);
}

static void make_key(void)
{
        pthread_key_create(&leaving, leave);
}

static void join(void)
{
        pthread_once(&once, make_key);
        for (size_t i = 0; i < PROGRESS_THREADS && !own; i++) {
                pid_t nobody = 0;
                if (atomic_compare_exchange_strong(&workers[i].thread, &nobody, gettid()))
                        own = &workers[i];
        }
        refused = !own;
        if (refused)
                return;
        own->depth = 0;
        pthread_setspecific(leaving, own);
}

void progress_begin(uint32_t opcode)
{
        if (!own && !refused)
                join();
        if (!own || own->depth++ > 0)
                return;
        atomic_store_explicit(&own->opcode, opcode, memory_order_relaxed);
        atomic_fetch_add_explicit(&own->turn, 1, memory_order_relaxed);
}

void progress_end(void)
{
        if (own && own->depth > 0 && --own->depth == 0)
                atomic_fetch_add_explicit(&own->turn, 1, memory_order_relaxed);
}

static void look_at(struct worker *w, pid_t thread, struct progress_report *report)
{
        const uint64_t turn = atomic_load(&w->turn);
        const uint32_t opcode = atomic_load(&w->opcode);

        w->looks = turn == w->seen && turn % 2 == 1 ? w->looks + 1 : 0;
        w->seen = turn;
        if (w->looks < OLD_LOOKS) {
                if (opcode != PROGRESS_REPLY)
                        report->fresh[report->n_fresh++] = thread;
        } else if (w->looks > report->looks) {
                report->thread = thread;
                report->opcode = opcode;
                report->looks = w->looks;
        }
}

void progress_look(struct progress_report *ret)
{
        *ret = (struct progress_report){ .n_fresh = 1, .fresh = { gettid() } };
        for (size_t i = 0; i < PROGRESS_THREADS; i++) {
                pid_t thread = atomic_load(&workers[i].thread);
                if (thread)
                        look_at(&workers[i], thread, ret);
        }
}
