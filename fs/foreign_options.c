#include "fs/foreign_options.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>

#include "base/util.h"

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

int foreign_option_find(const char *word)
{
        if (listed(word, kernel_options, ARRAY_SIZE(kernel_options)))
                return 1;
        return listed(word, foreign_options, ARRAY_SIZE(foreign_options)) ? 0 : -ENOENT;
}

void foreign_options_each(void (*each)(void *arg, const char *word), void *arg)
{
        static const struct {
                const char *const *words;
                size_t n;
        } lists[] = {
                { kernel_options, ARRAY_SIZE(kernel_options) },
                { foreign_options, ARRAY_SIZE(foreign_options) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                for (size_t j = 0; j < lists[i].n; j++)
                        each(arg, lists[i].words[j]);
}
