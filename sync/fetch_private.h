/*
 * What the units of the fetch share. A content takes one of two ways. From a master of ours it comes over the channel: fetch_stream.c asks
 * for many at once on one stream, fetch_part.c takes what comes, fetch_store.c writes it. Everything else, and whatever went wrong
 * there, is done by threads that take one job each (fetch_run.c): stock masters, folders, what is here and has to be verified, what another process is
 * writing, and second tries. fetch_wait.c ends waits.
 */
#pragma once

#include <stdatomic.h>

#include <uthash.h>
#include <utlist.h>

#include "base/failure.h"
#include "base/lock.h"
#include "proto/fetch_frame.h"
#include "sync/channel.h"
#include "sync/fetch.h"

#define FETCH_BACKOFF_FIRST_MS 100
#define FETCH_BACKOFF_MAX_MS   2000
#define FETCH_CLASSES          3

/* What a job brings: a content, whichever file holds it; or what is in one folder, named by its digest. Padding counts: zeroed first. */
struct fetch_key {
        struct content_id content;
        uint64_t folder; /* its inode number; 0: a file's content */
};

enum job_state {
        JOB_WAITING = 0, /* in the threads' queue */
        JOB_RUNNING,     /* a thread's */
        JOB_QUEUED,      /* in the channel's queue */
        JOB_STARTING,    /* the sending thread's */
        JOB_ASKED,       /* in `asked`, by its id; while `busy` the receiving thread's */
        JOB_STORING,     /* its content is in memory and goes to the store: a storing thread's */
};

/* A content on its way. Made by the first want, ended (and freed) by the thread that worked on it. */
struct fetch_job {
        struct fetch_key key;
        uint64_t size, ino; /* of the file that was asked for first */
        struct fetch *fetch;
        struct fetch_waiter *waiters; /* guarded by fetch->lock */
        enum job_state state;         /* guarded by fetch->lock */
        enum fetch_class class;       /* the most urgent of its waits; guarded by fetch->lock */
        int64_t asked_ns;             /* when it was first wanted */
        _Atomic int64_t progress_ns;  /* when its turn or its bytes last came; 0: neither yet */
        uint64_t partial_bytes; /* of another process's download, at the last look; guarded by fetch->lock */
        _Atomic bool local;     /* in the store when it was wanted: no master is waited for, so no deadline */
        _Atomic bool writing;   /* this process is downloading it */
        bool gave_up;           /* the last try ended because nobody waited; owned by its thread */
        _Atomic int last_error; /* of the last try, for waits that end by their deadline */
        int verdict;            /* what the channel made of it: counts as a thread's first try; 0: nothing */

        /* Over the channel; owned by whom the state names. */
        uint64_t id;                   /* on the stream; 0: none */
        bool busy;                     /* guarded by fetch->lock */
        bool urgent;                   /* a task waited when it was asked for */
        bool dropped;                  /* it is over on this side: to be cancelled; guarded by fetch->lock */
        struct store_writer *writer;   /* owned; kept when the stream breaks */
        int64_t sent_ns;               /* when it was asked for */
        uint64_t received;             /* bytes written */
        uint64_t share;                /* of the window in bytes, while asked for */
        struct fetch_content *content; /* a reference, when storing */

        struct fetch_job *prev, *next; /* in one of the queues */
        UT_hash_handle hh;             /* in fetch->jobs */
        UT_hash_handle hh_id;          /* in fetch->asked */
};

struct fetch {
        struct fetch_options options;
        struct mutex lock;
        struct condition work;                    /* the threads' queue has a job, or stopping */
        struct condition tick;                    /* the deadlines changed, or stopping */
        struct fetch_job *jobs TSA_GUARDED(lock); /* by content: all of them */
        struct fetch_job *
                waiting[FETCH_CLASSES] TSA_GUARDED(lock); /* for a thread, first come first served */
        struct fetch_waiter *deadlines TSA_GUARDED(lock);
        _Atomic int64_t progress_ns;   /* when bytes of any content last came */
        _Atomic int64_t away_since_ns; /* the master has given nothing since; 0: it is there */
        bool stopping TSA_GUARDED(lock);
        bool stopped;             /* fetch_stop was called; owned by who calls it */
        struct condition backoff; /* wakes those that wait for their next try, when stopping */
        pthread_t *threads;       /* owned; options.threads of them */
        unsigned n_threads;
        unsigned n_small TSA_GUARDED(lock); /* threads that have chosen what they take */
        pthread_t timer;
        _Atomic uint64_t files, bytes, failures;

