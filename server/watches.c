#include "server/watches.h"

#include <utlist.h>

#include "base/lock.h"
#include "base/util.h"

struct watches {
        struct mutex lock;
        struct watches_call *calls TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
};

int watches_new(struct watches **ret)
{
        struct watches *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        mutex_init(&w->lock);
        *ret = w;
        return 0;
}

void watches_free(struct watches *watches)
{
        if (!watches)
                return;
        mutex_release(&watches->lock);
        free(watches);
}

static void wake_locked(struct watches *watches) TSA_REQUIRES(watches->lock)
{
        struct watches_call *call;

        DL_FOREACH (watches->calls, call)
                rpc_call_wake(call->call);
}

void watches_stop(struct watches *watches)
{
        mutex_lock(&watches->lock);
        watches->stopping = true;
        wake_locked(watches);
        mutex_unlock(&watches->lock);
}

void watches_wake(struct watches *watches)
{
        mutex_lock(&watches->lock);
        wake_locked(watches);
        mutex_unlock(&watches->lock);
}

bool watches_stopping(struct watches *watches)
{
        bool stopping;

        mutex_lock(&watches->lock);
        stopping = watches->stopping;
        mutex_unlock(&watches->lock);
        return stopping;
}

void watches_add(struct watches *watches, struct watches_call *call)
{
        mutex_lock(&watches->lock);
        DL_APPEND(watches->calls, call);
        mutex_unlock(&watches->lock);
}

void watches_remove(struct watches *watches, struct watches_call *call)
{
        mutex_lock(&watches->lock);
        DL_DELETE(watches->calls, call);
        mutex_unlock(&watches->lock);
}
