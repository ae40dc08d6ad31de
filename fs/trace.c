#include "fs/trace.h"

#include <fcntl.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/lock.h"
#include "base/util.h"

#define SEEN_MAX    4096           /* files of which it is known that their content has come */
#define THREADS_MAX 512            /* of which it is known whose they are */
#define THREAD_NS   (NSEC_PER_SEC) /* and for how long: numbers are used again */
#define PROC_BYTES  1024

struct trace_task {
        struct trace_sums sums; /* guarded by trace->lock, as is the next */
        unsigned waiting;
        int64_t blocked_since_ns;
        struct trace_task *prev, *next; /* the last seen first */
        UT_hash_handle hh;              /* by sums.pid */
};

struct thread_seen {
        pid_t tid, pid;
        int64_t seen_ns;
};

struct trace {
        struct mutex lock;
        uint64_t last TSA_GUARDED(lock);
        unsigned waiting TSA_GUARDED(lock), n_tasks TSA_GUARDED(lock);
        struct trace_task *by_pid TSA_GUARDED(lock), *tasks TSA_GUARDED(lock); /* owned */
        struct trace_event events[TRACE_EVENTS_MAX] TSA_GUARDED(lock);
        uint64_t seen[SEEN_MAX] TSA_GUARDED(lock); /* inode numbers, each at its place */
        struct thread_seen threads[THREADS_MAX] TSA_GUARDED(lock);
};

const char *trace_why_name(enum trace_why why)
{
        static const char *const names[TRACE_WHY_COUNT] = {
                [TRACE_MISS] = "miss",       [TRACE_PIECE] = "piece",           [TRACE_EVICTED] = "evicted",
                [TRACE_DAMAGED] = "damaged", [TRACE_UNVERIFIED] = "unverified", [TRACE_STALE] = "stale",
                [TRACE_SHARED] = "shared",   [TRACE_AHEAD] = "ahead",           [TRACE_PREFETCH] = "prefetch",
                [TRACE_FOLDER] = "folder",
        };

        return names[why];
}

int trace_new(struct trace **ret)
{
        struct trace *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        mutex_init(&t->lock);
        *ret = t;
        return 0;
}

void trace_free(struct trace *trace)
{
        struct trace_task *task, *next;

        if (!trace)
                return;
        DL_FOREACH_SAFE (trace->tasks, task, next) {
                HASH_DELETE(hh, trace->by_pid, task);
                free(task);
        }
        mutex_release(&trace->lock);
        free(trace);
}

/* ---- whose thread it is ---- */

/* What /proc says of a thread. */
struct identity {
        pid_t pid; /* of its process; 0: not known */
        char command[16], cgroup[TRACE_CGROUP_MAX];
};

/* All of /proc/TID/NAME that fits. */
static bool read_proc(pid_t tid, const char *name, char buf[PROC_BYTES])
{
        char path[64];
        _cleanup_close_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/%s", tid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, buf, PROC_BYTES - 1);
        buf[MAX(n, 0)] = '\0';
        return n > 0;
}

/* The group of the one hierarchy of version 2, or, without it, of the first of version 1. */
static void take_cgroup(char *text, char ret[TRACE_CGROUP_MAX])
{
        char *line = strstr(text, "0::"), *path = line ? line + 3 : NULL;

        if (!path) {
                path = strchr(text, ':');
                path = path ? strchr(path + 1, ':') : NULL;
                path = path ? path + 1 : text;
        }
        path[strcspn(path, "\n")] = '\0';
        snprintf(ret, TRACE_CGROUP_MAX, "%.*s", TRACE_CGROUP_MAX - 1, path);
}

/* TID is as the kernel names it to this process: 0 if that cannot see it. */
static void identify(pid_t tid, struct identity *ret)
{
        char text[PROC_BYTES];
        const char *line;

        *ret = (struct identity){ .command = "?" };
        if (tid <= 0 || !read_proc(tid, "status", text))
                return;
        line = strstr(text, "\nTgid:");
        ret->pid = line ? (pid_t)strtol(line + 6, NULL, 10) : tid;
        if (read_proc(ret->pid, "comm", text)) {
                text[strcspn(text, "\n")] = '\0';
                snprintf(ret->command, sizeof(ret->command), "%.15s", text);
        }
        if (read_proc(ret->pid, "cgroup", text))
                take_cgroup(text, ret->cgroup);
}

