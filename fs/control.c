#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "fs/channel.h"
#include "fs/difference.h"
#include "fs/filesystem.h"
#include "fs/mountinfo.h"
#include "fs/notifier.h"
#include "fs/prefetching.h"
#include "fs/status.h"
#include "fs/takeover.h"
#include "fs/tracing.h"

#define COMMAND_MAX     (PATH_MAX + 256)
#define REPLY_MAX       ((size_t)1 << 20)
#define PEER_TIMEOUT_MS 5000 /* for a client that connects and says nothing */
#define CONNECTIONS_MAX 16
#define ANSWER_SEC      20 /* for what the daemon can say at once, however busy it is */
#define NEXT_SEC        3  /* until a daemon that takes another one's place listens */

struct control {
        struct filesystem *fs; /* borrowed */
        struct sockaddr_un address;
        struct stat identity; /* of the socket: a later mount may have put its own in place */
        int fd;               /* owned: listens */
        int stop_fd;          /* owned: an eventfd, readable when stopping */
        struct mutex lock;
        struct condition idle;
        unsigned connections TSA_GUARDED(lock);
        pthread_t thread;
        bool started;
};

/* The folder of all sockets: root's in /run, a user's in the user's own. */
static int socket_address(const char *device, bool make_folder, struct sockaddr_un *ret)
{
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        char dir[sizeof(ret->sun_path) - 32];
        struct stat st;
        int n;

        if (geteuid() == 0)
                n = snprintf(dir, sizeof(dir), "/run/fsyncfs");
        else if (runtime && runtime[0] == '/')
                n = snprintf(dir, sizeof(dir), "%s/fsyncfs", runtime);
        else
                n = snprintf(dir, sizeof(dir), "/tmp/fsyncfs-%u", geteuid());
        if (n < 0 || (size_t)n >= sizeof(dir))
                return -ENAMETOOLONG;
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s.sock", dir, device);
        if (n < 0 || (size_t)n >= sizeof(ret->sun_path))
                return -ENAMETOOLONG;
        if (make_folder && mkdir(dir, 0700) < 0 && errno != EEXIST)
                return -errno;
        /* In /tmp somebody else may have been quicker. */
        if (lstat(dir, &st) == 0 && (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)))
                return -EPERM;
        return 0;
}

/* ---- the daemon's side ---- */

static json_t *error_json(int error, const char *text)
{
        return json_pack("{s:s, s:i}", "error", text, "errno", -error);
}

static json_t *answer_refresh(struct filesystem *fs, bool stat_pass)
{
        struct failure failure = { 0 };
        int r;

        if (fs->options.offline)
                return error_json(-EHOSTUNREACH, "mounted with 'offline': no master is asked");
        r = syncer_run(fs->syncer, stat_pass, &failure);
        if (r < 0)
                return error_json(r, failure_text(&failure, r));
        notifier_drain(fs->notifier);
        return status_version_json(fs);
}

/* What comes of it shows in the status. */
static json_t *answer_upgrade(struct filesystem *fs, const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        int r;

        if (!channel_can_resend(fs->channel))
                return error_json(-EOPNOTSUPP,
                                  "this kernel does not let another program take over: it wants Linux 6.9");
        r = fd < 0 ? -errno : takeover_ask_upgrade(fs->takeover, fd);

        return r < 0 ? error_json(r, strerror(-r)) : status_version_json(fs);
}

static json_t *answer(struct filesystem *fs, const char *command)
{
        unsigned long ino;
        int pid;

        if (strcmp(command, "status") == 0)
                return status_json(fs);
        if (strcmp(command, "version") == 0)
                return status_version_json(fs);
        if (strcmp(command, "refresh") == 0)
                return answer_refresh(fs, false);
        if (strcmp(command, "refresh stat-pass") == 0)
                return answer_refresh(fs, true);
        if (strncmp(command, "upgrade ", 8) == 0)
                return answer_upgrade(fs, command + 8);
        if (strcmp(command, "progress") == 0)
                return status_progress_json(fs);
        if (strcmp(command, "counters") == 0)
                return tracing_counters_json(fs);
        if (sscanf(command, "explain pid %d", &pid) == 1)
                return tracing_tasks_json(fs, pid, NULL);
        if (strncmp(command, "explain cgroup ", 15) == 0)
                return tracing_tasks_json(fs, 0, command + 15);
        if (sscanf(command, "stat %lu", &ino) == 1) {
                json_t *entry = status_entry_json(fs, ino);
                return entry ? entry : error_json(-ENOENT, "no such file in this mount");
        }
        return error_json(-EINVAL, "unknown command: client and daemon are of different versions");
}

