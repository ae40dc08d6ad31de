/*
 * The options that are fsyncfs's own: how the value of each is read, and the table of them all.
 */
#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "base/path.h"
#include "base/setting_field.h"
#include "cache/domain.h"
#include "fs/foreign_options.h"
#include "fs/options.h"

#define SECONDS_MAX 86400

static int set_domain(const struct setting *row, void *field, const char *value)
{
        return domain_valid(value) ? setting_set_copy(row, field, value) : -EINVAL;
}

#define NODE_NAME_MAX 127

/* Printable, as it is shown to people elsewhere. */
static int set_node_name(const struct setting *row, void *field, const char *value)
{
        if (!value[0] || strlen(value) > NODE_NAME_MAX || !path_is_utf8(value, strlen(value)))
                return -EINVAL;
        for (const char *p = value; *p; p++)
                if (iscntrl((unsigned char)*p))
                        return -EINVAL;
        return setting_set_copy(row, field, value);
}

/* Under another name the collector would not read it. */
static int set_metrics(const struct setting *row, void *field, const char *value)
{
        size_t len = strlen(value);

        if (len <= 5 || strcmp(value + len - 5, ".prom") != 0)
                return -EINVAL;
        return setting_set_path(row, field, value);
}

static int set_hash(const struct setting *row, void *field, const char *value)
{
        bool any = strcmp(value, "any") == 0;

        if (!any && strcmp(value, hash_algorithm_name(HASH_SHA256)) != 0)
                return -EINVAL;
        *(enum hash_algorithm *)field = any ? HASH_NONE : HASH_SHA256;
        return 0;
}

static int set_refresh(const struct setting *row, void *target, const char *value)
{
        struct mount_options *o = target;
        bool push = strcmp(value, "push") == 0;
        unsigned sec = 0;
        int r = push || strcmp(value, "off") == 0 ? 0 : setting_set_number(row, &sec, value);

        if (r < 0)
                return r;
        o->refresh_sec = sec;
        o->push = push;
        return 0;
}

static int set_lazy(const struct setting *row, void *field, const char *value)
{
        bool off = strcmp(value, "off") == 0;
        unsigned sec;
        int r = off ? 0 : setting_set_number(row, &sec, value);

        if (r == 0)
                *(int *)field = off ? -1 : (int)sec;
        return r;
}

static int set_prefetch_rate(const struct setting *row, void *field, const char *value)
{
        struct store_amount amount;

        if (mount_options_parse_amount(value, &amount) < 0 || amount.percent > 0 || strchr(value, '%'))
                return -EINVAL;
        *(uint64_t *)field = amount.bytes;
        return 0;
}

static int set_uid(const struct setting *row, void *field, const char *value)
{
        const struct passwd *user;

        if (setting_set_number(row, field, value) == 0)
                return 0;
        user = getpwnam(value);
        if (!user)
                return -EINVAL;
        *(uid_t *)field = user->pw_uid;
        return 0;
}

static int set_gid(const struct setting *row, void *field, const char *value)
{
        const struct group *group;

        if (setting_set_number(row, field, value) == 0)
                return 0;
        group = getgrnam(value);
        if (!group)
                return -EINVAL;
        *(gid_t *)field = group->gr_gid;
        return 0;
}

static int set_umask(const struct setting *row, void *field, const char *value)
{
        uint64_t n;

        if (setting_parse_number(value, 8, 07777, &n) < 0)
                return -EINVAL;
        *(mode_t *)field = (mode_t)n;
        return 0;
}

int mount_options_parse_amount(const char *value, struct store_amount *ret)
{
        static const char units[] = "KMGTP";
        char digits[24];
        size_t len = strspn(value, "0123456789"), shift;
        const char *unit;
        uint64_t n;

        if (len >= sizeof(digits))
                return -EINVAL;
        memcpy(digits, value, len);
        digits[len] = '\0';
        if (setting_parse_number(digits, 10, INT64_MAX, &n) < 0)
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
        if (n > (uint64_t)INT64_MAX >> shift)
                return -EINVAL;
        *ret = (struct store_amount){ .bytes = n << shift };
        return 0;
}

static int set_amount(const struct setting *row, void *field, const char *value)
{
        return mount_options_parse_amount(value, field);
}

