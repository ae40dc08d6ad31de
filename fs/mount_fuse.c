/*
 * The kernel's side of bringing a mount up: libfuse's session, the mount itself, and INIT.
 */
#include "fs/mount_private.h"

#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "fs/mountinfo.h"
#include "fs/passthrough.h"

#define READAHEAD_KIB 1024

/* Commas and backslashes of a value are libfuse's to unescape. */
static int append_escaped(struct buffer *b, const char *text)
{
        for (; *text; text++)
                if (buffer_printf(b, "%s%c", *text == ',' || *text == '\\' ? "\\" : "", *text) < 0)
                        return -ENOMEM;
        return 0;
}

static _Thread_local char
        libfuse_line[256]; /* the last that libfuse said on this thread: it has no other way to say why */

static void take_libfuse_line(enum fuse_log_level level, const char *format, va_list ap)
{
        vsnprintf(libfuse_line, sizeof(libfuse_line), format, ap);
        libfuse_line[strcspn(libfuse_line, "\n")] = '\0';
        log_limited(level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "libfuse", "libfuse: %s",
                    libfuse_line);
}

int mount_fuse_open(struct filesystem *fs, struct failure *failure)
{
        _cleanup_buffer_ struct buffer options = { 0 };
        char program[] = "fsyncfs", o[] = "-o", *argv[] = { program, o, NULL, NULL };
        struct fuse_args args = FUSE_ARGS_INIT(3, argv);
        int r = buffer_printf(&options, "%s,subtype=fsyncfs,fsname=", fs->options.kernel.data);

        if (r < 0 || append_escaped(&options, fs->source.text) < 0)
                return -ENOMEM;
        argv[2] = options.data;
        fuse_set_log_func(take_libfuse_line);
        fs->fuse = fuse_session_new(&args, &filesystem_operations, sizeof(filesystem_operations), fs);
        fuse_opt_free_args(&args);
        if (!fs->fuse)
                return failure_set(failure, -EINVAL, "libfuse refuses the mount options '%s': %s",
                                   options.data, libfuse_line);
        return 0;
}

int mount_fuse_mount(struct filesystem *fs, struct failure *failure)
{
        if (takeover_is_due(fs->takeover))
                return 0;
        if (fuse_session_mount(fs->fuse, fs->target) != 0)
                return failure_set(failure, -EPERM, "cannot mount on '%s': %s", fs->target,
                                   libfuse_line[0] ? libfuse_line
                                                   : "fusermount3 refuses; is /dev/fuse there and allowed?");
        return 0;
}

/* INIT cannot raise readahead above 128 KiB, and its answer lowers it to what was agreed; afterwards the mount's backing device can. Without the
 * permission it stays. */
static void raise_readahead(const char *bdi)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_fclose_ FILE *f = NULL;

        if (asprintf(&path, "/sys/class/bdi/%s/read_ahead_kb", bdi) < 0)
                return;
        f = fopen(path, "we");
        if (f)
                fprintf(f, "%d\n", READAHEAD_KIB);
}

/* Has INIT answered and settles what the kernel is used for. Requests come after it, from serve. */
int mount_fuse_greet(struct filesystem *fs, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        struct catalog_version version;
        int device_fd = takeover_is_due(fs->takeover) ? fcntl(fs->takeover->device_fd, F_DUPFD_CLOEXEC, 0)
                                                      : fuse_session_fd(fs->fuse);
        int r = device_fd < 0 ? -errno : channel_new(fs, device_fd, &fs->channel);

        if (r == 0 && takeover_is_due(fs->takeover))
                channel_resume(fs->channel, &fs->takeover->channel);
        if (r == 0)
                r = channel_greet(fs->channel);
        if (r < 0)
                return failure_set(failure, r, "the kernel does not answer on '%s': %s%s%s", fs->target,
                                   strerror(-r), libfuse_line[0] ? ": " : "", libfuse_line);
        if (!fs->no_passthrough)
                passthrough_new(fs, &fs->passthrough, &fs->no_passthrough);
        if (fs->no_passthrough)
                log_write(fs->options.passthrough == PASSTHROUGH_ON ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
                          "no passthrough on '%s': %s", fs->target, fs->no_passthrough);
        if (!takeover_is_due(fs->takeover) && mountinfo_find(fs->target, &info) == 0) {
                snprintf(fs->takeover->device, sizeof(fs->takeover->device), "%s", info.device);
                raise_readahead(info.device);
        }
        feature_collect(fs, fs->takeover->device, &fs->features);
        if (!takeover_is_due(fs->takeover)) {
                catalog_get_version(fs->catalog, &version);
                atomic_store(&fs->takeover->page->told, version.generation);
        }
        atomic_store(&fs->mounted, true);
        return 0;
}
