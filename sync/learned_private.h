/*
 * What the units of the learned list share: learned.c notes what is read and brings what is on the list, learned_report.c talks to the master.
 */
#pragma once

#include <uthash.h>

#include "base/lock.h"
#include "proto/wire.h"
#include "sync/learned.h"
#include "sync/prefetch.h"

#define LEARNED_FILES_MAX WIRE_LEARNED_PATHS_MAX

/* A file on the list, or read, or both. */
struct learned_file {
        uint64_t ino;
        bool listed, asked, here, read;
        bool recorded; /* in `order` */
        bool pushed;   /* it is there because it was pushed */
        UT_hash_handle hh;
};

struct learned {
        struct learned_options options;
        struct mutex lock;
        struct condition change;                      /* one of the flags below has changed */
        struct learned_file *files TSA_GUARDED(lock); /* owned; by ino */
        struct learned_file *order[LEARNED_FILES_MAX] TSA_GUARDED(lock); /* as they were read first */
        unsigned n_order TSA_GUARDED(lock);
        int64_t last_ns TSA_GUARDED(lock); /* when the last of them was; 0: none was */
        bool recording TSA_GUARDED(lock);
        bool connected TSA_GUARDED(lock); /* there is a master to be asked */
        bool begun TSA_GUARDED(lock);     /* there is a tree */
        bool stopping TSA_GUARDED(lock);
        bool late TSA_GUARDED(lock);   /* the report is not sent any more */
        bool asking TSA_GUARDED(lock); /* for the list: of no use once we are stopping */
        bool over TSA_GUARDED(lock);   /* the thread has nothing more to do */
        struct rpc_stream *
                stream TSA_GUARDED(lock); /* the thread's, so that it can be cancelled; NULL: none */
        struct learned_stats stats TSA_GUARDED(lock);
        struct wire_arena list; /* what holds the next; written by our thread before the prefetch begins */
        const ProtobufCBinaryData *paths;
        size_t n_paths, next_path; /* the prefetch's thread's, once it runs */
        struct prefetch *prefetch; /* owned; our thread's until it ends */
        pthread_t thread;
        bool joined; /* owned by who stops us */
};

/** Asks for the list and sets `paths`. 0; -ECANCELED: stopping; -EPROTO; and so on, maybe with a line in FAILURE. Blocks. */
int learned_ask(struct learned *l, struct failure *failure);

/** Ends the record and sends it, unless there is nothing in it. Errors likewise. Blocks. */
int learned_report(struct learned *l, struct failure *failure);
