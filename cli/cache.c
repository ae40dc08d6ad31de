#include "cli/command.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/catalogs.h"
#include "cache/domain.h"
#include "cache/store.h"
#include "fs/control.h"
#include "fs/mount_settings.h"

#define UNUSED_DAYS 30 /* for which nothing was mounted from a catalog that gc removes */

struct cache_call {
        struct store *store; /* of DIR; not for commands of files */
        const char *dir;     /* with `domain` that one's, once all options are read */
        const char *domain;  /* NULL: none */
        bool dir_given;
        bool all; /* also all domains of DIR */
        bool json;
        bool repair;        /* verify */
        uint64_t to_bytes;  /* evict */
        char *const *words; /* pin, unpin; ends with NULL */
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
        struct store_usage used;
        char bytes[32], pinned[32], partial[32], charged[32], quota[32];
        int r = store_stat(call->store, &stats);

        if (r < 0)
                return fail(call, r);
        store_get_usage(call->store, &used);
        if (call->json)
                print_object(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "cache_dir",
                                       call->dir, "blobs", (json_int_t)stats.blobs, "blob_bytes",
                                       (json_int_t)stats.blob_bytes, "partials", (json_int_t)stats.partials,
                                       "partial_bytes", (json_int_t)stats.partial_bytes, "quarantined",
                                       (json_int_t)stats.quarantined, "pinned", (json_int_t)stats.pinned,
                                       "pinned_bytes", (json_int_t)stats.pinned_bytes, "store_bytes",
                                       (json_int_t)used.bytes, "quota_bytes", (json_int_t)used.quota));
        else
                printf("%s\n  contents     %lu, %s\n  pinned       %lu, %s\n  unfinished   %lu, %s\n"
                       "  quarantined  %lu\n  quota        %s of %s\n",
                       call->dir, (unsigned long)stats.blobs, format_bytes(stats.blob_bytes, bytes),
                       (unsigned long)stats.pinned, format_bytes(stats.pinned_bytes, pinned),
                       (unsigned long)stats.partials, format_bytes(stats.partial_bytes, partial),
                       (unsigned long)stats.quarantined, format_bytes(used.bytes, charged),
                       used.quota ? format_bytes(used.quota, quota) : "none");
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

typedef int (*list_fn)(struct store *store,
                       int (*each)(const struct content_id *id, uint64_t size, void *arg), void *arg);

static int print_list(const struct cache_call *call, list_fn list)
{
        json_t *array = call->json ? json_array() : NULL;
        int r = list(call->store, list_one, array);

        if (array)
                print_object(array);
        return r < 0 ? fail(call, r) : 0;
}

static int cache_list(const struct cache_call *call)
{
        return print_list(call, store_list);
}

static int cache_pins(const struct cache_call *call)
{
        return print_list(call, store_list_pins);
}

/* COLLECTED: what gc has removed beside contents, or NULL. */
static int print_removed(const struct cache_call *call, const char *what, const struct store_evicted *removed,
                         const struct catalog_collected *collected)
{
        struct store_usage used;
        char gone[32], left[32];
        json_t *object;

        store_get_usage(call->store, &used);
        if (call->json) {
                object = json_pack("{s:s, s:I, s:I, s:I}", "cache_dir", call->dir, what,
                                   (json_int_t)removed->blobs, "bytes", (json_int_t)removed->bytes,
                                   "store_bytes", (json_int_t)used.bytes);
                if (collected)
                        json_object_update_new(object,
                                               json_pack("{s:I, s:I, s:I}", "catalogs",
                                                         (json_int_t)collected->unused, "damaged_files",
                                                         (json_int_t)collected->damaged_files,
                                                         "catalog_bytes", (json_int_t)collected->bytes));
                print_object(object);
                return 0;
        }
        printf("%s %lu, %s; contents take %s\n", what, (unsigned long)removed->blobs,
               format_bytes(removed->bytes, gone), format_bytes(used.bytes, left));
        if (collected && (collected->unused || collected->damaged_files))
                printf("%s %lu catalogs from which nothing was mounted for %d days, and %lu files of damaged "
                       "ones, %s\n",
                       what, (unsigned long)collected->unused, UNUSED_DAYS,
                       (unsigned long)collected->damaged_files, format_bytes(collected->bytes, gone));
        return 0;
}

