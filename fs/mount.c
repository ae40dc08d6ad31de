#include "fs/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/ahead.h"
#include "fs/bindings.h"
#include "fs/blobs.h"
#include "fs/control.h"
#include "fs/filesystem.h"
#include "fs/mountinfo.h"
#include "fs/notifier.h"
#include "fs/watchdog.h"

#define FETCH_THREADS    16 /* downloads at the same time; docs/performance.md */
#define BLOBS_MAX        512u
#define BLOB_UNUSED_NS   NSEC_PER_SEC /* open without need, where the cache is full */
#define READAHEAD_KIB    1024
#define MAX_FUSE_THREADS 8

/* ---- the mount point ---- */

/* FLAGS of umount2(2) if that is allowed; a user has fusermount3 detach it. */
static int detach(const char *target, int flags)
{
        if (umount2(target, flags) == 0)
                return 0;
        if (errno == EPERM) {
                pid_t pid = fork();
                int status;
                if (pid == 0) {
                        execlp("fusermount3", "fusermount3", "-u", "-z", "--", target, (char *)NULL);
                        _exit(127);
                }
                if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
                    WEXITSTATUS(status) == 0)
                        return 0;
                return -EPERM;
        }
        return -errno;
}

/* A mount whose daemon died answers ENOTCONN to everything until it is unmounted. */
static int clean_dead_mount(const char *target, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        int r = mountinfo_find(target, &info);

        if (r < 0 || strcmp(info.type, MOUNTINFO_TYPE) != 0)
                return failure_set(failure, -ENOTCONN,
                                   "mount point '%s' belongs to a dead mount of another file system (%s): "
                                   "umount it first",
                                   target, r < 0 ? "unknown" : info.type);
        r = detach(info.target, MNT_DETACH);
        if (r < 0)
                return failure_set(failure, r,
                                   "mount point '%s' holds a dead mount of '%s' that cannot be unmounted: %s",
                                   target, info.source, strerror(-r));
        log_info("'%s' held a dead mount of '%s': unmounted it", target, info.source);
        return 0;
}

static int check_not_mounted(struct filesystem *fs, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };

        if (mountinfo_find(fs->target, &info) < 0 || strcmp(info.target, fs->target) != 0 ||
            strcmp(info.type, MOUNTINFO_TYPE) != 0)
                return 0;
        return failure_set(failure, -EBUSY, "mount point '%s' is busy: '%s' is mounted there already",
                           fs->target, info.source);
}

/* A mount whose daemon was killed goes on answering from the kernel's caches: stat alone does not tell. statfs does, but would
 * wait for a daemon that is alive and busy, so the control socket is asked first. */
static bool is_dead_mount(const char *target)
{
        struct failure unused = { 0 };
        struct statfs fs_st;
        struct stat st;
        json_t *reply;
        int r;

        if (stat(target, &st) < 0)
                return errno == ENOTCONN;
        r = control_ask(target, "version", &reply, &unused);
        if (r == 0)
                json_decref(reply);
        return (r == -ECONNREFUSED || r == -ENOENT) && statfs(target, &fs_st) < 0 && errno == ENOTCONN;
}

static int check_target(struct filesystem *fs, const char *target, struct failure *failure)
{
        struct stat st;
        int r;

        if (is_dead_mount(target)) {
                r = clean_dead_mount(target, failure);
                if (r < 0)
                        return r;
        }
        if (stat(target, &st) < 0)
                return failure_set(failure, -errno, "mount point '%s': %s%s", target, strerror(errno),
                                   errno == ENOENT ? "; make the folder first" : "");
        if (!S_ISDIR(st.st_mode))
                return failure_set(failure, -ENOTDIR, "mount point '%s' is not a folder", target);
        fs->target = realpath(target, NULL);
        if (!fs->target)
                return -ENOMEM;
        return check_not_mounted(fs, failure);
}

/* ---- bringing it up, in the order of struct filesystem ---- */

static int open_cache(struct filesystem *fs, struct failure *failure)
{
        const char *dir = fs->options.cache_dir;
        int r = store_open(dir, &fs->store);

        if (r < 0)
                return failure_set(failure, r,
                                   "cannot use cache folder '%s': %s; choose another with cache=DIR", dir,
                                   strerror(-r));
        r = store_limit(fs->store, &fs->options.limits);
        if (r < 0)
                return failure_set(failure, r, "cannot keep cache folder '%s' within its limits: %s", dir,
                                   strerror(-r));
        r = catalog_open(dir, fs->source.text, &fs->catalog);
        if (r < 0)
                return failure_set(failure, r, "cannot open the catalog in cache folder '%s': %s", dir,
                                   strerror(-r));
        return 0;
}

static int open_session(struct filesystem *fs, struct failure *failure)
{
        struct session_options options = {
                .source = &fs->source,
                .token_file = fs->options.token_file,
                .timeout_ms = (int)fs->options.timeout_sec * 1000,
        };

        return session_new(&options, &fs->session, failure);
}

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

static int open_fuse(struct filesystem *fs, struct failure *failure)
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

