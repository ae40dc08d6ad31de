#include "sync/channel.h"

#include <stdatomic.h>

#include "base/lock.h"
#include "base/log.h"
#include "proto/wire.h"

struct channel {
        struct session *session; /* borrowed */
        struct channel_callbacks callbacks;
        struct rpc_stream *stream; /* owned */
        int error;                 /* of `message`; owned by the thread until it has ended */
        atomic_bool over;          /* the stream has ended by itself */
        pthread_t thread;
};

struct rpc_message *channel_keep(struct channel_message *message)
{
        return rpc_stream_keep(message->stream);
}

static void *receive_main(void *arg)
{
        struct channel *c = arg;
        struct channel_message message = { .stream = c->stream };

        thread_name("fetch-receive");
        while (c->error == 0 && rpc_stream_receive(c->stream, &message.data, &message.len) == RPC_MESSAGE)
                c->error = c->callbacks.message(&message, c->callbacks.arg);
        atomic_store(&c->over, true);
        c->callbacks.ended(c->callbacks.arg);
        return NULL;
}

int channel_open(struct session *session, const struct channel_callbacks *callbacks, struct channel **ret,
                 struct failure *failure)
{
        struct channel *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->session = session;
        c->callbacks = *callbacks;
        r = session_stream(session, WIRE_METHOD_FETCH, &c->stream, failure);
        if (r < 0) {
                free(c);
                return r;
        }
        r = -pthread_create(&c->thread, NULL, receive_main, c);
        if (r < 0) {
                rpc_stream_cancel(c->stream);
                session_finish(session, c->stream, NULL);
                free(c);
                return r;
        }
        *ret = c;
        return 0;
}

int channel_send(struct channel *channel, const void *message, size_t len)
{
        return rpc_stream_send(channel->stream, message, len);
}

bool channel_is_outdated(struct channel *channel)
{
        return session_is_outdated(channel->session, channel->stream);
}

void channel_expire(struct channel *channel)
{
        rpc_stream_expire(channel->stream);
}

int channel_close(struct channel *channel, struct failure *failure)
{
        int r, error;

        if (!channel)
                return 0;
        if (!atomic_load(&channel->over))
                rpc_stream_cancel(channel->stream);
        pthread_join(channel->thread, NULL);
        error = channel->error;
        r = session_finish(channel->session, channel->stream, failure);
        free(channel);
        if (error < 0)
                return failure_set(failure, error, "the master's answer is malformed");
        return r;
}