static int cache_evict(const struct cache_call *call)
{
        struct store_evicted evicted = { 0 };
        int r = store_evict(call->store, call->to_bytes, &evicted);

        return r < 0 ? fail(call, r) : print_removed(call, "evicted", &evicted, NULL);
}

static int cache_gc(const struct cache_call *call)
{
        struct store_evicted removed = { 0 };
        struct catalog_collected collected;
        int r = store_collect(call->store, &removed);

        if (r == 0)
                r = catalog_collect(call->dir, UNUSED_DAYS * 24 * 60 * 60, &collected);
        return r < 0 ? fail(call, r) : print_removed(call, "removed", &removed, &collected);
}

/* ---- pins ---- */

/* One thing to pin: a content, and the cache folder that is meant. */
struct pin_target {
        struct content_id id;
        char *dir;   /* owned */
        bool cached; /* its daemon can do without the master: what is tiny is not in the store */
};

static int say_failure(const char *word, const char *why)
{
        fprintf(stderr, "fsyncfs: '%s': %s\n", word, why);
        return -1;
}

/* A file on a mount is asked for at its daemon, which knows its hash and its cache. */
static int find_file(const char *path, struct pin_target *ret)
{
        struct failure failure = { 0 };
        const char *hash, *dir;
        char command[64];
        json_t *entry;
        struct stat st;
        int r = -1;

        if (lstat(path, &st) < 0)
                return say_failure(path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return say_failure(path, "not a file");
        snprintf(command, sizeof(command), "stat %lu", (unsigned long)st.st_ino);
        r = control_ask(path, command, &entry, &failure);
        if (r < 0)
                return say_failure(path, failure_text(&failure, r));
        hash = json_string_value(json_object_get(entry, "hash"));
        dir = json_string_value(json_object_get(entry, "cache_dir"));
        if (!hash || !dir || content_id_parse(hash, &ret->id) < 0 || ret->id.algorithm == HASH_NONE)
                r = say_failure(path, "the daemon names no content for it");
        else
                ret->dir = strdup(dir);
        ret->cached = json_integer_value(json_object_get(entry, "cached")) == 100;
        json_decref(entry);
        return r;
}

static int find_target(const struct cache_call *call, const char *word, struct pin_target *ret)
{
        int r = 0;

        *ret = (struct pin_target){ 0 };
        if (content_id_parse(word, &ret->id) < 0)
                r = find_file(word, ret);
        else if (ret->id.algorithm == HASH_NONE)
                r = say_failure(word, "no content");
        if (r < 0)
                return r;
        if (call->dir_given || !ret->dir) {
                free(ret->dir);
                ret->dir = strdup(call->dir);
                ret->cached = false;
        }
        return ret->dir ? 0 : say_failure(word, strerror(ENOMEM));
}

static void print_pin(const char *word, const struct pin_target *target, bool pinned, bool cached,
                      json_t *array)
{
        char hash[HASH_TEXT_MAX];

        content_id_format(&target->id, hash);
        if (array)
                json_array_append_new(array, json_pack("{s:s, s:s, s:b, s:b, s:s}", "name", word, "hash",
                                                       hash, "pinned", pinned, "cached", cached, "cache_dir",
                                                       target->dir));
        else
                printf("%s %s: %s%s\n", hash, word, pinned ? "pinned" : "not pinned",
                       pinned && !cached ? ", not here yet" : "");
}

static int pin_one(const struct cache_call *call, const char *word, bool pin, json_t *array)
{
        struct pin_target target;
        struct store *store = NULL;
        int r = find_target(call, word, &target);

        if (r < 0)
                return r;
        r = access(target.dir, F_OK) < 0 ? -errno : store_open(target.dir, &store);
        if (r == 0)
                r = pin ? store_pin(store, &target.id) : store_unpin(store, &target.id);
        if (r < 0)
                (void)say_failure(target.dir, strerror(-r));
        else
                print_pin(word, &target, pin, target.cached || store_has(store, &target.id), array);
        store_free(store);
        free(target.dir);
        return r < 0 ? r : 0;
}

static int pin_all(const struct cache_call *call, bool pin)
{
        json_t *array = call->json ? json_array() : NULL;
        int failures = 0;

        for (char *const *word = call->words; *word; word++)
                failures += pin_one(call, *word, pin, array) < 0;
        if (array)
                print_object(array);
        return failures ? 1 : 0;
}

static int cache_pin(const struct cache_call *call)
{
        return pin_all(call, true);
}

static int cache_unpin(const struct cache_call *call)
{
        return pin_all(call, false);
}

static void print_damaged(const char *name, void *arg)
{
        fprintf(stderr, "fsyncfs: damaged: %s (moved to quarantine; the next read fetches it again)\n", name);
}

static void print_damaged_catalog(const char *path, bool removed, void *arg)
{
        fprintf(stderr, "fsyncfs: damaged: %s (%s)\n", path,
                removed ? "removed; the next mount begins it anew"
                        : "remains; --repair removes it once nothing is mounted from it");
}

static int cache_verify(const struct cache_call *call)
{
        struct store_stats stats;
        struct catalog_verified catalogs;
        int r = store_verify(call->store, print_damaged, NULL, &stats);

        if (r == 0)
                r = catalog_verify_all(call->dir, call->repair, print_damaged_catalog, NULL, &catalogs);
        if (r < 0)
                return fail(call, r);
        if (call->json)
                print_object(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "cache_dir", call->dir, "verified",
                                       (json_int_t)stats.verified, "damaged", (json_int_t)stats.damaged,
                                       "catalogs", (json_int_t)catalogs.catalogs, "catalogs_damaged",
                                       (json_int_t)catalogs.damaged, "catalogs_removed",
                                       (json_int_t)catalogs.removed));
        else
                printf("%lu contents verified, %lu damaged; %lu catalogs verified, %lu damaged\n",
                       (unsigned long)stats.verified, (unsigned long)stats.damaged,
                       (unsigned long)catalogs.catalogs, (unsigned long)catalogs.damaged);
        return stats.damaged || catalogs.damaged ? 1 : 0;
}

