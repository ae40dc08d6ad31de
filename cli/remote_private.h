/*
 * What the units of a remote share: remote.c brings it up and down and lists, remote_read.c reads contents.
 */
#pragma once

#include <stdatomic.h>

#include "base/lock.h"
#include "cache/store.h"
#include "cli/remote.h"
#include "sync/syncer.h"

struct remote {
        struct mount_options options;
        struct source source;
        char *scratch; /* owned: the temporary folder; NULL: not made */
        struct store *store;
        struct catalog *catalog;
        struct session *session;
        struct syncer *syncer;
        struct fetch *fetch;
        struct mutex lock;
        struct condition came; /* a wait is over */
        pthread_t watcher;     /* of signals */
        bool watching;
        bool rpc;               /* rpc_init was called */
        int signal_fd, stop_fd; /* owned; -1: none */
        atomic_int signal;      /* that has come; 0: none */
};

/** Begins to wait for ENTRY's content, or a pending folder's children. 0, or an error, and then WAIT is over with it. */
int remote_begin(struct remote *remote, const struct catalog_entry *entry, enum fetch_class class, bool local,
                 struct remote_wait *wait);

/** The same for piece INDEX of LARGE. */
int remote_begin_piece(struct remote *remote, struct fetch_large *large, uint64_t index,
                       enum fetch_class class, struct remote_wait *wait);

/** Waits for WAIT, if it was begun: its error. */
int remote_await(struct remote *remote, struct remote_wait *wait);
