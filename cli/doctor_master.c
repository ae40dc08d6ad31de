#include "cli/doctor.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/resolve.h"
#include "cli/remote.h"

#define CONNECT_SEC    5
#define RESOLVE_SEC    10
#define RTT_SLOW_MS    100
#define DAYS_SHORT     14
#define CLOCK_APART_MS 2000

/* HOST:PORT or [HOST]:PORT in two, in place. */
static void split(char *address, const char **ret_host, const char **ret_port)
{
        char *colon = strrchr(address, ':');

        *colon = '\0';
        *ret_port = colon + 1;
        *ret_host = address;
        if (address[0] == '[') {
                address[strcspn(address, "]")] = '\0';
                *ret_host = address + 1;
        }
}

/* A socket that is connected to AI, or negative errno. */
static int connect_to(const struct addrinfo *ai)
{
        const struct timeval patience = { .tv_sec = CONNECT_SEC };
        _cleanup_close_ int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);

        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0)
                return errno == EINPROGRESS ? -ETIMEDOUT : -errno;
        return take_fd(&fd);
}

/* One to the first of LIST that takes it, and how long that took; or the errno of the first, as a mount has it. */
static int connect_any(const struct addrinfo *list, double *ret_ms)
{
        int error = 0;

        for (; list; list = list->ai_next) {
                int64_t began_ns = clock_monotonic_ns();
                int r = connect_to(list);

                if (r >= 0) {
                        *ret_ms = (double)(clock_monotonic_ns() - began_ns) / (double)NSEC_PER_MSEC;
                        return r;
                }
                error = error ?: r;
        }
        return error;
}

static void judge_days(struct doctor *d, const char *name, int days)
{
        if (days < 0)
                doctor_say(d, VERDICT_FAIL, name, "renew it, and check this machine's clock",
                           "it has expired");
        else if (days < DAYS_SHORT)
                doctor_say(d, VERDICT_WARN, name, "renew it", "it expires in %d days", days);
        else
                doctor_say(d, VERDICT_OK, name, NULL, "valid for %d more days", days);
}

static void look_at_peer(struct doctor *d, int fd, const char *address, const char *host)
{
        char name[300];
        int days, r = doctor_days_of_peer(fd, host, &days);

        snprintf(name, sizeof(name), "certificate of %s", address);
        if (r == 0)
                judge_days(d, name, days);
        else
                doctor_say(d, VERDICT_FAIL, name,
                           "mount without the option tls, or start the master with --tls-cert",
                           "it does not speak TLS");
}

static void look_at_address(struct doctor *d, const char *address, bool tls)
{
        _cleanup_free_ char *copy = strdup(address);
        _cleanup_close_ int fd = -1;
        struct addrinfo *list;
        const char *host, *port;
        char name[300];
        double ms = 0;
        int r;

        if (!copy)
                return;
        split(copy, &host, &port);
        snprintf(name, sizeof(name), "master %s", address);
        r = resolve_host(host, port, 0, clock_monotonic_ns() + RESOLVE_SEC * NSEC_PER_SEC, &list);
        if (r != 0) {
                doctor_say(d, VERDICT_FAIL, name, "check the name, and this machine's name server",
                           "no address for '%s': %s", host, resolve_error(r));
                return;
        }
        fd = connect_any(list, &ms);
        freeaddrinfo(list);
        if (fd < 0)
                doctor_say(d, VERDICT_FAIL, name,
                           "is fsyncfs-server running there, does a firewall let the port through?",
                           "cannot connect: %s", strerror(-fd));
        else if (ms > RTT_SLOW_MS)
                doctor_say(d, VERDICT_WARN, name,
                           "first reads wait for it: mount with prefetch=auto, or prefetch before",
                           "connected in %.1f ms", ms);
        else
                doctor_say(d, VERDICT_OK, name, NULL, "connected in %.1f ms", ms);
        if (fd >= 0 && tls)
                look_at_peer(d, fd, address, host);
}

