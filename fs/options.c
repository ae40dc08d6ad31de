#include "fs/options.h"

#include <ctype.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "base/path.h"

#define DEFAULT_TIMEOUT_SEC 30
#define DEFAULT_LAZY_SEC    3
#define SECONDS_MAX         86400

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
        free(options->token_file);
        free(options->node_name);
        free(options->metrics);
        free(options->ca);
        free(options->cert);
        free(options->key);
        buffer_release(&options->kernel);
}

static int parse_number(const char *text, int base, unsigned long max, unsigned long *ret)
{
        char *end;
        unsigned long n;

        errno = 0;
        n = strtoul(text, &end, base);
        if (text[0] < '0' || text[0] > '9' || *end || errno || n > max)
                return -EINVAL;
        *ret = n;
        return 0;
}

static int set_path(char **where, const char *value)
{
        char *absolute = NULL;

        if (!value[0])
                return -EINVAL;
        /* The daemon leaves its working folder, so names are made absolute now. */
        if (value[0] == '/') {
                absolute = strdup(value);
        } else {
                _cleanup_free_ char *cwd = get_current_dir_name();
                if (!cwd || asprintf(&absolute, "%s/%s", cwd, value) < 0)
                        absolute = NULL;
        }
        if (!absolute)
                return -ENOMEM;
        free(*where);
        *where = absolute;
        return 0;
}

static int set_cache(struct mount_options *o, const char *value)
{
        return set_path(&o->cache_dir, value);
}

static int set_token_file(struct mount_options *o, const char *value)
{
        return set_path(&o->token_file, value);
}

#define NODE_NAME_MAX 127

/* Printable, as it is shown to people elsewhere. */
static int set_node_name(struct mount_options *o, const char *value)
{
        char *copy;

        if (!value[0] || strlen(value) > NODE_NAME_MAX || !path_is_utf8(value, strlen(value)))
                return -EINVAL;
        for (const char *p = value; *p; p++)
                if (iscntrl((unsigned char)*p))
                        return -EINVAL;
        copy = strdup(value);
        if (!copy)
                return -ENOMEM;
        free(o->node_name);
        o->node_name = copy;
        return 0;
}

/* Under another name the collector would not read it. */
static int set_metrics(struct mount_options *o, const char *value)
{
        size_t len = strlen(value);

        if (len <= 5 || strcmp(value + len - 5, ".prom") != 0)
                return -EINVAL;
        return set_path(&o->metrics, value);
}

static int set_tls(struct mount_options *o, const char *value)
{
        o->tls = true;
        return 0;
}

static int set_ca(struct mount_options *o, const char *value)
{
        return set_path(&o->ca, value);
}

static int set_cert(struct mount_options *o, const char *value)
{
        return set_path(&o->cert, value);
}

static int set_key(struct mount_options *o, const char *value)
{
        return set_path(&o->key, value);
}

static int set_timeout(struct mount_options *o, const char *value)
{
        unsigned long n;

        if (parse_number(value, 10, SECONDS_MAX, &n) < 0 || n == 0)
                return -EINVAL;
        o->timeout_sec = (unsigned)n;
        return 0;
}

static int set_refresh(struct mount_options *o, const char *value)
{
        unsigned long n = 0;
        bool push = strcmp(value, "push") == 0;

        if (!push && strcmp(value, "off") != 0 && (parse_number(value, 10, SECONDS_MAX, &n) < 0 || n == 0))
                return -EINVAL;
        o->refresh_sec = (unsigned)n;
        o->push = push;
        return 0;
}

static int set_lazy(struct mount_options *o, const char *value)
{
        unsigned long n = 0;

        if (strcmp(value, "off") == 0) {
                o->lazy_sec = -1;
                return 0;
        }
        if (parse_number(value, 10, SECONDS_MAX, &n) < 0)
                return -EINVAL;
        o->lazy_sec = (int)n;
        return 0;
}

static int set_prefetch(struct mount_options *o, const char *value)
{
        if (strcmp(value, "auto") != 0 && strcmp(value, "off") != 0)
                return -EINVAL;
        o->prefetch_off = strcmp(value, "off") == 0;
        return 0;
}

