/* What one peer, and all together, may have under way; and what the guard has to say of each message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "proto/rpc_address.h"
#include "tests/unit/rpc_fixture.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                TOKEN(test_guard_messages),       TOKEN(test_guard_revokes),    cmocka_unit_test(test_calls),
                cmocka_unit_test(test_all_calls), cmocka_unit_test(test_bytes), cmocka_unit_test(test_local),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
