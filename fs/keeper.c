#include "fs/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "fs/keeper_private.h"
#include "fs/mount.h"
#include "fs/mountpoint.h"

#define FIRST_DELAY_MS 50 /* before the second start within that time; then twice as long each time */
#define DELAY_MAX_MS   2000
#define END_MAX_SEC    30 /* for a daemon that was asked to end */

/* ---- the daemon's start ---- */

static int start_daemon(struct keeper *k)
{
        const struct child_life life = { .run = k->options->daemon,
                                         .arg = k->options->arg,
                                         .takeover = &k->takeover };

        k->ending = false;
        k->kill_ns = k->continue_ns = INT64_MAX;
        return k->binary_fd < 0 ? child_fork(&life, &k->now) : child_exec(k->binary_fd, k->folder, &k->now);
}

/* ---- while it lives ---- */

void keeper_leave_terminal(void)
{
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        log_to_syslog();
        setsid();
        if (chdir("/") < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
                log_warning("cannot leave the terminal: %s", strerror(errno));
}

/* Whoever wants the daemon to end wants no other one. */
static void take_signal(struct keeper *k)
{
        struct signalfd_siginfo signal;

        if (read(k->signal_fd, &signal, sizeof(signal)) != sizeof(signal))
                return;
        if (signal.ssi_signo == SIGCHLD) {
                keeper_stopped_hear(k);
                return;
        }
        k->asked = true;
        if (k->now.pid > 0)
                kill(k->now.pid, SIGTERM);
        k->kill_ns = MIN(k->kill_ns, clock_monotonic_ns() + END_MAX_SEC * NSEC_PER_SEC);
}

static void hear_daemon(struct keeper *k)
{
        bool first = !k->takeover.target[0];
        int word, binary_fd;

        while ((word = takeover_hear(&k->takeover, k->now.socket_fd, &binary_fd)) > 0) {
                if (word == TAKEOVER_SERVING && first && !k->options->foreground)
                        keeper_leave_terminal();
                if (word == TAKEOVER_SERVING && k->unproven)
                        keeper_upgrade_end(k, NULL);
                if (word == TAKEOVER_ENDING)
                        k->ending = true;
                if (word == TAKEOVER_UPGRADE)
                        keeper_upgrade_begin(k, binary_fd);
                if (word == TAKEOVER_ABLE)
                        (void)takeover_send(&k->takeover, k->now.socket_fd);
        }
}

/* A daemon that does not end when it is asked to: of what it leaves undone the next mount takes care. */
static void check_end(struct keeper *k)
{
        if (clock_monotonic_ns() < k->kill_ns)
                return;
        log_error("the daemon of '%s' does not end: it is killed", k->takeover.target);
        if (k->now.pid > 0)
                kill(k->now.pid, SIGKILL);
        k->kill_ns = INT64_MAX;
}

static int get_patience_ms(const struct keeper *k)
{
        const int64_t until_ns = MIN(MIN(k->deadline_ns, k->kill_ns), k->continue_ns);
        int64_t left_ns = until_ns - clock_monotonic_ns();

        return until_ns == INT64_MAX ? -1 : (int)(MAX(left_ns, 0) / NSEC_PER_MSEC) + 1;
}

/* Until the daemon has died. All that it said was heard. */
static void watch(struct keeper *k)
{
        bool dead = false;

        while (!dead) {
                struct pollfd fds[] = { { .fd = k->signal_fd, .events = POLLIN },
                                        { .fd = k->now.socket_fd, .events = POLLIN },
                                        { .fd = k->now.lifeline_fd, .events = POLLIN },
                                        { .fd = k->next.socket_fd, .events = POLLIN },
                                        { .fd = k->next.lifeline_fd, .events = POLLIN } };
                if (poll(fds, ARRAY_SIZE(fds), get_patience_ms(k)) < 0)
                        continue;
                dead = (fds[2].revents & POLLHUP) != 0;
                if (fds[0].revents)
                        take_signal(k);
                if (fds[1].revents || dead)
                        hear_daemon(k);
                if (fds[1].revents & POLLHUP)
                        keeper_drop_fd(&k->now.socket_fd);
                if (fds[4].revents && !k->able)
                        keeper_upgrade_end(k, "the new program ended at once");
                else if (fds[3].revents && !k->able)
                        keeper_upgrade_hear(k);
                if (fds[2].revents && !dead)
                        keeper_hang_hear(k);
                keeper_upgrade_check_deadline(k);
                keeper_stopped_check(k);
                check_end(k);
        }
}

/* ---- when it has died ---- */

static bool is_unmounted(const struct keeper *k)
{
        struct pollfd device = { .fd = k->takeover.device_fd };

        return poll(&device, 1, 0) == 1 && (device.revents & POLLERR);
}

/* Counts a crash; how long to wait before the next start, or -1: that was one too many. */
static int64_t next_delay_ms(struct keeper *k)
{
        int64_t now_ns = clock_monotonic_ns(), delay_ms = 0;
        unsigned recent = 0;

        for (unsigned i = 0; i < MIN(k->crashes, CRASHES_MAX); i++)
                recent += k->crashes_ns[i] > now_ns - CRASHES_SEC * NSEC_PER_SEC;
        k->crashes_ns[k->crashes++ % CRASHES_MAX] = now_ns;
        if (recent >= CRASHES_MAX)
                return -1;
        if (recent > 0)
                delay_ms = FIRST_DELAY_MS << (recent - 1);
        return MIN(delay_ms, (int64_t)DELAY_MAX_MS);
}

/* Waits before a start. False: it was unmounted meanwhile, or a signal says that this is the end. */
static bool rest(struct keeper *k, int64_t delay_ms)
{
        const int64_t until_ns = clock_monotonic_ns() + delay_ms * NSEC_PER_MSEC;
        int64_t left_ms;

        while (!k->asked && (left_ms = (until_ns - clock_monotonic_ns()) / NSEC_PER_MSEC) > 0) {
                struct pollfd fds[] = { { .fd = k->takeover.device_fd },
                                        { .fd = k->signal_fd, .events = POLLIN } };
                poll(fds, ARRAY_SIZE(fds), (int)left_ms);
                if (fds[0].revents & POLLERR)
                        return false;
                if (fds[1].revents)
                        take_signal(k);
        }
        return !k->asked;
}

static void log_crash(const struct keeper *k, bool reaped, int status)
{
        char how[64] = "died";

        if (reaped && WIFSIGNALED(status))
                snprintf(how, sizeof(how), "died by signal %d (%s)", WTERMSIG(status),
                         strsignal(WTERMSIG(status)));
        else if (reaped)
                snprintf(how, sizeof(how), "ended with exit code %d", WEXITSTATUS(status));
        log_error("the daemon of '%s' %s", k->takeover.target, how);
}

static int give_up(const struct keeper *k, const char *why)
{
        log_error("'%s' is given up: %s; umount it, then mount it again", k->takeover.target, why);
        if (!is_unmounted(k))
                mountpoint_end_connection(k->takeover.device);
        return MOUNT_EXIT_SYSTEM;
}

#define GO_ON (-1)

/* The daemon has crashed, and there is no other yet. GO_ON, or the exit code. */
static int survive(struct keeper *k)
{
        bool reaped;
        int64_t delay_ms;
        int status = 0, r;

        reaped = child_reap(&k->now, REAP_MS, &status);
        child_release(&k->now);
        log_crash(k, reaped, status);
        if (!takeover_is_due(&k->takeover))
                return give_up(k, "this kernel does not let another daemon take over");
        delay_ms = next_delay_ms(k);
        if (delay_ms < 0)
                return give_up(k, "its daemon dies again and again");
        if (!rest(k, delay_ms)) {
                if (k->asked && !is_unmounted(k))
                        mountpoint_end(k->takeover.device);
                return MOUNT_EXIT_OK;
        }
        atomic_fetch_add(&k->takeover.page->restarts, 1);
        log_info("starting the daemon of '%s' anew", k->takeover.target);
        r = start_daemon(k);
        return r < 0 ? give_up(k, strerror(-r)) : GO_ON;
}

/* The exit code of a daemon that ended as it should, or never served. */
static int get_exit_code(struct keeper *k)
{
        int status;

        if (!child_reap(&k->now, -1, &status))
                return MOUNT_EXIT_OK; /* reaped before: it was unmounted while it died */
        return WIFEXITED(status) ? WEXITSTATUS(status) : MOUNT_EXIT_SYSTEM;
}

static int keep(struct keeper *k)
{
        int code = GO_ON;

        while (code == GO_ON) {
                watch(k);
                if (k->ending || !k->takeover.target[0]) {
                        code = get_exit_code(k);
                } else if (is_unmounted(k)) {
                        code = MOUNT_EXIT_OK;
                } else if (k->able && !k->asked) {
                        keeper_upgrade_promote(k);
                } else {
                        if (k->unproven)
                                keeper_upgrade_undo(k);
                        if (k->next.pid > 0)
                                keeper_upgrade_end(k, "the daemon died meanwhile");
                        code = survive(k);
                }
        }
        if (k->next.pid > 0)
                keeper_upgrade_end(k, "the mount has ended");
        return code;
}

/* ---- life ---- */

static int init(struct keeper *k, const struct keeper_options *options)
{
        sigset_t signals;
        int r;

        *k = (struct keeper){ .options = options,
                              .takeover = TAKEOVER_NONE,
                              .signal_fd = -1,
                              .now = CHILD_NONE,
                              .binary_fd = -1,
                              .next = CHILD_NONE,
                              .next_fd = -1,
                              .before_fd = -1,
                              .deadline_ns = INT64_MAX,
                              .kill_ns = INT64_MAX,
                              .continue_ns = INT64_MAX };
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        k->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (k->signal_fd < 0 || !getcwd(k->folder, sizeof(k->folder)))
                return -errno;
        prctl(PR_SET_NAME, "keeper");
        child_protect_keeper();
        r = takeover_init(&k->takeover);
        return r == 0 ? start_daemon(k) : r;
}

static void release(struct keeper *k)
{
        child_release(&k->now);
        keeper_drop_fd(&k->binary_fd);
        keeper_drop_fd(&k->signal_fd);
        takeover_release(&k->takeover);
}

int keeper_run(const struct keeper_options *options)
{
        int ready_fd = options->ready_fd;
        struct keeper k;
        int r = init(&k, options);

        cleanup_close(&ready_fd);
        if (r == 0) {
                r = keep(&k);
        } else {
                fprintf(stderr, "mount.fsyncfs: cannot start a process: %s\n", strerror(-r));
                r = MOUNT_EXIT_SYSTEM;
        }
        release(&k);
        return r;
}
