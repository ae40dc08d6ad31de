/* What one peer, and all together, may have under way; what the guard has to say of each message; and the gate. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/util.h"
#include "proto/rpc_address.h"
#include "proto/rpc_gate.h"
#include "tests/fault/interpose.h"
#include "tests/tempdir.h"
#include "tests/unit/rpc_fixture.h"

static _Atomic int accept_error;  /* of all accept4(2); 0: none */
static _Atomic unsigned failures; /* for that */

PUBLIC long syscall(long number, ...)
{
        long a[6];
        int error = number == SYS_accept4 ? atomic_load(&accept_error) : 0;

        ARGUMENTS_AFTER(number, a);
        if (error == 0)
                return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        atomic_fetch_add(&failures, 1);
        errno = error;
        return -1;
}

/* ---- the guard ---- */

static void test_guard_messages(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream;

        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "allow", 5), RPC_OK);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "forbid", 6), RPC_PERMISSION_DENIED);
        stream = open_stream(f->channel, METHOD_ECHO, "first");
        expect_text(stream, "first");
        assert_int_equal(rpc_stream_send(stream, "forbid", 6), 0);
        expect_end(stream, RPC_PERMISSION_DENIED);
        service_await(&f->service, &f->service.passes_released, 3);
        assert_int_equal(service_read(&f->service, &f->service.passes), 3);
}

static void test_guard_revokes(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *flood = open_stream(f->channel, METHOD_FLOOD, "x"),
                          *wait = open_stream(f->channel, METHOD_WAIT, "x");

        service_await(&f->service, &f->service.started, 2);
        mutex_lock(&f->service.mutex);
        f->service.revoked = 1;
        mutex_unlock(&f->service.mutex);
        expect_end(flood, RPC_UNAUTHENTICATED);
        service_await(&f->service, &f->service.n_waiting, 1);
        service_wake_all(&f->service); /* it has been silent until now */
        expect_end(wait, RPC_UNAUTHENTICATED);
        service_await(&f->service, &f->service.passes_released, 2);
}

/* ---- limits ---- */

static void test_calls(void **state)
{
        struct fixture *f = fixture_new_limited(&(struct rpc_limits){ .peer_calls = 3 });
        struct rpc_stream *streams[3];

        for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
                streams[i] = open_stream(f->channel, METHOD_WAIT, "x");
        service_await(&f->service, &f->service.n_waiting, 3);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_RESOURCE_EXHAUSTED);
        assert_int_equal(service_read(&f->service, &f->service.started), 3);
        rpc_stream_free(streams[0]);
        service_await(&f->service, &f->service.closed, 1);
        while (rpc_server_calls(f->server) > 2)
                usleep(1000);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK);
        rpc_stream_free(streams[1]);
        rpc_stream_free(streams[2]);
        fixture_free(f);
}

static void test_all_calls(void **state)
{
        struct fixture *f = fixture_new_limited(&(struct rpc_limits){ .calls = 1 });
        struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, "x");

        service_await(&f->service, &f->service.n_waiting, 1);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_RESOURCE_EXHAUSTED);
        rpc_stream_free(stream);
        while (rpc_server_calls(f->server) > 0)
                usleep(1000);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK);
        fixture_free(f);
}

/* Who does not take what was sent gets no further calls until it has. */
static void test_bytes(void **state)
{
        struct fixture *f = fixture_new_limited(&(struct rpc_limits){ .peer_bytes = 4 * FLOOD_BYTES });
        struct rpc_stream *streams[16];
        enum rpc_code code = RPC_OK;

        for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
                streams[i] = open_stream(f->channel, METHOD_FLOOD, "x");
        for (int i = 0; i < 20000 && code != RPC_RESOURCE_EXHAUSTED; i++) {
                code = call_echo(f->channel, METHOD_ECHO, "x", 1);
                usleep(1000);
        }
        assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
                rpc_stream_free(streams[i]);
        for (int i = 0; i < 20000 && code != RPC_OK; i++) {
                code = call_echo(f->channel, METHOD_ECHO, "x", 1);
                usleep(1000);
        }
        assert_int_equal(code, RPC_OK);
        fixture_free(f);
}

