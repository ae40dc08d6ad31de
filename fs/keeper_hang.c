/*
 * A daemon that hangs is told from one that is busy, and ended; then it is replaced as if it had died.
 *
 * It hangs if a request that needs nobody is not answered, while its thread sleeps and is not even woken, and nobody in the daemon is at work whom it could be waiting for. To end one that would have come
 * through is worse than to be late, so each of these is a reason to wait:
 *  - The daemon has had no time: its looks (fs/progress.h) are its own seconds.
 *  - Some thread of it is stopped (see fs/keeper_stopped.c), or traced: somebody has done that, and has a reason.
 *  - The request's thread runs, or waits for a disk. The next daemon would wait for the same disk, and this one has threads that serve others meanwhile.
 *  - Other threads are at work more often than not. What they do may be long, and what they hold wanted.
 * Each hang within an hour of the last one doubles the patience: what a new daemon does not mend is not mended by another one.
 *
 * Only files of /proc are looked at that ask neither the threads nor their memory for anything, so that nothing can hold up the keeper.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/keeper_private.h"
#include "fs/progress.h"

#define ASLEEP_LOOKS  15u /* in which nobody was at work: a hang */
#define DOUBLINGS_MAX 6u
#define RECENT_SEC    3600
#define ABORT_MAX_SEC 10 /* for a core to be written, where that is wanted */
#define TELL_LOOKS                                                                                           \
        20u /* a request that is this old, and does not hang, is worth a line; so is one of twice as many, four times … */
#define TEXT_MAX    8192 /* of a file in /proc: `status` has a line of a bit for each CPU */
#define STACK_LINES 8

/* ---- the threads ---- */

/* The file NAME of thread THREAD of K's daemon, as far as it fits; empty if it cannot be read. */
static void read_of(const struct keeper *k, pid_t thread, const char *name, char text[TEXT_MAX])
{
        char path[64];
        _cleanup_close_ int fd = -1;
        ssize_t n = -1;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", k->now.pid, thread, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, text, TEXT_MAX - 1);
        text[MAX(n, (ssize_t)0)] = '\0';
}

/* What follows KEY in STATUS; NULL: it does not. */
static const char *value_of(const char *status, const char *key)
{
        const char *at = strstr(status, key);

        return at ? at + strlen(key) : NULL;
}

struct thread_look {
        char state;          /* as ps(1) shows it; 0: it is gone, or cannot be looked at */
        bool traced;         /* by a debugger */
        unsigned long moves; /* how often it was taken from a CPU */
};

static struct thread_look look_at(const struct keeper *k, pid_t thread)
{
        char text[TEXT_MAX];
        const char *state, *tracer, *own, *other;

        read_of(k, thread, "status", text);
        state = value_of(text, "\nState:\t");
        tracer = value_of(text, "\nTracerPid:\t");
        own = value_of(text, "\nvoluntary_ctxt_switches:\t");
        other = value_of(text, "\nnonvoluntary_ctxt_switches:\t");
        if (!state || !tracer || !own || !other)
                return (struct thread_look){ 0 };
        return (struct thread_look){ .state = *state,
                                     .traced = *tracer != '0',
                                     .moves = strtoul(own, NULL, 10) + strtoul(other, NULL, 10) };
}

bool keeper_hang_is_traced(const struct keeper *k)
{
        return look_at(k, k->now.pid).traced;
}

/* Whether THREAD is in a write to the kernel's connection: a page that is pushed waits for the read of that page, be that in a request that hangs. */
static bool pushes_page(const struct keeper *k, pid_t thread)
{
        char text[TEXT_MAX], path[64], target[16];
        unsigned long call, fd;
        ssize_t n;

        read_of(k, thread, "syscall", text);
        if (sscanf(text, "%lu %lx", &call, &fd) != 2 || (call != SYS_write && call != SYS_writev))
                return false;
        snprintf(path, sizeof(path), "/proc/%d/fd/%lu", k->now.pid, fd);
        n = readlink(path, target, sizeof(target));
        return n == (ssize_t)strlen("/dev/fuse") && memcmp(target, "/dev/fuse", (size_t)n) == 0;
}

static bool is_fresh(const struct progress_report *report, pid_t thread)
{
        for (uint32_t i = 0; i < MIN(report->n_fresh, (uint32_t)ARRAY_SIZE(report->fresh)); i++)
                if (report->fresh[i] == thread)
                        return true;
        return false;
}

/* All of them at one time, more or less. */
struct look {
        const struct progress_report *report;
        struct thread_look stuck; /* the one with the old request */
        bool stopped;             /* one of them is, or traced */
        bool at_work; /* one that may have what the stuck one wants: a thread with a newer request has nothing from before it */
};

static void add_thread(const struct keeper *k, pid_t thread, void *arg)
{
        const struct thread_look found = look_at(k, thread);
        struct look *look = arg;

        look->stopped |= found.traced || found.state == 'T' || found.state == 't';
        if (thread == look->report->thread)
                look->stuck = found;
        else if (found.state == 'R' || (found.state == 'D' && !pushes_page(k, thread)))
                look->at_work |= !is_fresh(look->report, thread);
}

