#include "sync/attend.h"

#include <string.h>

#include "base/backoff.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "proto/wire.h"
#include "proto/workspace.pb-c.h"

#define BACKOFF_FIRST_MS  200
#define BACKOFF_MAX_MS    15000
#define CLOSING_SPREAD_MS 2000 /* a master that comes back is not met by all its workers at once */

struct attend {
        struct session *session;
        struct catalog *catalog;
        struct mutex lock;
        struct condition change;
        bool stopping TSA_GUARDED(lock);
        bool changed TSA_GUARDED(lock);              /* what there is was not said yet over this stream */
        bool sending TSA_GUARDED(lock);              /* `tell` uses the stream */
        struct rpc_stream *stream TSA_GUARDED(lock); /* owned by `listen`; NULL: none is open */
        pthread_t listen, tell;
        bool telling; /* that thread runs */
};

/* ---- telling ---- */

static int send_presence(struct attend *a, struct rpc_stream *stream)
{
        const struct source *source = session_get_source(a->session);
        Fsyncfs__V1__Presence message = FSYNCFS__V1__PRESENCE__INIT;
        struct catalog_version version;
        _cleanup_free_ uint8_t *data = NULL;
        size_t len;

        catalog_get_version(a->catalog, &version);
        message.spider_id = source->spider;
        if (path_is_utf8(source->path, strlen(source->path)))
                message.path = source->path;
        else
                message.raw_path = (ProtobufCBinaryData){ strlen(source->path), (uint8_t *)source->path };
        message.node_key = (char *)session_get_node(a->session);
        message.node_name = (char *)session_get_node_name(a->session);
        message.version = (char *)FSYNCFS_VERSION;
        if (version.valid && !version.loading) {
                message.digest = (ProtobufCBinaryData){ hash_len(version.hash), version.digest };
                message.revision = version.revision;
        }
        len = fsyncfs__v1__presence__get_packed_size(&message);
        data = malloc(len);
        if (!data)
                return -ENOMEM;
        fsyncfs__v1__presence__pack(&message, data);
        return rpc_stream_send(stream, data, len);
}

static void *tell_main(void *arg)
{
        struct attend *a = arg;
        struct rpc_stream *stream;

        thread_name("attend-tell");
        mutex_lock(&a->lock);
        while (!a->stopping) {
                if (!a->stream || !a->changed) {
                        condition_wait(&a->change, &a->lock);
                        continue;
                }
                stream = a->stream;
                a->changed = false;
                a->sending = true;
                mutex_unlock(&a->lock);
                send_presence(a, stream); /* one that fails has ended, and `listen` sees it */
                mutex_lock(&a->lock);
                a->sending = false;
                condition_broadcast(&a->change);
        }
        mutex_unlock(&a->lock);
        return NULL;
}

void attend_changed(struct attend *attend)
{
        if (!attend)
                return;
        mutex_lock(&attend->lock);
        attend->changed = true;
        condition_broadcast(&attend->change);
        mutex_unlock(&attend->lock);
}

/* ---- listening ---- */

static void lend_stream(struct attend *a, struct rpc_stream *stream)
{
        mutex_lock(&a->lock);
        a->stream = stream;
        a->changed = true;
        condition_broadcast(&a->change);
        mutex_unlock(&a->lock);
}

/* The call has ended, so that who sends does not do so for long. */
static void take_stream_back(struct attend *a)
{
        mutex_lock(&a->lock);
        a->stream = NULL;
        while (a->sending)
                condition_wait(&a->change, &a->lock);
        mutex_unlock(&a->lock);
}

/* True: the master says that it closes. */
static bool is_closing(const uint8_t *data, size_t len)
{
        Fsyncfs__V1__Notice *notice = fsyncfs__v1__notice__unpack(NULL, len, data);
        bool closing = notice && notice->closing;

        if (notice)
                fsyncfs__v1__notice__free_unpacked(notice, NULL);
        return closing;
}

/* One stream, from its opening to its end: the status's errno. RET_CLOSING: the master had said that it would end. */
static int attend_once(struct attend *a, bool *ret_closing)
{
        struct failure failure = { 0 };
        struct rpc_stream *stream;
        const uint8_t *data;
        size_t len;
        int r = session_stream(a->session, WIRE_METHOD_ATTEND, &stream, &failure);

        if (r < 0)
                return r;
        lend_stream(a, stream);
        while (rpc_stream_receive(stream, &data, &len) == RPC_MESSAGE) {
                if (*ret_closing || !is_closing(data, len))
                        continue;
                *ret_closing = true;
                log_info("%s: master %s is closing, by intention: it is asked again in a moment",
                         session_get_source(a->session)->text, session_get_address(a->session, stream));
        }
        take_stream_back(a);
        return session_finish(a->session, stream, &failure);
}

/* False: stopping. */
static bool pause_until(struct attend *a, int64_t until_ns)
{
        bool stopping;

        mutex_lock(&a->lock);
        while (!a->stopping && clock_monotonic_ns() < until_ns)
                condition_wait_until(&a->change, &a->lock, until_ns);
        stopping = a->stopping;
        mutex_unlock(&a->lock);
        return !stopping;
}

static void *listen_main(void *arg)
{
        struct attend *a = arg;
        unsigned backoff_ms = BACKOFF_FIRST_MS;
        int64_t until_ns;

        thread_name("attend");
        do {
                int64_t began_ns = clock_monotonic_ns();
                bool closing = false;
                int r = attend_once(a, &closing);

                /* A stock master, or an fsyncfs-server of before: nobody there wants to know. */
                if (r == -EOPNOTSUPP || session_get_dialect(a->session) == SESSION_STOCK)
                        return NULL;
                if (closing || clock_monotonic_ns() - began_ns >= BACKOFF_MAX_MS * NSEC_PER_MSEC)
                        backoff_ms = BACKOFF_FIRST_MS;
                until_ns = closing ? clock_monotonic_ns() + random_below(CLOSING_SPREAD_MS) * NSEC_PER_MSEC
                                   : backoff_next_ns(&backoff_ms, BACKOFF_MAX_MS);
        } while (pause_until(a, until_ns));
        return NULL;
}

/* ---- beginning and end ---- */

static void stop_telling(struct attend *a)
{
        mutex_lock(&a->lock);
        a->stopping = true;
        condition_broadcast(&a->change);
        mutex_unlock(&a->lock);
        if (a->telling)
                pthread_join(a->tell, NULL);
        condition_release(&a->change);
        mutex_release(&a->lock);
        free(a);
}

int attend_new(struct session *session, struct catalog *catalog, struct attend **ret)
{
        struct attend *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return -ENOMEM;
        a->session = session;
        a->catalog = catalog;
        mutex_init(&a->lock);
        condition_init(&a->change);
        r = -pthread_create(&a->tell, NULL, tell_main, a);
        a->telling = r == 0;
        if (r == 0)
                r = -pthread_create(&a->listen, NULL, listen_main, a);
        if (r < 0) {
                stop_telling(a);
                return r;
        }
        *ret = a;
        return 0;
}

void attend_free(struct attend *attend)
{
        if (!attend)
                return;
        mutex_lock(&attend->lock);
        attend->stopping = true;
        condition_broadcast(&attend->change);
        mutex_unlock(&attend->lock);
        pthread_join(attend->listen, NULL);
        stop_telling(attend);
}
