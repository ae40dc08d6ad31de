#include "fs/mount.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/place.h"
#include "fs/ahead.h"
#include "fs/bindings.h"
#include "fs/blobs.h"
#include "fs/channel.h"
#include "fs/child.h"
#include "fs/control.h"
#include "fs/filesystem.h"
#include "fs/keeper.h"
#include "fs/kernel_abi.h"
#include "fs/mountinfo.h"
#include "fs/mountpoint.h"
#include "fs/notifier.h"
#include "fs/passthrough.h"
#include "fs/takeover.h"

/* Pieces come and go by the thousand: their memory stays with the process, instead of being mapped and cleared anew for each. Each arena keeps what it
   once needed, and with one for each of fifty threads memory would grow with time. */
#define MALLOC_ARENAS     4
#define MALLOC_KEEP_BYTES (64 << 20)
#define MALLOC_MAP_BYTES  (32 << 20)

#define FETCH_THREADS    16 /* downloads at the same time; docs/performance.md */
#define BLOBS_MAX        512u
#define BLOB_UNUSED_NS   NSEC_PER_SEC /* open without need, where the cache is full */
#define READAHEAD_KIB    1024
#define MAX_FUSE_THREADS 8

/* ---- bringing it up, in the order of struct filesystem ---- */

static int open_catalog(struct filesystem *fs)
{
        const struct catalog_claim claim = { .lock_fd = fs->takeover->lock_fd, .slot = fs->takeover->slot };
        const char *dir = fs->options.cache_dir;

        return takeover_is_due(fs->takeover) ? catalog_take_over(dir, fs->source.text, &claim, &fs->catalog)
                                             : catalog_open(dir, fs->source.text, &fs->catalog);
}

static int open_cache(struct filesystem *fs, struct failure *failure)
{
        const char *dir = fs->options.cache_dir, *kind;
        int r = fs->options.cache_anywhere ? 0 : place_check(dir, &kind);

        if (r == -EREMOTE)
                return failure_set(
                        failure, r,
                        "cache folder '%s' is on a file system of the network (%s), whose locks and mappings "
                        "cannot be relied on: choose a local one with cache=DIR, or say cache_anywhere",
                        dir, kind);
        r = store_open(dir, &fs->store);
        if (r < 0)
                return failure_set(failure, r,
                                   "cannot use cache folder '%s': %s; choose another with cache=DIR", dir,
                                   strerror(-r));
        r = store_limit(fs->store, &fs->options.limits);
        if (r < 0)
                return failure_set(failure, r, "cannot keep cache folder '%s' within its limits: %s", dir,
                                   strerror(-r));
        r = open_catalog(fs);
        /* Contents can be had again, and a catalog on a full disk is in the way of all of them. */
        while (r == -ENOSPC && store_make_room(fs->store, CATALOG_ROOM_BYTES) == 0)
                r = open_catalog(fs);
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
                .tls = fs->options.tls,
                .tls_files = { .cert = fs->options.cert, .key = fs->options.key, .ca = fs->options.ca },
                .timeout_ms = (int)fs->options.timeout_sec * 1000,
                .tasks_early = !fs->options.prefetch_off,
                .connected = ahead_connected,
                .connected_arg = fs,
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
static int greet_kernel(struct filesystem *fs, struct failure *failure)
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
        if (mountinfo_find(fs->target, &info) == 0 && !takeover_is_due(fs->takeover))
                raise_readahead(info.device);
        feature_collect(fs, info.device, &fs->features);
        if (!takeover_is_due(fs->takeover)) {
                catalog_get_version(fs->catalog, &version);
                atomic_store(&fs->takeover->page->told, version.generation);
        }
        atomic_store(&fs->mounted, true);
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
        struct catalog_version version;

        if (!atomic_load(&fs->mounted))
                return;
        catalog_get_version(fs->catalog, &version);
        if (notifier_push(fs->notifier, changes, version.generation) < 0)
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

        if (takeover_is_due(fs->takeover))
                return 0;
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
        int r = notifier_new(fs->fuse, fs->catalog, &fs->takeover->page->told, &fs->notifier);

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
                r = bindings_new(fs->takeover->fixed_fd, fs->takeover->moved_fd, &fs->bindings);
        return r == 0 ? ahead_start(fs) : r;
}

