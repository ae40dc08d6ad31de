#include "fs/options.h"

#include <string.h>

#include "base/nearest.h"
#include "cache/domain.h"
#include "fs/foreign_options.h"

#define DEFAULT_TIMEOUT_SEC 30
#define DEFAULT_LAZY_SEC    3

int mount_options_init(struct mount_options *options)
{
        const char *home = getenv("XDG_CACHE_HOME");
        int r;

        *options = (struct mount_options){ .timeout_sec = DEFAULT_TIMEOUT_SEC,
                                           .push = true,
                                           .lazy_sec = DEFAULT_LAZY_SEC,
                                           .limits = { .floor = STORE_FLOOR_DEFAULT },
                                           .uid = geteuid(),
                                           .gid = getegid() };
        if (geteuid() == 0)
                r = asprintf(&options->cache_dir, "/var/cache/fsyncfs");
        else if (home && home[0] == '/')
                r = asprintf(&options->cache_dir, "%s/fsyncfs", home);
        else
                r = asprintf(&options->cache_dir, "%s/.cache/fsyncfs",
                             getenv("HOME") ? getenv("HOME") : "/tmp");
        if (r < 0) {
                options->cache_dir = NULL;
                return -ENOMEM;
        }
        /* Read-only, because it is, and because the kernel then asks for no access times. What root mounts is
         * for the tasks of all users, and the permission bits are the kernel's to check. */
        r = buffer_printf(&options->kernel, "ro,default_permissions,nosuid,nodev%s",
                          geteuid() == 0 ? ",allow_other" : "");
        return r;
}

void mount_options_release(struct mount_options *options)
{
        free(options->cache_dir);
        free(options->domain);
        free(options->token_file);
        free(options->node_name);
        free(options->metrics);
        free(options->ca);
        free(options->cert);
        free(options->key);
        buffer_release(&options->kernel);
}

static void offer(void *nearest, const char *word)
{
        nearest_offer(nearest, word);
}

static void offer_known(struct nearest *nearest)
{
        const struct setting_table *own = &mount_option_table;

        for (size_t i = 0; i < own->n; i++)
                if (!(own->rows[i].not_in & SETTING_IN(SETTING_COMMAND)))
                        nearest_offer(nearest, own->rows[i].name);
        foreign_options_each(offer, nearest);
}

static int explain_unknown(const char *name, struct failure *failure)
{
        struct nearest nearest = { .typed = name };

        offer_known(&nearest);
        if (nearest.word)
                return failure_set(failure, -EINVAL, "unknown mount option '%s'; did you mean '%s'?", name,
                                   nearest.word);
        return failure_set(failure, -EINVAL,
                           "unknown mount option '%s'; fsyncfs mount --help lists those beside mount(8)'s",
                           name);
}

static int take_own(struct settings *settings, const char *word, size_t name_len, const char *value,
                    struct failure *failure)
{
        static const struct setting_origin origin = { .layer = SETTING_COMMAND };
        const struct setting *row = setting_find(&mount_option_table, word, name_len);

        if (row && !(row->not_in & SETTING_IN(SETTING_COMMAND)))
                return settings_take(settings, row, value, &origin, failure);
        if (value || name_len <= 2 || strncmp(word, mount_option_table.negation, 2) != 0)
                return -ENOENT;
        row = setting_find(&mount_option_table, word + 2, name_len - 2);
        return row && row->kind == SETTING_FLAG ? settings_undo(settings, row, &origin) : -ENOENT;
}

static int take_word(struct settings *settings, char *word, struct failure *failure)
{
        struct mount_options *o = settings->target;
        char *value = strchr(word, '=');
        size_t name_len = value ? (size_t)(value - word) : strlen(word);
        int r = take_own(settings, word, name_len, value ? value + 1 : NULL, failure);

        if (r != -ENOENT)
                return r;
        if (strcmp(word, "remount") == 0)
                return failure_set(failure, -EINVAL,
                                   "a mount cannot be changed by remount: umount it and mount it again");
        r = foreign_option_find(word);
        if (r == 1)
                return buffer_printf(&o->kernel, ",%s", word);
        word[name_len] = '\0'; /* what follows may be a secret */
        return r < 0 ? explain_unknown(word, failure) : 0;
}

int mount_options_take(struct settings *settings, const char *list, struct failure *failure)
{
        _cleanup_free_ char *copy = strdup(list);
        char *rest = copy, *word;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&rest, ","))) {
                int r = word[0] ? take_word(settings, word, failure) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int mount_options_parse(struct mount_options *options, const char *list, struct failure *failure)
{
        struct settings settings;
        int r = settings_init(&settings, &mount_option_table, options);

        if (r < 0)
                return r;
        r = mount_options_take(&settings, list, failure);
        settings_release(&settings);
        return r;
}

/* From here on a domain is a cache folder like any other. */
static int enter_domain(struct mount_options *options)
{
        char *dir;
        int r = options->domain ? domain_dir(options->cache_dir, options->domain, &dir) : 0;

        if (r < 0 || !options->domain)
                return r;
        free(options->cache_dir);
        options->cache_dir = dir;
        return 0;
}

int mount_options_finish(struct mount_options *options, struct failure *failure)
{
        const char *alone = options->ca ? "ca" : options->cert ? "cert" : options->key ? "key" : NULL;

        if (alone && !options->tls)
                return failure_set(failure, -EINVAL, "mount option '%s' needs the option tls", alone);
        if (!options->cert != !options->key)
                return failure_set(failure, -EINVAL,
                                   "mount options 'cert' and 'key' go together: '%s' is missing",
                                   options->cert ? "key" : "cert");
        return enter_domain(options);
}
