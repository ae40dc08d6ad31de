#include "server/asking.h"

static void done(struct versions_request *request, int error)
{
        struct asking *asking = (struct asking *)((char *)request - offsetof(struct asking, request));

        asking->error = error;
        atomic_store(&asking->answered, true);
        rpc_call_wake(asking->call);
        asking->let_go(asking);
}

int asking_start(struct asking *asking, struct versions *versions, const char *spider,
                 enum versions_freshness freshness, int64_t max_age_ms)
{
        int r;

        asking_put_view(asking);
        asking->request.done = done;
        asking->versions = versions;
        asking->spider = spider;
        asking->pending = true;
        r = versions_get(versions, spider, freshness, max_age_ms, &asking->request);
        if (r < 0)
                asking->pending = false;
        return r;
}

bool asking_take(struct asking *asking)
{
        if (!asking->pending || !atomic_exchange(&asking->answered, false))
                return false;
        asking->pending = false;
        if (asking->error >= 0)
                asking->error = versions_view(asking->versions, asking->spider, &asking->view);
        if (asking->error == TREE_NONE) /* it was found to be damaged meanwhile */
                asking->error = -EUCLEAN;
        return true;
}

void asking_put_view(struct asking *asking)
{
        tree_view_put(TAKE_PTR(asking->view));
}
