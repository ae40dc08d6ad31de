#include "fs/tracing.h"

#include <poll.h>
#include <stdatomic.h>
#include <string.h>

#include "base/io.h"
#include "fs/channel.h"
#include "fs/filesystem.h"
#include "fs/status.h"
#include "fs/trace.h"

#define LOOK_MS      100 /* between two looks at the ring */
#define EVENTS_BATCH 64
#define SERVED_MAX   4 /* at a time: the control socket's connections are for others, too */
#define SLOWEST_MAX  10
#define SLOWEST_MS   60000 /* how old they are at most */

static atomic_uint served;

static json_t *path_json(struct filesystem *fs, uint64_t ino)
{
        _cleanup_buffer_ struct buffer path = { 0 };

        return catalog_path(fs->catalog, ino, &path) == CATALOG_OK ? status_path_json(path.data ?: "")
                                                                   : json_null();
}

static double seconds(int64_t ns)
{
        return (double)ns / (double)NSEC_PER_SEC;
}

static json_t *event_json(struct filesystem *fs, const struct trace_event *e)
{
        json_t *line = json_pack(
                "{s:I, s:f, s:i, s:o, s:o, s:I, s:I, s:f, s:s, s:b}", "number", (json_int_t)e->number, "time",
                (double)e->began_ms / 1000, "pid", (int)e->pid, "command", status_path_json(e->command),
                "path", path_json(fs, e->ino), "offset", (json_int_t)e->offset, "bytes", (json_int_t)e->size,
                "milliseconds", (double)e->wait_ns / (double)NSEC_PER_MSEC, "why", trace_why_name(e->why),
                "listed", e->listed);

        if (line && e->error < 0)
                json_object_set_new(line, "error", json_string(strerror(-e->error)));
        return line;
}

/* ---- trace ---- */

static int send_line(int fd, json_t *line)
{
        _cleanup_free_ char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
        int r = text ? io_write_all(fd, text, strlen(text)) : -ENOMEM;

        json_decref(line);
        return r < 0 ? r : io_write_all(fd, "\n", 1);
}

/* Sends what came after AFTER, and moves it on. */
static int send_events(struct filesystem *fs, int fd, uint64_t *after)
{
        struct trace_event events[EVENTS_BATCH];
        size_t n;
        int r = 0;

        do {
                n = trace_get(fs->trace, *after, events, EVENTS_BATCH);
                if (n > 0 && events[0].number > *after + 1)
                        r = send_line(
                                fd, json_pack("{s:I}", "lost", (json_int_t)(events[0].number - *after - 1)));
                for (size_t i = 0; i < n && r == 0; i++)
                        r = send_line(fd, event_json(fs, &events[i]));
                if (n > 0)
                        *after = events[n - 1].number;
        } while (n == EVENTS_BATCH && r == 0);
        return r;
}

void tracing_serve(struct filesystem *fs, int fd, int stop_fd)
{
        struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
        unsigned waiting;
        uint64_t after = trace_last(fs->trace, &waiting);

        if (atomic_fetch_add(&served, 1) >= SERVED_MAX)
                (void)send_line(
                        fd, json_pack("{s:s, s:i}", "error", "too many are looking already", "errno", EBUSY));
        else if (send_line(fd, json_pack("{s:s}", "source", fs->source.text)) == 0)
                while (poll(fds, ARRAY_SIZE(fds), LOOK_MS) == 0 && send_events(fs, fd, &after) == 0)
                        continue;
        atomic_fetch_sub(&served, 1);
}

/* ---- explain ---- */

static json_t *whys_json(uint32_t whys)
{
        json_t *list = json_array();

        for (int why = 0; list && why < TRACE_WHY_COUNT; why++)
                if (whys & (1u << why))
                        json_array_append_new(list, json_string(trace_why_name((enum trace_why)why)));
        return list;
}

static json_t *files_json(struct filesystem *fs, const struct trace_sums *s)
{
        json_t *list = json_array();

        for (int i = 0; list && i < TRACE_FILES_MAX && s->files[i].reads > 0; i++) {
                const struct trace_file *f = &s->files[i];

                json_array_append_new(list,
                                      json_pack("{s:o, s:I, s:I, s:f, s:o}", "path", path_json(fs, f->ino),
                                                "waits", (json_int_t)f->reads, "bytes", (json_int_t)f->bytes,
                                                "seconds", seconds(f->wait_ns), "why", whys_json(f->whys)));
        }
        return list;
}

static json_t *by_why_json(const struct trace_sums *s)
{
        json_t *object = json_object();

        for (int why = 0; object && why < TRACE_WHY_COUNT; why++)
                if (s->by_why[why] > 0)
                        json_object_set_new(object, trace_why_name((enum trace_why)why),
                                            json_integer((json_int_t)s->by_why[why]));
        return object;
}

