#include "proto/rpc_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/resolve.h"
#include "proto/rpc_internal.h"

#define OWN_NAME_SEC 20 /* for a name server to say what this machine's name stands for */

static int parse_unix(const char *path, struct rpc_address *ret)
{
        size_t len = strlen(path);

        if (len == 0)
                return -EINVAL;
        if (len >= sizeof(ret->path))
                return -ENAMETOOLONG;
        ret->is_unix = true;
        memcpy(ret->path, path, len + 1);
        return 0;
}

static bool port_is_valid(const char *port)
{
        size_t len = strlen(port);

        return len > 0 && len <= 5 && strspn(port, "0123456789") == len && atoi(port) <= UINT16_MAX;
}

int rpc_address_parse(const char *text, struct rpc_address *ret)
{
        struct rpc_address address = { 0 };
        const char *host = text, *colon = strrchr(text, ':');
        size_t host_len;
        int r = 0;

        if (strncmp(text, "unix:", 5) == 0) {
                r = parse_unix(text + 5, &address);
        } else {
                if (!colon || !port_is_valid(colon + 1))
                        return -EINVAL;
                host_len = (size_t)(colon - text);
                if (host_len > 2 && host[0] == '[' && host[host_len - 1] == ']') {
                        host++;
                        host_len -= 2;
                } else if (memchr(host, ':', host_len)) {
                        return -EINVAL; /* an IPv6 address goes in brackets */
                }
                if (host_len == 0 || host_len >= sizeof(address.host) || strcspn(host, "/[] ") < host_len)
                        return -EINVAL;
                memcpy(address.host, host, host_len);
                memcpy(address.port, colon + 1, strlen(colon + 1) + 1);
        }
        if (r == 0)
                *ret = address;
        return r;
}

static struct sockaddr_un unix_sockaddr(const struct rpc_address *address)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };

        memcpy(sun.sun_path, address->path, strlen(address->path));
        return sun;
}

static int resolve(const struct rpc_address *address, int flags, int64_t deadline_ns, struct failure *why,
                   struct addrinfo **ret)
{
        int r = resolve_host(address->host, address->port, flags, deadline_ns, ret);

        if (r == 0)
                return 0;
        return failure_set(
                why, -EADDRNOTAVAIL,
                "is not found: no address for '%s' (%s); check the name, and this machine's name server",
                address->host, resolve_error(r));
}

/* To be listened on: there is no other deadline. */
static int resolve_own(const struct rpc_address *address, struct addrinfo **ret)
{
        return resolve(address, AI_PASSIVE, clock_monotonic_ns() + OWN_NAME_SEC * NSEC_PER_SEC, NULL, ret);
}

static bool is_loopback(const struct sockaddr *sa)
{
        if (sa->sa_family == AF_INET)
                return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == 127;
        if (sa->sa_family == AF_INET6) {
                const struct in6_addr *in6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;

                return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
        }
        return false;
}

static void cleanup_addrinfo(struct addrinfo **list)
{
        if (*list)
                freeaddrinfo(*list);
}

int rpc_address_is_local(const char *text)
{
        _cleanup_(cleanup_addrinfo) struct addrinfo *list = NULL;
        struct rpc_address address;
        int local = 1, r = rpc_address_parse(text, &address);

        if (r < 0)
                return r;
        if (address.is_unix)
                return 1;
        r = resolve_own(&address, &list);
        if (r < 0)
                return r;
        for (struct addrinfo *ai = list; ai; ai = ai->ai_next)
                local &= is_loopback(ai->ai_addr);
        return local;
}

/* ---- connecting ---- */

int rpc_address_poll(int fd, short events, int64_t deadline_ns)
{
        struct pollfd p = { .fd = fd, .events = events };

        for (;;) {
                int64_t left = deadline_ns - clock_monotonic_ns();
                int r = poll(&p, 1, left <= 0 ? 0 : (int)MIN(left / NSEC_PER_MSEC + 1, INT32_MAX));

                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (left <= 0)
                        return -ETIMEDOUT;
        }
}

/* A connected, non-blocking socket or a negative errno. */
static int connect_until(const struct sockaddr *sa, socklen_t len, int64_t deadline_ns)
{
        _cleanup_close_ int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int error = 0, r;
        socklen_t error_len = sizeof(error);

        if (fd < 0)
                return -errno;
        if (connect(fd, sa, len) < 0) {
                if (errno != EINPROGRESS)
                        return -errno;
                r = rpc_address_poll(fd, POLLOUT, deadline_ns);
                if (r < 0)
                        return r;
                if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) < 0)
                        return -errno;
                if (error)
                        return -error;
        }
        return take_fd(&fd);
}

int rpc_address_connect(const struct rpc_address *address, int64_t deadline_ns, struct failure *why)
{
        _cleanup_(cleanup_addrinfo) struct addrinfo *list = NULL;
        int error = 0, r;

        if (address->is_unix) {
                struct sockaddr_un sun = unix_sockaddr(address);

                return connect_until((struct sockaddr *)&sun, sizeof(sun), deadline_ns);
        }
        r = resolve(address, 0, deadline_ns, why, &list);
        if (r < 0)
                return r;
        for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
                r = connect_until(ai->ai_addr, ai->ai_addrlen, deadline_ns);
                if (r >= 0)
                        return r;
                error = error ?: r;
        }
        return error;
}

/* ---- listening ---- */

static int try_bind(const struct addrinfo *ai)
{
        _cleanup_close_ int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;

        if (fd < 0)
                return -errno;
        /* As gRPC binds: past connections in TIME_WAIT do not count, a listener does. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            bind(fd, ai->ai_addr, ai->ai_addrlen) < 0)
                return -errno;
        return 0;
}

int rpc_address_check_free(const struct rpc_address *address)
{
        _cleanup_(cleanup_addrinfo) struct addrinfo *list = NULL;
        int r = resolve_own(address, &list), error = 0;
        bool any = false;

        if (r < 0)
                return r;
        for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
                r = try_bind(ai);
                if (r == -EADDRINUSE)
                        return r;
                if (r < 0)
                        error = r; /* such as no IPv6 here: gRPC goes on with the other addresses as well */
                else
                        any = true;
        }
        return any ? 0 : error;
}

/* The lock is held: if a socket is here, only a program that knows no lock file can be behind it. */
static int check_unix_stale(const struct rpc_address *address)
{
        struct sockaddr_un sun = unix_sockaddr(address);
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (lstat(address->path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;
        fd = connect_until((struct sockaddr *)&sun, sizeof(sun), clock_monotonic_ns());
        if (fd >= 0 || fd == -EAGAIN)
                return -EADDRINUSE;
        return fd == -ECONNREFUSED || fd == -ENOENT ? 0 : fd; /* refused: left behind, and gRPC replaces it */
}

int rpc_address_lock_unix(const struct rpc_address *address)
{
        char lock_path[sizeof(address->path) + sizeof(".lock")];
        _cleanup_close_ int fd = -1;
        int r;

        snprintf(lock_path, sizeof(lock_path), "%s.lock", address->path);
        fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
        r = check_unix_stale(address);
        return r < 0 ? r : take_fd(&fd);
}
