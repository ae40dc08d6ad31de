#include "server/http.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "server/gauges.h"
#include "server/http_connections.h"
#include "server/metrics.h"
#include "server/page.h"
#include "server/status.h"

#define SOCKETS_MAX (2 * HTTP_CONNECTIONS_MAX) /* with those that were ended and are not closed yet */
#define TIMEOUT_SEC 10                         /* of silence */

struct http {
        struct MHD_Daemon *daemon;
        const struct master *master;         /* borrowed */
        const struct rpc_server *rpc;        /* borrowed */
        struct http_connections connections; /* owned by MHD's thread */
};

/* An answer: the type of what is in TEXT, and its code. */
struct answer {
        unsigned code;
        const char *type;
        struct buffer text;
};

#define TYPE_TEXT "text/plain; charset=utf-8"

/* ---- what there is ---- */

static int answer_metrics(const struct http *http, struct answer *a)
{
        int r = metrics_format(&a->text);

        a->type = "text/plain; version=0.0.4; charset=utf-8";
        return r < 0 ? r : gauges_format(http->master, &a->text);
}

static int answer_alive(const struct http *http, struct answer *a)
{
        return buffer_printf(&a->text, "alive\n");
}

static int answer_ready(const struct http *http, struct answer *a)
{
        char reason[HEALTH_REASON_MAX];
        bool ready = health_get(http->master->health, reason);

        a->code = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        return buffer_printf(&a->text, "%s\n", ready ? "ready" : reason);
}

static int answer_json(const struct http *http, struct answer *a)
{
        json_t *status = status_json(http->master, http->rpc);
        _cleanup_free_ char *text = status ? json_dumps(status, JSON_INDENT(2)) : NULL;

        json_decref(status);
        a->type = "application/json";
        return text ? buffer_printf(&a->text, "%s\n", text) : -ENOMEM;
}

static int answer_page(const struct http *http, struct answer *a)
{
        json_t *status = status_json(http->master, http->rpc);
        int r = status ? page_format(status, &a->text) : -ENOMEM;

        json_decref(status);
        a->type = "text/html; charset=utf-8";
        return r;
}

static const struct route {
        const char *path;
        int (*answer)(const struct http *http, struct answer *a);
} routes[] = {
        { "/", answer_page },         { "/status.json", answer_json }, { "/metrics", answer_metrics },
        { "/healthz", answer_alive }, { "/readyz", answer_ready },
};

static int answer_missing(const struct http *http, struct answer *a)
{
        a->code = MHD_HTTP_NOT_FOUND;
        return buffer_printf(&a->text,
                             "not found; there are /, /status.json, /metrics, /healthz and /readyz\n");
}

static int answer_refused(const struct http *http, struct answer *a)
{
        a->code = MHD_HTTP_METHOD_NOT_ALLOWED;
        return buffer_printf(&a->text, "nothing can be changed here: only GET and HEAD\n");
}

/* ---- the exchange ---- */

static enum MHD_Result reply(struct MHD_Connection *connection, const struct answer *a)
{
        struct MHD_Response *response =
                MHD_create_response_from_buffer(a->text.len, a->text.data, MHD_RESPMEM_MUST_COPY);
        char policy[PAGE_POLICY_MAX];
        enum MHD_Result result;

        if (!response)
                return MHD_NO;
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        MHD_add_response_header(response, "Content-Security-Policy", page_policy(policy));
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
        if (a->code == MHD_HTTP_METHOD_NOT_ALLOWED)
                MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
        result = MHD_queue_response(connection, a->code, response);
        MHD_destroy_response(response);
        return result;
}

static const struct route *find_route(const char *url)
{
        for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
                if (strcmp(url, routes[i].path) == 0)
                        return &routes[i];
        return NULL;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
        struct answer a = { .code = MHD_HTTP_OK, .type = TYPE_TEXT };
        const struct route *route = find_route(url);
        enum MHD_Result result;
        int r;

        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
                r = answer_refused(arg, &a);
        else
                r = route ? route->answer(arg, &a) : answer_missing(arg, &a);
        result = r < 0 ? MHD_NO : reply(connection, &a);
        buffer_release(&a.text);
        return result;
}

static void note_connection(void *arg, struct MHD_Connection *connection, void **context,
                            enum MHD_ConnectionNotificationCode what)
{
        struct http *http = arg;
        int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

        if (what == MHD_CONNECTION_NOTIFY_STARTED)
                http_connections_add(&http->connections, fd);
        else
                http_connections_remove(&http->connections, fd);
}

/* ---- the listener ---- */

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

/* As many as can may wait: each is let in, and if a short queue were full of a flood, others would not get into it. */
static int open_socket(const char *address)
{
        _cleanup_close_ int fd = -1;
        struct addrinfo *info = NULL;
        int one = 1, r = parse_address(address, &info);

        if (r < 0)
                return r;
        fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
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

int http_start(const char *address, const struct master *master, const struct rpc_server *rpc,
               struct http **ret, int *ret_port)
{
        struct http *http;
        int fd = open_socket(address);

        if (fd < 0)
                return fd;
        http = calloc(1, sizeof(*http));
        if (!http) {
                close(fd);
                return -ENOMEM;
        }
        http->master = master;
        http->rpc = rpc;
        *ret_port = socket_port(fd);
        http->daemon =
                MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
                                 handle, http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 SOCKETS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_SEC,
                                 MHD_OPTION_NOTIFY_CONNECTION, note_connection, http, MHD_OPTION_END);
        if (!http->daemon) {
                close(fd);
                free(http);
                return -ENOMEM;
        }
        *ret = http;
        return 0;
}

void http_stop(struct http *http)
{
        if (!http)
                return;
        MHD_stop_daemon(http->daemon); /* closes the socket too */
        free(http);
}
