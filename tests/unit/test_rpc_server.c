/* The rpc server's life and addresses, and peers that are not there or speak something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"
#include "tests/unit/rpc_fixture.h"

/* ---- the server's life ---- */

static void test_stop_without_calls_is_quick(void **state)
{
        struct fixture *f = *state;
        int64_t began_ns;

        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK);
        began_ns = clock_monotonic_ns();
        rpc_server_stop(f->server, 10000);
        assert_true(clock_monotonic_ns() - began_ns < 3 * NSEC_PER_SEC);
        rpc_server_stop(f->server, 10000);
}

static void test_stop_cancels_stalled(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *flood = open_stream(f->channel, METHOD_FLOOD, "x"),
                          *wait = open_stream(f->channel, METHOD_WAIT, "x");
        const uint8_t *data;
        int64_t began_ns;
        int r;
        size_t len;

        service_await(&f->service, &f->service.started, 2);
        began_ns = clock_monotonic_ns();
        rpc_server_stop(f->server, 300);
        assert_true(clock_monotonic_ns() - began_ns >= 300 * NSEC_PER_MSEC);
        assert_true(clock_monotonic_ns() - began_ns < 5 * NSEC_PER_SEC);
        assert_int_equal(f->service.closed, 2);
        assert_int_equal(f->service.sent, f->service.released);
        assert_int_equal(rpc_server_calls(f->server), 0);
        while ((r = rpc_stream_receive(flood, &data, &len)) == RPC_MESSAGE)
                ;
        assert_int_equal(r, RPC_END);
        assert_int_equal(rpc_stream_receive(wait, &data, &len), RPC_END);
        expect_status(wait, RPC_UNAVAILABLE);
        rpc_stream_free(flood);
        rpc_stream_free(wait);
}

static void *stop_server(void *arg)
{
        rpc_server_stop(arg, 10000);
        return NULL;
}

/* A stopping server takes nothing new, and what it has taken goes on as always. */
static void test_grace_lets_calls_end(void **state)
{
        struct fixture *f = *state;
        const struct rpc_stream_options at_once = { .idle_timeout_ms = 20000 };
        struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, "x");
        struct rpc_status status = { .code = RPC_OK };
        const uint8_t *data;
        pthread_t thread;
        size_t len;

        service_await(&f->service, &f->service.started, 1);
        assert_int_equal(pthread_create(&thread, NULL, stop_server, f->server), 0);
        while (status.code == RPC_OK) {
                _cleanup_free_ uint8_t *reply = NULL;

                assert_int_equal(rpc_unary(f->channel, METHOD_ECHO, &at_once, "x", 1, &status, &reply, &len),
                                 0);
        }
        assert_int_equal(status.code, RPC_UNAVAILABLE);
        service_wake_all(&f->service);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_MESSAGE);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_END);
        expect_status(stream, RPC_OK);
        rpc_stream_free(stream);
        pthread_join(thread, NULL);
}

static void test_listen_twice(void **state)
{
        struct fixture *f = *state;
        struct rpc_server *second = new_server(&f->service, false);
        char text[80];

        assert_int_equal(rpc_server_listen(second, f->address, NULL), -EADDRINUSE);
        snprintf(text, sizeof(text), "localhost:%d", f->port); /* of whose addresses one is taken */
        if (f->port)
                assert_int_equal(rpc_server_listen(second, text, NULL), -EADDRINUSE);
        assert_int_equal(rpc_server_listen(f->server, f->address, NULL), -EADDRINUSE);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK); /* the first one is unharmed */
        rpc_server_free(second);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK);
}

static int listen_on_unix(const char *path)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(sun.sun_path, path);
        assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
        assert_int_equal(listen(fd, 5), 0);
        return fd;
}

static void test_unix_paths(void **state)
{
        struct fixture *f = *state;
        struct rpc_server *server = new_server(&f->service, false);
        struct rpc_channel *channel;
        char path[64], address[80];
        int fd;

        snprintf(path, sizeof(path), "%s/other", f->dir);
        snprintf(address, sizeof(address), "unix:%s", path);

        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* not a socket: left alone */
        assert_int_equal(rpc_server_listen(server, address, NULL), -EEXIST);
        assert_int_equal(access(path, F_OK), 0);
        close(fd);
        unlink(path);

        fd = listen_on_unix(path); /* a live server that knows no lock file */
        assert_int_equal(rpc_server_listen(server, address, NULL), -EADDRINUSE);
        close(fd); /* now it is dead, and its socket stale */
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(rpc_server_listen(server, address, NULL), 0);
        assert_int_equal(rpc_server_start(server), 0);
        channel = new_channel(address, NULL);
        assert_int_equal(call_echo(channel, METHOD_ECHO, "x", 1), RPC_OK);
        rpc_channel_free(channel);
        rpc_server_free(server);

        server = new_server(&f->service, false); /* free again once the first has gone */
        assert_int_equal(rpc_server_listen(server, address, NULL), 0);
        rpc_server_free(server);
}

static void test_two_listeners(void **state)
{
        struct fixture *f = *state;
        struct rpc_server *server = new_server(&f->service, false);
        struct rpc_channel *channel;
        char address[64];
        int port = 0;

        assert_int_equal(rpc_server_listen(server, "127.0.0.1:0", &port), 0);
        assert_in_range(port, 1, 65535);
        snprintf(address, sizeof(address), "unix:%s/two", f->dir);
        assert_int_equal(rpc_server_listen(server, address, NULL), 0);
        assert_int_equal(rpc_server_start(server), 0);
        channel = new_channel(address, NULL);
        assert_int_equal(call_echo(channel, METHOD_ECHO, "x", 1), RPC_OK);
        rpc_channel_free(channel);
        snprintf(address, sizeof(address), "localhost:%d", port);
        channel = new_channel(address, NULL);
        assert_int_equal(call_echo(channel, METHOD_ECHO, "x", 1), RPC_OK);
        rpc_channel_free(channel);
        rpc_server_free(server);
}