static int mount_fuse(struct filesystem *fs, struct failure *failure)
{
        atomic_store(&fs->mounted, true);
        if (fuse_session_mount(fs->fuse, fs->target) != 0)
                return failure_set(failure, -EPERM, "cannot mount on '%s': %s", fs->target,
                                   libfuse_line[0] ? libfuse_line
                                                   : "fusermount3 refuses; is /dev/fuse there and allowed?");
        return 0;
}

static int refresh_stale(void *arg)
{
        struct filesystem *fs = arg;
        struct failure failure = { 0 };

        return syncer_run(fs->syncer, false, &failure);
}

/* Before the mount the kernel knows nothing that it could forget. */
static void tell_kernel(struct catalog_changes *changes, void *arg)
{
        struct filesystem *fs = arg;

        if (!atomic_load(&fs->mounted))
                return;
        if (notifier_push(fs->notifier, changes) < 0)
                log_error("out of memory: the kernel was not told what changed; remount '%s'", fs->target);
}

/* On a terminal: one line that is written over again and again. */
static void show_progress(const struct progress_view *view, void *arg)
{
        char line[160];

        progress_format(view, line, sizeof(line));
        fprintf(stderr, "\r%s: %s\033[K", ((struct filesystem *)arg)->source.text, line);
}

static int first_version(struct filesystem *fs, struct failure *failure)
{
        bool terminal = isatty(STDERR_FILENO);
        struct syncer_wait wait = {
                .lazy_ms = fs->options.lazy_sec < 0 ? -1 : (int64_t)fs->options.lazy_sec * 1000,
                .tick = terminal ? show_progress : NULL,
                .arg = fs,
        };
        struct catalog_version version;
        int r = 0;

        if (!fs->options.offline) {
                r = syncer_first(fs->syncer, &wait, failure);
                if (terminal)
                        fputs("\r\033[K", stderr);
                return r;
        }
        catalog_get_version(fs->catalog, &version);
        if (!version.valid)
                r = failure_set(failure, -ENOENT,
                                "nothing of '%s' is in cache folder '%s': mount it once without 'offline'",
                                fs->source.text, fs->options.cache_dir);
        return r;
}

static int start_syncer(struct filesystem *fs)
{
        struct syncer_options syncer = {
                .session = fs->session,
                .catalog = fs->catalog,
                .store = fs->store,
                .refresh_sec = fs->options.offline ? 0 : fs->options.refresh_sec,
                .push = fs->options.push && !fs->options.offline,
                .on_changes = tell_kernel,
                .on_changes_arg = fs,
        };
        int r = notifier_new(fs->fuse, fs->catalog, &fs->notifier);

        return r < 0 ? r : syncer_new(&syncer, &fs->syncer);
}

/* The store has no room but for what is open, and some of that only in case it is read again. */
static void drop_unused_blobs(void *arg)
{
        blobs_drop_unused(arg, BLOB_UNUSED_NS);
}

static int start_reading(struct filesystem *fs)
{
        struct fetch_options fetch = {
                .session = fs->session,
                .catalog = fs->catalog,
                .store = fs->store,
                .timeout_ms = (int)fs->options.timeout_sec * 1000,
                .offline = fs->options.offline,
                .threads = FETCH_THREADS,
                .held_max = fs->open_files / 4,
                .refresh = refresh_stale,
                .refresh_arg = fs,
        };
        int r = fetch_new(&fetch, &fs->fetch);

        if (r == 0)
                r = blobs_new(MIN(BLOBS_MAX, fs->open_files / 4), &fs->blobs);
        if (r == 0)
                store_on_pressure(fs->store, drop_unused_blobs, fs->blobs);
        if (r == 0)
                r = bindings_new(&fs->bindings);
        return r == 0 ? ahead_start(fs) : r;
}

static int bring_up(struct filesystem *fs, struct mount_request const *request, struct failure *failure)
{
        int r = check_target(fs, request->target, failure);

        if (r == 0) {
                fs->watchdog = watchdog_start(fs->target);
                if (fs->watchdog < 0)
                        r = failure_set(failure, fs->watchdog, "cannot start a process: %s",
                                        strerror(-fs->watchdog));
        }
        if (r == 0)
                r = open_cache(fs, failure);
        if (r == 0)
                r = open_session(fs, failure);
        if (r == 0)
                r = open_fuse(fs, failure);
        if (r == 0)
                r = start_syncer(fs);
        if (r == 0)
                r = first_version(fs, failure);
        if (r == 0)
                r = start_reading(fs);
        if (r == 0)
                r = mount_fuse(fs, failure);
        if (r == 0)
                r = control_new(fs, &fs->control, failure);
        return r;
}

/*
 * Ends the mount if it is still there, so that the kernel holds back no request and no notification any more. After umount(8) it is
 * not, and another mount may stand in its place already.
 */
static void abort_connection(struct filesystem *fs)
{
        struct pollfd connection = { .fd = fuse_session_fd(fs->fuse) };

        if (connection.fd < 0 || (poll(&connection, 1, 0) == 1 && (connection.revents & POLLERR)))
                return;
        /* The descriptor stays ours until nobody uses it any more. */
        (void)detach(fs->target, MNT_FORCE | MNT_DETACH);
}

