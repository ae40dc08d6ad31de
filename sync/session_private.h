/*
 * What the units of the session share. session.c: its life, exchanges, what is known. session_stream.c: the streams under way. session_connect.c: how a
 * master comes to be used.
 */
#pragma once

#include "base/lock.h"
#include "sync/session.h"

/* A stream under way, so that session_interrupt can reach it. */
struct live_stream {
        struct rpc_stream *stream; /* borrowed: belongs to who opened it */
        size_t master;             /* MASTERS_NONE: it only asks whether one is there */
        bool waits;                /* for what may come: it can be opened to another master at any time */
        struct live_stream *prev, *next;
};

/* The two connections to a master: on a slow link a listing of a million entries must not be what a task's read waits for. */
enum lane {
        LANE_TREE,  /* listings, pushes */
        LANE_TASKS, /* what tasks wait for: contents, folders out of turn */
        LANE_COUNT,
};

struct master {
        struct rpc_channel *channels[LANE_COUNT]; /* owned; NULL until the master is tried */
};

struct session {
        const struct source *source; /* borrowed */
        enum hash_algorithm hash;    /* as in struct session_options */
        int timeout_ms;
        bool tasks_early; /* this and the next two: as in struct session_options */
        void (*connected)(void *arg);
        void *connected_arg;
        char *token;         /* owned; NULL: none */
        struct rpc_tls *tls; /* owned; NULL: none */
        char node[256];
        char node_name[256];
        struct mutex connecting; /* held while connecting: others wait for the outcome rather than connect as
                                    well */
        /* What one holds once it has been in use stays. Which one that is: written under connecting. */
        struct master masters[SOURCE_MASTERS_MAX] TSA_GUARDED(connecting);
        struct masters *health;               /* owned */
        _Atomic enum session_dialect dialect; /* written under connecting, once */
        _Atomic bool learns, fetches; /* as session_learns, session_fetches; written under connecting */
        _Atomic int64_t ahead_ms;     /* as struct handshake; written under connecting */
        _Atomic bool online;          /* the outcome of the last exchange; any thread */
        struct mutex lock;            /* innermost */
        struct live_stream *streams TSA_GUARDED(lock); /* owned */
        bool interrupted TSA_GUARDED(lock);
        /* Why each could not be connected to, the last time. */
        struct failure why[SOURCE_MASTERS_MAX] TSA_GUARDED(lock);
};

/* session_stream.c */

/** Notes STREAM to MASTER (MASTERS_NONE: it only asks whether one is there), see struct live_stream. -ECANCELED: too late, it is not kept. */
int session_keep_stream(struct session *s, struct rpc_stream *stream, size_t master, bool waits);

void session_forget_stream(struct session *s, const struct rpc_stream *stream);

/** The master that STREAM, which is kept, goes to. */
size_t session_stream_master(struct session *s, const struct rpc_stream *stream);

/** MASTER is away: what is open to it ends, and is worth another try. */
void session_lose_streams(struct session *s, size_t master);

/** Another one is used instead of MASTER, which is well: what only waits there ends, what is under way comes to its own end. */
void session_end_waiting_streams(struct session *s, size_t master);

/** struct masters_options.heard_ns */
int64_t session_heard_ns(size_t i, void *session);

/* session_connect.c */

/** STATUS, of an exchange with MASTER, as an errno with a line for people. */
int session_explain(struct session *s, const char *master, const struct rpc_status *status,
                    struct failure *failure);

/**
 * Whether an exchange that has ended with CODE may say more about the connection than about what was asked for. Both ends keep state of it (HTTP/2's table of
 * header fields, its windows), and bytes that were spoiled on the way can leave the two apart for as long as it lasts: methods are not found, tokens not
 * accepted, messages malformed, calls never answered, while pings are.
 */
bool session_suspects(enum rpc_code code);

/** STREAM, to MASTER, has ended with CODE and is not freed yet: a connection that does not do what it should is replaced. */
void session_judge_connection(struct session *s, size_t master, const struct rpc_stream *stream,
                              enum rpc_code code);

/** Starts to ask the masters how they are. -ENOMEM, -EAGAIN. */
int session_start_asking(struct session *s);