static int find_target(struct filesystem *fs, const char *target, struct failure *failure)
{
        if (!takeover_is_due(fs->takeover))
                return mountpoint_check(target, &fs->target, failure);
        fs->target = strdup(fs->takeover->target);
        return fs->target ? 0 : -ENOMEM;
}

static bool can_be_taken_over(const struct filesystem *fs)
{
        return channel_get_greeting(fs->channel)->offered & FUSE_HAS_RESEND;
}

/* What the kernel was not told of a version, because the daemon died before it could. */
static int tell_what_was_missed(struct filesystem *fs)
{
        struct catalog_changes changes = { 0 };
        struct catalog_version version;
        int r;

        catalog_get_version(fs->catalog, &version);
        if (version.generation == atomic_load(&fs->takeover->page->told))
                return 0;
        log_info("the kernel may not know all of the present version of '%s': it is told to forget all",
                 fs->target);
        r = catalog_all_changed(fs->catalog, &changes);
        return r < 0 ? r : notifier_push(fs->notifier, &changes, version.generation);
}

/* All is ready to answer: the keeper gets what the next daemon needs, and the kernel repeats what the one before left unanswered. */
static int begin_serving(struct filesystem *fs, struct failure *failure)
{
        struct takeover leave = *fs->takeover;
        struct catalog_claim claim;
        bool again = takeover_is_due(fs->takeover);
        int r;

        catalog_get_claim(fs->catalog, &claim);
        leave.slot = claim.slot;
        leave.passthrough = fs->passthrough != NULL;
        leave.lock_fd = claim.lock_fd;
        leave.device_fd = can_be_taken_over(fs) ? fuse_session_fd(fs->fuse) : -1;
        channel_save(fs->channel, &leave.channel);
        snprintf(leave.target, sizeof(leave.target), "%s", fs->target);
        r = takeover_tell(&leave, TAKEOVER_SERVING);
        if (r == 0 && again)
                r = channel_resend(fs->channel);
        if (r == 0 && again)
                r = tell_what_was_missed(fs);
        if (r == 0 && again && !fs->options.offline)
                syncer_go_on(fs->syncer);
        return r < 0 ? failure_set(failure, r, "cannot begin to serve '%s': %s", fs->target, strerror(-r))
                     : 0;
}

static int bring_up(struct filesystem *fs, struct mount_request const *request, struct failure *failure)
{
        int r = find_target(fs, request->target, failure);

        if (r == 0)
                r = open_cache(fs, failure);
        if (r == 0)
                r = open_session(fs, failure);
        if (r == 0)
                r = open_fuse(fs, failure);
        if (r == 0)
                r = start_syncer(fs);
        if (r == 0)
                r = start_reading(fs);
        if (r == 0)
                r = first_version(fs, failure);
        if (r == 0)
                ahead_begin(fs);
        if (r == 0)
                r = mount_fuse(fs, failure);
        if (r == 0)
                r = greet_kernel(fs, failure);
        if (r == 0)
                r = control_new(fs, &fs->control, failure);
        if (r == 0)
                r = begin_serving(fs, failure);
        return r;
}

/* ---- the end ---- */

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
        (void)mountpoint_detach(fs->target, MNT_FORCE | MNT_DETACH);
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
        if (fs->store)
                store_on_pressure(fs->store, NULL, NULL);
        blobs_free(fs->blobs); /* large ones are the fetch's */
        fetch_free(fs->fetch);
        ahead_free(fs);
        syncer_free(fs->syncer);
        notifier_free(fs->notifier);
        bindings_free(fs->bindings);
        passthrough_free(fs->passthrough);
        if (fs->fuse) {
                fuse_session_unmount(fs->fuse); /* closes its descriptor: nobody may use it any more */
                fuse_session_destroy(fs->fuse);
        }
        channel_free(fs->channel);
        session_free(fs->session);
        catalog_free(fs->catalog);
        store_free(fs->store);
        source_release(&fs->source);
        mount_options_release(&fs->options);
        free(fs->target);
        cleanup_close(&fs->ready_fd);
}

/* ---- serving ---- */

static int serve(struct filesystem *fs)
{
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        int r;

        if (!config)
                return -ENOMEM;
        /* A descriptor of each thread's own would not outlive the daemon, nor would what was asked through it. */
        fuse_loop_cfg_set_clone_fd(config, !can_be_taken_over(fs));
        fuse_loop_cfg_set_max_threads(config, MAX_FUSE_THREADS);
        r = fuse_session_loop_mt(fs->fuse, config);
        fuse_loop_cfg_destroy(config);
        /* How the kernel says that the mount is gone if it was in the middle of handing over a request; otherwise ENODEV, libfuse's end. */
        return r == -ECONNABORTED ? 0 : r;
}