static int set_prefetch_rate(struct mount_options *o, const char *value)
{
        struct store_amount amount;

        if (mount_options_parse_amount(value, &amount) < 0 || amount.percent > 0 || strchr(value, '%'))
                return -EINVAL;
        o->prefetch_rate = amount.bytes;
        return 0;
}

static int set_passthrough(struct mount_options *o, const char *value)
{
        static const char *const modes[] = {
                [PASSTHROUGH_AUTO] = "auto", [PASSTHROUGH_ON] = "on", [PASSTHROUGH_OFF] = "off"
        };

        for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
                if (strcmp(value, modes[i]) == 0) {
                        o->passthrough = (enum passthrough_mode)i;
                        return 0;
                }
        return -EINVAL;
}

static int set_uid(struct mount_options *o, const char *value)
{
        unsigned long n;
        const struct passwd *user;

        if (parse_number(value, 10, UINT32_MAX - 1, &n) == 0) {
                o->uid = (uid_t)n;
                return 0;
        }
        user = getpwnam(value);
        if (!user)
                return -EINVAL;
        o->uid = user->pw_uid;
        return 0;
}

static int set_gid(struct mount_options *o, const char *value)
{
        unsigned long n;
        const struct group *group;

        if (parse_number(value, 10, UINT32_MAX - 1, &n) == 0) {
                o->gid = (gid_t)n;
                return 0;
        }
        group = getgrnam(value);
        if (!group)
                return -EINVAL;
        o->gid = group->gr_gid;
        return 0;
}

static int set_umask(struct mount_options *o, const char *value)
{
        unsigned long n;

        if (parse_number(value, 8, 07777, &n) < 0)
                return -EINVAL;
        o->umask = (mode_t)n;
        return 0;
}

int mount_options_parse_amount(const char *value, struct store_amount *ret)
{
        static const char units[] = "KMGTP";
        char digits[24];
        size_t len = strspn(value, "0123456789"), shift;
        const char *unit;
        unsigned long n;

        if (len >= sizeof(digits))
                return -EINVAL;
        memcpy(digits, value, len);
        digits[len] = '\0';
        if (parse_number(digits, 10, INT64_MAX, &n) < 0)
                return -EINVAL;
        value += len;
        if (strcmp(value, "%") == 0) {
                if (n > 100)
                        return -EINVAL;
                *ret = (struct store_amount){ .percent = (unsigned)n };
                return 0;
        }
        unit = *value ? strchr(units, toupper((unsigned char)*value)) : NULL;
        if (*value && (!unit || value[1]))
                return -EINVAL;
        shift = unit ? 10 * (size_t)(unit - units + 1) : 0;
        if (n > (unsigned long)INT64_MAX >> shift)
                return -EINVAL;
        *ret = (struct store_amount){ .bytes = n << shift };
        return 0;
}

static int set_quota(struct mount_options *o, const char *value)
{
        return mount_options_parse_amount(value, &o->limits.quota);
}

static int set_free(struct mount_options *o, const char *value)
{
        return mount_options_parse_amount(value, &o->limits.floor);
}

static int set_offline(struct mount_options *o, const char *value)
{
        o->offline = true;
        return 0;
}

static int set_cache_anywhere(struct mount_options *o, const char *value)
{
        o->cache_anywhere = true;
        return 0;
}

static int set_xattr(struct mount_options *o, const char *value)
{
        o->xattr = true;
        return 0;
}

static const struct option_row {
        const char *name;
        const char *expects; /* NULL: takes no value */
        int (*set)(struct mount_options *o, const char *value);
} own_options[] = {
        { "cache", "a folder", set_cache },
        { "cache_anywhere", NULL, set_cache_anywhere },
        { "quota", "a size such as 500M or 20G, or a percentage of the cache's file system", set_quota },
        { "free", "a size such as 500M or 20G, or a percentage of the cache's file system", set_free },
        { "token_file", "a file", set_token_file },
        { "node_name", "a name of up to 127 bytes", set_node_name },
        { "metrics", "a file whose name ends in .prom", set_metrics },
        { "tls", NULL, set_tls },
        { "ca", "a file", set_ca },
        { "cert", "a file", set_cert },
        { "key", "a file", set_key },
        { "timeout", "seconds, from 1 to 86400", set_timeout },
        { "refresh", "push, seconds from 1 to 86400, or off", set_refresh },
        { "lazy", "seconds, from 0 to 86400, or off", set_lazy },
        { "prefetch", "auto or off", set_prefetch },
        { "prefetch_rate", "bytes a second such as 500K or 20M, or 0", set_prefetch_rate },
        { "passthrough", "auto, on or off", set_passthrough },
        { "uid", "a user's name or number", set_uid },
        { "gid", "a group's name or number", set_gid },
        { "umask", "an octal number", set_umask },
        { "offline", NULL, set_offline },
        { "xattr", NULL, set_xattr },
};

