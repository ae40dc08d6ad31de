/*
 * The large files that one Fetch call is sending, or has sent of late: open while they are being sent, with the list of hashes that proves each of their
 * pieces. Both are charged to the call's peer; what there is no room for waits. All functions but what is said otherwise: by the thread that fills the call's
 * messages.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "server/fetch_queue.h"
#include "server/filehash.h"
#include "server/master.h"
#include "server/turns.h"

#define FETCH_FILES_MAX 16 /* open at a time, for one call */

/* Of a job that hashes a file. */
enum fetch_file_phase {
        FETCH_FILE_HASHING,  /* waits for its turn, or is under way */
        FETCH_FILE_UNWANTED, /* so, but in vain: it closes the file when it ends */
        FETCH_FILE_HASHED,   /* ended */
};

struct fetch_file {
        struct fetch_file *prev, *next;
        struct fetch_files *files; /* borrowed */
        char *path;                /* owned */
        int fd;                    /* -1: closed, as it has no users; charged as RPC_FILES while it is open */
        unsigned users;            /* wants that are being sent from it */
        bool dated; /* it holds something else than its users may still think: for nobody new */
        bool hashing;
        struct stat st; /* when it was opened, or hashed */
        struct content_id
                id; /* what it holds; unless `hashed`, what is looked for in it, and each piece is to prove it */
        bool hashed;
        bool racy;    /* as file_state's */
        bool trusted; /* it was found to hold ID under the stamp of `st`, which it had when it was last looked at, and that is not racy */
        struct buffer list; /* of the hashes of ID's pieces, proved; empty: not known */
        size_t list_bytes;  /* charged as RPC_LISTS, while it has users or is hashed */
        size_t spare_bytes; /* charged as RPC_SPARE_LISTS, after that */

        /* The job's, until its phase is FETCH_FILE_HASHED. */
        struct turn job;
        enum hash_algorithm base; /* by which it hashes */
        int error;
        struct file_state found;
        struct buffer found_list;
        atomic_int phase;
};

struct fetch_files {
        struct master *master; /* borrowed, as is `spider` */
        const char *spider;
        struct rpc_peer *peer;   /* borrowed */
        bool short_of;           /* something waits for what is scarce: to be tried again */
        struct fetch_file *list; /* used longest ago first */
        unsigned count;
        atomic_bool closed; /* nobody wants any of them any more. Any thread */
        /* A job of a file needs all this, and needs it no more, having ended its phase. Any thread. */
        void (*hold)(struct fetch_files *files);
        void (*let_go)(struct fetch_files *files);
};

enum fetch_files_result {
        FETCH_FILES_OK = 0,
        FETCH_FILES_WAIT = 1,  /* for a job, or for another file to be let go, maybe another call's */
        FETCH_FILES_STALE = 2, /* RET_WHY says why the file does not hold what is wanted */
};

/** Gives ITEM, beneath the spider's open FOLDER, its file, with the list of what is wanted. Or a negative errno. */
int fetch_files_attach(struct fetch_files *files, int folder, struct fetch_item *item, const char **ret_why);

/** ITEM needs its file no more; it may have none. */
void fetch_files_detach(struct fetch_files *files, struct fetch_item *item);

/** Nobody wants any of them any more: those that wait to be hashed are not. */
void fetch_files_withdraw(struct fetch_files *files);

/** No job may be left. */
void fetch_files_release(struct fetch_files *files);
