#include "cli/command.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/terminal_line.h"
#include "base/util.h"
#include "cli/mounts.h"
#include "fs/control.h"

const char *format_bytes(unsigned long long size, char buf[32])
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
        double value = (double)size;
        size_t unit = 0;

        while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
                value /= 1024;
                unit++;
        }
        snprintf(buf, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
        return buf;
}

/* What a call of these commands says. */
struct call {
        const char *path; /* NULL: none */
        bool json;
        bool stat_pass; /* refresh only */
};

/* At most one path. -1: wrong call, said. */
static int parse_call(int argc, char **argv, struct call *ret)
{
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                                 { "stat-pass", no_argument, NULL, 's' },
                                                 { 0 } };
        int opt;

        *ret = (struct call){ 0 };
        while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
                ret->json = ret->json || opt == 'j';
                ret->stat_pass = ret->stat_pass || opt == 's';
                if (opt == '?')
                        break;
        }
        if (opt != -1 || argc - optind > 1) {
                command_usage(argv[0]);
                return -1;
        }
        ret->path = argv[optind];
        return 0;
}

static int need_path(const char *path, const char *command)
{
        if (!path)
                command_usage(command);
        return path ? 0 : -1;
}

static int ask(const char *path, const char *command, json_t **ret)
{
        struct failure failure = { 0 };
        int r = control_ask(path, command, ret, &failure);

        if (r < 0)
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&failure, r));
        return r;
}

void print_json(const json_t *value)
{
        json_dumpf(value, stdout, JSON_INDENT(2));
        putchar('\n');
}

static unsigned long long number(const json_t *object, const char *key)
{
        return (unsigned long long)json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "?";
}

/* What of the kernel is used, and why large files are not left to it. */
static void print_features(json_t *features)
{
        const json_t *passthrough = json_object_get(features, "passthrough");
        const char *name, *separator = "  kernel    ";
        json_t *feature;

        json_object_foreach(features, name, feature)
        {
                if (!json_is_true(json_object_get(feature, "on")))
                        continue;
                printf("%s%s", separator, name);
                separator = ", ";
        }
        if (json_is_false(json_object_get(passthrough, "on")))
                printf("; no passthrough: %s", string(passthrough, "reason"));
        putchar('\n');
}

/* Only where there is a choice. */
static void print_masters(const json_t *masters)
{
        const json_t *one;
        size_t i;

        if (json_array_size(masters) < 2)
                return;
        json_array_foreach(masters, i, one)
        {
                const char *error = json_string_value(json_object_get(one, "error"));

                printf("  master    %s, %s%s%s%s\n", string(one, "address"), string(one, "state"),
                       error ? ": " : "", error ?: "",
                       json_is_true(json_object_get(one, "used")) ? " (in use)" : "");
        }
}

static void print_status(const json_t *s)
{
        char bytes[32], cached[32], fetched[32], resident[32], when[64] = "never";
        time_t last = (time_t)number(s, "last_sync");
        struct tm tm;

        if (last > 0 && localtime_r(&last, &tm))
                strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
        printf("%s on %s\n", string(s, "source"), string(s, "target"));
        printf("  state     %s, last sync %s\n", string(s, "state"), when);
        print_masters(json_object_get(s, "masters"));
        printf("  version   %s, revision %llu\n", string(s, "version"), number(s, "revision"));
        printf("  entries   %llu files, %llu folders, %llu symlinks, %s\n", number(s, "files"),
               number(s, "directories"), number(s, "symlinks"), format_bytes(number(s, "bytes"), bytes));
        printf("  cached    %llu files, %s in %s\n", number(s, "cached_files"),
               format_bytes(number(s, "cached_bytes"), cached), string(s, "cache_dir"));
        printf("  fetched   %llu files, %s since the mount\n", number(s, "fetched_files"),
               format_bytes(number(s, "fetched_bytes"), fetched));
        printf("  syncs     %llu (%llu pushed), %llu entries changed, %llu full scans\n", number(s, "syncs"),
               number(s, "pushes"), number(s, "delta_entries"), number(s, "full_scans"));
        print_features(json_object_get(s, "features"));
        if (json_is_true(json_object_get(s, "loading")))
                printf("  loading   %s\n", string(json_object_get(s, "progress"), "text"));
        printf("  memory    %s\n", format_bytes(number(s, "rss_bytes"), resident));
}

struct all_mounts {
        json_t *list; /* owned */
        int failures;
};