static struct thread_seen *thread_place(struct trace *t, pid_t tid) TSA_REQUIRES(t->lock)
{
        return &t->threads[(unsigned)tid % THREADS_MAX];
}

static struct trace_task *find_task(struct trace *t, pid_t pid) TSA_REQUIRES(t->lock)
{
        struct trace_task *task;

        HASH_FIND(hh, t->by_pid, &pid, sizeof(pid), task);
        return task;
}

/* The task of TID, if it was seen a moment ago. */
static struct trace_task *known_task(struct trace *t, pid_t tid, int64_t now_ns) TSA_REQUIRES(t->lock)
{
        struct thread_seen *seen = thread_place(t, tid);

        if (seen->tid != tid || now_ns - seen->seen_ns > THREAD_NS)
                return NULL;
        seen->seen_ns = now_ns;
        return find_task(t, seen->pid);
}

/* Room for another task: the one that was seen longest ago goes, if none of its requests waits. */
static bool make_room(struct trace *t) TSA_REQUIRES(t->lock)
{
        struct trace_task *oldest = t->tasks ? t->tasks->prev : NULL;

        if (t->n_tasks < TRACE_TASKS_MAX)
                return true;
        while (oldest->waiting > 0 && oldest != t->tasks)
                oldest = oldest->prev;
        if (oldest->waiting > 0)
                return false;
        HASH_DELETE(hh, t->by_pid, oldest);
        DL_DELETE(t->tasks, oldest);
        free(oldest);
        t->n_tasks--;
        return true;
}

static struct trace_task *add_task(struct trace *t, const struct identity *who) TSA_REQUIRES(t->lock)
{
        struct trace_task *task = make_room(t) ? calloc(1, sizeof(*task)) : NULL;

        if (!task)
                return NULL;
        task->sums.pid = who->pid;
        memcpy(task->sums.cgroup, who->cgroup, sizeof(who->cgroup));
        HASH_ADD(hh, t->by_pid, sums.pid, sizeof(task->sums.pid), task);
        if (!task->hh.tbl) {
                free(task);
                return NULL;
        }
        DL_PREPEND(t->tasks, task);
        t->n_tasks++;
        return task;
}

/* The task that TID belongs to, as WHO says. A number that is used again for another group's process begins anew. */
static struct trace_task *get_task(struct trace *t, pid_t tid, const struct identity *who)
        TSA_REQUIRES(t->lock)
{
        struct trace_task *task = find_task(t, who->pid);

        if (task && task->waiting == 0 && strcmp(task->sums.cgroup, who->cgroup) != 0) {
                HASH_DELETE(hh, t->by_pid, task);
                DL_DELETE(t->tasks, task);
                free(TAKE_PTR(task));
                t->n_tasks--;
        }
        if (!task)
                task = add_task(t, who);
        if (task)
                memcpy(task->sums.command, who->command, sizeof(who->command)); /* it may have called exec */
        *thread_place(t, tid) =
                (struct thread_seen){ .tid = tid, .pid = who->pid, .seen_ns = clock_monotonic_ns() };
        return task;
}

/* ---- waits ---- */

static void note_waiting(struct trace *t, struct trace_task *task, int64_t now_ns) TSA_REQUIRES(t->lock)
{
        if (task->waiting++ == 0)
                task->blocked_since_ns = now_ns;
        task->sums.last_ms = clock_coarse_ns() / NSEC_PER_MSEC;
        if (task->sums.first_ms == 0)
                task->sums.first_ms = task->sums.last_ms;
        if (task != t->tasks) {
                DL_DELETE(t->tasks, task);
                DL_PREPEND(t->tasks, task);
        }
}

void trace_begin(struct trace *trace, pid_t tid, struct trace_wait *wait)
{
        struct identity who;
        struct trace_task *task;

        wait->began_ns = clock_monotonic_ns();
        mutex_lock(&trace->lock);
        trace->waiting++;
        task = known_task(trace, tid, wait->began_ns);
        if (!task) {
                mutex_unlock(&trace->lock);
                identify(tid, &who);
                mutex_lock(&trace->lock);
                task = get_task(trace, tid, &who);
        }
        if (task)
                note_waiting(trace, task, wait->began_ns);
        wait->task = task;
        wait->pid = task ? task->sums.pid : 0;
        if (wait->why == TRACE_MISS && trace->seen[wait->ino % SEEN_MAX] == wait->ino)
                wait->why = TRACE_EVICTED;
        mutex_unlock(&trace->lock);
}

