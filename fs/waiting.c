#include "fs/waiting.h"

#include <string.h>

#include "fs/progress.h"
#include "fs/trace.h"

struct waiting {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct filesystem *fs;
        struct waiting_request request;
        struct trace_wait trace;
        void (*again)(struct filesystem *fs, const struct waiting_request *request);
        char name[PATH_NAME_MAX + 1];
};

static void waiting_done(struct fetch_waiter *waiter, int error)
{
        struct waiting *w = (struct waiting *)waiter;

        progress_begin(PROGRESS_REPLY);
        /* Waits for an interrupt handler under way: afterwards nobody but us knows W. */
        fuse_req_interrupt_func(w->request.req, NULL, NULL);
        w->trace.error = error;
        trace_end(w->fs->trace, &w->trace);
        if (error < 0)
                fuse_reply_err(w->request.req, -error);
        else
                w->again(w->fs, &w->request);
        free(w);
        progress_end();
}

/* From libfuse, holding the request's lock: must not reply. */
static void waiting_interrupted(fuse_req_t req, void *arg)
{
        struct waiting *w = arg;

        fetch_interrupt(w->fs->fetch, &w->waiter);
}

void waiting_park(struct filesystem *fs, const struct waiting_request *request,
                  void (*again)(struct filesystem *fs, const struct waiting_request *request))
{
        struct waiting *w = calloc(1, sizeof(*w));
        struct catalog_entry folder;
        int r = w ? catalog_get(fs->catalog, request->folder, &folder) : -ENOMEM;

        if (r != CATALOG_OK) {
                free(w);
                fuse_reply_err(request->req, r == CATALOG_NONE ? ESTALE : filesystem_reply_error(r));
                return;
        }
        w->waiter.done = waiting_done;
        w->fs = fs;
        w->request = *request;
        w->again = again;
        if (request->name) {
                snprintf(w->name, sizeof(w->name), "%s", request->name);
                w->request.name = w->name;
        }
        w->trace = (struct trace_wait){ .ino = request->folder, .why = TRACE_FOLDER };
        trace_begin(fs->trace, fuse_req_ctx(request->req)->pid, &w->trace);
        fuse_req_interrupt_func(request->req, waiting_interrupted, w);
        r = fetch_want(fs->fetch, &folder, false, &w->waiter);
        if (r < 0)
                waiting_done(&w->waiter, r);
}
