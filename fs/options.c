#include "fs/options.h"

#include <ctype.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "base/nearest.h"
#include "base/path.h"
#include "cache/domain.h"

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
        free(options->domain);
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

/* For the kernel and libfuse, passed on as they are; a later word overrides an earlier one, as everywhere. */
static const char *const kernel_options[] = {
        "ro",          "exec",        "noexec",       "suid",
        "nosuid",      "dev",         "nodev",        "sync",
        "async",       "atime",       "noatime",      "dirsync",
        "nosymfollow", "allow_other", "allow_root",   "default_permissions",
        "context=*",   "fscontext=*", "defcontext=*", "rootcontext=*",
};

/* What only mount(8), fstab and systemd look at. A mount is read-only whatever `rw` says: fstab's defaults contain it; so there are no access times, and words about them, which libfuse
 * does not all know, say nothing. */
static const char *const foreign_options[] = {
        "rw",         "defaults",   "auto",        "noauto",        "nofail",    "_netdev",  "user",
        "nouser",     "users",      "owner",       "group",         "comment=*", "x-*",      "X-*",
        "uhelper=*",  "helper=*",   "user=*",      "silent",        "loud",      "_rnetdev", "lazytime",
        "nolazytime", "iversion",   "noiversion",  "mand",          "nomand",    "diratime", "nodiratime",
        "relatime",   "norelatime", "strictatime", "nostrictatime",
};

static bool listed(const char *word, const char *const *patterns, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (fnmatch(patterns[i], word, 0) == 0)
                        return true;
        return false;
}

/* What fsyncfs does not read itself: 1 if it is for the kernel, 0 if it is for others; -ENOENT. */
static int find_foreign(const char *word)
{
        if (listed(word, kernel_options, ARRAY_SIZE(kernel_options)))
                return 1;
        return listed(word, foreign_options, ARRAY_SIZE(foreign_options)) ? 0 : -ENOENT;
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
                int r = word[0] ? find_foreign(word) : 0;
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
        { .name = "xattr", .kind = SETTING_FLAG, .set = set_xattr, .help = "show user.fsyncfs.* attributes" },
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

void mount_options_each_foreign(void (*each)(void *arg, const char *word), void *arg)
{
        static const struct {
                const char *const *words;
                size_t n;
        } lists[] = {
                { kernel_options, ARRAY_SIZE(kernel_options) },
                { foreign_options, ARRAY_SIZE(foreign_options) },
        };
        char word[32];

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                for (size_t j = 0; j < lists[i].n; j++) {
                        snprintf(word, sizeof(word), "%.*s", (int)strcspn(lists[i].words[j], "*"),
                                 lists[i].words[j]);
                        each(arg, word);
                }
}

static void offer_known(struct nearest *nearest)
{
        for (size_t i = 0; i < ARRAY_SIZE(own_options); i++)
                if (!(own_options[i].not_in & SETTING_IN(SETTING_COMMAND)))
                        nearest_offer(nearest, own_options[i].name);
        for (size_t i = 0; i < ARRAY_SIZE(kernel_options); i++)
                nearest_offer(nearest, kernel_options[i]);
        for (size_t i = 0; i < ARRAY_SIZE(foreign_options); i++)
                nearest_offer(nearest, foreign_options[i]);
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
        r = find_foreign(word);
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