/* For the kernel and libfuse, passed on as they are; a later word overrides an earlier one, as everywhere. */
static const char *const kernel_options[] = {
        "ro",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "dirsync",
        "nosymfollow",
        "relatime",
        "norelatime",
        "strictatime",
        "allow_other",
        "allow_root",
        "default_permissions",
        "context=*",
        "fscontext=*",
        "defcontext=*",
        "rootcontext=*",
};

/* What only mount(8), fstab and systemd look at. A mount is read-only whatever `rw` says: fstab's defaults
 * contain it. */
static const char *const foreign_options[] = {
        "rw",         "defaults", "auto",       "noauto", "nofail",    "_netdev",  "user",
        "nouser",     "users",    "owner",      "group",  "comment=*", "x-*",      "X-*",
        "uhelper=*",  "helper=*", "user=*",     "silent", "loud",      "_rnetdev", "lazytime",
        "nolazytime", "iversion", "noiversion", "mand",   "nomand",
};

static bool listed(const char *word, const char *const *patterns, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (fnmatch(patterns[i], word, 0) == 0)
                        return true;
        return false;
}

static int parse_own(struct mount_options *o, const struct option_row *row, const char *value,
                     struct failure *failure)
{
        int r;

        if (!value != !row->expects)
                return failure_set(failure, -EINVAL, "mount option '%s' %s%s", row->name,
                                   row->expects ? "needs a value: " : "takes no value",
                                   row->expects ? row->expects : "");
        r = row->set(o, value);
        if (r == -EINVAL)
                return failure_set(failure, r, "mount option '%s=%s': expected %s", row->name, value,
                                   row->expects);
        return r;
}

static int parse_word(struct mount_options *o, char *word, struct failure *failure)
{
        char *value = strchr(word, '=');
        size_t name_len = value ? (size_t)(value - word) : strlen(word);

        for (size_t i = 0; i < ARRAY_SIZE(own_options); i++)
                if (strlen(own_options[i].name) == name_len &&
                    strncmp(own_options[i].name, word, name_len) == 0)
                        return parse_own(o, &own_options[i], value ? value + 1 : NULL, failure);
        if (strcmp(word, "remount") == 0)
                return failure_set(failure, -EINVAL,
                                   "a mount cannot be changed by remount: umount it and mount it again");
        if (listed(word, kernel_options, ARRAY_SIZE(kernel_options)))
                return buffer_printf(&o->kernel, ",%s", word);
        if (listed(word, foreign_options, ARRAY_SIZE(foreign_options)))
                return 0;
        return failure_set(
                failure, -EINVAL,
                "unknown mount option '%.*s'; beside those of mount(8) there are cache=, cache_anywhere, "
                "quota=, free=, token_file=, node_name=, metrics=, tls, ca=, cert=, key=, timeout=, "
                "refresh=, lazy=, prefetch=, prefetch_rate=, passthrough=, uid=, gid=, umask=, "
                "offline, xattr",
                (int)name_len, word);
}

int mount_options_parse(struct mount_options *options, const char *list, struct failure *failure)
{
        _cleanup_free_ char *copy = strdup(list);
        char *rest = copy, *word;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&rest, ","))) {
                int r = word[0] ? parse_word(options, word, failure) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int mount_options_check(const struct mount_options *options, struct failure *failure)
{
        const char *alone = options->ca ? "ca" : options->cert ? "cert" : options->key ? "key" : NULL;

        if (alone && !options->tls)
                return failure_set(failure, -EINVAL, "mount option '%s' needs the option tls", alone);
        if (!options->cert != !options->key)
                return failure_set(failure, -EINVAL,
                                   "mount options 'cert' and 'key' go together: '%s' is missing",
                                   options->cert ? "key" : "cert");
        return 0;
}
