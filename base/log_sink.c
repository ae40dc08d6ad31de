#include "base/log_sink.h"

#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>

#include "base/clock.h"
#include "base/util.h"

#define WAIT_SEC 1

static int syslog_fd = -1; /* set before threads start; not connected: each line finds who listens by then */
static struct sockaddr_un dev_log; /* set before threads start */
static bool to_syslog;             /* set before threads start */
static atomic_bool stuck;          /* what was put last was not taken */

void log_sink_to_syslog(void)
{
        const struct timeval wait = { .tv_sec = WAIT_SEC };
        const char *path = secure_getenv("FSYNCFS_TEST_SYSLOG") ?: _PATH_LOG;

        if (syslog_fd < 0)
                syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (syslog_fd >= 0)
                (void)setsockopt(syslog_fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
        dev_log.sun_family = AF_UNIX;
        memcpy(dev_log.sun_path, path, MIN(strlen(path), sizeof(dev_log.sun_path) - 1));
        to_syslog = true;
}

static bool put_syslog(const char *line, size_t len, bool patient)
{
        return sendto(syslog_fd, line, len, MSG_NOSIGNAL | (patient ? 0 : MSG_DONTWAIT),
                      (struct sockaddr *)&dev_log, sizeof(dev_log)) == (ssize_t)len;
}

/* As much as standard error takes at once; its flags, which it may share with others, stay as they are. A pipe that has room at all has it for PIPE_BUF. */
static ssize_t write_some(const char *line, size_t len)
{
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        ssize_t n = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0 || errno != ENOTSOCK)
                return n;
        if (poll(&p, 1, 0) == 0) {
                errno = EAGAIN;
                return -1;
        }
        return write(STDERR_FILENO, line, MIN(len, (size_t)PIPE_BUF));
}

static bool put_stderr(const char *line, size_t len, bool patient)
{
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        int64_t until_ns = clock_monotonic_ns() + (patient ? WAIT_SEC * NSEC_PER_SEC : 0), left_ns;

        while (len > 0) {
                ssize_t n = write_some(line, len);

                if (n >= 0) {
                        line += n;
                        len -= (size_t)n;
                        continue;
                }
                left_ns = until_ns - clock_monotonic_ns();
                if (errno != EINTR && (errno != EAGAIN || left_ns <= 0))
                        return false;
                if (errno == EAGAIN)
                        poll(&p, 1, (int)(left_ns / NSEC_PER_MSEC) + 1);
        }
        return true;
}

bool log_sink_put(const char *line, size_t len)
{
        bool patient = !atomic_load(&stuck);
        bool taken = to_syslog ? put_syslog(line, len, patient) : put_stderr(line, len, patient);

        atomic_store(&stuck, !taken);
        return taken;
}
