/*
 * What the units of the fetch share. What is wanted is a job: a small content, a piece of a large one, a stock master's content, a folder. Small contents and
 * pieces from a master of ours come over the channel, each in one message: fetch_stream.c asks for many at once on one stream, within the window of
 * fetch_window.c; fetch_part.c takes what comes, fetch_store.c writes it. Everything else, and whatever went wrong there, is done by threads that take
 * one job each (fetch_run.c decides, fetch_try.c does): stock masters, folders, what is here and has to be verified, what another process is writing, what an
 * older version of the file may have (fetch_large.c), and second tries. fetch_wait.c ends waits.
 */
#pragma once

#include "sync/fetch_job.h"

struct fetch {
        struct fetch_options options;
        struct mutex lock;
        struct condition work;                    /* the threads' queue has a job, or stopping */
        struct condition tick;                    /* the deadlines or the resting changed, or stopping */
        struct fetch_job *jobs TSA_GUARDED(lock); /* by content: all of them */
        struct fetch_job *
                waiting[FETCH_CLASSES] TSA_GUARDED(lock); /* for a thread, first come first served */
        struct fetch_job *resting TSA_GUARDED(lock);
        struct fetch_job *gated TSA_GUARDED(lock);
        struct fetch_large *larges TSA_GUARDED(lock);
        struct fetch_waiter *deadlines TSA_GUARDED(lock);
        _Atomic int64_t progress_ns;   /* when bytes of any content last came */
        _Atomic uint64_t received;     /* how many came */
        _Atomic int64_t away_since_ns; /* the master has given nothing since; 0: it is there */
        bool stopping TSA_GUARDED(lock);
        bool stopped;       /* fetch_stop was called; owned by who calls it */
        pthread_t *threads; /* owned; options.threads of them */
        unsigned n_threads;
        unsigned n_started TSA_GUARDED(lock); /* threads that have chosen what they take */
        pthread_t timer;
        bool timer_runs;
        _Atomic uint64_t files, bytes, adopted_bytes, failures;
        atomic_bool lists_large; /* as in struct folder_request */

        /* The channel. */
        struct condition send; /* there may be something to send, or stopping */
        struct fetch_job *queued[FETCH_CLASSES] TSA_GUARDED(lock); /* to be asked for */
        struct fetch_job *asked TSA_GUARDED(lock);                 /* by id; uthash keeps their order */
        unsigned n_asked TSA_GUARDED(lock), n_asked_ahead TSA_GUARDED(lock);
        uint64_t asked_bytes TSA_GUARDED(lock), asked_ahead_bytes TSA_GUARDED(lock);
        bool abandoned
                TSA_GUARDED(lock);      /* some in the queue, or asked for, may have nobody left who waits */
        bool hurried TSA_GUARDED(lock); /* a task waits for some that were asked for ahead */
        bool ungated TSA_GUARDED(lock); /* some that are gated may go on */
        bool broken TSA_GUARDED(lock);  /* the stream has come to its end */
        bool fresh TSA_GUARDED(lock);   /* a read has come since the last try to open the stream */
        _Atomic bool no_channel;        /* this master has none, or what it has does not work */
        struct channel *channel;        /* owned by the sending thread; NULL: not open */
        uint64_t last_id;               /* owned by the sending thread */
        _Atomic bool proved;            /* a content has come over this stream */
        pthread_t sender;
        bool sender_runs;

        /* Contents that go to the store. */
        struct condition stored;  /* something to store, or nothing more will come */
        struct condition settled; /* nothing is left to store */
        struct fetch_job *storing TSA_GUARDED(lock);
        unsigned n_storing TSA_GUARDED(lock);
        uint64_t storing_bytes TSA_GUARDED(lock);
        struct fetch_job *kept TSA_GUARDED(lock); /* what it could not take, the oldest first */
        uint64_t kept_bytes TSA_GUARDED(lock);
        bool senders_gone TSA_GUARDED(lock); /* no more to store will come */
        pthread_t *storers;                  /* owned */
        unsigned n_storers;
};

/* fetch_want.c */