/* Reads up to the newline. */
static int read_command(int fd, char command[COMMAND_MAX])
{
        const int64_t until_ns = clock_monotonic_ns() + PEER_TIMEOUT_MS * NSEC_PER_MSEC;
        size_t len = 0;

        while (len < COMMAND_MAX - 1) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                int64_t left_ms = (until_ns - clock_monotonic_ns()) / NSEC_PER_MSEC;
                ssize_t n;

                if (left_ms <= 0 || poll(&p, 1, (int)left_ms) <= 0)
                        return -ETIMEDOUT;
                n = read(fd, command + len, COMMAND_MAX - 1 - len);
                if (n <= 0)
                        return -EPIPE;
                len += (size_t)n;
                command[len] = '\0';
                if (command[len - 1] == '\n') {
                        command[len - 1] = '\0';
                        return 0;
                }
        }
        return -EMSGSIZE;
}

struct connection {
        struct control *control;
        int fd; /* owned */
};

static void *connection_main(void *arg)
{
        struct connection *c = arg;
        struct control *control = c->control;
        char command[COMMAND_MAX];
        int r = read_command(c->fd, command);
        unsigned long ino;

        thread_name("control-conn");
        if (r == 0 && sscanf(command, "prefetch %lu", &ino) == 1) {
                prefetching_serve(control->fs, ino, c->fd, control->stop_fd);
        } else if (r == 0 && strcmp(command, "trace") == 0) {
                tracing_serve(control->fs, c->fd, control->stop_fd);
        } else if (r == 0 && strcmp(command, "diff") == 0) {
                difference_serve(control->fs, c->fd);
        } else if (r == 0) {
                json_t *reply = answer(control->fs, command);
                _cleanup_free_ char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
                if (text)
                        io_write_all(c->fd, text, strlen(text));
                json_decref(reply);
        }
        close(c->fd);
        free(c);
        mutex_lock(&control->lock);
        control->connections--;
        condition_signal(&control->idle);
        mutex_unlock(&control->lock);
        return NULL;
}

static int start_connection(struct control *control, int fd)
{
        struct connection *c = malloc(sizeof(*c));
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        if (!c)
                return -ENOMEM;
        *c = (struct connection){ .control = control, .fd = fd };
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        r = -pthread_create(&thread, &attr, connection_main, c);
        pthread_attr_destroy(&attr);
        if (r < 0)
                free(c);
        return r;
}

static void accept_connection(struct control *control)
{
        const struct timeval patience = { .tv_sec = PEER_TIMEOUT_MS / 1000 };
        int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0) {
                struct pollfd stop = { .fd = control->stop_fd, .events = POLLIN };
                /* Out of descriptors: the client stays in the queue, so poll would come back at once. */
                if (errno == EMFILE || errno == ENFILE)
                        poll(&stop, 1, 100);
                return;
        }
        /* A client that does not read must not keep the daemon from ending. */
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        mutex_lock(&control->lock);
        while (control->connections >= CONNECTIONS_MAX)
                condition_wait(&control->idle, &control->lock);
        control->connections++;
        mutex_unlock(&control->lock);
        if (start_connection(control, fd) == 0)
                return;
        close(fd);
        mutex_lock(&control->lock);
        control->connections--;
        mutex_unlock(&control->lock);
}

static void *control_main(void *arg)
{
        struct control *control = arg;
        struct pollfd fds[] = { { .fd = control->fd, .events = POLLIN },
                                { .fd = control->stop_fd, .events = POLLIN } };

        thread_name("control");
        for (;;) {
                if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        break;
                }
                if (fds[1].revents)
                        break;
                if (fds[0].revents)
                        accept_connection(control);
        }
        return NULL;
}

/*
 * Bound under another name, then renamed: the socket is there with its mode, and a dead one's is replaced. What somebody has left under that name before
 * the rename goes: the device is this mount's. The name gets the mode that the socket has; the umask is not this thread's alone to change.
 */
