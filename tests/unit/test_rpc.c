/* Calls over the rpc runtime: a real client against a real server, over loopback and unix sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "tests/unit/rpc_fixture.h"

/* ---- tables ---- */

static void test_status_table(void **state)
{
        static const struct {
                enum rpc_code code;
                int error;
                const char *name;
        } table[] = {
                { RPC_OK, 0, "OK" },
                { RPC_CANCELLED, -ECANCELED, "CANCELLED" },
                { RPC_UNKNOWN, -EIO, "UNKNOWN" },
                { RPC_INVALID_ARGUMENT, -EINVAL, "INVALID_ARGUMENT" },
                { RPC_DEADLINE_EXCEEDED, -ETIMEDOUT, "DEADLINE_EXCEEDED" },
                { RPC_NOT_FOUND, -ENOENT, "NOT_FOUND" },
                { RPC_ALREADY_EXISTS, -EEXIST, "ALREADY_EXISTS" },
                { RPC_PERMISSION_DENIED, -EACCES, "PERMISSION_DENIED" },
                { RPC_RESOURCE_EXHAUSTED, -EBUSY, "RESOURCE_EXHAUSTED" },
                { RPC_FAILED_PRECONDITION, -ESTALE, "FAILED_PRECONDITION" },
                { RPC_ABORTED, -EAGAIN, "ABORTED" },
                { RPC_OUT_OF_RANGE, -ERANGE, "OUT_OF_RANGE" },
                { RPC_UNIMPLEMENTED, -EOPNOTSUPP, "UNIMPLEMENTED" },
                { RPC_INTERNAL, -EIO, "INTERNAL" },
                { RPC_UNAVAILABLE, -EHOSTUNREACH, "UNAVAILABLE" },
                { RPC_DATA_LOSS, -EBADMSG, "DATA_LOSS" },
                { RPC_UNAUTHENTICATED, -EACCES, "UNAUTHENTICATED" },
                { (enum rpc_code)17, -EIO, "UNKNOWN" },
                { (enum rpc_code) - 1, -EIO, "UNKNOWN" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct rpc_status status = { .code = table[i].code };

                assert_int_equal(rpc_status_errno(&status), table[i].error);
                assert_string_equal(rpc_code_name(table[i].code), table[i].name);
        }
}

static void test_targets(void **state)
{
        static const char *const bad[] = { "",           "host",    "host:",    ":9666",  "host:port",
                                           "host:65536", "host:-1", "::1:9666", "[]:1",   "ipv4:1.2.3.4:5",
                                           "unix:",      "a b:1",   "host/x:1", "host:1 " };
        struct rpc_channel *channel = NULL;
        struct rpc_server *server;
        struct service service;
        char longer[300] = "unix:/";

        service_init(&service);
        server = new_server(&service, false);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(rpc_channel_new(bad[i], &(struct rpc_channel_options){ 0 }, &channel),
                                 -EINVAL);
                assert_int_equal(rpc_server_listen(server, bad[i], NULL), -EINVAL);
        }
        memset(longer + 6, 'x', 110);
        assert_int_equal(rpc_server_listen(server, longer, NULL), -ENAMETOOLONG);
        assert_int_equal(rpc_server_listen(server, "unix:/nowhere/s", NULL), -ENOENT);
        assert_int_equal(rpc_server_listen(server, "192.0.2.1:0", NULL), -EADDRNOTAVAIL);
        assert_int_equal(rpc_channel_new("h:1", &(struct rpc_channel_options){ .token = "a\nb" }, &channel),
                         -EINVAL);
        assert_null(channel);
        rpc_server_free(server); /* never started */
        service_release(&service);
}

/* ---- calls that go well ---- */

static void test_unary(void **state)
{
        struct fixture *f = *state;
        size_t big = 900000;
        _cleanup_free_ char *data = malloc(big);

        memset(data, 'x', big);
        assert_int_equal(rpc_channel_wait_ready(f->channel, 5000, NULL), 0);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "hello", 5), RPC_OK);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "", 0), RPC_OK);
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, data, 10), RPC_OK); /* an empty body */
        assert_int_equal(call_echo(f->channel, METHOD_ECHO, data, big), RPC_OK);
        service_await(&f->service, &f->service.ended, 4);
        assert_string_equal(f->service.last_method, METHOD_ECHO);
        assert_int_equal(f->service.last_code, RPC_OK);
        assert_int_equal(rpc_server_calls(f->server), 0);
        assert_true(strlen(f->service.peer) > 4);
}

