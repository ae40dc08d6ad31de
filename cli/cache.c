#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

#include "cache/store.h"
#include "fs/options.h"

static const char usage[] = "usage: fsyncfs cache stat|list|verify [--cache DIR] [--json]\n";

struct cache_call {
        struct store *store;
        const char *dir;
        bool json;
};

static int fail(const struct cache_call *call, int error)
{
        fprintf(stderr, "fsyncfs: cache folder '%s': %s\n", call->dir, strerror(-error));
        return 1;
}

static void print_object(json_t *object)
{
        print_json(object);
        json_decref(object);
}

static int cache_stat(const struct cache_call *call)
{
        struct store_stats stats;
        char bytes[32];
        int r = store_stat(call->store, &stats);

        if (r < 0)
                return fail(call, r);
        if (call->json)
                print_object(json_pack("{s:s, s:I, s:I, s:I, s:I}", "cache_dir", call->dir, "blobs",
                                       (json_int_t)stats.blobs, "blob_bytes", (json_int_t)stats.blob_bytes,
                                       "partials", (json_int_t)stats.partials, "quarantined",
                                       (json_int_t)stats.quarantined));
        else
                printf("%s\n  contents     %lu, %s\n  unfinished   %lu\n  quarantined  %lu\n", call->dir,
                       (unsigned long)stats.blobs, format_bytes(stats.blob_bytes, bytes),
                       (unsigned long)stats.partials, (unsigned long)stats.quarantined);
        return 0;
}

static int list_one(const struct content_id *id, uint64_t size, void *arg)
{
        char name[HASH_TEXT_MAX];
        json_t *array = arg;

        content_id_format(id, name);
        if (array)
                return json_array_append_new(array,
                                             json_pack("{s:s, s:I}", "hash", name, "size", (json_int_t)size));
        printf("%s %llu\n", name, (unsigned long long)size);
        return 0;
}

static int cache_list(const struct cache_call *call)
{
        json_t *array = call->json ? json_array() : NULL;
        int r = store_list(call->store, list_one, array);

        if (array)
                print_object(array);
        return r < 0 ? fail(call, r) : 0;
}

static void print_damaged(const char *name, void *arg)
{
        fprintf(stderr, "fsyncfs: damaged: %s (moved to quarantine; the next read fetches it again)\n", name);
}

static int cache_verify(const struct cache_call *call)
{
        struct store_stats stats;
        int r = store_verify(call->store, print_damaged, NULL, &stats);

        if (r < 0)
                return fail(call, r);
        if (call->json)
                print_object(json_pack("{s:s, s:I, s:I}", "cache_dir", call->dir, "verified",
                                       (json_int_t)stats.verified, "damaged", (json_int_t)stats.damaged));
        else
                printf("%lu contents verified, %lu damaged\n", (unsigned long)stats.verified,
                       (unsigned long)stats.damaged);
        return stats.damaged ? 1 : 0;
}

static const struct cache_command {
        const char *name;
        int (*run)(const struct cache_call *call);
} cache_commands[] = {
        { "stat", cache_stat },
        { "list", cache_list },
        { "verify", cache_verify },
};

/* A look at a cache must not make one: a folder that is no store is an error. */
static int run_on(const struct cache_command *command, struct cache_call *call)
{
        int r;

        if (access(call->dir, F_OK) < 0)
                return fail(call, -errno);
        r = store_open(call->dir, &call->store);
        if (r < 0)
                return fail(call, r);
        r = command->run(call);
        store_free(call->store);
        return r;
}

int command_cache(int argc, char **argv)
{
        static const struct option options[] = {
                { "cache", required_argument, NULL, 'c' },
                { "json", no_argument, NULL, 'j' },
                { 0 },
        };
        const struct cache_command *command = NULL;
        struct mount_options defaults;
        struct cache_call call = { 0 };
        int opt, r;

        if (mount_options_init(&defaults) < 0)
                return 1;
        call.dir = defaults.cache_dir;
        while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (opt == 'c')
                        call.dir = optarg;
                else if (opt == 'j')
                        call.json = true;
                else
                        break;
        }
        for (size_t i = 0; opt == -1 && argc - optind == 1 && i < ARRAY_SIZE(cache_commands); i++)
                if (strcmp(argv[optind], cache_commands[i].name) == 0)
                        command = &cache_commands[i];
        if (!command)
                fputs(usage, stderr);
        r = command ? run_on(command, &call) : EXIT_USAGE;
        mount_options_release(&defaults);
        return r;
}