static int set_kernel(const struct setting *row, void *target, const char *value)
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
          SETTING_TO_PATH(struct mount_options, cache_dir),
          .fallback = "/var/cache/fsyncfs, or ~/.cache/fsyncfs",
          .help = "where catalog and contents are kept" },
        { .name = "cache_anywhere",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct mount_options, cache_anywhere),
          .help = "also on a file system of the network" },
        { .name = "domain",
          .argument = "NAME",
          .expects = "a name of at most 64 letters, digits, '-', '_' and '.'",
          .set = set_domain,
          .field = SETTING_FIELD(struct mount_options, domain, char *),
          .help = "shares contents only with mounts of this domain" },
        { .name = "quota",
          .argument = "SIZE|N%",
          .expects = A_SIZE,
          .set = set_amount,
          .field = SETTING_FIELD(struct mount_options, limits.quota, struct store_amount),
          .fallback = "0",
          .help = "how much contents may take there (0: no limit)" },
        { .name = "free",
          .argument = "SIZE|N%",
          .expects = A_SIZE,
          .set = set_amount,
          .field = SETTING_FIELD(struct mount_options, limits.floor, struct store_amount),
          .fallback = "5%",
          .help = "how much to leave free there (5%, at most 1G)" },
        { .name = "token_file",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_PATH(struct mount_options, token_file),
          .help = "its first line is sent to the master" },
        { .name = "node_name",
          .argument = "NAME",
          .expects = "a name of up to 127 bytes",
          .set = set_node_name,
          .field = SETTING_FIELD(struct mount_options, node_name, char *),
          .help = "what the master calls this worker (host name)" },
        { .name = "metrics",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file whose name ends in .prom",
          .set = set_metrics,
          .field = SETTING_FIELD(struct mount_options, metrics, char *),
          .help = "write the mount's figures to FILE (.prom)" },
        { .name = "tls",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct mount_options, tls),
          .help = "speak TLS with the master" },
        { .name = "ca",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_PATH(struct mount_options, ca),
          .fallback = "those that the machine trusts",
          .help = "the CAs of the master's certificate (the machine's)" },
        { .name = "cert",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_PATH(struct mount_options, cert),
          .help = "this machine's certificate" },
        { .name = "key",
          .kind = SETTING_PATH,
          .argument = "FILE",
          .expects = "a file",
          SETTING_TO_PATH(struct mount_options, key),
          .help = "and its key" },
        { .name = "hash",
          .argument = "NAME",
          .expects = "sha256 or any",
          .choices = "sha256 any",
          .set = set_hash,
          .field = SETTING_FIELD(struct mount_options, hash, enum hash_algorithm),
          .fallback = "any",
          .help = "sha256: refuse masters that name contents by less" },
        { .name = "timeout",
          .argument = "SECONDS",
          .expects = "seconds, from 1 to 86400",
          SETTING_TO_NUMBER(struct mount_options, timeout_sec, 1, SECONDS_MAX),
          .fallback = "30",
          .help = "how long a read waits without progress (30)" },
        { .name = "retry",
          .argument = "SECONDS",
          .expects = "seconds, from 0 to 86400",
          SETTING_TO_NUMBER(struct mount_options, retry_sec, 0, SECONDS_MAX),
          .fallback = "0",
          .help = "how long to try again where no master is (0)" },
        { .name = "refresh",
          .argument = "WHEN",
          .expects = "push, seconds from 1 to 86400, or off",
          .choices = "push off",
          .set = set_refresh,
          .least = 1,
          .most = SECONDS_MAX,
          .fallback = "push",
          .help = "new versions: push (default), every so many s, or off" },
        { .name = "lazy",
          .argument = "SECONDS",
          .expects = "seconds, from 0 to 86400, or off",
          .choices = "off",
          .set = set_lazy,
          .field = SETTING_FIELD(struct mount_options, lazy_sec, int),
          .most = SECONDS_MAX,
          .fallback = "3",
          .help = "mount in part after this, or off (3)" },
        { .name = "prefetch",
          .argument = "auto|off",
          .expects = "auto or off",
          .choices = "auto off",
          SETTING_TO_CHOICE(struct mount_options, prefetch),
          .fallback = "auto",
          .help = "fetch what will probably be read next" },
        { .name = "prefetch_rate",
          .argument = "SIZE",
          .expects = "bytes a second such as 500K or 20M, or 0",
          .set = set_prefetch_rate,
          .field = SETTING_FIELD(struct mount_options, prefetch_rate, uint64_t),
          .fallback = "0",
          .help = "bytes a second for what is fetched in bulk (no limit)" },
        { .name = "passthrough",
          .argument = "HOW",
          .expects = "auto, on or off",
          .choices = "auto on off",
          SETTING_TO_CHOICE(struct mount_options, passthrough),
          .fallback = "auto",
          .help = "the kernel reads large files: auto (default), on, off" },
        { .name = "uid",
          .argument = "USER",
          .expects = "a user's name or number",
          .set = set_uid,
          .field = SETTING_FIELD(struct mount_options, uid, uid_t),
          .most = UINT32_MAX - 1,
          .fallback = "who mounts",
          .help = "the owner that is shown of everything" },
        { .name = "gid",
          .argument = "GROUP",
          .expects = "a group's name or number",
          .set = set_gid,
          .field = SETTING_FIELD(struct mount_options, gid, gid_t),
          .most = UINT32_MAX - 1,
          .fallback = "the group of who mounts",
          .help = "the group likewise" },
        { .name = "umask",
          .argument = "OCTAL",
          .expects = "an octal number",
          .set = set_umask,
          .field = SETTING_FIELD(struct mount_options, umask, mode_t),
          .fallback = "0",
          .help = "permission bits to take away" },
        { .name = "offline",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct mount_options, offline),
          .help = "mount the last version, ask no master" },
        { .name = "fallback",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct mount_options, fallback),
          .help = "without a master mount the last version" },
        { .name = "xattr",
          .kind = SETTING_FLAG,
          SETTING_TO_FLAG(struct mount_options, xattr),
          .help = "show user.fsyncfs.* attributes" },
        { .name = "log_format",
          .argument = "text|json",
          .expects = "text or json",
          .choices = "text json",
          SETTING_TO_CHOICE(struct mount_options, log_format),
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