static void test_not_unary(void **state)
{
        struct fixture *f = *state;
        struct rpc_status status;
        uint8_t *reply = NULL;
        size_t len;

        assert_int_equal(rpc_unary(f->channel, METHOD_COUNT, &patient, "2 10", 4, &status, &reply, &len), 0);
        assert_int_equal(status.code, RPC_INTERNAL);
        assert_int_equal(rpc_unary(f->channel, METHOD_COUNT, &patient, "0 10", 4, &status, &reply, &len), 0);
        assert_int_equal(status.code, RPC_INTERNAL);
        assert_null(reply);
}

static void test_server_streaming(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_COUNT, "500 5000");
        const uint8_t *data;
        size_t len;

        assert_int_equal(rpc_stream_close_send(stream), 0);
        for (int i = 500; i > 0; i--) {
                assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_MESSAGE);
                assert_int_equal(len, 5000);
                assert_int_equal(atoi((const char *)data), i);
        }
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_END);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_END);
        expect_status(stream, RPC_OK);
        rpc_stream_free(stream);
        rpc_stream_free(NULL);
}

struct sender {
        struct rpc_stream *stream;
        int result;
};

static void *send_many(void *arg)
{
        struct sender *s = arg;
        _cleanup_free_ char *data = calloc(1, 20000);

        for (int i = 0; i < 1000 && s->result == 0; i++) {
                snprintf(data, 16, "%d", i);
                s->result = rpc_stream_send(s->stream, data, (size_t)(20 + i * 17));
        }
        if (s->result == 0)
                s->result = rpc_stream_close_send(s->stream);
        return NULL;
}

/* One thread sends, another receives, on one stream. */
static void test_bidi(void **state)
{
        struct fixture *f = *state;
        struct sender sender = { .stream = open_stream(f->channel, METHOD_ECHO, NULL) };
        const uint8_t *data;
        pthread_t thread;
        size_t len;

        assert_int_equal(pthread_create(&thread, NULL, send_many, &sender), 0);
        for (int i = 0; i < 1000; i++) {
                assert_int_equal(rpc_stream_receive(sender.stream, &data, &len), RPC_MESSAGE);
                assert_int_equal(len, 20 + i * 17);
                assert_int_equal(atoi((const char *)data), i);
        }
        assert_int_equal(rpc_stream_receive(sender.stream, &data, &len), RPC_END);
        pthread_join(thread, NULL);
        assert_int_equal(sender.result, 0);
        expect_status(sender.stream, RPC_OK);
        rpc_stream_free(sender.stream);
        service_await(&f->service, &f->service.half_closed, 1);
}

struct caller {
        struct fixture *f;
        unsigned failed;
};

static void *call_25_times(void *arg)
{
        struct caller *c = arg;
        struct rpc_stream *streams[25];
        const uint8_t *data;
        size_t len;

        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
                rpc_stream_open(c->f->channel, METHOD_COUNT, &patient, &streams[i]);
                c->failed += rpc_stream_send(streams[i], "20 1000", 7) != 0;
        }
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
                struct rpc_status status;
                unsigned n = 0;

                while (rpc_stream_receive(streams[i], &data, &len) == RPC_MESSAGE)
                        n += len == 1000;
                rpc_stream_finish(streams[i], &status);
                c->failed += n != 20 || status.code != RPC_OK;
                rpc_stream_free(streams[i]);
        }
        return NULL;
}

static void test_200_calls_8_threads(void **state)
{
        struct fixture *f = *state;
        pthread_t threads[8];
        struct caller callers[8];

        for (size_t i = 0; i < 8; i++) {
                callers[i] = (struct caller){ .f = f };
                assert_int_equal(pthread_create(&threads[i], NULL, call_25_times, &callers[i]), 0);
        }
        for (size_t i = 0; i < 8; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(callers[i].failed, 0);
        }
        service_await(&f->service, &f->service.closed, 200);
}