/* ---- peers that are not there, or not ours ---- */

/* A TCP socket bound to a free port of loopback, listening if asked to. */
static int loopback_socket(bool listening, char *ret_address, size_t size)
{
        struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(sin);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
        if (listening)
                assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
        snprintf(ret_address, size, "127.0.0.1:%d", ntohs(sin.sin_port));
        return fd;
}

static void test_refused(void **state)
{
        const struct rpc_stream_options at_once = { .idle_timeout_ms = 10000 };
        char address[64];
        int fd = loopback_socket(false, address, sizeof(address));
        struct rpc_channel *channel = new_channel(address, NULL),
                           *missing = new_channel("unix:/nowhere/s", NULL);
        int64_t began_ns = clock_monotonic_ns();
        struct rpc_status status;
        uint8_t *reply;
        size_t len;

        assert_int_equal(rpc_channel_wait_ready(channel, 10000, NULL), -ECONNREFUSED);
        assert_int_equal(rpc_channel_wait_ready(channel, 10000, NULL), -ECONNREFUSED);
        assert_int_equal(rpc_channel_wait_ready(missing, 10000, NULL), -ECONNREFUSED);
        assert_int_equal(rpc_unary(channel, METHOD_ECHO, &at_once, "x", 1, &status, &reply, &len), 0);
        assert_int_equal(status.code, RPC_UNAVAILABLE);
        assert_true(clock_monotonic_ns() - began_ns < 3 * NSEC_PER_SEC);
        rpc_channel_free(channel);
        rpc_channel_free(missing);
        close(fd);
}

static void test_unknown_host(void **state)
{
        struct rpc_channel *channel = new_channel("nowhere.invalid:9666", NULL);
        struct failure why = { 0 };

        assert_int_equal(rpc_channel_wait_ready(channel, 60000, &why), -EHOSTUNREACH);
        assert_non_null(strstr(why.text, "is not found: no address for 'nowhere.invalid' ("));
        rpc_channel_free(channel);
}

static void test_ready_after_refused(void **state)
{
        struct fixture *f = *state;
        struct rpc_server *server = new_server(&f->service, false);
        char address[80];
        struct rpc_channel *channel;

        snprintf(address, sizeof(address), "unix:%s/late", f->dir);
        channel = new_channel(address, NULL);
        assert_int_equal(rpc_channel_wait_ready(channel, 10000, NULL), -ECONNREFUSED);
        assert_int_equal(rpc_server_listen(server, address, NULL), 0);
        assert_int_equal(rpc_server_start(server), 0);
        assert_int_equal(rpc_channel_wait_ready(channel, 10000, NULL), 0);
        assert_int_equal(call_echo(channel, METHOD_ECHO, "x", 1), RPC_OK);
        rpc_server_free(server);
        rpc_channel_free(channel);
}

static void silent_for(int timeout_ms)
{
        char address[64];
        int fd = loopback_socket(true, address, sizeof(address)); /* the kernel accepts, nobody answers */
        struct rpc_channel *channel = new_channel(address, NULL);
        int64_t began_ns = clock_monotonic_ns();

        assert_int_equal(rpc_channel_wait_ready(channel, timeout_ms, NULL), -ETIMEDOUT);
        assert_true(clock_monotonic_ns() - began_ns >= timeout_ms * NSEC_PER_MSEC);
        assert_true(clock_monotonic_ns() - began_ns < (timeout_ms + 2000) * NSEC_PER_MSEC);
        rpc_channel_free(channel);
        close(fd);
}

static void test_silent_peer(void **state)
{
        silent_for(500);
        silent_for(4000); /* longer than gRPC's own limit for one attempt */
}

struct talker {
        int fd;
        const char *text;
};

/* Greets whoever connects with TEXT, until the listening socket is shut down. */
static void *talk(void *arg)
{
        struct talker *t = arg;
        int fd;

        while ((fd = accept4(t->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                char hello[256];

                if (recv(fd, hello, sizeof(hello), 0) > 0)
                        send(fd, t->text, strlen(t->text), MSG_NOSIGNAL);
                close(fd);
        }
        return NULL;
}

static void test_other_protocols(void **state)
{
        static const char *const texts[] = { "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
                                             "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "" };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                char address[64];
                struct talker t = { .fd = loopback_socket(true, address, sizeof(address)), .text = texts[i] };
                struct rpc_channel *channel = new_channel(address, NULL);
                int64_t began_ns = clock_monotonic_ns();
                pthread_t thread;

                assert_int_equal(pthread_create(&thread, NULL, talk, &t), 0);
                assert_int_equal(rpc_channel_wait_ready(channel, 60000, NULL), -EPROTO);
                assert_int_equal(rpc_channel_wait_ready(channel, 60000, NULL), -EPROTO);
                assert_true(clock_monotonic_ns() - began_ns <
                            60 * NSEC_PER_SEC); /* neither waited until its end */
                rpc_channel_free(channel);
                shutdown(t.fd, SHUT_RDWR);
                pthread_join(thread, NULL);
                close(t.fd);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TCP(test_stop_without_calls_is_quick),
                TCP(test_stop_cancels_stalled),
                UNIX(test_stop_cancels_stalled),
                TCP(test_grace_lets_calls_end),
                TCP(test_listen_twice),
                UNIX(test_listen_twice),
                UNIX(test_unix_paths),
                UNIX(test_two_listeners),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_unknown_host),
                UNIX(test_ready_after_refused),
                cmocka_unit_test(test_silent_peer),
                cmocka_unit_test(test_other_protocols),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
