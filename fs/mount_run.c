/*
 * The processes of a mount: who typed the command, the keeper, and the daemon's life from its start to its end.
 */
#include "fs/mount.h"

#include <fcntl.h>
#include <malloc.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "fs/child.h"
#include "fs/keeper.h"
#include "fs/metrics.h"
#include "fs/mount_private.h"
#include "fs/progress.h"

/* Pieces come and go by the thousand: their memory stays with the process, instead of being mapped and cleared anew for each. Each
 * arena keeps what it once needed, and with one for each of fifty threads memory would grow with time. */
#define MALLOC_ARENAS     4
#define MALLOC_KEEP_BYTES (64 << 20)
#define MALLOC_MAP_BYTES  (32 << 20)

#define MAX_FUSE_THREADS 8
#define REPEAT_NS        (10 * NSEC_PER_MSEC)

/* ---- signals that end it ---- */

/*
 * Libfuse's loop looks whether it is to end, and then sleeps until a signal wakes it: one that comes in between is lost. So a thread of our own repeats it until the
 * loop has ended.
 */
static struct {
        struct fuse_session *fuse;
        pthread_t server; /* in the loop */
        sem_t wanted;
        atomic_bool over; /* the loop has ended */
        pthread_t thread;
} ending;

static const int ending_signals[] = { SIGTERM, SIGINT, SIGHUP };

/* On whichever thread. */
static void on_signal(int number)
{
        fuse_session_exit(ending.fuse);
        sem_post(&ending.wanted);
}

static void *ending_main(void *arg)
{
        const struct timespec pause = clock_timespec(REPEAT_NS);

        thread_name("signals");
        while (sem_wait(&ending.wanted) < 0)
                continue;
        while (!atomic_load(&ending.over)) {
                pthread_kill(ending.server, SIGTERM);
                nanosleep(&pause, NULL);
        }
        return NULL;
}

static void handle_signals(void (*handler)(int number))
{
        const struct sigaction action = { .sa_handler = handler };

        for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++)
                sigaction(ending_signals[i], &action, NULL);
}

static int begin_ending(struct fuse_session *fuse)
{
        int r;

        ending.fuse = fuse;
        ending.server = pthread_self();
        sem_init(&ending.wanted, 0, 0);
        r = -pthread_create(&ending.thread, NULL, ending_main, NULL);
        if (r == 0)
                handle_signals(on_signal);
        return r;
}

static void end_ending(void)
{
        atomic_store(&ending.over, true);
        sem_post(&ending.wanted);
        pthread_join(ending.thread, NULL);
        handle_signals(SIG_DFL);
}

/* ---- serving ---- */

/* Whoever waits for the mount may go. */
static void tell_ready(struct filesystem *fs)
{
        if (fs->ready_fd < 0)
                return;
        if (write(fs->ready_fd, "", 1) < 0)
                log_debug("nobody waits for the mount: %s", strerror(errno));
        close(take_fd(&fs->ready_fd));
}

static int serve(struct filesystem *fs)
{
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        int r;

        if (!config)
                return -ENOMEM;
        /* A descriptor of each thread's own would not outlive the daemon, nor would what was asked through it. */
        fuse_loop_cfg_set_clone_fd(config, !channel_can_resend(fs->channel));
        fuse_loop_cfg_set_max_threads(config, MAX_FUSE_THREADS);
        r = begin_ending(fs->fuse);
        if (r == 0) {
                tell_ready(fs);
                r = fuse_session_loop_mt(fs->fuse, config);
                end_ending();
        }
        fuse_loop_cfg_destroy(config);
        return r;
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
        r = mount_bring_up(&fs, request->target, &failure);
        if (r < 0 && takeover_is_due(takeover)) {
                log_error("'%s' cannot be taken over: %s", takeover->target, failure_text(&failure, r));
                _exit(MOUNT_EXIT_FAIL); /* to take it down would end it */
        }
        if (r < 0) {
                fprintf(stderr, "mount.fsyncfs: %s\n", failure_text(&failure, r));
                mount_take_down(&fs);
                rpc_shutdown();
                return MOUNT_EXIT_FAIL;
        }
        if (!request->foreground && !takeover_is_due(takeover))
                keeper_leave_terminal();
        else if (!request->foreground && chdir("/") < 0)
                log_warning("cannot leave the working folder: %s", strerror(errno));
        r = serve(&fs);
        progress_begin(PROGRESS_REPLY); /* until the process has ended: that it hangs here shows, too */
        mount_take_down(&fs);
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

        if (r == MOUNT_EXIT_OK && request->options->metrics) /* the mount's last daemon may have died */
                metrics_remove(request->options->metrics);
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

        log_set_format(request->options->log_format);
        log_set_context("mount", request->target);
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
