/*
 * A call's question for a view of a workspace, and what came of it. Embedded in the call's state.
 */
#pragma once

#include <stdatomic.h>

#include "proto/rpc.h"
#include "server/versions.h"

#define ASKING_ANY_AGE ((int64_t)24 * 3600 * 1000) /* ms, for VERSIONS_RECENT: the present version will do */

struct asking {
        struct versions_request request;
        struct versions *versions; /* borrowed, as is `spider` */
        const char *spider;
        struct rpc_call *call; /* borrowed; woken by the answer */
        /* The question needs the state no more: once for each asking_start that succeeded, from any thread. */
        void (*let_go)(struct asking *asking);
        atomic_bool answered; /* and only then may the event thread look at the next one */
        int error;
        struct tree_view *view; /* the call's */
        bool pending;           /* owned by the event thread, as all but what is above */
};

/** Asks. SPIDER must live as long as the question is pending, and the state until `let_go`, which also comes if the call is over first. -ENOMEM: `let_go` does not follow. */
int asking_start(struct asking *asking, struct versions *versions, const char *spider,
                 enum versions_freshness freshness, int64_t max_age_ms);

/** True, once, if the answer has come: `error` and `view`, which is taken now, are it. */
bool asking_take(struct asking *asking);

/** Gives a view back that is still there. When the state goes, or the view is not needed any more. */
void asking_put_view(struct asking *asking);
