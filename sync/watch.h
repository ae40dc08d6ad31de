/*
 * The open stream over which our own master tells what changes. One thread; when the stream breaks it is opened again with growing, jittered
 * pauses, and the master then begins with what was missed.
 */
#pragma once

#include "base/buffer.h"
#include "cache/catalog.h"
#include "sync/session.h"

struct watch;

#define WATCH_BYTES_MAX                                                                                      \
        ((size_t)1 << 20) /* of one version's messages; a master that pushes more is not listened to */

/** One version as it was pushed: the messages one after the other, each with its length (size_t) before it. */
struct watch_push {
        const struct buffer *messages;
        size_t n;
        const char *master; /* who pushes: session_get_address */
};

struct watch_options {
        struct session *session; /* both borrowed */
        struct catalog *catalog; /* asked for the version there is whenever the stream is opened */
        /* A version came. From the watch's thread. Negative errno: the stream is given up and opened anew. */
        int (*deliver)(const struct watch_push *push, void *arg);
        void *arg;
};

/** Starts the thread. -ENOMEM, -EAGAIN. */
int watch_new(const struct watch_options *options, struct watch **ret);

/** True while the stream is open and the master has answered on it. */
bool watch_is_open(const struct watch *watch);

/** Ends the thread (session_interrupt first, or it waits for the master). Once. NULL is fine. */
void watch_stop(struct watch *watch);

/** After watch_stop. NULL is fine. */
void watch_free(struct watch *watch);