static int listen_at(struct control *c)
{
        struct sockaddr_un fresh = c->address;
        int r;

        r = snprintf(fresh.sun_path, sizeof(fresh.sun_path), "%.100s.new", c->address.sun_path);
        if (r < 0)
                return -EINVAL;
        unlink(fresh.sun_path);
        if (fchmod(c->fd, 0600) < 0 || bind(c->fd, (struct sockaddr *)&fresh, sizeof(fresh)) < 0)
                return -errno;
        if (listen(c->fd, CONNECTIONS_MAX) < 0 || lstat(fresh.sun_path, &c->identity) < 0 ||
            rename(fresh.sun_path, c->address.sun_path) < 0) {
                r = -errno;
                unlink(fresh.sun_path);
                return r;
        }
        return 0;
}

static bool is_own(const struct control *c, const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && st.st_dev == c->identity.st_dev && st.st_ino == c->identity.st_ino;
}

/* The device is free by now: a new mount may have it already, and be putting its own socket there. So what is to be removed is taken aside, looked at, and given back if it is not ours. */
static void remove_socket(const struct control *c)
{
        char aside[sizeof(c->address.sun_path) + sizeof(".end")];

        snprintf(aside, sizeof(aside), "%s.end", c->address.sun_path);
        if (!is_own(c, c->address.sun_path) || rename(c->address.sun_path, aside) < 0)
                return;
        if (is_own(c, aside) ||
            renameat2(AT_FDCWD, aside, AT_FDCWD, c->address.sun_path, RENAME_NOREPLACE) < 0)
                unlink(aside);
}

static int start(struct control *c)
{
        int r = socket_address(c->fs->takeover->device, true, &c->address);

        if (r < 0)
                return r;
        c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        c->stop_fd = eventfd(0, EFD_CLOEXEC);
        if (c->fd < 0 || c->stop_fd < 0)
                return -errno;
        r = listen_at(c);
        if (r == 0)
                r = -pthread_create(&c->thread, NULL, control_main, c);
        c->started = r == 0;
        return r;
}