/* Everything that can wait is told to stop waiting before anything is freed. */
static void take_down(struct filesystem *fs)
{
        if (fs->fuse)
                abort_connection(fs);
        ahead_report(fs);
        if (fs->session)
                session_interrupt(fs->session);
        if (fs->store)
                store_interrupt(fs->store);
        if (fs->syncer)
                syncer_stop(fs->syncer);
        fetch_stop(fs->fetch); /* whom the next wait for may be waiting for it */
        control_free(fs->control);
        ahead_stop(fs);
        fetch_free(fs->fetch);
        ahead_free(fs);
        syncer_free(fs->syncer);
        notifier_free(fs->notifier);
        if (fs->store)
                store_on_pressure(fs->store, NULL, NULL);
        blobs_free(fs->blobs);
        bindings_free(fs->bindings);
        if (fs->fuse) {
                fuse_session_unmount(fs->fuse); /* closes its descriptor: nobody may use it any more */
                fuse_session_destroy(fs->fuse);
        }
        watchdog_stop(fs->watchdog);
        session_free(fs->session);
        catalog_free(fs->catalog);
        store_free(fs->store);
        source_release(&fs->source);
        mount_options_release(&fs->options);
        free(fs->target);
        cleanup_close(&fs->ready_fd);
}

/* ---- serving ---- */

/* INIT cannot raise readahead above 128 KiB; the mount's backing device can. Without the permission it stays.
 */
static void raise_readahead(const struct filesystem *fs)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        _cleanup_free_ char *path = NULL;
        _cleanup_fclose_ FILE *f = NULL;

        if (mountinfo_find(fs->target, &info) < 0 ||
            asprintf(&path, "/sys/class/bdi/%s/read_ahead_kb", info.device) < 0)
                return;
        f = fopen(path, "we");
        if (f)
                fprintf(f, "%d\n", READAHEAD_KIB);
}

static int serve(struct filesystem *fs)
{
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        int r;

        if (!config)
                return -ENOMEM;
        fuse_loop_cfg_set_clone_fd(config, 1);
        fuse_loop_cfg_set_max_threads(config, MAX_FUSE_THREADS);
        raise_readahead(fs);
        r = fuse_session_loop_mt(fs->fuse, config);
        fuse_loop_cfg_destroy(config);
        return r;
}

/* A daemon's life. READY_FD is told when the tree can be read (one byte), or just closed when it cannot. */
static int run_daemon(const struct mount_request *request, struct source *source, int ready_fd)
{
        struct filesystem fs = { .source = *source, .options = *request->options, .ready_fd = ready_fd };
        struct failure failure = { 0 };
        int r;

        *source = (struct source){ 0 };
        *request->options = (struct mount_options){ 0 };
        signal(SIGPIPE, SIG_IGN);
        fs.open_files = io_raise_open_files();
        /* Who typed the command gets one line, the last; the story is for the log. */
        if (!request->foreground)
                log_to_syslog();
        rpc_init();
        r = bring_up(&fs, request, &failure);
        if (r < 0) {
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
                take_down(&fs);
                rpc_shutdown();
                return MOUNT_EXIT_FAIL;
        }
        if (!request->foreground) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);
                setsid();
                if (chdir("/") < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
                        log_warning("cannot leave the terminal: %s", strerror(errno));
        }
        fuse_set_signal_handlers(fs.fuse);
        r = serve(&fs);
        fuse_remove_signal_handlers(fs.fuse);
        take_down(&fs);
        rpc_shutdown();
        return r < 0 ? MOUNT_EXIT_SYSTEM : MOUNT_EXIT_OK;
}

/* The parent: waits for the daemon's word. Its error line is on stderr already. */
static int wait_ready(pid_t pid, int fd)
{
        char byte;
        ssize_t n;
        int status;

        do
                n = read(fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                return MOUNT_EXIT_OK;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                continue;
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
                return WEXITSTATUS(status);
        fprintf(stderr, "mount.fsyncfs: the daemon ended before the mount was ready\n");
        return MOUNT_EXIT_SYSTEM;
}

int mount_run(const struct mount_request *request)
{
        _cleanup_(source_release) struct source source = { 0 };
        struct failure failure = { 0 };
        int fds[2], r = source_parse(request->source, &source, &failure);
        pid_t pid;

        if (r < 0) {
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
                return MOUNT_EXIT_USAGE;
        }
        if (request->foreground)
                return run_daemon(request, &source, -1);
        if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
                fprintf(stderr, "mount.fsyncfs: cannot start the daemon: %s\n", strerror(errno));
                return MOUNT_EXIT_SYSTEM;
        }
        if (pid == 0) {
                close(fds[0]);
                return run_daemon(request, &source, fds[1]);
        }
        close(fds[1]);
        mount_options_release(request->options); /* the child has its own */
        r = wait_ready(pid, fds[0]);
        close(fds[0]);
        return r;
}