static const struct cache_command {
        const char *name;
        int (*run)(const struct cache_call *call);
        bool takes_files; /* and opens their stores itself */
        bool takes_to;
} cache_commands[] = {
        { "stat", cache_stat, false, false },     { "list", cache_list, false, false },
        { "verify", cache_verify, false, false }, { "pins", cache_pins, false, false },
        { "gc", cache_gc, false, false },         { "evict", cache_evict, false, true },
        { "pin", cache_pin, true, false },        { "unpin", cache_unpin, true, false },
};

/* A look at a cache must not make one: a folder that is no store is an error. */
static int run_on(const struct cache_command *command, struct cache_call *call)
{
        int r;

        if (command->takes_files)
                return command->run(call);
        if (access(call->dir, F_OK) < 0)
                return fail(call, -errno);
        r = store_open(call->dir, &call->store);
        if (r == -EPROTONOSUPPORT && call->repair && store_mend_format(call->dir) == 0)
                r = store_open(call->dir, &call->store);
        if (r < 0)
                return fail(call, r);
        r = command->run(call);
        store_free(call->store);
        return r;
}

struct domain_call {
        const struct cache_command *command;
        const struct cache_call *call;
        int result;
};

static int run_on_domain(const char *name, void *arg)
{
        struct domain_call *all = arg;
        struct cache_call call = *all->call;
        _cleanup_free_ char *dir = NULL;
        int r = domain_dir(call.dir, name, &dir), result;

        if (r < 0)
                return r;
        call.dir = dir;
        result = run_on(all->command, &call);
        all->result = MAX(all->result, result);
        return 0;
}