int control_new(struct filesystem *fs, struct control **ret, struct failure *failure)
{
        struct control *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->fs = fs;
        c->fd = c->stop_fd = -1;
        mutex_init(&c->lock);
        condition_init(&c->idle);
        r = start(c);
        if (r < 0) {
                failure_set(failure, r, "cannot listen on the control socket '%s': %s", c->address.sun_path,
                            strerror(-r));
                control_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

void control_free(struct control *control)
{
        uint64_t one = 1;

        if (!control)
                return;
        if (control->started) {
                io_write_all(control->stop_fd, &one, sizeof(one));
                pthread_join(control->thread, NULL);
                remove_socket(control);
        }
        mutex_lock(&control->lock);
        while (control->connections > 0)
                condition_wait(&control->idle, &control->lock);
        mutex_unlock(&control->lock);
        cleanup_close(&control->fd);
        cleanup_close(&control->stop_fd);
        condition_release(&control->idle);
        mutex_release(&control->lock);
        free(control);
}

/* ---- the client's side ---- */

static int send_command(const struct sockaddr_un *address, const char *command, int *ret_fd)
{
        const struct timeval patience = { .tv_sec = ANSWER_SEC };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_buffer_ struct buffer line = { 0 };
        ssize_t n;
        int r;

        /* A daemon that is stopped takes no connection out of its queue. */
        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
                return -errno;
        r = buffer_printf(&line, "%s\n", command);
        if (r < 0)
                return r;
        n = send(fd, line.data, line.len, MSG_NOSIGNAL); /* it may have ended after connect */
        if (n != (ssize_t)line.len)
                return n < 0 ? -errno : -EAGAIN;
        *ret_fd = take_fd(&fd);
        return 0;
}

/* PATH's daemon was not there. Waits for the one that takes its place, as any request to the mount does, and a moment more for its socket. False: there is none. */
static bool is_replaced(const char *path, int64_t began_ns)
{
        const struct timespec pause = { .tv_nsec = 20 * NSEC_PER_MSEC };
        struct statfs st;

        nanosleep(&pause, NULL);
        return clock_monotonic_ns() - began_ns < NEXT_SEC * NSEC_PER_SEC && statfs(path, &st) == 0;
}

/* What a reply says: 0, or the failure in it. */
static int judge_reply(const json_t *reply, struct failure *failure)
{
        const char *error = json_string_value(json_object_get(reply, "error"));
        int number = (int)json_integer_value(json_object_get(reply, "errno"));

        if (!error)
                return 0;
        failure_set(failure, -EIO, "%s", error);
        return number > 0 ? -number : -EIO;
}

/* Connects to the daemon of the mount that PATH lies in, and says COMMAND. */
static int ask(const char *path, const char *command, int *ret_fd, struct failure *failure)
{
        _cleanup_(mountinfo_release) struct mountinfo info = { 0 };
        int64_t began_ns = clock_monotonic_ns();
        struct sockaddr_un address;
        int r = mountinfo_find(path, &info);

        if (r < 0)
                return failure_set(failure, r, "'%s': %s", path, strerror(-r));
        if (strcmp(info.type, MOUNTINFO_TYPE) != 0)
                return failure_set(failure, -EINVAL,
                                   "'%s' is not in a mount of fsyncfs (it is in '%s', of type %s)", path,
                                   info.target, info.type);
        r = socket_address(info.device, false, &address);
        if (r == 0)
                do
                        r = send_command(&address, command, ret_fd);
                while (r == -ECONNREFUSED && is_replaced(info.target, began_ns));
        if (r == -ENOENT || r == -EACCES)
                return failure_set(failure, r,
                                   "no control socket of '%s' for this user: ask as the user who mounted it, "
                                   "or, if its daemon is gone, umount it",
                                   info.target);
        if (r == -ECONNREFUSED)
                return failure_set(failure, r, "the daemon of '%s' is gone: umount it, then mount it again",
                                   info.target);
        if (r < 0)
                return failure_set(failure, r, "cannot talk to the daemon of '%s': %s", info.target,
                                   strerror(-r));
        return 0;
}

static int no_answer(struct failure *failure)
{
        return failure_set(failure, -EPIPE, "the mount's daemon ended without an answer");
}

bool control_is_between(int error)
{
        return error == -EPIPE || error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET;
}

/* A refresh takes as long as the master does. */
static bool answers_at_once(const char *command)
{
        return strncmp(command, "refresh", 7) != 0;
}

/* The same again does no more than once. */
static bool may_be_repeated(const char *command)
{
        return strncmp(command, "upgrade", 7) != 0;
}

static int ask_once(const char *path, const char *command, json_t **ret, struct failure *failure)
{
        const struct timeval patience = { .tv_sec = ANSWER_SEC };
        _cleanup_buffer_ struct buffer text = { 0 };
        _cleanup_close_ int fd = -1;
        json_t *reply;
        int r = ask(path, command, &fd, failure);

        if (r < 0)
                return r;
        if (answers_at_once(command))
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        r = io_read_to_end(fd, REPLY_MAX, &text);
        if (r == -EAGAIN)
                return failure_set(
                        failure, -ETIMEDOUT,
                        "the daemon of '%s' does not answer: it is stopped, or its disk does not answer",
                        path);
        if (r < 0)
                return failure_set(failure, r, "cannot talk to the daemon of '%s': %s", path, strerror(-r));
        reply = text.len ? json_loads(text.data, 0, NULL) : NULL;
        if (!reply)
                return no_answer(failure);
        r = judge_reply(reply, failure);
        if (r < 0)
                json_decref(reply);
        else
                *ret = reply;
        return r;
}

int control_ask(const char *path, const char *command, json_t **ret, struct failure *failure)
{
        int64_t began_ns = clock_monotonic_ns();
        int r;

        do
                r = ask_once(path, command, ret, failure);
        while ((r == -EPIPE || r == -ECONNRESET) && may_be_repeated(command) && is_replaced(path, began_ns));
        return r;
}

int control_follow(const char *path, const char *command, int (*each)(json_t *line, void *arg), void *arg,
                   struct failure *failure)
{
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *text = NULL;
        size_t capacity = 0;
        bool finished = false;
        int r = ask(path, command, &fd, failure);

        if (r < 0)
                return r;
        f = fdopen(fd, "r");
        if (!f)
                return -ENOMEM;
        take_fd(&fd);
        while (r == 0 && getline(&text, &capacity, f) > 0) {
                json_t *line = json_loads(text, 0, NULL);
                if (!line)
                        return no_answer(failure);
                finished = json_is_true(json_object_get(line, "finished"));
                r = each(line, arg);
                if (r == 0)
                        r = judge_reply(line, failure);
                json_decref(line);
        }
        return r < 0 || finished ? r : no_answer(failure);
}