/* Files waited for longest come first; the last gives way to one that was waited for longer. */
static void count_file(struct trace_sums *s, const struct trace_wait *w, int64_t wait_ns)
{
        struct trace_file *f = s->files, *const last = &s->files[TRACE_FILES_MAX - 1];

        while (f < last && f->reads > 0 && f->ino != w->ino)
                f++;
        if (f->reads > 0 && f->ino != w->ino) {
                if (wait_ns <= f->wait_ns)
                        return;
                *f = (struct trace_file){ 0 };
        }
        f->ino = w->ino;
        f->reads++;
        f->bytes += w->size;
        f->wait_ns += wait_ns;
        f->whys |= 1u << w->why;
        for (; f > s->files && f[-1].wait_ns < f->wait_ns; f--) {
                struct trace_file before = f[-1];

                f[-1] = *f;
                *f = before;
        }
}

/* Whether somebody who had known could have begun earlier. */
static bool is_unlisted(const struct trace_wait *w)
{
        return !w->listed && (w->why == TRACE_MISS || w->why == TRACE_PIECE || w->why == TRACE_EVICTED ||
                              w->why == TRACE_SHARED);
}

static void count_wait(struct trace_task *task, const struct trace_wait *w, int64_t now_ns)
{
        struct trace_sums *s = &task->sums;
        int64_t wait_ns = now_ns - w->began_ns;

        s->waits++;
        s->wait_ns += wait_ns;
        s->unlisted_ns += is_unlisted(w) ? wait_ns : 0;
        s->bytes += w->error == 0 ? w->size : 0;
        s->failed += w->error < 0;
        s->by_why[w->why]++;
        count_file(s, w, wait_ns);
        if (--task->waiting == 0)
                s->blocked_ns += now_ns - task->blocked_since_ns;
}

void trace_end(struct trace *trace, struct trace_wait *wait)
{
        int64_t now = clock_monotonic_ns();
        struct trace_event *e;

        if (wait->began_ns == 0)
                return;
        mutex_lock(&trace->lock);
        trace->waiting--;
        e = &trace->events[trace->last++ % TRACE_EVENTS_MAX];
        *e = (struct trace_event){
                .number = trace->last,
                .wait_ns = now - wait->began_ns,
                .began_ms = (clock_coarse_ns() - (now - wait->began_ns)) / NSEC_PER_MSEC,
                .ino = wait->ino,
                .offset = wait->offset,
                .size = wait->size,
                .pid = wait->pid,
                .why = wait->why,
                .error = wait->error,
                .listed = wait->listed,
        };
        if (wait->task) {
                memcpy(e->command, wait->task->sums.command, sizeof(e->command));
                count_wait(wait->task, wait, now);
        }
        if (wait->error == 0 && (wait->why == TRACE_MISS || wait->why == TRACE_EVICTED))
                trace->seen[wait->ino % SEEN_MAX] = wait->ino;
        mutex_unlock(&trace->lock);
        wait->began_ns = 0;
}

/* ---- looking ---- */

size_t trace_get(struct trace *trace, uint64_t after, struct trace_event *ret, size_t max)
{
        size_t n = 0;

        mutex_lock(&trace->lock);
        if (trace->last > TRACE_EVENTS_MAX)
                after = MAX(after, trace->last - TRACE_EVENTS_MAX);
        for (; after < trace->last && n < max; after++)
                ret[n++] = trace->events[after % TRACE_EVENTS_MAX];
        mutex_unlock(&trace->lock);
        return n;
}

uint64_t trace_last(struct trace *trace, unsigned *ret_waiting)
{
        uint64_t last;

        mutex_lock(&trace->lock);
        last = trace->last;
        *ret_waiting = trace->waiting;
        mutex_unlock(&trace->lock);
        return last;
}

size_t trace_get_tasks(struct trace *trace, struct trace_sums ret[TRACE_TASKS_MAX])
{
        const struct trace_task *task;
        size_t n = 0;

        mutex_lock(&trace->lock);
        DL_FOREACH (trace->tasks, task) {
                ret[n] = task->sums;
                if (task->waiting > 0)
                        ret[n].blocked_ns += clock_monotonic_ns() - task->blocked_since_ns;
                n++;
        }
        mutex_unlock(&trace->lock);
        return n;
}