static void look_at_token(struct doctor *d, const char *path)
{
        _cleanup_buffer_ struct buffer token = { 0 };
        struct stat st;
        int r = io_read_first_line(path, &token);

        if (r == 0 && stat(path, &st) < 0)
                r = -errno;
        if (token.data)
                explicit_bzero(token.data, token.len);
        if (r < 0)
                doctor_say(d, VERDICT_FAIL, "token file", "its first line is the token", "'%s': %s", path,
                           r == -EINVAL ? "it is empty" : strerror(-r));
        else if (st.st_mode & 077)
                doctor_say(d, VERDICT_WARN, "token file", "chmod 600", "'%s' can be read by others", path);
        else
                doctor_say(d, VERDICT_OK, "token file", NULL, "'%s'", path);
}

static void look_at_own_certificate(struct doctor *d, const char *path)
{
        int days, r = doctor_days_of_file(path, &days);

        if (r == 0)
                judge_days(d, "our certificate", days);
        else
                doctor_say(d, VERDICT_FAIL, "our certificate", "cert= names a PEM file", "'%s': %s", path,
                           r == -EINVAL ? "no certificate in it" : strerror(-r));
}

static void look_at_its_clock(struct doctor *d, const struct session *session)
{
        int64_t ahead_ms;

        if (!session_get_clock(session, &ahead_ms))
                return;
        if (llabs(ahead_ms) > CLOCK_APART_MS)
                doctor_say(d, VERDICT_WARN, "master's clock",
                           "chrony or systemd-timesyncd on both: certificates are judged by it, and times of "
                           "files shown",
                           "%.1f s %s this machine's", (double)llabs(ahead_ms) / 1000,
                           ahead_ms > 0 ? "ahead of" : "behind");
        else
                doctor_say(d, VERDICT_OK, "master's clock", NULL, "in step with this machine's");
}

/* The whole way, as a mount goes it: connection, TLS, token, spider, path. */
static void look_at_spider(struct doctor *d, const struct doctor_options *o)
{
        const struct remote_options options = {
                .source = o->source, .mount = o->mount, .cache_named = o->cache_named, .folder = true
        };
        struct failure failure = { 0 };
        struct catalog_version version;
        struct catalog_entry top;
        struct remote *remote;
        int r = remote_open(&options, &remote, &top, &failure);

        if (r < 0) {
                doctor_say(d, VERDICT_FAIL, "workspace",
                           r == -ENOENT   ? "check the spider's name and path in SOURCE"
                           : r == -EACCES ? "check token_file=, or cert= and key="
                                          : "see above",
                           "%s", failure_text(&failure, r));
                return;
        }
        catalog_get_version(remote_catalog(remote), &version);
        if (version.loading)
                doctor_say(d, VERDICT_OK, "workspace", NULL, "'%s' can be read", o->source);
        else
                doctor_say(d, VERDICT_OK, "workspace", NULL, "'%s' can be read: %lu files", o->source,
                           (unsigned long)version.files);
        look_at_its_clock(d, remote_session(remote));
        (void)remote_close(remote, 0);
}

void doctor_look_at_master(struct doctor *doctor, const struct doctor_options *options)
{
        _cleanup_(source_release) struct source source = { 0 };
        struct failure failure = { 0 };
        int r = source_parse(options->source, &source, &failure);

        if (r < 0) {
                doctor_say(doctor, VERDICT_FAIL, "source", "as in master:/SPIDER", "%s",
                           failure_text(&failure, r));
                return;
        }
        for (size_t i = 0; i < source.n_masters; i++)
                if (strncmp(source.masters[i], "unix:", 5) != 0)
                        look_at_address(doctor, source.masters[i], options->mount->tls);
        if (options->mount->token_file)
                look_at_token(doctor, options->mount->token_file);
        if (options->mount->cert)
                look_at_own_certificate(doctor, options->mount->cert);
        look_at_spider(doctor, options);
}
