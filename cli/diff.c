#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "fs/control.h"

struct shown {
        json_t **lines; /* owned, each of them: what changes */
        size_t n, capacity;
        json_t *end; /* owned: the last line */
};

static const char *text(const json_t *object, const char *key)
{
        const char *value = json_string_value(json_object_get(object, key));

        return value ? value : "?";
}

static double size_of(const json_t *entry)
{
        return json_number_value(json_object_get(entry, "size"));
}

static bool is_folder(const json_t *entry)
{
        return strcmp(text(entry, "kind"), "directory") == 0;
}

/* What of an entry that stays has changed. */
static void print_how(const json_t *before, const json_t *after)
{
        char was[32], is[32];

        if (strcmp(text(before, "kind"), text(after, "kind")) != 0)
                printf("  %s -> %s", text(before, "kind"), text(after, "kind"));
        else if (strcmp(text(before, "hash"), text(after, "hash")) != 0 && !is_folder(after))
                printf("  %s -> %s", format_bytes((unsigned long long)size_of(before), was),
                       format_bytes((unsigned long long)size_of(after), is));
        else if (json_equal(json_object_get(before, "mode"), json_object_get(after, "mode")))
                fputs(json_equal(json_object_get(before, "mtime_ns"), json_object_get(after, "mtime_ns"))
                              ? "  target"
                              : "  time",
                      stdout);
        else
                printf("  mode %llo -> %llo",
                       (unsigned long long)json_integer_value(json_object_get(before, "mode")),
                       (unsigned long long)json_integer_value(json_object_get(after, "mode")));
}

static void print_difference(const json_t *line)
{
        const json_t *before = json_object_get(line, "before"), *after = json_object_get(line, "after");
        const json_t *there = json_is_null(after) ? before : after;
        const char *change = text(line, "change");
        char *path = strdup(text(line, "path")), size[32];

        if (path)
                log_make_printable(path);
        printf("%c %s%s",
               change[0] == 'a'   ? '+'
               : change[0] == 'r' ? '-'
                                  : '~',
               path && path[0] ? path : ".", is_folder(there) ? "/" : "");
        if (change[0] == 'm')
                print_how(before, after);
        else if (!is_folder(there))
                printf("  %s", format_bytes((unsigned long long)size_of(there), size));
        putchar('\n');
        free(path);
}

static int add_line(struct shown *shown, json_t *line)
{
        if (shown->n == shown->capacity) {
                size_t capacity = MAX(shown->capacity * 2, (size_t)256);
                json_t **lines = reallocarray(shown->lines, capacity, sizeof(*lines));

                if (!lines)
                        return -ENOMEM;
                shown->lines = lines;
                shown->capacity = capacity;
        }
        shown->lines[shown->n++] = json_incref(line);
        return 0;
}

static int take_line(json_t *line, void *arg)
{
        struct shown *shown = arg;

        if (!json_object_get(line, "finished"))
                return json_object_get(line, "error") ? 0 : add_line(shown, line);
        json_decref(shown->end);
        shown->end = json_incref(line);
        return 0;
}

static int by_path(const void *a, const void *b)
{
        const char *x = text(*(json_t *const *)a, "path"), *y = text(*(json_t *const *)b, "path");

        return path_compare(x, strlen(x), y, strlen(y));
}

static void print_all_json(const struct shown *shown)
{
        json_t *list = json_array();

        for (size_t i = 0; i < shown->n; i++)
                json_array_append(list, shown->lines[i]);
        json_object_del(shown->end, "finished");
        json_object_set_new(shown->end, "changes", list);
        print_json(shown->end);
}

static void print_end(const struct shown *shown)
{
        double bytes = json_number_value(json_object_get(shown->end, "bytes"));
        double left_out = json_number_value(json_object_get(shown->end, "left_out"));
        char size[32];

        if (left_out > 0)
                printf("... and %.0f more\n", left_out);
        printf("%.0f added, %.0f removed, %.0f modified; %s%s\n",
               json_number_value(json_object_get(shown->end, "added")),
               json_number_value(json_object_get(shown->end, "removed")),
               json_number_value(json_object_get(shown->end, "modified")), bytes < 0 ? "-" : "+",
               format_bytes((unsigned long long)(bytes < 0 ? -bytes : bytes), size));
}

static void print_all(const struct shown *shown, bool json)
{
        if (shown->n > 0)
                qsort(shown->lines, shown->n, sizeof(shown->lines[0]), by_path);
        if (json) {
                print_all_json(shown);
                return;
        }
        for (size_t i = 0; i < shown->n; i++)
                print_difference(shown->lines[i]);
        print_end(shown);
}

int command_diff(int argc, char **argv)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
        struct failure failure = { 0 };
        struct shown shown = { 0 };
        bool json = false;
        int opt, r;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 'j')
                json = true;
        if (opt != -1 || argc - optind != 1)
                return command_usage("diff");
        r = control_follow(argv[optind], "diff", take_line, &shown, &failure);
        if (r < 0)
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        else if (shown.end)
                print_all(&shown, json);
        for (size_t i = 0; i < shown.n; i++)
                json_decref(shown.lines[i]);
        free(shown.lines);
        json_decref(shown.end);
        return r < 0 ? 1 : 0;
}