static void test_wake(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, "x");
        const uint8_t *data;
        size_t len;

        service_await(&f->service, &f->service.started, 1);
        assert_int_equal(rpc_server_calls(f->server), 1);
        service_wake_all(&f->service);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_MESSAGE);
        assert_int_equal(len, 19);
        assert_memory_equal(data, "awake after a while", 19);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_END);
        expect_status(stream, RPC_OK);
        rpc_stream_free(stream);
}

/* Wakes race with the ends of the calls that they are meant for. */
static void *wake_until_done(void *arg)
{
        struct fixture *f = arg;

        while (service_read(&f->service, &f->service.closed) < 200) {
                service_await(&f->service, &f->service.started, 1);
                service_wake_all(&f->service);
        }
        return NULL;
}

static void test_wake_races_cancel(void **state)
{
        struct fixture *f = *state;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, wake_until_done, f), 0);
        for (unsigned i = 0; i < 200; i++) {
                struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, NULL);

                service_await(&f->service, &f->service.started, i + 1);
                rpc_stream_free(stream);
        }
        pthread_join(thread, NULL);
}

/* ---- calls that do not ---- */

static void test_unknown_method(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(call_echo(f->channel, "/test.Test/Nothing", "x", 1), RPC_UNIMPLEMENTED);
        service_await(&f->service, &f->service.ended, 1);
        assert_string_equal(f->service.last_method, "other");
        assert_int_equal(f->service.last_code, RPC_UNIMPLEMENTED);
}

static void test_start_fails(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(call_echo(f->channel, METHOD_FAIL, "x", 1), RPC_INTERNAL);
}

static void test_authorize(void **state)
{
        struct fixture *f = *state;
        struct rpc_channel *none = new_channel(f->address, NULL), *wrong = new_channel(f->address, "Secret");

        assert_int_equal(call_echo(f->channel, METHOD_ECHO, "x", 1), RPC_OK);
        assert_int_equal(call_echo(none, METHOD_ECHO, "x", 1), RPC_UNAUTHENTICATED);
        assert_int_equal(call_echo(wrong, METHOD_ECHO, "x", 1), RPC_UNAUTHENTICATED);
        assert_int_equal(call_echo(wrong, "/test.Test/Nothing", "x", 1), RPC_UNAUTHENTICATED);
        assert_int_equal(f->service.started, 1);
        rpc_channel_free(none);
        rpc_channel_free(wrong);
}

static void test_every_status(void **state)
{
        struct fixture *f = *state;

        for (int code = 1; code <= 16; code++) {
                struct rpc_status status;
                uint8_t *reply;
                size_t len;
                char request[32];

                snprintf(request, sizeof(request), "%d reason %d", code, code);
                assert_int_equal(rpc_unary(f->channel, METHOD_STATUS, &patient, request, strlen(request),
                                           &status, &reply, &len),
                                 0);
                /* CANCELLED from the other side is not what the caller did. */
                assert_int_equal(status.code, code == RPC_CANCELLED ? RPC_UNAVAILABLE : code);
                assert_string_equal(status.message, request + (code < 10 ? 2 : 3));
        }
}

static void test_status_text(void **state)
{
        struct fixture *f = *state;
        struct rpc_status status;
        uint8_t *reply;
        size_t len;
        char request[600] = "5 tab\there\nline \x1b[31m 100% \x7f\xc3\xa4";

        memset(request + strlen(request), 'y', 400);
        memcpy(request + 2 + 254, "\xc3\xa4", 2); /* is cut, whole */
        assert_int_equal(rpc_unary(f->channel, METHOD_STATUS, &patient, request, strlen(request), &status,
                                   &reply, &len),
                         0);
        assert_int_equal(status.code, RPC_NOT_FOUND);
        assert_int_equal(strlen(status.message), 254);
        assert_memory_equal(status.message, "tab?here?line ?[31m 100% ?\xc3\xa4yyy", 31);
}

