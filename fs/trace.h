/*
 * Which requests of tasks waited for more than this process has at hand, and why: a ring of the last ones, for `fsyncfs trace`, and sums for each of the last tasks, for
 * `fsyncfs explain`. What is answered at once is not seen here, so that it costs nothing; what waits pays a few microseconds when its task is new.
 *
 * Bounds: TRACE_EVENTS_MAX waits, TRACE_TASKS_MAX processes, TRACE_FILES_MAX files of each. Thread-safe; nothing here blocks, but for a look into /proc.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACE_EVENTS_MAX 1024
#define TRACE_TASKS_MAX  256
#define TRACE_FILES_MAX  16
#define TRACE_CGROUP_MAX 192

/** Why a request waited. */
enum trace_why {
        TRACE_MISS = 0,   /* a content that is not here, whole */
        TRACE_PIECE,      /* some pieces of one that are not */
        TRACE_EVICTED,    /* a content that had come to this mount before, and is gone */
        TRACE_DAMAGED,    /* what is here could not be read, or is not what it was */
        TRACE_UNVERIFIED, /* it is here, from before the machine started: it is read and hashed */
        TRACE_STALE,      /* the master has replaced it meanwhile */
        TRACE_SHARED,     /* another task's read had asked for it */
        TRACE_AHEAD,      /* it was on its way, asked for ahead: read-ahead, siblings, a learned list */
        TRACE_PREFETCH,   /* it was on its way, for `fsyncfs prefetch` */
        TRACE_FOLDER,     /* a folder's names, of a first version that is still on its way */
        TRACE_WHY_COUNT,
};

/** "miss", "piece", …; static. */
const char *trace_why_name(enum trace_why why);

struct trace;
struct trace_task;

/** One request that waits: kept by it, for trace_begin and trace_end. */
struct trace_wait {
        struct trace_task *task; /* a reference; NULL: too many tasks wait */
        int64_t began_ns;        /* 0: not begun */
        uint64_t ino, offset;
        size_t size;
        pid_t pid;
        enum trace_why why; /* may be set until the end */
        bool listed;        /* on the list of what tasks read first, and asked for because of it */
        int error;          /* negative errno that the task gets; to be set before the end */
};

/** One that is over. Plain data. */
struct trace_event {
        uint64_t number;  /* 1, 2, …: a gap means that the ring went round */
        int64_t began_ms; /* since the epoch */
        int64_t wait_ns;
        uint64_t ino, offset, size;
        pid_t pid; /* of the process; 0: the kernel's own, or another namespace's */
        enum trace_why why;
        int error;
        bool listed;
        char command[16];
};

struct trace_file {
        uint64_t ino, reads, bytes;
        int64_t wait_ns;
        uint32_t whys; /* bits by enum trace_why */
};

/** What one process waited for. Plain data. */
struct trace_sums {
        pid_t pid;
        char command[16], cgroup[TRACE_CGROUP_MAX];
        int64_t first_ms, last_ms; /* since the epoch */
        int64_t blocked_ns;        /* some thread of it was waiting */
        int64_t wait_ns;           /* of all its waits, which may overlap */
        int64_t unlisted_ns;       /* of those that a list which names the file would have begun earlier */
        uint64_t waits, bytes, failed, by_why[TRACE_WHY_COUNT];
        struct trace_file
                files[TRACE_FILES_MAX]; /* those waited for longest, the longest first; reads 0: no more */
};

/** -ENOMEM. */
int trace_new(struct trace **ret);

/** NULL is fine. All waits have ended. */
void trace_free(struct trace *trace);

/** A request of thread TID begins to wait. WAIT's ino, offset, size, why and listed are set; the rest is filled in. */
void trace_begin(struct trace *trace, pid_t tid, struct trace_wait *wait);

/** It is over. Nothing, if it was not begun. */
void trace_end(struct trace *trace, struct trace_wait *wait);

/** Copies up to MAX events after number AFTER, the oldest first: how many. */
size_t trace_get(struct trace *trace, uint64_t after, struct trace_event *ret, size_t max);

/** The number of the last event; RET_WAITING: how many requests wait now. */
uint64_t trace_last(struct trace *trace, unsigned *ret_waiting);

/** Copies what is known of all tasks, the last seen first: how many. */
size_t trace_get_tasks(struct trace *trace, struct trace_sums ret[TRACE_TASKS_MAX]);
