/*
 * The options that are fsyncfs's own: how the value of each is read, and the table of them all.
 */
#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "base/path.h"
#include "cache/domain.h"
#include "fs/foreign_options.h"
#include "fs/options.h"

#define SECONDS_MAX 86400

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

static int set_cache(void *target, const char *value)
{
        struct mount_options *o = target;

        return set_path(&o->cache_dir, value);
}

static int set_domain(void *target, const char *value)
{
        struct mount_options *o = target;
        char *name;

        if (!domain_valid(value))
                return -EINVAL;
        name = strdup(value);
        if (!name)
                return -ENOMEM;
        free(o->domain);
        o->domain = name;
        return 0;
}

#define NODE_NAME_MAX 127

/* Printable, as it is shown to people elsewhere. */
static int set_node_name(void *target, const char *value)
{
        struct mount_options *o = target;
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
static int set_metrics(void *target, const char *value)
{
        struct mount_options *o = target;
        size_t len = strlen(value);

        if (len <= 5 || strcmp(value + len - 5, ".prom") != 0)
                return -EINVAL;
        return set_path(&o->metrics, value);
}

static int set_token_file(void *target, const char *value)
{
        struct mount_options *o = target;

        return set_path(&o->token_file, value);
}

static int set_tls(void *target, const char *value)
{
        struct mount_options *o = target;

        o->tls = strcmp(value, "yes") == 0;
        return 0;
}

static int set_ca(void *target, const char *value)
{
        struct mount_options *o = target;

        return set_path(&o->ca, value);
}

static int set_cert(void *target, const char *value)
{
        struct mount_options *o = target;

        return set_path(&o->cert, value);
}

static int set_key(void *target, const char *value)
{
        struct mount_options *o = target;

        return set_path(&o->key, value);
}

static int set_hash(void *target, const char *value)
{
        struct mount_options *o = target;
        bool any = strcmp(value, "any") == 0;

        if (!any && strcmp(value, hash_algorithm_name(HASH_SHA256)) != 0)
                return -EINVAL;
        o->hash = any ? HASH_NONE : HASH_SHA256;
        return 0;
}

static int set_timeout(void *target, const char *value)
{
        struct mount_options *o = target;
        unsigned long n;

        if (parse_number(value, 10, SECONDS_MAX, &n) < 0 || n == 0)
                return -EINVAL;
        o->timeout_sec = (unsigned)n;
        return 0;
}

static int set_retry(void *target, const char *value)
{
        struct mount_options *o = target;
        unsigned long n;

        if (parse_number(value, 10, SECONDS_MAX, &n) < 0)
                return -EINVAL;
        o->retry_sec = (unsigned)n;
        return 0;
}

static int set_refresh(void *target, const char *value)
{
        struct mount_options *o = target;
        unsigned long n = 0;
        bool push = strcmp(value, "push") == 0;

        if (!push && strcmp(value, "off") != 0 && (parse_number(value, 10, SECONDS_MAX, &n) < 0 || n == 0))
                return -EINVAL;
        o->refresh_sec = (unsigned)n;
        o->push = push;
        return 0;
}

static int set_lazy(void *target, const char *value)
{
        struct mount_options *o = target;
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

static int set_prefetch(void *target, const char *value)
{
        struct mount_options *o = target;

        if (strcmp(value, "auto") != 0 && strcmp(value, "off") != 0)
                return -EINVAL;
        o->prefetch_off = strcmp(value, "off") == 0;
        return 0;
}

static int set_prefetch_rate(void *target, const char *value)
{
        struct mount_options *o = target;
        struct store_amount amount;

        if (mount_options_parse_amount(value, &amount) < 0 || amount.percent > 0 || strchr(value, '%'))
                return -EINVAL;
        o->prefetch_rate = amount.bytes;
        return 0;
}

static int set_passthrough(void *target, const char *value)
{
        struct mount_options *o = target;
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

static int set_uid(void *target, const char *value)
{
        struct mount_options *o = target;
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

static int set_gid(void *target, const char *value)
{
        struct mount_options *o = target;
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

static int set_umask(void *target, const char *value)
{
        struct mount_options *o = target;
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

static int set_quota(void *target, const char *value)
{
        struct mount_options *o = target;

        return mount_options_parse_amount(value, &o->limits.quota);
}

static int set_free(void *target, const char *value)
{
        struct mount_options *o = target;

        return mount_options_parse_amount(value, &o->limits.floor);
}

static int set_offline(void *target, const char *value)
{
        struct mount_options *o = target;

        o->offline = strcmp(value, "yes") == 0;
        return 0;
}

static int set_fallback(void *target, const char *value)
{
        struct mount_options *o = target;

        o->fallback = strcmp(value, "yes") == 0;
        return 0;
}

static int set_cache_anywhere(void *target, const char *value)
{
        struct mount_options *o = target;

        o->cache_anywhere = strcmp(value, "yes") == 0;
        return 0;
}

static int set_xattr(void *target, const char *value)
{
        struct mount_options *o = target;

        o->xattr = strcmp(value, "yes") == 0;
        return 0;
}

static int set_log_format(void *target, const char *value)
{
        struct mount_options *o = target;

        return log_format_parse(value, &o->log_format);
}

static int set_kernel(void *target, const char *value)
{
        struct mount_options *o = target;
        _cleanup_free_ char *copy = value ? strdup(value) : NULL;
        char *rest = copy, *word;

        if (!value)
                return 0; /* a later word overrides an earlier one */
        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&rest, ","))) {
                int r = word[0] ? foreign_option_find(word) : 0;
                if (r == -ENOENT)
                        return -EINVAL;
                if (r == 1 && buffer_printf(&o->kernel, ",%s", word) < 0)
                        return -ENOMEM;
        }
        return 0;
}

#define A_SIZE "a size such as 500M or 20G, or a percentage of the cache's file system"

static const struct setting own_options[] = {
        { .name = "cache",
          .kind = SETTING_PATH,
          .argument = "DIR",
          .expects = "a folder",
          .set = set_cache,
          .fallback = "/var/cache/fsyncfs, or ~/.cache/fsyncfs",
          .help = "where catalog and contents are kept" },
        { .name = "cache_anywhere",
          .kind = SETTING_FLAG,
          .set = set_cache_anywhere,
          .help = "also on a file system of the network" },
        { .name = "domain",
          .argument = "NAME",
          .expects = "a name of at most 64 letters, digits, '-', '_' and '.'",
          .set = set_domain,
          .help = "shares contents only with mounts of this domain" },
        { .name = "quota",
          .argument = "SIZE|N%",
          .expects = A_SIZE,
          .set = set_quota,
          .fallback = "0",
          .help = "how much contents may take there (0: no limit)" },
        { .name = "free",
          .argument = "SIZE|N%",
          .expects = A_SIZE,
          .set = set_free,
          .fallback = "5%",
          .help = "how much to leave free there (5%, at most 1G)" },
        { .name = "token_file",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          .set = set_token_file,
          .help = "its first line is sent to the master" },
        { .name = "node_name",
          .argument = "NAME",
          .expects = "a name of up to 127 bytes",
          .set = set_node_name,
          .help = "what the master calls this worker (host name)" },
        { .name = "metrics",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file whose name ends in .prom",
          .set = set_metrics,
          .help = "write the mount's figures to FILE (.prom)" },
        { .name = "tls", .kind = SETTING_FLAG, .set = set_tls, .help = "speak TLS with the master" },
        { .name = "ca",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          .set = set_ca,
          .fallback = "those that the machine trusts",
          .help = "the CAs of the master's certificate (the machine's)" },
        { .name = "cert",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          .set = set_cert,
          .help = "this machine's certificate" },
        { .name = "key",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          .set = set_key,
          .help = "and its key" },
        { .name = "hash",
          .argument = "NAME",
          .expects = "sha256 or any",
          .choices = "sha256 any",
          .set = set_hash,
          .fallback = "any",
          .help = "sha256: refuse masters that name contents by less" },
        { .name = "timeout",
          .argument = "SECONDS",
          .expects = "seconds, from 1 to 86400",
          .set = set_timeout,
          .fallback = "30",
          .help = "how long a read waits without progress (30)" },
        { .name = "retry",
          .argument = "SECONDS",
          .expects = "seconds, from 0 to 86400",
          .set = set_retry,
          .fallback = "0",
          .help = "how long to try again where no master is (0)" },
        { .name = "refresh",
          .argument = "WHEN",
          .expects = "push, seconds from 1 to 86400, or off",
          .choices = "push off",
          .set = set_refresh,
          .fallback = "push",
          .help = "new versions: push (default), every so many s, or off" },
        { .name = "lazy",
          .argument = "SECONDS",
          .expects = "seconds, from 0 to 86400, or off",
          .choices = "off",
          .set = set_lazy,
          .fallback = "3",
          .help = "mount in part after this, or off (3)" },
        { .name = "prefetch",
          .argument = "auto|off",
          .expects = "auto or off",
          .choices = "auto off",
          .set = set_prefetch,
          .fallback = "auto",
          .help = "fetch what will probably be read next" },
        { .name = "prefetch_rate",
          .argument = "SIZE",
          .expects = "bytes a second such as 500K or 20M, or 0",
          .set = set_prefetch_rate,
          .fallback = "0",
          .help = "bytes a second for what is fetched in bulk (no limit)" },
        { .name = "passthrough",
          .argument = "HOW",
          .expects = "auto, on or off",
          .choices = "auto on off",
          .set = set_passthrough,
          .fallback = "auto",
          .help = "the kernel reads large files: auto (default), on, off" },
        { .name = "uid",
          .argument = "USER",
          .expects = "a user's name or number",
          .set = set_uid,
          .fallback = "who mounts",
          .help = "the owner that is shown of everything" },
        { .name = "gid",
          .argument = "GROUP",
          .expects = "a group's name or number",
          .set = set_gid,
          .fallback = "the group of who mounts",
          .help = "the group likewise" },
        { .name = "umask",
          .argument = "OCTAL",
          .expects = "an octal number",
          .set = set_umask,
          .fallback = "0",
          .help = "permission bits to take away" },
        { .name = "offline",
          .kind = SETTING_FLAG,
          .set = set_offline,
          .help = "mount the last version, ask no master" },
        { .name = "fallback",
          .kind = SETTING_FLAG,
          .set = set_fallback,
          .help = "without a master mount the last version" },
        { .name = "xattr", .kind = SETTING_FLAG, .set = set_xattr, .help = "show user.fsyncfs.* attributes" },
        { .name = "log_format",
          .argument = "text|json",
          .expects = "text or json",
          .choices = "text json",
          .set = set_log_format,
          .fallback = "text",
          .help = "how the daemon logs: text (default) or json" },
        { .name = "options",
          .kind = SETTING_LIST,
          .not_in = SETTING_IN(SETTING_COMMAND),
          .argument = "LIST",
          .expects = "options of mount(8), such as noexec,noatime",
          .set = set_kernel,
          .help = "options of mount(8)" },
        { .name = "config",
          .kind = SETTING_PATH,
          .not_in = SETTING_IN(SETTING_FILE),
          .argument = "FILE",
          .expects = "a file",
          .fallback = MOUNT_CONFIG_DEFAULT,
          .help = "read FILE, not " MOUNT_CONFIG_DEFAULT },
};

const struct setting_table mount_option_table = {
        .rows = own_options,
        .n = ARRAY_SIZE(own_options),
        .what = "mount option",
        .prefix = "",
        .separator = "=",
        .negation = "no",
        .environment = "FSYNCFS_",
};