/* ---- addresses ---- */

static void test_local(void **state)
{
        static const struct {
                const char *address;
                int local;
        } rows[] = {
                { "127.0.0.1:1", 1 },
                { "127.255.0.9:1", 1 },
                { "[::1]:1", 1 },
                { "localhost:1", 1 },
                { "unix:/nowhere/s", 1 },
                { "unix:s", 1 },
                { "0.0.0.0:1", 0 },
                { "[::]:1", 0 },
                { "[::ffff:127.0.0.1]:1", 1 },
                { "[::ffff:10.0.0.1]:1", 0 },
                { "192.0.2.1:1", 0 },
                { "10.127.0.1:1", 0 },
                { "[fe80::1]:1", 0 },
                { "nonsense", -EINVAL },
                { "127.0.0.1", -EINVAL },
                { "no-such-host.invalid:1", -EADDRNOTAVAIL },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (rpc_address_is_local(rows[i].address) != rows[i].local)
                        fail_msg("%s: %d", rows[i].address, rpc_address_is_local(rows[i].address));
}

/* ---- the gate ---- */

static int connect_to(int port)
{
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
        return fd;
}

/* A listener outlives it that there is nothing to take a connection with: the next one that comes has it look again. */
static void test_shortage(void **state)
{
        static const int errors[] = { EMFILE, ENFILE, ENOMEM, ENOBUFS };
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
                struct rpc_channel *channel = new_channel(f->address, NULL);
                int next;

                atomic_store(&failures, 0);
                atomic_store(&accept_error, errors[i]);
                rpc_channel_connect(channel);
                while (atomic_load(&failures) < 2) /* and not even to send it away; alarm(2) ends it */
                        usleep(1000);
                atomic_store(&accept_error, 0);
                next = connect_to(f->port);
                assert_int_equal(call_echo(channel, METHOD_ECHO, "x", 1), RPC_OK);
                close(next);
                rpc_channel_free(channel);
        }
        /* Nobody was sent away; and with this the gate is linked where a sanitizer's library has an accept4 already. */
        assert_int_equal(rpc_gate_refused(), 0);
}

/* Whoever connects by a unix socket is known by his user, whatever he calls himself. */
static void test_user(void **state)
{
        struct sockaddr_un server = { .sun_family = AF_UNIX }, client = server, peer;
        int fds[2] = { socket(AF_UNIX, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0) }, accepted;
        char dir[] = "/tmp/test_rpc_limits.XXXXXX", user[32];
        socklen_t len = sizeof(peer);

        assert_non_null(mkdtemp(dir));
        snprintf(server.sun_path, sizeof(server.sun_path), "%s/server", dir);
        snprintf(client.sun_path, sizeof(client.sun_path), "%s/user-77", dir);
        snprintf(user, sizeof(user), "user-%u", geteuid());
        assert_int_equal(bind(fds[0], (struct sockaddr *)&server, sizeof(server)), 0);
        assert_int_equal(listen(fds[0], 1), 0);
        assert_int_equal(bind(fds[1], (struct sockaddr *)&client, sizeof(client)), 0);
        assert_int_equal(connect(fds[1], (struct sockaddr *)&server, sizeof(server)), 0);
        accepted = accept(fds[0], NULL, NULL);
        assert_true(accepted >= 0);
        assert_int_equal(getpeername(accepted, (struct sockaddr *)&peer, &len), 0);
        assert_string_equal(peer.sun_path, user);
        close(accepted);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(tempdir_remove(dir), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TOKEN(test_guard_messages),   TOKEN(test_guard_revokes),
                cmocka_unit_test(test_calls), cmocka_unit_test(test_all_calls),
                cmocka_unit_test(test_bytes), cmocka_unit_test(test_local),
                TCP(test_shortage),           cmocka_unit_test(test_user),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
