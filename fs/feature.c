#include "fs/feature.h"

#include "base/io.h"
#include "fs/channel.h"
#include "fs/filesystem.h"
#include "fs/kernel_abi.h"

static const char *const names[FEATURES] = {
        [FEATURE_PASSTHROUGH] = "passthrough",
        [FEATURE_NO_OPEN] = "no_open",
        [FEATURE_NO_OPENDIR] = "no_opendir",
        [FEATURE_READDIRPLUS] = "readdirplus",
        [FEATURE_KEEP_CACHE] = "keep_cache",
        [FEATURE_MAX_READ] = "max_read",
        [FEATURE_READ_AHEAD] = "read_ahead",
        [FEATURE_ASYNC_READ] = "async_read",
        [FEATURE_PARALLEL_DIROPS] = "parallel_dirops",
        [FEATURE_SPLICE] = "splice",
        [FEATURE_IO_URING] = "io_uring",
        [FEATURE_LARGE_FOLIOS] = "large_folios",
};

/* What the kernel offers and libfuse agreed to by a bit of INIT. */
static struct feature by_flag(const struct channel_greeting *greeting, uint64_t flag, const char *reason)
{
        if (greeting->agreed & flag)
                return (struct feature){ .on = true, .reason = reason };
        return (struct feature){ .reason = greeting->offered & flag ? "this libfuse does not ask for it"
                                                                    : "this kernel does not have it" };
}

static uint64_t read_ahead_bytes(const char *bdi)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        char path[64];

        if (!bdi)
                return 0;
        snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", bdi);
        return io_read_file(-1, path, 64, &text) < 0 ? 0 : strtoull(text.data, NULL, 10) << 10;
}

static struct feature read_ahead(const struct channel_greeting *greeting, const char *bdi)
{
        uint64_t bytes = read_ahead_bytes(bdi);

        if (bytes > greeting->max_readahead)
                return (struct feature){ true, bytes, "raised for this mount" };
        return (struct feature){ false, bytes, "the kernel's own: only root may raise it" };
}

static struct feature io_uring(const struct channel_greeting *greeting)
{
        return (struct feature){ .reason = greeting->offered & FUSE_OVER_IO_URING
                                                   ? "this build does not have it"
                                                   : "the kernel does not offer it (fuse.enable_uring)" };
}

void feature_collect(const struct filesystem *fs, const char *bdi, struct features *ret)
{
        const struct channel_greeting *greeting = channel_get_greeting(fs->channel);
        bool through = fs->passthrough != NULL;
        struct feature *f = ret->list;

        f[FEATURE_PASSTHROUGH] =
                (struct feature){ .on = through,
                                  .reason = through ? "large files are read from the store by the kernel"
                                                    : fs->no_passthrough };
        f[FEATURE_NO_OPEN] = (struct feature){ .on = !through,
                                               .reason = through ? "passthrough is decided at each open"
                                                                 : "an open needs no state" };
        f[FEATURE_NO_OPENDIR] = (struct feature){ .on = true, .reason = "a listing needs no state" };
        f[FEATURE_READDIRPLUS] = by_flag(greeting, FUSE_DO_READDIRPLUS, "attributes come with every listing");
        f[FEATURE_KEEP_CACHE] = (struct feature){ .on = true, .reason = "an inode number names one content" };
        f[FEATURE_MAX_READ] =
                (struct feature){ .on = (greeting->agreed & FUSE_MAX_PAGES) != 0,
                                  .value = greeting->max_request,
                                  .reason = "the largest read that the kernel asks for at once" };
        f[FEATURE_READ_AHEAD] = read_ahead(greeting, bdi);
        f[FEATURE_ASYNC_READ] = by_flag(greeting, FUSE_ASYNC_READ, "several reads of a file at once");
        f[FEATURE_PARALLEL_DIROPS] =
                by_flag(greeting, FUSE_PARALLEL_DIROPS, "several look-ups in a folder at once");
        f[FEATURE_SPLICE] = (struct feature){ .reason = "a copy is faster (docs/performance.md)" };
        f[FEATURE_IO_URING] = io_uring(greeting);
        f[FEATURE_LARGE_FOLIOS] =
                (struct feature){ .reason = "the kernel gives the page cache of FUSE single pages" };
}

json_t *feature_json(const struct features *features)
{
        json_t *all = json_object();
        int r = all ? 0 : -1;

        for (int i = 0; i < FEATURES && r == 0; i++) {
                const struct feature *f = &features->list[i];
                json_t *one = json_pack("{s:b, s:s}", "on", f->on, "reason", f->reason);
                if (f->value > 0 && one)
                        r |= json_object_set_new(one, "value", json_integer((json_int_t)f->value));
                r |= json_object_set_new(all, names[i], one);
        }
        if (r == 0)
                return all;
        json_decref(all);
        return NULL;
}

const char *feature_libfuse_version(void)
{
        return fuse_pkgversion();
}
