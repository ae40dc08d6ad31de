#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "cli/mounts.h"
#include "fs/control.h"

/* What people are told of several tasks together. */
struct total {
        double blocked, wait, unlisted;
        json_int_t waits, bytes, failed;
};

static json_t *ask(const char *dir, const char *command)
{
        struct failure failure = { 0 };
        json_t *reply;
        int r = control_ask(dir, command, &reply, &failure);

        if (r == 0)
                return reply;
        fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        return NULL;
}

static double number(const json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

static void print_name(const json_t *value)
{
        _cleanup_free_ char *copy = json_string_value(value) ? strdup(json_string_value(value)) : NULL;

        if (copy)
                log_make_printable(copy);
        fputs(copy ?: "?", stdout);
}

static void print_whys(json_t *whys)
{
        const char *separator = "  ", *why;
        json_t *count;

        fputs("  why     ", stdout);
        json_object_foreach(whys, why, count)
        {
                printf("%s%lld %s", separator, (long long)json_integer_value(count), why);
                separator = ", ";
        }
        putchar('\n');
}

static void print_files(const json_t *files)
{
        const json_t *file, *why;
        char bytes[32];
        size_t i, j;

        json_array_foreach(files, i, file)
        {
                printf("  %9.1f ms %10s  ", number(file, "seconds") * 1000,
                       format_bytes((unsigned long long)number(file, "bytes"), bytes));
                print_name(json_object_get(file, "path"));
                json_array_foreach(json_object_get(file, "why"), j, why)
                        printf("%s%s", j ? ", " : " (", json_string_value(why));
                puts(")");
        }
}

static void print_task(const json_t *task, const char *target)
{
        char bytes[32];

        printf("%d ", (int)number(task, "pid"));
        print_name(json_object_get(task, "command"));
        printf(" on %s, in ", target);
        print_name(json_object_get(task, "cgroup"));
        printf("\n  waited    %.3f s (%.0f requests, %.3f s added up), %s\n", number(task, "blocked_seconds"),
               number(task, "waits"), number(task, "wait_seconds"),
               format_bytes((unsigned long long)number(task, "bytes"), bytes));
        if (number(task, "failed") > 0)
                printf("  failed    %.0f\n", number(task, "failed"));
        print_whys(json_object_get(task, "why"));
        printf("  a list of what it reads, learned before, would have saved %.3f s at most\n",
               number(task, "unlisted_seconds"));
        print_files(json_object_get(task, "files"));
}

static void add(struct total *t, const json_t *task)
{
        t->blocked += number(task, "blocked_seconds");
        t->wait += number(task, "wait_seconds");
        t->unlisted += number(task, "unlisted_seconds");
        t->waits += (json_int_t)number(task, "waits");
        t->bytes += (json_int_t)number(task, "bytes");
        t->failed += (json_int_t)number(task, "failed");
}

/* Each mount's tasks are under `tasks` of its reply. */
static void print_all(const json_t *replies, size_t n_tasks, const struct total *total)
{
        const json_t *reply, *task;
        size_t i, j;

        json_array_foreach(replies, i, reply)
        {
                const char *target = json_string_value(json_object_get(reply, "target"));

                json_array_foreach(json_object_get(reply, "tasks"), j, task) print_task(task, target ?: "?");
        }
        if (n_tasks > 1)
                printf("%lu processes in all: waited %.3f s, %lld requests; a list would have saved %.3f s "
                       "at most\n",
                       (unsigned long)n_tasks, total->blocked, (long long)total->waits, total->unlisted);
}

static void print_object(const json_t *replies, const struct total *total)
{
        json_t *object =
                json_pack("{s:O, s:I, s:I, s:I, s:f, s:f, s:f}", "mounts", replies, "waits", total->waits,
                          "bytes", total->bytes, "failed", total->failed, "blocked_seconds", total->blocked,
                          "wait_seconds", total->wait, "unlisted_seconds", total->unlisted);

        if (object)
                print_json(object);
        json_decref(object);
}

static int explain(const struct mounts *mounts, const char *who, bool json)
{
        char *end, command[512];
        long pid = strtol(who, &end, 10);
        json_t *replies = json_array();
        struct total total = { 0 };
        size_t n_tasks = 0, j;
        int result = 0;

        if (*end == '\0' && pid > 0)
                snprintf(command, sizeof(command), "explain pid %ld", pid);
        else
                snprintf(command, sizeof(command), "explain cgroup %.400s", who);
        for (size_t i = 0; i < mounts->n; i++) {
                json_t *reply = ask(mounts->targets[i], command);
                const json_t *task;

                result |= !reply;
                json_array_foreach(json_object_get(reply, "tasks"), j, task)
                {
                        add(&total, task);
                        n_tasks++;
                }
                if (reply)
                        json_array_append_new(replies, reply);
        }
        if (json)
                print_object(replies, &total);
        else
                print_all(replies, n_tasks, &total);
        json_decref(replies);
        if (n_tasks > 0 || result)
                return result;
        if (!json)
                printf("'%s' has not waited here, as far as is known\n", who);
        return 0;
}

int command_explain(int argc, char **argv)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
        struct mounts mounts;
        bool json = false;
        int opt, result;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 'j')
                json = true;
        if (opt != -1 || argc - optind < 1 || argc - optind > 2 || strchr(argv[optind], '\n'))
                return command_usage("explain");
        if (mounts_need(argv[optind + 1], &mounts) != 0)
                return 1;
        result = explain(&mounts, argv[optind], json);
        mounts_release(&mounts);
        return result;
}
