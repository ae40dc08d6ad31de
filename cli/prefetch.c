#include "cli/command.h"

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/bar.h"
#include "fs/control.h"

struct shown {
        const char *path;
        json_t *last; /* owned: the last line */
        bool json;
        struct bar bar;
};

static double number(const json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

static void show(struct shown *shown)
{
        const json_t *v = shown->last;

        bar_show(&shown->bar, &(struct bar_state){ .bytes = (uint64_t)number(v, "bytes"),
                                                   .total_bytes = (uint64_t)number(v, "total_bytes"),
                                                   .moved_bytes = (uint64_t)number(v, "fetched_bytes"),
                                                   .counted = json_is_true(json_object_get(v, "counted")) });
}

static int take_line(json_t *line, void *arg)
{
        struct shown *shown = arg;

        json_decref(shown->last);
        shown->last = json_incref(line);
        if (!shown->json && !json_object_get(line, "error"))
                show(shown);
        return 0;
}

static void print_summary(const struct shown *shown)
{
        char all[32], fetched[32];

        printf("%s: %.0f files, %s; %.0f fetched, %s, in %.1f s\n", shown->path, number(shown->last, "files"),
               format_bytes((unsigned long long)number(shown->last, "bytes"), all),
               number(shown->last, "fetched_files"),
               format_bytes((unsigned long long)number(shown->last, "fetched_bytes"), fetched),
               number(shown->last, "elapsed_seconds"));
}

static int explain(const struct shown *shown, int r, const struct failure *failure)
{
        double failed = number(shown->last, "failed");

        if (failed > 0)
                fprintf(stderr, "fsyncfs: '%s': %.0f files could not be fetched: %s\n", shown->path, failed,
                        failure_text(failure, r));
        else
                fprintf(stderr, "fsyncfs: '%s': %s\n", shown->path, failure_text(failure, r));
        return 1;
}

static int prefetch_path(const char *path, bool json)
{
        struct shown shown = { .path = path, .json = json };
        struct failure failure = { 0 };
        char command[64];
        struct stat st;
        int r, result = 0;

        if (lstat(path, &st) < 0) {
                fprintf(stderr, "fsyncfs: '%s': %s\n", path, strerror(errno));
                return 1;
        }
        snprintf(command, sizeof(command), "prefetch %lu", (unsigned long)st.st_ino);
        bar_begin(&shown.bar, path);
        r = control_follow(path, command, take_line, &shown, &failure);
        bar_clear(&shown.bar);
        if (shown.last && json)
                print_json(shown.last);
        else if (shown.last && r == 0)
                print_summary(&shown);
        if (r < 0)
                result = explain(&shown, r, &failure);
        json_decref(shown.last);
        return result;
}

/* The daemon stops as soon as we are gone; what has come stays. */
static void interrupted(int number)
{
        static const char
                terminal[] = "\r\033[K",
                text[] =
                        "fsyncfs: broken off; what has come stays, and the same command goes on from there\n";

        if (isatty(STDERR_FILENO) && write(STDERR_FILENO, terminal, sizeof(terminal) - 1) < 0)
                return;
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
                return;
        signal(number, SIG_DFL);
        raise(number);
}

int command_prefetch(int argc, char **argv)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
        bool json = false;
        int opt, result = 0;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 'j')
                json = true;
        if (opt != -1 || optind == argc)
                return command_usage("prefetch");
        signal(SIGINT, interrupted);
        for (int i = optind; i < argc; i++)
                result |= prefetch_path(argv[i], json);
        return result;
}
