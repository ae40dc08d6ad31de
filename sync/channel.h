/*
 * The stream over which contents come from a master of ours: one Fetch call and the thread that receives. What is sent and
 * received is its user's to make and to read.
 *
 * One thread opens, sends and closes; the callbacks come from the receiving thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/session.h"

struct channel;

/** A message that has come, borrowed for the callback. */
struct channel_message {
        const uint8_t *data;
        size_t len;
        struct rpc_stream *stream;
};

/** The message itself, which is the caller's from now on (rpc_message_free): its bytes stay where they are. NULL: out of memory. Once a message. */
struct rpc_message *channel_keep(struct channel_message *message);

struct channel_callbacks {
        /* Negative errno: the message makes no sense, and the stream ends with that. */
        int (*message)(struct channel_message *message, void *arg);
        /* The stream has ended: nothing comes any more. Once, the last; channel_close says why. */
        void (*ended)(void *arg);
        void *arg;
};

/** Connects if need be and opens the stream: errors as session_stream. CALLBACKS is copied. */
int channel_open(struct session *session, const struct channel_callbacks *callbacks, struct channel **ret,
                 struct failure *failure);

/** Sends a FetchRequest; waits until the transport has taken it. -EPIPE: the stream has ended. */
int channel_send(struct channel *channel, const void *message, size_t len);

/** Whether another master is in use by now than the stream goes to. */
bool channel_is_outdated(struct channel *channel);

/** Ends the stream because the master has been silent for too long. Thread-safe. */
void channel_expire(struct channel *channel);

/**
 * Waits for the receiving thread and frees. What ended the stream: 0 (the master closed it properly, or nothing did), -EPROTO or what else
 * `message` said, or the status's errno; with a line in FAILURE. NULL is fine.
 */
int channel_close(struct channel *channel, struct failure *failure);
