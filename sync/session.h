/*
 * The worker's connection to its master: which one of SOURCE's masters, what it speaks, and whether it is
 * there. Connects when first needed; gRPC reconnects by itself afterwards. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "base/failure.h"
#include "proto/rpc.h"
#include "sync/source.h"

struct session;

enum session_dialect {
        SESSION_UNKNOWN = 0, /* never connected */
        SESSION_OWN,         /* an fsyncfs-server: our own fields */
        SESSION_STOCK,       /* a master without fsyncfs.v1.Workspace */
};

struct session_options {
        const struct source *source; /* borrowed for the session's life */
        const char *token_file;      /* NULL: no token; read once, by session_new */
        int timeout_ms;              /* for a connection, and for each message of a call */
};

/** No connection is made yet. -errno with a line in FAILURE if the token file is unusable. */
int session_new(const struct session_options *options, struct session **ret, struct failure *failure);

/** Ends all streams under way; session_stream fails with -ECANCELED from now on. For shutting down;
 * thread-safe. */
void session_interrupt(struct session *session);

/** NULL is fine. All streams must have been finished. */
void session_free(struct session *session);

/**
 * Connects to the first master that answers, unless that was done already, and asks what it speaks. Blocks up
 * to the time-out for each master. Negative errno with a line in FAILURE that names the master and the
 * reason.
 */
int session_connect(struct session *session, struct failure *failure);

/**
 * After a call failed with -EHOSTUNREACH: waits for the connection to come back, as session_connect does for the first one. 0: the call
 * is worth another try.
 */
int session_reconnect(struct session *session, struct failure *failure);

/** Connects if need be and opens a stream of METHOD; errors as session_connect. */
int session_stream(struct session *session, const char *method, struct rpc_stream **ret,
                   struct failure *failure);

/**
 * The end of a stream: waits for its status, notes whether the master is there, frees the stream. 0 or the
 * status's errno with a line in FAILURE.
 */
int session_finish(struct session *session, struct rpc_stream *stream, struct failure *failure);

enum session_dialect session_get_dialect(const struct session *session);

/** Whether the master takes reports of what was read, and knows lists learned from them (Workspace.Report, Workspace.Learned). */
bool session_learns(const struct session *session);

/** A message has come over a stream that stays open: the master is there, whatever became of earlier exchanges. Cheap. */
void session_note_heard(struct session *session);

/** Whether the last exchange with the master succeeded. */
bool session_is_online(const struct session *session);

const struct source *session_get_source(const struct session *session);

/** This machine's name as masters know it: "node_key"; borrowed. */
const char *session_get_node(const struct session *session);