static json_t *task_json(struct filesystem *fs, const struct trace_sums *s)
{
        return json_pack("{s:i, s:o, s:o, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o}", "pid",
                         (int)s->pid, "command", status_path_json(s->command), "cgroup",
                         status_path_json(s->cgroup), "first", (double)s->first_ms / 1000, "last",
                         (double)s->last_ms / 1000, "waits", (json_int_t)s->waits, "bytes",
                         (json_int_t)s->bytes, "failed", (json_int_t)s->failed, "blocked_seconds",
                         seconds(s->blocked_ns), "wait_seconds", seconds(s->wait_ns), "unlisted_seconds",
                         seconds(s->unlisted_ns), "why", by_why_json(s), "files", files_json(fs, s));
}

/* CGROUP as in /proc/PID/cgroup, or as a path below /sys/fs/cgroup. */
static bool is_in(const char *group, const char *cgroup)
{
        static const char root[] = "/sys/fs/cgroup";
        size_t len;

        if (strncmp(cgroup, root, sizeof(root) - 1) == 0)
                cgroup += sizeof(root) - 1;
        len = strlen(cgroup);
        while (len > 0 && cgroup[len - 1] == '/')
                len--;
        return strncmp(group, cgroup, len) == 0 && (group[len] == '\0' || group[len] == '/');
}

json_t *tracing_tasks_json(struct filesystem *fs, int pid, const char *cgroup)
{
        _cleanup_free_ struct trace_sums *tasks = calloc(TRACE_TASKS_MAX, sizeof(*tasks));
        json_t *list = tasks ? json_array() : NULL;
        size_t n = tasks ? trace_get_tasks(fs->trace, tasks) : 0;

        for (size_t i = 0; list && i < n; i++)
                if (cgroup ? is_in(tasks[i].cgroup, cgroup) : tasks[i].pid == pid)
                        json_array_append_new(list, task_json(fs, &tasks[i]));
        return list ? json_pack("{s:s, s:o, s:o}", "source", fs->source.text, "target",
                                status_path_json(fs->target), "tasks", list)
                    : NULL;
}

/* ---- top ---- */

/* Puts E where it belongs among the N slowest. */
static size_t add_slow(struct trace_event slowest[SLOWEST_MAX], size_t n, const struct trace_event *e)
{
        size_t at = n;

        while (at > 0 && slowest[at - 1].wait_ns < e->wait_ns)
                at--;
        if (at == SLOWEST_MAX)
                return n;
        memmove(&slowest[at + 1], &slowest[at], (MIN(n, SLOWEST_MAX - 1) - at) * sizeof(*e));
        slowest[at] = *e;
        return MIN(n + 1, SLOWEST_MAX);
}

static json_t *slowest_json(struct filesystem *fs)
{
        const int64_t since_ms = clock_coarse_ns() / NSEC_PER_MSEC - SLOWEST_MS;
        struct trace_event events[EVENTS_BATCH], slowest[SLOWEST_MAX];
        json_t *list = json_array();
        uint64_t after = 0;
        size_t n, count = 0;

        while ((n = trace_get(fs->trace, after, events, EVENTS_BATCH)) > 0) {
                after = events[n - 1].number;
                for (size_t i = 0; i < n; i++)
                        if (events[i].began_ms >= since_ms)
                                count = add_slow(slowest, count, &events[i]);
        }
        for (size_t i = 0; list && i < count; i++)
                json_array_append_new(list, event_json(fs, &slowest[i]));
        return list;
}

json_t *tracing_counters_json(struct filesystem *fs)
{
        struct channel_counts counts;
        struct fetch_stats fetched;
        unsigned waiting;
        uint64_t waits = trace_last(fs->trace, &waiting);

        channel_get_counts(fs->channel, &counts);
        fetch_get_stats(fs->fetch, &fetched);
        return json_pack("{s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o}", "source",
                         fs->source.text, "target", status_path_json(fs->target), "state",
                         status_state_name(fs), "requests", (json_int_t)counts.requests, "reply_bytes",
                         (json_int_t)counts.reply_bytes, "hits", (json_int_t)atomic_load(&fs->hits), "misses",
                         (json_int_t)atomic_load(&fs->misses), "fetched_files", (json_int_t)fetched.files,
                         "fetched_bytes", (json_int_t)fetched.bytes, "failed_reads",
                         (json_int_t)fetched.failures, "waits", (json_int_t)waits, "waiting", (int)waiting,
                         "slowest", slowest_json(fs));
}