static void each_thread(const struct keeper *k, void (*each)(const struct keeper *k, pid_t thread, void *arg),
                        void *arg)
{
        char path[32];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof(path), "/proc/%d/task", k->now.pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
                if (isdigit((unsigned char)entry->d_name[0]))
                        each(k, atoi(entry->d_name), arg);
        if (dir)
                closedir(dir);
}

/* ---- what is said of them ---- */

static char *first_line(char *text)
{
        text[strcspn(text, "\n")] = '\0';
        return text;
}

/* The kernel's side of it, which root may see: each line is "[<0>] function+0x1/0x2". */
static void log_stack(const struct keeper *k, pid_t thread)
{
        char text[TEXT_MAX], *rest = text, *line;

        read_of(k, thread, "stack", text);
        for (unsigned i = 0; i < STACK_LINES && (line = strsep(&rest, "\n")) && *line; i++)
                log_error("    %s", line);
}

static void log_thread(const struct keeper *k, pid_t thread, void *arg)
{
        char name[TEXT_MAX], wchan[TEXT_MAX], call[TEXT_MAX];
        const char state = look_at(k, thread).state;

        read_of(k, thread, "comm", name);
        read_of(k, thread, "wchan", wchan);
        read_of(k, thread, "syscall", call);
        log_error("  thread %d (%s): %c in %s, call %s", thread, first_line(name), state ? state : '?',
                  first_line(wchan), first_line(call));
        if (thread == k->hang.thread)
                log_stack(k, thread);
}

static const char *describe(const struct look *look, unsigned asleep)
{
        if (look->stopped)
                return "the daemon is stopped, or in a debugger";
        if (look->stuck.state == 'D')
                return "it waits for a disk";
        if (look->at_work)
                return "others are at work";
        return asleep > 0 ? "nobody is at work on it" : "it goes on";
}

/* ---- the verdict ---- */

static void end_daemon(struct keeper *k, const struct progress_report *report)
{
        struct keeper_hang *hang = &k->hang;
        const int64_t now_ns = clock_monotonic_ns();

        log_error("the daemon of '%s' hangs: thread %d has not moved for %u s, in a request (%u) of %u s; "
                  "its threads:",
                  k->takeover.target, report->thread, hang->asleep, report->opcode, report->looks);
        each_thread(k, log_thread, NULL);
        hang->recent =
                hang->last_ns && now_ns - hang->last_ns < RECENT_SEC * NSEC_PER_SEC ? hang->recent + 1 : 1;
        hang->last_ns = now_ns;
        hang->asleep = 0;
        atomic_fetch_add(&k->takeover.page->hangs, 1);
        kill(k->now.pid, SIGABRT);
        k->kill_ns = MIN(k->kill_ns, now_ns + ABORT_MAX_SEC * NSEC_PER_SEC);
}

static unsigned patience(const struct keeper_hang *hang)
{
        const bool recent = hang->last_ns && clock_monotonic_ns() - hang->last_ns < RECENT_SEC * NSEC_PER_SEC;

        return ASLEEP_LOOKS << (recent ? MIN(hang->recent, DOUBLINGS_MAX) : 0);
}

/* Takes LOOK into account. */
static void weigh(struct keeper_hang *hang, const struct look *look)
{
        const struct progress_report *report = look->report;
        bool same = report->thread == hang->thread && report->looks > hang->looks;

        if (!same || look->stopped || look->stuck.state != 'S' || look->stuck.moves != hang->moves)
                hang->asleep = 0;
        else if (!look->at_work)
                hang->asleep++;
        else if (hang->asleep > 0)
                hang->asleep--;
        hang->thread = report->thread;
        hang->looks = report->looks;
        hang->moves = look->stuck.moves;
}

static bool is_worth_a_line(uint32_t looks)
{
        const uint32_t times = looks / TELL_LOOKS;

        return looks % TELL_LOOKS == 0 && (times & (times - 1)) == 0;
}

static void judge(struct keeper *k, const struct progress_report *report)
{
        struct look look = { .report = report };

        each_thread(k, add_thread, &look);
        weigh(&k->hang, &look);
        if (k->hang.asleep >= patience(&k->hang) && takeover_is_due(&k->takeover) && !k->asked)
                end_daemon(k, report);
        else if (is_worth_a_line(report->looks))
                log_warning("a request (%u) on '%s' is in the works for %u s: %s", report->opcode,
                            k->takeover.target, report->looks, describe(&look, k->hang.asleep));
}

void keeper_hang_hear(struct keeper *k)
{
        struct progress_report report = { 0 }, next;

        while (read(k->now.lifeline_fd, &next, sizeof(next)) == sizeof(next))
                report = next; /* those before are of a time when nobody looked */
        if (report.thread && k->now.pid > 0)
                judge(k, &report);
}
