/*
 * The large files that one Fetch call is sending: open, and known to hold what; of a few others, what they held when they were. All functions but what
 * is said otherwise: by the thread that fills the call's messages.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "server/filehash.h"
#include "server/fetch_queue.h"
#include "server/master.h"

#define FETCH_FILES_MAX 16 /* open at a time, for one call */

struct fetch_file {
        struct fetch_file *prev, *next;
        struct fetch_files *files; /* borrowed */
        char *path;                /* owned */
        int fd;                    /* -1: closed, as it has no users */
        unsigned users;            /* wants that are being sent from it */
        bool dated; /* it holds something else than its users may still think: for nobody new */
        bool hashing;
        struct stat st; /* under which it holds `id` */
        struct content_id id;
        bool racy; /* as file_state's */

        /* The job's, until it has set `answered`. */
        struct pool_job job;
        int error;
        struct file_state hashed;
        atomic_bool answered;
};

struct fetch_files {
        struct master *master; /* borrowed, as is `spider` */
        const char *spider;
        struct fetch_file *list; /* used longest ago first */
        unsigned count;
        /* A job of a file needs all this, and needs it no more, having set `answered`. Any thread. */
        void (*hold)(struct fetch_files *files);
        void (*let_go)(struct fetch_files *files);
};

enum fetch_files_result {
        FETCH_FILES_OK = 0,
        FETCH_FILES_WAIT = 1,  /* for a job, or for another file to be let go */
        FETCH_FILES_STALE = 2, /* RET_WHY says why the file does not hold what is wanted */
};

/** Gives ITEM, beneath the spider's open FOLDER, its file. Or a negative errno. */
int fetch_files_attach(struct fetch_files *files, int folder, struct fetch_item *item, const char **ret_why);

/** ITEM needs its file no more; it may have none. */
void fetch_files_detach(struct fetch_files *files, struct fetch_item *item);

/** No job may be left. */
void fetch_files_release(struct fetch_files *files);