static int collect_status(const struct mountinfo *info, void *arg)
{
        struct all_mounts *all = arg;
        json_t *status;

        if (ask(info->target, "status", &status) < 0)
                all->failures++;
        else
                json_array_append_new(all->list, status);
        return 0;
}

static int status_of_all(bool json)
{
        struct all_mounts all = { .list = json_array() };
        size_t i;
        json_t *status;

        if (mounts_each(collect_status, &all) < 0)
                all.failures++;
        if (json) {
                print_json(all.list);
        } else {
                json_array_foreach(all.list, i, status) print_status(status);
                if (json_array_size(all.list) == 0 && all.failures == 0)
                        puts("nothing is mounted");
        }
        json_decref(all.list);
        return all.failures ? 1 : 0;
}

int command_status(int argc, char **argv)
{
        struct call call;
        json_t *status;

        if (parse_call(argc, argv, &call) < 0)
                return EXIT_USAGE;
        if (!call.path)
                return status_of_all(call.json);
        if (ask(call.path, "status", &status) < 0)
                return 1;
        if (call.json)
                print_json(status);
        else
                print_status(status);
        json_decref(status);
        return 0;
}

static int print_version(json_t *version, bool json)
{
        if (json)
                print_json(version);
        else
                printf("%s %llu\n", string(version, "version"), number(version, "revision"));
        json_decref(version);
        return 0;
}

int command_version(int argc, char **argv)
{
        struct call call;
        json_t *version;

        if (parse_call(argc, argv, &call) < 0 || need_path(call.path, argv[0]) < 0)
                return EXIT_USAGE;
        return ask(call.path, "version", &version) < 0 ? 1 : print_version(version, call.json);
}

/* A refresh under way, and whether it has ended. */
struct refresh {
        const char *path, *command;
        json_t *version;
        int result;
        struct failure failure;
        atomic_bool ended;
};

static void *refresh_main(void *arg)
{
        struct refresh *r = arg;

        r->result = control_ask(r->path, r->command, &r->version, &r->failure);
        atomic_store(&r->ended, true);
        return NULL;
}

/* On a terminal: one line that is written over again and again, from when there is something to tell. */
static void show_progress(struct refresh *refresh)
{
        const struct timespec tick = { .tv_nsec = 100 * NSEC_PER_MSEC };
        struct failure unused;
        json_t *progress;

        while (!atomic_load(&refresh->ended)) {
                nanosleep(&tick, NULL);
                if (atomic_load(&refresh->ended) ||
                    control_ask(refresh->path, "progress", &progress, &unused) < 0)
                        continue;
                terminal_line_show("%s", string(progress, "text"));
                json_decref(progress);
        }
        terminal_line_clear();
}

int command_refresh(int argc, char **argv)
{
        struct refresh refresh = { 0 };
        struct call call;
        pthread_t thread;

        if (parse_call(argc, argv, &call) < 0 || need_path(call.path, argv[0]) < 0)
                return EXIT_USAGE;
        refresh.path = call.path;
        refresh.command = call.stat_pass ? "refresh stat-pass" : "refresh";
        if (isatty(STDERR_FILENO) && pthread_create(&thread, NULL, refresh_main, &refresh) == 0) {
                show_progress(&refresh);
                pthread_join(thread, NULL);
        } else {
                refresh_main(&refresh);
        }
        if (refresh.result < 0) {
                fprintf(stderr, "fsyncfs: %s\n", failure_text(&refresh.failure, refresh.result));
                return 1;
        }
        return print_version(refresh.version, call.json);
}

int command_stat(int argc, char **argv)
{
        char command[64];
        const char *path;
        struct call call;
        struct stat st;
        json_t *entry;

        if (parse_call(argc, argv, &call) < 0 || need_path(call.path, argv[0]) < 0)
                return EXIT_USAGE;
        path = call.path;
        if (lstat(path, &st) < 0) {
                fprintf(stderr, "fsyncfs: '%s': %s\n", path, strerror(errno));
                return 1;
        }
        snprintf(command, sizeof(command), "stat %lu", (unsigned long)st.st_ino);
        if (ask(path, command, &entry) < 0)
                return 1;
        if (call.json)
                print_json(entry);
        else
                printf("%s\n  kind    %s\n  inode   %llu\n  size    %llu\n  hash    %s\n  cached  %llu %%\n",
                       path, string(entry, "kind"), number(entry, "inode"), number(entry, "size"),
                       string(entry, "hash"), number(entry, "cached"));
        json_decref(entry);
        return 0;
}