static void test_too_large(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *data = calloc(1, 2 << 20);
        struct rpc_channel *small;
        struct rpc_status status;
        uint8_t *reply;
        size_t len;

        assert_int_equal(call_echo(f->channel, METHOD_ECHO, data, 2 << 20), RPC_RESOURCE_EXHAUSTED);
        assert_int_equal(rpc_channel_new(f->address,
                                         &(struct rpc_channel_options){ .receive_max_bytes = 1000 }, &small),
                         0);
        assert_int_equal(rpc_unary(small, METHOD_COUNT, &patient, "1 1001", 6, &status, &reply, &len), 0);
        assert_int_equal(status.code, RPC_RESOURCE_EXHAUSTED);
        rpc_channel_free(small);
        service_await(&f->service, &f->service.closed, 2);
}

static void test_client_cancels(void **state)
{
        struct fixture *f = *state;
        const uint8_t *data;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, NULL);
        size_t len;

        service_await(&f->service, &f->service.started, 1);
        rpc_stream_cancel(stream);
        rpc_stream_cancel(stream);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), -ECANCELED);
        assert_int_equal(rpc_stream_send(stream, "x", 1), -EPIPE);
        expect_status(stream, RPC_CANCELLED);
        service_await(&f->service, &f->service.ended, 1);
        assert_int_equal(f->service.closed, 1);
        assert_int_equal(f->service.half_closed, 0); /* broken off is not ended */
        assert_int_equal(f->service.last_code, RPC_CANCELLED);
        rpc_stream_free(stream);
}

static void *cancel_stream(void *arg)
{
        rpc_stream_cancel(arg);
        return NULL;
}

static void test_cancel_from_another_thread(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_WAIT, NULL);
        const uint8_t *data;
        pthread_t thread;
        size_t len;

        assert_int_equal(pthread_create(&thread, NULL, cancel_stream, stream), 0);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), -ECANCELED);
        pthread_join(thread, NULL);
        rpc_stream_free(stream);
}

static void test_free_cancels(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_FLOOD, "x");

        service_await(&f->service, &f->service.started, 1);
        rpc_stream_free(stream);
        service_await(&f->service, &f->service.closed, 1);
        service_await(&f->service, &f->service.released, f->service.sent);
}

static void test_server_ends_while_client_sends(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *stream = open_stream(f->channel, METHOD_STATUS, "10 enough");
        struct rpc_status status;
        int r = 0;

        for (int i = 0; i < 100000 && r == 0; i++)
                r = rpc_stream_send(stream, "more and more", 13);
        assert_int_equal(r, -EPIPE);
        rpc_stream_finish(stream, &status);
        assert_int_equal(status.code, RPC_ABORTED);
        assert_string_equal(status.message, "enough");
        rpc_stream_free(stream);
}

static void test_idle_timeout(void **state)
{
        struct fixture *f = *state;
        const struct rpc_stream_options hasty = { .idle_timeout_ms = 200 };
        int64_t began_ns = clock_monotonic_ns();
        struct rpc_stream *stream;
        const uint8_t *data;
        size_t len;

        assert_int_equal(rpc_stream_open(f->channel, METHOD_WAIT, &hasty, &stream), 0);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), -ETIMEDOUT);
        assert_int_equal(rpc_stream_receive(stream, &data, &len), -ETIMEDOUT);
        assert_true(clock_monotonic_ns() - began_ns >= 200 * NSEC_PER_MSEC);
        assert_true(clock_monotonic_ns() - began_ns < 5 * NSEC_PER_SEC);
        expect_status(stream, RPC_DEADLINE_EXCEEDED);
        rpc_stream_free(stream);
}

/* The peer lives, and reads nothing: what may be on its way unread is bounded, and then a send would wait for ever. */
static void test_send_timeout(void **state)
{
        static const char much[64 << 10];
        struct fixture *f = *state;
        const struct rpc_stream_options hasty = { .send_timeout_ms = 200 };
        struct rpc_stream *stream;
        int r = 0;

        assert_int_equal(rpc_stream_open(f->channel, METHOD_WAIT, &hasty, &stream), 0);
        for (int i = 0; i < 4096 && r == 0; i++)
                r = rpc_stream_send(stream, much, sizeof(much));
        assert_int_equal(r, -EPIPE);
        expect_status(stream, RPC_DEADLINE_EXCEEDED);
        rpc_stream_free(stream);
}

