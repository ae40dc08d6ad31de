#include "server/metrics_http.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "server/metrics.h"

#define CONNECTIONS_MAX 16
#define TIMEOUT_SEC     10

struct metrics_http {
        struct MHD_Daemon *daemon;
        struct workers *workers; /* borrowed */
};

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned code, struct buffer *text)
{
        struct MHD_Response *response =
                MHD_create_response_from_buffer(text->len, text->data, MHD_RESPMEM_MUST_COPY);
        enum MHD_Result result;

        if (!response)
                return MHD_NO;
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                "text/plain; version=0.0.4; charset=utf-8");
        result = MHD_queue_response(connection, code, response);
        MHD_destroy_response(response);
        return result;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        struct metrics_http *http = arg;

        if (strcmp(url, "/metrics") == 0 && strcmp(method, MHD_HTTP_METHOD_GET) == 0) {
                if (metrics_format(&text, workers_count(http->workers)) < 0)
                        return MHD_NO;
                return reply(connection, MHD_HTTP_OK, &text);
        }
        if (buffer_printf(&text, "not found; try /metrics\n") < 0)
                return MHD_NO;
        return reply(connection, MHD_HTTP_NOT_FOUND, &text);
}

/* Splits ADDRESS and looks it up; never a name service. */
static int parse_address(const char *address, struct addrinfo **ret)
{
        const struct addrinfo hints = {
                .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                .ai_socktype = SOCK_STREAM,
        };
        _cleanup_free_ char *host = NULL;
        const char *colon = strrchr(address, ':');
        size_t len;

        if (!colon || colon == address || colon[1] == '\0')
                return -EINVAL;
        len = (size_t)(colon - address);
        if (address[0] == '[' && address[len - 1] == ']')
                host = strndup(address + 1, len - 2);
        else if (strncmp(address, "localhost:", len + 1) == 0)
                host = strdup("127.0.0.1");
        else
                host = strndup(address, len);
        if (!host)
                return -ENOMEM;
        return getaddrinfo(host, colon + 1, &hints, ret) == 0 ? 0 : -EINVAL;
}

static int open_socket(const char *address)
{
        _cleanup_close_ int fd = -1;
        struct addrinfo *info = NULL;
        int one = 1, r = parse_address(address, &info);

        if (r < 0)
                return r;
        fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, CONNECTIONS_MAX) < 0)
                r = -errno;
        freeaddrinfo(info);
        return r < 0 ? r : take_fd(&fd);
}

static int socket_port(int fd)
{
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        char port[8];

        if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
            getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV) != 0)
                return 0;
        return atoi(port);
}

int metrics_http_start(const char *address, struct workers *workers, struct metrics_http **ret, int *ret_port)
{
        struct metrics_http *http;
        int fd = open_socket(address);

        if (fd < 0)
                return fd;
        http = calloc(1, sizeof(*http));
        if (!http) {
                close(fd);
                return -ENOMEM;
        }
        http->workers = workers;
        *ret_port = socket_port(fd);
        http->daemon =
                MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
                                 handle, http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_SEC, MHD_OPTION_END);
        if (!http->daemon) {
                close(fd);
                free(http);
                return -ENOMEM;
        }
        *ret = http;
        return 0;
}

void metrics_http_stop(struct metrics_http *http)
{
        if (!http)
                return;
        MHD_stop_daemon(http->daemon); /* closes the socket too */
        free(http);
}