/* Whoever waits for the mount may go. */
static void tell_ready(struct filesystem *fs)
{
        if (fs->ready_fd < 0)
                return;
        if (write(fs->ready_fd, "", 1) < 0)
                log_debug("nobody waits for the mount: %s", strerror(errno));
        close(take_fd(&fs->ready_fd));
}

struct daemon_request {
        const struct mount_request *request;
        struct source *source; /* taken over (emptied) */
        int ready_fd;
};

/* A daemon's life, in its own process. Its `ready_fd` is told when the tree can be read (one byte), or just closed when it cannot. */
static int run_daemon(struct takeover *takeover, void *arg)
{
        struct daemon_request *daemon = arg;
        const struct mount_request *request = daemon->request;
        struct filesystem fs = { .takeover = takeover,
                                 .source = *daemon->source,
                                 .options = *request->options,
                                 .ready_fd = takeover_is_due(takeover) ? -1 : daemon->ready_fd };
        struct failure failure = { 0 };
        int r;

        *daemon->source = (struct source){ 0 };
        *request->options = (struct mount_options){ 0 };
        signal(SIGPIPE, SIG_IGN);
        mallopt(M_MMAP_THRESHOLD, MALLOC_MAP_BYTES);
        mallopt(M_TRIM_THRESHOLD, MALLOC_KEEP_BYTES);
        mallopt(M_ARENA_MAX, MALLOC_ARENAS);
        fs.open_files = io_raise_open_files();
        /* Who typed the command gets one line, the last; the story is for the log. */
        if (!request->foreground)
                log_to_syslog();
        rpc_init();
        r = bring_up(&fs, request, &failure);
        if (r < 0 && takeover_is_due(takeover)) {
                log_error("'%s' cannot be taken over: %s", takeover->target, failure_text(&failure, r));
                _exit(MOUNT_EXIT_FAIL); /* to take it down would end it */
        }
        if (r < 0) {
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
                take_down(&fs);
                rpc_shutdown();
                return MOUNT_EXIT_FAIL;
        }
        if (!request->foreground && !takeover_is_due(takeover))
                keeper_leave_terminal();
        else if (!request->foreground && chdir("/") < 0)
                log_warning("cannot leave the working folder: %s", strerror(errno));
        fuse_set_signal_handlers(fs.fuse);
        tell_ready(&fs);
        r = serve(&fs);
        fuse_remove_signal_handlers(fs.fuse);
        take_down(&fs);
        rpc_shutdown();
        takeover_tell(takeover, TAKEOVER_ENDING);
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

/* The keeper's life. */
static int keep(const struct mount_request *request, struct source *source, int ready_fd)
{
        struct daemon_request daemon = { .request = request, .source = source, .ready_fd = ready_fd };
        struct keeper_options options = {
                .daemon = run_daemon,
                .arg = &daemon,
                .foreground = request->foreground,
                .ready_fd = ready_fd,
        };
        int r = keeper_run(&options);

        mount_options_release(request->options);
        return r;
}

/* In a process that another program's keeper started: true, and the exit code of the daemon's life. */
static bool run_adopted(const struct mount_request *request, struct source *source, int *ret_code)
{
        struct daemon_request daemon = { .request = request, .source = source, .ready_fd = -1 };
        struct takeover takeover = TAKEOVER_NONE;
        int r = child_adopt(&takeover);

        if (r == 0)
                return false;
        *ret_code = r < 0 ? MOUNT_EXIT_SYSTEM : run_daemon(&takeover, &daemon);
        return true;
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
        if (run_adopted(request, &source, &r))
                return r;
        if (request->foreground)
                return keep(request, &source, -1);
        if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
                fprintf(stderr, "mount.fsyncfs: cannot start the daemon: %s\n", strerror(errno));
                return MOUNT_EXIT_SYSTEM;
        }
        if (pid == 0) {
                close(fds[0]);
                return keep(request, &source, fds[1]);
        }
        close(fds[1]);
        mount_options_release(request->options); /* the child has its own */
        r = wait_ready(pid, fds[0]);
        close(fds[0]);
        return r;
}
