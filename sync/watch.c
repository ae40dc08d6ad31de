#include "sync/watch.h"

#include <stdatomic.h>
#include <string.h>

#include "base/backoff.h"
#include "base/lock.h"
#include "base/log.h"
#include "proto/wire.h"
#include "sync/scan.h"

#define BACKOFF_FIRST_MS   200
#define BACKOFF_MAX_MS     15000 /* a stream that lives so long was a good one */
#define MESSAGE_MEMORY_MAX ((size_t)64 << 20)

struct watch {
        struct watch_options options;
        struct mutex lock;
        struct condition wake; /* stopping */
        bool stopping TSA_GUARDED(lock);
        atomic_bool open;
        struct buffer messages; /* owned by the thread, as is what follows */
        size_t n_messages;
        const char *master; /* of the stream; borrowed from the session */
        pthread_t thread;
};

enum verdict {
        WATCH_HEARTBEAT,
        WATCH_MORE, /* of the same version follow */
        WATCH_LAST,
};

/* What a message is; its contents are looked at when it is delivered. */
static int judge(struct wire_arena *arena, const uint8_t *data, size_t len)
{
        const Grpc__FileScanChunk *chunk = (const Grpc__FileScanChunk *)wire_unpack(
                &grpc__file_scan_chunk__descriptor, &arena->allocator, data, len);
        int r = WATCH_MORE;

        if (!chunk || chunk->error[0])
                r = -EPROTO;
        else if (chunk->is_complete || chunk->notice)
                r = WATCH_LAST;
        else if (chunk->n_files == 0 && chunk->pack.len == 0)
                r = WATCH_HEARTBEAT;
        wire_arena_clear(arena);
        return r;
}

static int keep(struct watch *w, const uint8_t *data, size_t len)
{
        int r;

        if (w->messages.len + len > WATCH_BYTES_MAX)
                return -EPROTO;
        r = buffer_append(&w->messages, &len, sizeof(len));
        if (r == 0)
                r = buffer_append(&w->messages, data, len);
        w->n_messages++;
        return r;
}

static int take_message(struct watch *w, struct wire_arena *arena, const uint8_t *data, size_t len)
{
        struct watch_push push = { .messages = &w->messages, .master = w->master };
        int verdict = judge(arena, data, len), r;

        atomic_store(&w->open, true);
        session_note_heard(w->options.session);
        if (verdict < 0 || verdict == WATCH_HEARTBEAT)
                return MIN(verdict, 0);
        r = keep(w, data, len);
        if (r < 0 || verdict == WATCH_MORE)
                return r;
        push.n = w->n_messages;
        r = w->options.deliver(&push, w->options.arg);
        buffer_truncate(&w->messages, 0);
        w->n_messages = 0;
        return r;
}

static int listen_to(struct watch *w, struct rpc_stream *stream)
{
        struct wire_arena arena;
        const uint8_t *data;
        size_t len;
        int r;

        wire_arena_init(&arena, MESSAGE_MEMORY_MAX);
        while ((r = rpc_stream_receive(stream, &data, &len)) == RPC_MESSAGE) {
                r = take_message(w, &arena, data, len);
                if (r < 0)
                        break;
        }
        wire_arena_release(&arena);
        return r;
}

/* One stream, from its opening to its end. */
static void watch_once(struct watch *w, struct failure *failure)
{
        struct session *session = w->options.session;
        struct failure ended = { 0 };
        struct catalog_version known;
        struct scan_request request = { .known = &known };
        struct rpc_stream *stream;
        int r = session_stream(session, WIRE_METHOD_WATCH, &stream, failure);

        if (r < 0)
                return;
        w->master = session_get_address(session, stream);
        catalog_get_version(w->options.catalog, &known);
        r = scan_send_request(session, stream, &request);
        if (r == 0)
                r = listen_to(w, stream);
        if (session_finish(session, stream, &ended) < 0)
                *failure = ended;
        else if (r < 0)
                failure_set(failure, r, "what the master pushes is refused: %s", strerror(-r));
        buffer_truncate(&w->messages, 0);
        w->n_messages = 0;
}

/* False: stopping. */
static bool pause_until(struct watch *w, int64_t until)
{
        bool stopping;

        mutex_lock(&w->lock);
        while (!w->stopping && condition_wait_until(&w->wake, &w->lock, until) == 0)
                continue;
        stopping = w->stopping;
        mutex_unlock(&w->lock);
        return !stopping;
}

static void *watch_main(void *arg)
{
        struct watch *w = arg;
        const char *name = session_get_source(w->options.session)->text;
        unsigned backoff_ms = BACKOFF_FIRST_MS;

        thread_name("watch");
        for (;;) {
                struct failure failure = { 0 };
                int64_t began_ns = clock_monotonic_ns();

                watch_once(w, &failure);
                /* One that ends after a word, over and over, is no better than one that does not open. */
                if (atomic_exchange(&w->open, false) &&
                    clock_monotonic_ns() - began_ns >= BACKOFF_MAX_MS * NSEC_PER_MSEC)
                        backoff_ms = BACKOFF_FIRST_MS;
                log_limited(LOG_LEVEL_INFO, "watch", "%s: the master's pushes have ended: %s; asking again",
                            name, failure.text[0] ? failure.text : "it closed the stream");
                if (!pause_until(w, backoff_next_ns(&backoff_ms, BACKOFF_MAX_MS)))
                        return NULL;
        }
}

int watch_new(const struct watch_options *options, struct watch **ret)
{
        struct watch *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->options = *options;
        mutex_init(&w->lock);
        condition_init(&w->wake);
        r = -pthread_create(&w->thread, NULL, watch_main, w);
        if (r < 0) {
                condition_release(&w->wake);
                mutex_release(&w->lock);
                free(w);
                return r;
        }
        *ret = w;
        return 0;
}

bool watch_is_open(const struct watch *watch)
{
        return atomic_load(&watch->open);
}

void watch_stop(struct watch *watch)
{
        if (!watch)
                return;
        mutex_lock(&watch->lock);
        watch->stopping = true;
        condition_broadcast(&watch->wake);
        mutex_unlock(&watch->lock);
        pthread_join(watch->thread, NULL);
        atomic_store(&watch->open, false);
}

void watch_free(struct watch *watch)
{
        if (!watch)
                return;
        buffer_release(&watch->messages);
        condition_release(&watch->wake);
        mutex_release(&watch->lock);
        free(watch);
}