/** Puts JOB, which is in no queue, where it goes on: to the channel or to the threads. */
void fetch_place(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** Whether what JOB brings is here and has to be looked at, or may be: not the sending thread's work. */
bool fetch_is_for_thread(const struct fetch_job *job);

/** Whether KEY, of SIZE bytes, is one that the channel brings: small contents, and pieces. */
bool fetch_goes_by_channel(const struct fetch *f, const struct fetch_key *key, uint64_t size);

/** Whether a list of LARGE's pieces is here, or may still come. */
bool fetch_is_listable(const struct fetch_large *large);

/** Frees JOB, which is in no queue and has no waiters, with all that it has. */
void fetch_free_job(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** Claims JOB's piece, if it is not yet: as store_pieces_claim. */
int fetch_claim_piece(struct fetch_job *job, bool may_wait);

/** Gives up what JOB holds of the store: its writer, its claim. */
void fetch_let_go(struct fetch_job *job);

/** JOB, which is in no queue, is over: ends its waits with ERROR, frees it. Releases and takes the lock. */
void fetch_end_job(struct fetch *f, struct fetch_job *job, int error) TSA_REQUIRES(f->lock);

/** Has all that wait for JOB, a piece that is in no queue, wait for the whole content instead; frees JOB. */
void fetch_want_whole_instead(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/* fetch_large.c */

void fetch_large_unref_locked(struct fetch *f, struct fetch_large *large) TSA_REQUIRES(f->lock);

/** Tries to take JOB's claimed piece over from what the file had before: STORE_OK, STORE_MISS, negative errno. Reads the disk. */
int fetch_adopt(struct fetch *f, struct fetch_job *job);

/** Whether JOB may find its piece in what the file had before, once the list is here. */
bool fetch_may_adopt(const struct fetch_job *job);

/** Has those that are gated go on whose list has come, or will not come by what they waited for. */
void fetch_ungate(struct fetch *f) TSA_REQUIRES(f->lock);

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

/** JOB, in no queue, goes to the threads after a pause, with jitter: longer each time. */
void fetch_rest(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_timer_main(void *fetch);

/* fetch_run.c */

/** Gives JOB, in no queue, to the threads. */
void fetch_hand_over(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_thread_main(void *fetch);

/** What a task's read fails with: what it can act on stays, the rest is an I/O error whose story is in the log. */
int fetch_read_error(int error);

/* fetch_try.c */

enum fetch_tried {
        TRIED_CHANNEL = 1, /* the channel is to bring it */
        TRIED_WHOLE = 2,   /* it cannot be had by itself: the whole content has to come */
};

/** One try of JOB, on a thread: 0, it is here; an enum fetch_tried; or negative errno with a line in FAILURE. */
int fetch_try(struct fetch *f, struct fetch_job *job, const struct buffer *path, struct failure *failure);

/* fetch_ask.c */

enum fetch_ask_result {
        ASK_SENT = 0, /* the want is in the message, the partial file is locked, or the piece is claimed */
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

/** Makes a want that was asked for urgent. -ENOMEM. */
int fetch_ask_hurry(uint64_t id, struct buffer *message);

/* fetch_window.c */

/** What may be asked for now. */
bool fetch_may_ask(const struct fetch *f) TSA_REQUIRES(f->lock);

/** Wakes the sending thread if there is something to ask for. */
void fetch_wake_sender(struct fetch *f) TSA_REQUIRES(f->lock);

/** Puts JOB, new or upgraded, into the channel's queue. */
void fetch_enqueue(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** The next jobs to ask for, as a list: of the most urgent class that has any. */
struct fetch_job *fetch_take_batch(struct fetch *f) TSA_REQUIRES(f->lock);

/** JOB is asked for. -ENOMEM: it is not. */
int fetch_add_asked(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** Whether a task waits for JOB, asked for ahead, and so much comes before it that telling the master is worth it. */
bool fetch_has_to_hurry(const struct fetch *f, const struct fetch_job *job) TSA_REQUIRES(f->lock);

/** JOB, asked for ahead, is urgent: it leaves room for others that are not. */
void fetch_make_urgent(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** JOB has come, or failed: takes it from `asked` and its bytes out of the window. */
void fetch_forget_asked(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** JOB, taken from the queue, will bring no list: others may. */
void fetch_forget_list(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/* fetch_stream.c */

void *fetch_sender_main(void *fetch);

/* fetch_content.c */

/** A copy of the LEN bytes at DATA (NULL: OWN is to be filled) as a content with one reference; NULL: out of memory. */
struct fetch_content *fetch_content_new(const void *data, size_t len);

/** The LEN bytes at DATA, which lie in MESSAGE and are the last that is read of it, without copying them; NULL: out of memory. */
struct fetch_content *fetch_content_take(struct channel_message *message, const uint8_t *data, size_t len);

/* fetch_part.c */

/** JOB's content has come, and is verified. */
void fetch_count(struct fetch *f, const struct fetch_job *job);

/** What a message of the stream says; on the receiving thread. 0, or -EPROTO: the stream is of no use any more. */
int fetch_take_message(struct channel_message *message, void *fetch);

/* fetch_store.c */

/** Has the content of JOB, which is in no queue, written to the store, and JOB freed. */
void fetch_store(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

/** The bytes that JOB has in memory; NULL: none. */
struct fetch_content *fetch_at_hand(struct fetch *f, struct fetch_job *job) TSA_REQUIRES(f->lock);

void *fetch_storer_main(void *fetch);