        /* The channel. */
        struct condition send; /* there may be something to send, or stopping */
        struct fetch_job *queued[FETCH_CLASSES] TSA_GUARDED(lock); /* to be asked for */
        struct fetch_job *asked TSA_GUARDED(lock);                 /* by id; uthash keeps their order */
        unsigned n_asked TSA_GUARDED(lock), n_asked_ahead TSA_GUARDED(lock);
        uint64_t asked_bytes TSA_GUARDED(lock), asked_ahead_bytes TSA_GUARDED(lock); /* their shares */
        bool abandoned
                TSA_GUARDED(lock);     /* some in the queue, or asked for, may have nobody left who waits */
        bool broken TSA_GUARDED(lock); /* the stream has come to its end */
        bool fresh TSA_GUARDED(lock);  /* a read has come since the last try to open the stream */
        _Atomic bool no_channel;       /* this master has none, or what it has does not work */
        struct channel *channel;       /* owned by the sending thread; NULL: not open */
        uint64_t last_id;              /* owned by the sending thread */
        _Atomic bool proved;           /* a content has come over this stream */
        pthread_t sender;
        bool sender_runs;

        /* Contents that go to the store. */
        struct condition stored;  /* something to store, or nothing more will come */
        struct condition settled; /* nothing is left to store */
        struct fetch_job *storing TSA_GUARDED(lock);
        unsigned n_storing TSA_GUARDED(lock);
        uint64_t storing_bytes TSA_GUARDED(lock);
        bool senders_gone TSA_GUARDED(lock); /* no more to store will come */
        pthread_t *storers;                  /* owned */
        unsigned n_storers;
};

/* fetch_wait.c */

/** Takes W from its job. */
void fetch_unlink_waiter(struct fetch *f, struct fetch_waiter *w) TSA_REQUIRES(f->lock);

/** Adds W to JOB. */
void fetch_link_waiter(struct fetch *f, struct fetch_job *job, struct fetch_waiter *w) TSA_REQUIRES(f->lock);

/** Calls W's `done`, without the lock. */
void fetch_end_wait(struct fetch *f, struct fetch_waiter *w, int error);

/** Ends all of JOB's waits; those for whom the bytes are at hand get CONTENT. Releases and takes the lock. */
void fetch_end_waits(struct fetch *f, struct fetch_job *job, int error, struct fetch_content *content)
        TSA_REQUIRES(f->lock);

/** Bytes of JOB (struct fetch_job *) have come. */
void fetch_note_progress(size_t bytes, void *job);

/** A try has failed because the master is away, or, with ERROR 0, has shown that it is there. */
void fetch_note_away(struct fetch *f, struct fetch_job *job, int error);

/** JOB's turn has come: that is progress, unless the master is known to be away. */
void fetch_note_turn(struct fetch *f, struct fetch_job *job);

/** Whether another try of what failed with ERROR may succeed. */
bool fetch_worth_retrying(int error);

void *fetch_timer_main(void *fetch);

/* fetch_run.c */

/** Gives JOB, in no queue, to the threads. */
void fetch_hand_over(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_thread_main(void *fetch);

/** What a task's read fails with: what it can act on stays, the rest is an I/O error whose story is in the log. */
int fetch_read_error(int error);

/* fetch_ask.c */

enum fetch_ask_result {
        ASK_SENT = 0, /* the want is in the message, the partial file is locked */
        ASK_HAVE,     /* the content is in the store */
        ASK_BUSY,     /* another process is writing it, or there is no room at once */
        ASK_THREAD,   /* something is wrong, and a thread will find out what */
};

/** Begins the first message of a stream. -ENOMEM. */
int fetch_ask_begin(struct fetch *f, struct buffer *message);

/** Appends a want for JOB, whose id is set; the calling thread's. */
enum fetch_ask_result fetch_ask(struct fetch *f, struct fetch_job *job, struct buffer *message);

/** Takes a want back. -ENOMEM. */
int fetch_ask_cancel(uint64_t id, struct buffer *message);

/* fetch_stream.c */

/** Puts JOB, new or upgraded, into the channel's queue. */
void fetch_enqueue(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** JOB has come, or failed: takes it from `asked` and its share out of the window. */
void fetch_forget_asked(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_sender_main(void *fetch);

/* fetch_part.c */

/** What a message of the stream says; on the receiving thread. 0, or -EPROTO: the stream is of no use any more. */
int fetch_take_message(const uint8_t *message, size_t len, void *fetch);

/* fetch_store.c */

/** Has the content of JOB, which is in no queue, written to the store, and JOB freed. */
void fetch_store(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_storer_main(void *fetch);
