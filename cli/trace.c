#include "cli/command.h"

#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/mounts.h"
#include "fs/control.h"

#define RETRY_MS 50

/* One mount that is followed, on a thread of its own. */
struct follow {
        const char *dir;
        bool json, several;
        bool unread;      /* nobody reads what we print */
        unsigned daemons; /* that answered, one after the other */
        int result;
        pthread_t thread;
};

static const char *text(const json_t *line, const char *key)
{
        const char *value = json_string_value(json_object_get(line, key));

        return value ? value : "?";
}

/* Names are not ours, and must not drive the terminal. */
static void print_name(const char *name)
{
        _cleanup_free_ char *copy = strdup(name);

        if (copy)
                log_make_printable(copy);
        fputs(copy ?: "?", stdout);
}

static void print_wait(const struct follow *f, const json_t *line)
{
        double when = json_number_value(json_object_get(line, "time"));
        const char *error = json_string_value(json_object_get(line, "error"));
        time_t seconds = (time_t)when;
        char clock[16] = "?", bytes[32];
        struct tm tm;

        if (localtime_r(&seconds, &tm))
                strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        flockfile(stdout);
        printf("%s.%03d %9.1f ms  %-10s %10s  %7d %-15.15s ", clock, (int)((when - (double)seconds) * 1000),
               json_number_value(json_object_get(line, "milliseconds")), text(line, "why"),
               format_bytes((unsigned long long)json_integer_value(json_object_get(line, "bytes")), bytes),
               (int)json_integer_value(json_object_get(line, "pid")), text(line, "command"));
        if (f->several)
                printf("%s/", f->dir);
        print_name(text(line, "path"));
        if (json_integer_value(json_object_get(line, "offset")) > 0)
                printf(" @%lld", (long long)json_integer_value(json_object_get(line, "offset")));
        printf("%s%s\n", error ? ": " : "", error ?: "");
        funlockfile(stdout);
}

static void print_json_line(const struct follow *f, json_t *line)
{
        _cleanup_free_ char *dump = NULL;

        json_object_set_new(line, "target", json_string(f->dir));
        dump = json_dumps(line, JSON_COMPACT);
        if (dump)
                puts(dump);
}

/* The first line of a daemon. */
static void meet(struct follow *f)
{
        if (f->daemons++ > 0)
                fprintf(stderr,
                        "fsyncfs: another daemon serves '%s' now; what waited in between is not shown\n",
                        f->dir);
}

static int take_line(json_t *line, void *arg)
{
        struct follow *f = arg;
        long long lost = json_integer_value(json_object_get(line, "lost"));

        if (json_object_get(line, "error") && !json_object_get(line, "number"))
                return 0; /* the whole failed: who follows says it */
        if (json_object_get(line, "source"))
                meet(f);
        if (f->json)
                print_json_line(f, line);
        else if (lost > 0)
                printf("... %lld more, too quick to be shown\n", lost);
        else if (json_object_get(line, "number"))
                print_wait(f, line);
        f->unread = fflush(stdout) != 0;
        return f->unread ? -EPIPE : 0;
}

/* From one daemon of the mount to the next. */
static int follow_all_daemons(struct follow *f, struct failure *failure)
{
        int64_t lost_ns = 0;

        for (;;) {
                unsigned before = f->daemons;
                int r;

                *failure = (struct failure){ 0 };
                r = control_follow(f->dir, "trace", take_line, f, failure);
                if (f->daemons > before)
                        lost_ns = clock_monotonic_ns();
                if (f->unread || f->daemons == 0 || !control_is_between(r) ||
                    clock_monotonic_ns() - lost_ns > CONTROL_BETWEEN_SEC * NSEC_PER_SEC)
                        return r;
                poll(NULL, 0, RETRY_MS);
        }
}

static void *follow_main(void *arg)
{
        struct follow *f = arg;
        struct failure failure;

        f->result = follow_all_daemons(f, &failure);
        if (f->result < 0 && f->result != -EPIPE)
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, f->result));
        return NULL;
}

static int follow_all(const struct mounts *mounts, bool json)
{
        struct follow *all = calloc(mounts->n, sizeof(*all));
        size_t started = 0;
        int result = 0;

        if (!all)
                return 1;
        for (; started < mounts->n; started++) {
                all[started] = (struct follow){ .dir = mounts->targets[started],
                                                .json = json,
                                                .several = mounts->n > 1 };
                if (pthread_create(&all[started].thread, NULL, follow_main, &all[started]) != 0)
                        break;
        }
        for (size_t i = 0; i < started; i++) {
                pthread_join(all[i].thread, NULL);
                result |= all[i].result < 0;
        }
        free(all);
        return result;
}

int command_trace(int argc, char **argv)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
        struct mounts mounts;
        bool json = false;
        int opt, result;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 'j')
                json = true;
        if (opt != -1 || argc - optind > 1)
                return command_usage("trace");
        if (mounts_need(argv[optind], &mounts) != 0)
                return 1;
        result = follow_all(&mounts, json);
        mounts_release(&mounts);
        return result;
}
