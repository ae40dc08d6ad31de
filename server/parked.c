#include "server/parked.h"

#include <stdbool.h>

#include <utlist.h>

#include "base/lock.h"
#include "base/util.h"

#define HEARTBEAT_NS (NSEC_PER_SEC / 2) /* the smallest time-out of a worker is a second */

struct parked {
        struct mutex lock;
        struct condition changed; /* something was parked, or stopping */
        struct parked_call *calls TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
        pthread_t thread;
        bool started;
};

static void *parked_main(void *arg)
{
        struct parked *p = arg;

        thread_name("heartbeat");
        mutex_lock(&p->lock);
        while (!p->stopping) {
                struct parked_call *call;

                if (!p->calls) {
                        condition_wait(&p->changed, &p->lock);
                        continue;
                }
                if (condition_wait_until(&p->changed, &p->lock, clock_monotonic_ns() + HEARTBEAT_NS) == 0)
                        continue;
                DL_FOREACH (p->calls, call)
                        rpc_call_wake(call->call);
        }
        mutex_unlock(&p->lock);
        return NULL;
}

int parked_new(struct parked **ret)
{
        struct parked *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        mutex_init(&p->lock);
        condition_init(&p->changed);
        r = -pthread_create(&p->thread, NULL, parked_main, p);
        p->started = r == 0;
        if (r < 0) {
                parked_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

void parked_free(struct parked *parked)
{
        if (!parked)
                return;
        mutex_lock(&parked->lock);
        parked->stopping = true;
        condition_signal(&parked->changed);
        mutex_unlock(&parked->lock);
        if (parked->started)
                pthread_join(parked->thread, NULL);
        condition_release(&parked->changed);
        mutex_release(&parked->lock);
        free(parked);
}

void parked_add(struct parked *parked, struct parked_call *call)
{
        mutex_lock(&parked->lock);
        /* Only the first one wakes the thread: the others are in time for the next beat. */
        if (!parked->calls)
                condition_signal(&parked->changed);
        DL_APPEND(parked->calls, call);
        mutex_unlock(&parked->lock);
}

void parked_remove(struct parked *parked, struct parked_call *call)
{
        mutex_lock(&parked->lock);
        DL_DELETE(parked->calls, call);
        mutex_unlock(&parked->lock);
}
