/*
 * The worker's connection to its masters: which one of SOURCE's is in use (sync/masters.h), what it speaks, and whether it is
 * there. Connects when first needed; gRPC reconnects by itself afterwards. A stream stays with the master it was opened to: it ends as
 * lost if that is away, and comes to its own end if only another one is used from now on. Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "base/failure.h"
#include "base/hash.h"
#include "proto/rpc.h"
#include "sync/masters.h"
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
        const char *node_name; /* what masters show as this worker's; NULL: the machine's name; copied */
        bool tls;              /* to all masters but those on unix sockets */
        struct rpc_tls_files
                tls_files; /* with `tls`; read once, by session_new. No ca: the CAs that this machine trusts */
        enum hash_algorithm hash; /* by which the mount insists that contents are named; HASH_NONE: by any */
        int timeout_ms;           /* for a connection, and for each message of a call */
        bool tasks_early; /* what tasks wait for will be asked for soon: its connection is made beside the first */
        /* Optional. Once, when the first master has answered; on the thread that connected, under no lock. Must not block. */
        void (*connected)(void *arg);
        void *connected_arg;
};

/** No connection is made yet. -errno with a line in FAILURE if a file is unusable. */
int session_new(const struct session_options *options, struct session **ret, struct failure *failure);

/** Ends all streams under way; session_stream fails with -ECANCELED from now on. For shutting down;
 * thread-safe. */
void session_interrupt(struct session *session);

/** NULL is fine. All streams must have been finished. */
void session_free(struct session *session);

/**
 * Connects to the first master that answers, and asks what it speaks, unless that was done already and it is not in doubt. Blocks, the first
 * time up to the time-out, later some seconds for each master. Negative errno with a line in FAILURE that names the master and the
 * reason; once there was a connection only -EHOSTUNREACH, -EACCES or -ECANCELED.
 */
int session_connect(struct session *session, struct failure *failure);

/**
 * After a call failed with -EHOSTUNREACH: waits for the connection to come back, as session_connect does for the first one. 0: the call
 * is worth another try. A TLS that fails is -EHOSTUNREACH.
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

/** What only waits for a word of the master in use ends as cancelled, and can be opened again. */
void session_listen_anew(struct session *session);

/** What all masters speak: those of the other kind than the first that answered are not used. */
enum session_dialect session_get_dialect(const struct session *session);

struct session_master {
        const char *address; /* borrowed from the session */
        struct master_health health;
        struct failure why; /* beside health.error, as rpc_channel_wait_ready has it: mostly empty */
};

/** SOURCE's masters and how each is: how many. */
size_t session_get_masters(struct session *session, struct session_master ret[SOURCE_MASTERS_MAX]);

/** The master that STREAM, not finished yet, goes to: one pointer for each master; borrowed from the session. */
const char *session_get_address(struct session *session, const struct rpc_stream *stream);

/** Whether another master is in use than STREAM, not finished yet, goes to. */
bool session_is_outdated(struct session *session, const struct rpc_stream *stream);

/** Whether ADDRESS, of session_get_address, is not the first of SOURCE's masters. */
bool session_is_stand_in(const struct session *session, const char *address);

/** Whether the master takes reports of what was read, and knows lists learned from them (Workspace.Report, Workspace.Learned). */
bool session_learns(const struct session *session);

/** Whether the master gives contents over one stream (Workspace.Fetch). */
bool session_fetches(const struct session *session);

/** True: *RET_AHEAD_MS is by how much the clock of the master in use was ahead of this machine's when it was connected to, to half a round trip. False: it does not say. */
bool session_get_clock(const struct session *session, int64_t *ret_ahead_ms);

/** A message has come over a stream that stays open: the master is there, whatever became of earlier exchanges. Cheap. */
void session_note_heard(struct session *session);

/** Whether the last exchange with the master succeeded. */
bool session_is_online(const struct session *session);

const struct source *session_get_source(const struct session *session);

/** This machine's name as masters know it: "node_key"; borrowed. */
const char *session_get_node(const struct session *session);

/** By what contents must be named; HASH_NONE: by whatever the master names them. */
enum hash_algorithm session_get_hash(const struct session *session);

/** What people call this worker; borrowed. */
const char *session_get_node_name(const struct session *session);