static void get_peer(struct fixture *f, char ret[sizeof(f->service.peer)])
{
        mutex_lock(&f->service.mutex);
        strcpy(ret, f->service.peer);
        mutex_unlock(&f->service.mutex);
}

/* A new connection for what is called from now on; what is under way stays on its own. */
static void test_renew(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *before = open_stream(f->channel, METHOD_ECHO, "one"), *after;
        char first[sizeof(f->service.peer)], second[sizeof(f->service.peer)];

        expect_text(before, "one");
        get_peer(f, first);
        assert_true(rpc_channel_renew(f->channel, before));
        after = open_stream(f->channel, METHOD_ECHO, "two");
        expect_text(after, "two");
        get_peer(f, second);
        assert_string_not_equal(first, second);
        assert_false(rpc_channel_renew(f->channel, before)); /* that one is given up already */
        assert_false(rpc_channel_renew(f->channel, after));  /* too soon */
        assert_int_equal(rpc_stream_send(before, "three", 5), 0);
        expect_text(before, "three");
        rpc_stream_free(before);
        rpc_stream_free(after);
}

static void test_no_connection_to_renew(void **state _unused_)
{
        struct rpc_channel *channel = new_channel("127.0.0.1:1", NULL);

        assert_false(rpc_channel_renew(channel, NULL));
        rpc_channel_free(channel);
}

/* Eight clients that do not read: the server stops sending to each, and goes on as soon as one reads. */
static void test_back_pressure(void **state)
{
        struct fixture *f = *state;
        struct rpc_stream *streams[8];
        size_t len;
        const uint8_t *data;
        unsigned sent, last;

        for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
                streams[i] = open_stream(f->channel, METHOD_FLOOD, "x");
        service_await(&f->service, &f->service.sent, ARRAY_SIZE(streams));
        /* Other calls go on meanwhile; when 50 of them see no more sent, the flood stands. */
        for (unsigned quiet = last = 0; quiet < 50;) {
                assert_int_equal(call_echo(f->channel, METHOD_ECHO, "", 0), RPC_OK);
                sent = service_read(&f->service, &f->service.sent) -
                       service_read(&f->service, &f->service.half_closed);
                quiet = sent == last ? quiet + 1 : 0;
                last = sent;
        }
        /*
         * What is sent and not read is in memory: gRPC's window, 16 MiB each and a
         * little more, which the channel's quota narrows should there be many.
         */
        if ((uint64_t)last * FLOOD_BYTES >= 256u << 20)
                fail_msg("%u messages of %u bytes were sent, and not read", last, (unsigned)FLOOD_BYTES);
        for (int i = 0; i < 200; i++) {
                assert_int_equal(rpc_stream_receive(streams[0], &data, &len), RPC_MESSAGE);
                assert_int_equal(len, FLOOD_BYTES);
        }
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
                rpc_stream_free(streams[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_status_table),
                cmocka_unit_test(test_targets),
                TCP(test_unary),
                UNIX(test_unary),
                TCP(test_not_unary),
                TCP(test_server_streaming),
                UNIX(test_server_streaming),
                TCP(test_bidi),
                UNIX(test_bidi),
                TCP(test_200_calls_8_threads),
                TCP(test_wake),
                TCP(test_wake_races_cancel),
                TCP(test_unknown_method),
                TCP(test_start_fails),
                TOKEN(test_authorize),
                TCP(test_every_status),
                TCP(test_status_text),
                TCP(test_too_large),
                TCP(test_client_cancels),
                TCP(test_cancel_from_another_thread),
                TCP(test_free_cancels),
                TCP(test_server_ends_while_client_sends),
                TCP(test_idle_timeout),
                TCP(test_send_timeout),
                TCP(test_renew),
                cmocka_unit_test(test_no_connection_to_renew),
                TCP(test_back_pressure),
                UNIX(test_back_pressure),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