/* The worst exit code of all. A folder of domains alone has no store of its own, and gets none. */
static int run_on_all(const struct cache_command *command, struct cache_call *call)
{
        struct domain_call all = { .command = command, .call = call };
        _cleanup_free_ char *format = NULL;
        int r;

        if (asprintf(&format, "%s/format", call->dir) < 0)
                return fail(call, -ENOMEM);
        if (access(format, F_OK) == 0)
                all.result = run_on(command, call);
        r = domain_each(call->dir, run_on_domain, &all);
        return r < 0 ? fail(call, r) : all.result;
}

static int run_command(const struct cache_command *command, struct cache_call *call)
{
        _cleanup_free_ char *dir = NULL;

        if (call->all)
                return run_on_all(command, call);
        if (call->domain) {
                int r = domain_dir(call->dir, call->domain, &dir);
                if (r < 0)
                        return fail(call, r);
                call->dir = dir;
        }
        return run_on(command, call);
}

static const struct cache_command *find_command(const char *name)
{
        for (size_t i = 0; name && i < ARRAY_SIZE(cache_commands); i++)
                if (strcmp(name, cache_commands[i].name) == 0)
                        return &cache_commands[i];
        return NULL;
}

/* -1: wrong call. */
static int parse_options(int argc, char **argv, struct cache_call *call, bool *ret_to)
{
        static const struct option options[] = {
                { "cache", required_argument, NULL, 'c' },
                { "domain", required_argument, NULL, 'd' },
                { "all", no_argument, NULL, 'a' },
                { "json", no_argument, NULL, 'j' },
                { "repair", no_argument, NULL, 'r' },
                { "to", required_argument, NULL, 't' },
                { 0 },
        };
        struct store_amount to;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (opt == 'c') {
                        call->dir = optarg;
                        call->dir_given = true;
                } else if (opt == 'd' && domain_valid(optarg)) {
                        call->domain = optarg;
                        call->dir_given = true;
                } else if (opt == 'a') {
                        call->all = true;
                } else if (opt == 'j') {
                        call->json = true;
                } else if (opt == 'r') {
                        call->repair = true;
                } else if (opt == 't' && mount_options_parse_amount(optarg, &to) == 0 && to.percent == 0) {
                        call->to_bytes = to.bytes;
                        *ret_to = true;
                } else {
                        return -1;
                }
        }
        return 0;
}

static bool is_called_right(const struct cache_command *command, const struct cache_call *call, bool to_given)
{
        return command->takes_files == (call->words[0] != NULL) && (!to_given || command->takes_to) &&
               (!call->repair || command->run == cache_verify) &&
               (!call->all || (!command->takes_files && !call->domain));
}

static void tell(void *arg, const char *fault)
{
        fprintf(stderr, "fsyncfs: %s\n", fault);
}

/* The folder of mounts that have no option of their own. */
static int find_dir(struct cache_call *call, struct mount_options *options)
{
        const struct mount_call mount = { .list = "" };
        struct mount_settings settings;
        unsigned faults;

        if (call->dir)
                return 0;
        faults = mount_settings_read(options, &mount, tell, NULL, &settings);
        mount_settings_release(&settings);
        call->dir = options->cache_dir;
        if (!call->domain && !call->all)
                call->domain = options->domain;
        return faults == 0 ? 0 : -EINVAL;
}

int command_cache(int argc, char **argv)
{
        const struct cache_command *command = NULL;
        struct mount_options options;
        struct cache_call call = { 0 };
        bool to_given = false;
        int r = 1;

        if (parse_options(argc, argv, &call, &to_given) == 0)
                command = find_command(argv[optind]);
        call.words = argv + optind + (command != NULL);
        if (!command || !is_called_right(command, &call, to_given)) {
                char name[32];

                snprintf(name, sizeof(name), "cache%s%s", command ? " " : "", command ? command->name : "");
                return command_usage(name);
        }
        if (mount_options_init(&options) < 0)
                return 1;
        if (find_dir(&call, &options) == 0)
                r = run_command(command, &call);
        mount_options_release(&options);
        return r;
}
