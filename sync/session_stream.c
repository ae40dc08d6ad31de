#include <utlist.h>

#include "sync/session_private.h"

int session_keep_stream(struct session *s, struct rpc_stream *stream, size_t master, bool waits)
{
        struct live_stream *live = calloc(1, sizeof(*live));
        int r = live ? 0 : -ENOMEM;

        mutex_lock(&s->lock);
        if (r == 0 && s->interrupted)
                r = -ECANCELED;
        if (r == 0) {
                *live = (struct live_stream){ .stream = stream, .master = master, .waits = waits };
                DL_APPEND(s->streams, live);
                live = NULL;
        }
        mutex_unlock(&s->lock);
        free(live);
        return r;
}

size_t session_stream_master(struct session *s, const struct rpc_stream *stream)
{
        struct live_stream *live;
        size_t master;

        mutex_lock(&s->lock);
        DL_SEARCH_SCALAR(s->streams, live, stream, stream);
        master = live->master;
        mutex_unlock(&s->lock);
        return master;
}

void session_forget_stream(struct session *s, const struct rpc_stream *stream)
{
        struct live_stream *live;

        mutex_lock(&s->lock);
        DL_SEARCH_SCALAR(s->streams, live, stream, stream);
        DL_DELETE(s->streams, live);
        mutex_unlock(&s->lock);
        free(live);
}

void session_lose_streams(struct session *s, size_t master)
{
        struct live_stream *live;

        mutex_lock(&s->lock);
        DL_FOREACH (s->streams, live)
                if (live->master == master)
                        rpc_stream_lose(live->stream);
        mutex_unlock(&s->lock);
}

void session_end_waiting_streams(struct session *s, size_t master)
{
        struct live_stream *live;

        mutex_lock(&s->lock);
        DL_FOREACH (s->streams, live)
                if (live->master == master && live->waits)
                        rpc_stream_cancel(live->stream);
        mutex_unlock(&s->lock);
}

int64_t session_heard_ns(size_t i, void *arg)
{
        struct session *s = arg;
        struct live_stream *live;
        int64_t last = 0;

        mutex_lock(&s->lock);
        DL_FOREACH (s->streams, live) {
                int64_t heard = live->master == i ? rpc_stream_heard_ns(live->stream) : 0;
                last = MAX(last, heard);
        }
        mutex_unlock(&s->lock);
        return last;
}
