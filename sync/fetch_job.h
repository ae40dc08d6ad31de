/*
 * What the fetch works on: jobs, each of which brings one thing, and large contents, whose pieces are jobs. See fetch_private.h.
 */
#pragma once

#include <stdatomic.h>

#include <uthash.h>
#include <utlist.h>

#include "base/buffer.h"
#include "base/failure.h"
#include "base/lock.h"
#include "proto/fetch_frame.h"
#include "sync/channel.h"
#include "sync/fetch.h"

#define FETCH_BACKOFF_FIRST_MS 100
#define FETCH_BACKOFF_MAX_MS   2000
#define FETCH_CLASSES          3

/* Beyond either a large content is fetched whole, which needs no list: one is kept in memory, and only the master says how large a file is. */
#define FETCH_LIST_FAILURES_MAX 2
#define FETCH_LISTED_BYTES_MAX  (UINT64_C(256) << 30) /* a list of 16 MiB */

/*
 * What a job brings: a content, whichever file holds it; one piece of it; or what is in one folder, named by its digest. Padding counts: zeroed
 * first.
 */
struct fetch_key {
        struct content_id content;
        uint64_t folder; /* its inode number; 0: a file's content */
        uint64_t piece;  /* its index + 1; 0: all of it */
};

enum job_state {
        JOB_WAITING = 0, /* in the threads' queue */
        JOB_RUNNING,     /* a thread's, or about to end */
        JOB_RESTING,     /* until it is worth another try: then in the threads' queue */
        JOB_QUEUED,      /* in the channel's queue */
        JOB_GATED,       /* the list of its content's pieces is on its way */
        JOB_STARTING,    /* the sending thread's */
        JOB_ASKED,       /* in `asked`, by its id; while `busy` the receiving thread's */
        JOB_STORING,     /* its content is in memory and goes to the store: a storing thread's */
        JOB_KEPT,        /* its content is in memory, as the store could not take it */
};

/* A content on its way. Made by the first want, ended (and freed) by the thread that worked on it. */
struct fetch_job {
        struct fetch_key key;
        uint64_t offset, size; /* of what is wanted, within the content */
        _Atomic uint64_t ino;  /* of the file that was asked for first, or of another one with this content */
        struct fetch *fetch;
        struct fetch_large *large;    /* a reference, for a piece; NULL */
        struct fetch_waiter *waiters; /* guarded by fetch->lock */
        enum job_state state;         /* guarded by fetch->lock */
        enum fetch_class class;       /* the most urgent of its waits; guarded by fetch->lock */
        int64_t asked_ns;             /* when it was first wanted */
        _Atomic int64_t progress_ns;  /* when its turn or its bytes last came; 0: neither yet */
        uint64_t partial_bytes; /* of another process's download, at the last look; guarded by fetch->lock */
        int64_t looked_ns;      /* when that was; likewise */
        _Atomic bool local;     /* in the store when it was wanted: no master is waited for, so no deadline */
        _Atomic bool writing;   /* this process is downloading it */
        _Atomic int last_error; /* of the last try, for waits that end by their deadline */

        /* What the tries have come to; owned by whom the state names. */
        int verdict;  /* what the channel made of it: counts as a thread's first try; 0: nothing */
        int damaged;  /* tries that brought wrong bytes */
        bool refused; /* by the channel: a thread does it by itself */
        bool looked_elsewhere;
        bool looked_twice; /* the channel says that it is stale there, too: a thread has the last word */
        bool adopt_tried;
        bool in_turn; /* a folder that is too large to be asked for out of turn */
        unsigned backoff_ms;
        int64_t rest_until_ns; /* guarded by fetch->lock */

        /* The store's part; owned by whom the state names. */
        struct store_writer *writer; /* owned; for what is no piece; kept when the stream breaks */
        bool claimed;                /* the piece; likewise */
        int unstored; /* why the store cannot take it, a negative errno: it comes without a writer or claim; 0: it can */
        struct fetch_content *content; /* a reference, when it has come */
        int64_t kept_ns;               /* since when; guarded by fetch->lock */

        /* Over the channel; owned by whom the state names. */
        uint64_t id;    /* on the stream; 0: none */
        bool busy;      /* guarded by fetch->lock */
        bool urgent;    /* a task waits, and the master knows it */
        bool lists;     /* it brings the list of its content's pieces, too */
        bool list_only; /* and nothing else: the piece itself may be here in another content */
        struct buffer list;
        int64_t sent_ns;      /* when it was asked for */
        _Atomic uint64_t due; /* of fetch->received, when it should have come; 0: does not count (any more) */

        struct fetch_job *prev, *next; /* in one of the queues */
        UT_hash_handle hh;             /* in fetch->jobs */
        UT_hash_handle hh_id;          /* in fetch->asked */
};

/* A large content that somebody has open, or that has jobs. */
struct fetch_large {
        struct fetch *fetch;
        struct content_id content;
        uint64_t size;
        _Atomic uint64_t ino; /* of a file that has it, as far as is known */
        struct store_pieces *pieces;
        int previous_fd;           /* owned: what the file had before, verified; -1: nothing */
        unsigned refs;             /* guarded by fetch->lock */
        struct fetch_job *lister;  /* brings the list, borrowed; guarded by fetch->lock */
        atomic_uint list_failures; /* so often no list came of asking for it */
        atomic_bool counted;       /* a piece has come */
        atomic_bool ended;         /* as fetch_large_ended; any thread */
        struct mutex lock;         /* innermost */
        struct window window TSA_GUARDED(lock);
        UT_hash_handle hh; /* in fetch->larges, by content */
};
