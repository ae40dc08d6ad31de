/*
 * What the units of read-ahead share: readahead.c follows readers and plans, readahead_load.c brings and pushes.
 */
#pragma once

#include <stdatomic.h>

#include <uthash.h>
#include <utlist.h>

#include "base/lock.h"
#include "sync/readahead.h"
#include "sync/tree_cursor.h"

#define READAHEAD_FILE_MAX   (UINT64_C(256) << 10) /* a larger file is the kernel's own readahead's */
#define READAHEAD_HELD_MAX   (UINT64_C(16) << 20)  /* bytes kept until the kernel knows their files */
#define READAHEAD_LOADERS    3
#define READAHEAD_UNEXPECTED 64

enum item_state {
        ITEM_PLANNED = 0, /* for a loader */
        ITEM_LOADING,     /* a loader's */
        ITEM_FETCHING,    /* the fetch's */
        ITEM_HELD,        /* here; the kernel does not know its file yet */
        ITEM_DONE,        /* pushed, or a marker that is here */
        ITEM_FAILED,
};

enum folder_state {
        FOLDER_UNTRIED = 0, /* nobody knows whether the kernel knows what is in it */
        FOLDER_PROBING,     /* one push is finding out */
        FOLDER_KNOWN,
        FOLDER_UNKNOWN,
};

/* A folder that planned files are in. Everything here is guarded by readahead->lock. */
struct planned_folder {
        uint64_t ino;
        enum folder_state state;
        unsigned users; /* items */
        UT_hash_handle hh;
};

/* A file that is expected to be read. */
struct planned_file {
        uint64_t ino, size, seq;
        struct content_id content;
        struct planned_folder *folder;
        struct reader *reader;
        enum item_state state;
        bool marker;
        bool present; /* the content is in the store, or in `bytes` */
        bool tiny;    /* it came with the entry */
        bool pushed;
        struct fetch_content *bytes;      /* a reference; NULL: not in memory */
        struct planned_file *prev, *next; /* among the reader's, in order */
        UT_hash_handle hh;                /* by ino */
};

/* Somebody who seems to go through the tree. Made and freed by the planning thread alone. */
struct reader {
        struct tree_cursor cursor; /* behind the last planned file; owned by the planning thread */
        bool active;               /* until then it is only watched */
        bool at_end;               /* nothing follows */
        unsigned hits;             /* reads that were expected */
        unsigned window;           /* files to be ahead */
        unsigned passed;           /* files since the window grew */
        unsigned since_marker;     /* files planned since the last one, and their bytes */
        uint64_t bytes_since_marker;
        uint64_t next_seq;
        uint64_t lead_seq; /* up to here the reader is let go by itself */
        int64_t used_ns;
        struct planned_file *files;     /* owned */
        struct planned_file *next_load; /* where the loaders look first; NULL: nothing to do */
        unsigned n_files;
        uint64_t bytes; /* of files */
        struct reader *prev, *next;
};

struct readahead {
        struct readahead_options options;
        struct mutex lock;
        struct condition plan, load;
        struct reader *readers TSA_GUARDED(lock);
        struct planned_file *files TSA_GUARDED(lock); /* by ino */
        struct planned_folder *folders TSA_GUARDED(lock);
        uint64_t
                unexpected[READAHEAD_UNEXPECTED] TSA_GUARDED(lock); /* files that were read, and in no plan */
        unsigned n_unexpected TSA_GUARDED(lock);
        uint64_t held_bytes TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
        struct readahead_stats stats TSA_GUARDED(lock);
        pthread_t planner, loaders[READAHEAD_LOADERS];
        unsigned n_loaders;
        bool planner_runs;
};

/** The loaders may find something to do from FILE on. */
void readahead_look_at(struct readahead *ra, struct planned_file *file) TSA_REQUIRES(ra->lock);

/** The kernel knows, or does not know, what is in FOLDER. */
void readahead_set_folder(struct readahead *ra, struct planned_folder *folder, enum folder_state state)
        TSA_REQUIRES(ra->lock);

/** Takes the bytes of FILE, a reference, or drops them. */
void readahead_keep_bytes(struct readahead *ra, struct planned_file *file, struct fetch_content *bytes)
        TSA_REQUIRES(ra->lock);

void *readahead_loader_main(void *readahead);
