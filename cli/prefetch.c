#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/control.h"

#define BAR_WIDTH 24

struct shown {
        const char *path;
        json_t *last; /* owned: the last line */
        bool terminal;
};

static double number(const json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

/* A line that is written over again and again: a bar, how much, how fast, how long yet. */
static void show(const struct shown *shown)
{
        const json_t *v = shown->last;
        double total = number(v, "total_bytes"), done = number(v, "bytes"),
               seconds = number(v, "elapsed_seconds");
        double share = total > 0 ? MIN(done / total, 1.0) : 0;
        double rate = seconds > 0 ? number(v, "fetched_bytes") / seconds : 0;
        int filled = (int)(share * BAR_WIDTH);
        char of[32], have[32], speed[32];

        fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%  %s of %s%s  %s/s", shown->path, filled,
                "########################", BAR_WIDTH - filled, "", share * 100,
                format_bytes((unsigned long long)done, have), format_bytes((unsigned long long)total, of),
                json_is_true(json_object_get(v, "counted")) ? "" : "+",
                format_bytes((unsigned long long)rate, speed));
        if (rate > 0)
                fprintf(stderr, "  %.0f s left", (total - done) / rate);
        fputs("\033[K", stderr);
}

static int take_line(json_t *line, void *arg)
{
        struct shown *shown = arg;

        json_decref(shown->last);
        shown->last = json_incref(line);
        if (shown->terminal && !json_object_get(line, "error"))
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
        struct shown shown = { .path = path, .terminal = !json && isatty(STDERR_FILENO) };
        struct failure failure = { 0 };
        char command[64];
        struct stat st;
        int r, result = 0;

        if (lstat(path, &st) < 0) {
                fprintf(stderr, "fsyncfs: '%s': %s\n", path, strerror(errno));
                return 1;
        }
        snprintf(command, sizeof(command), "prefetch %lu", (unsigned long)st.st_ino);
        r = control_follow(path, command, take_line, &shown, &failure);
        if (shown.terminal)
                fputs("\r\033[K", stderr);
        if (shown.last && json)
                print_json(shown.last);
        else if (shown.last && r == 0)
                print_summary(&shown);
        if (r < 0)
                result = explain(&shown, r, &failure);
        json_decref(shown.last);
        return result;
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
        for (int i = optind; i < argc; i++)
                result |= prefetch_path(argv[i], json);
        return result;
}
