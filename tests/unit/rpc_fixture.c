#include "tests/unit/rpc_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>

#include "base/util.h"

const struct rpc_stream_options patient = { .idle_timeout_ms = 20000, .wait_for_ready = true };

static struct rpc_server *new_limited_server(struct service *service, bool authorize,
                                             const struct rpc_limits *limits)
{
        struct rpc_server *server;

        assert_int_equal(rpc_server_new(
                                 &(struct rpc_server_options){
                                         .methods = service_methods,
                                         .n_methods = service_n_methods,
                                         .service = service,
                                         .threads = 2,
                                         .limits = *limits,
                                         .guard = authorize ? &service_guard : NULL,
                                         .guard_context = service,
                                         .observe = service_observe,
                                 },
                                 &server),
                         0);
        return server;
}

struct rpc_server *new_server(struct service *service, bool authorize)
{
        return new_limited_server(service, authorize, &(struct rpc_limits){ 0 });
}

struct rpc_channel *new_channel(const char *target, const char *token)
{
        struct rpc_channel *channel;

        assert_int_equal(rpc_channel_new(target, &(struct rpc_channel_options){ .token = token }, &channel),
                         0);
        return channel;
}

static struct fixture *new_fixture(const char *listen, bool authorize, const char *token,
                                   const struct rpc_limits *limits)
{
        struct fixture *f = calloc(1, sizeof(*f));

        service_init(&f->service);
        strcpy(f->dir, "/tmp/test-rpc-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->unix_path, sizeof(f->unix_path), "%s/s", f->dir);
        f->server = new_limited_server(&f->service, authorize, limits);
        if (listen) {
                assert_int_equal(rpc_server_listen(f->server, listen, &f->port), 0);
                snprintf(f->address, sizeof(f->address), "127.0.0.1:%d", f->port);
        } else {
                snprintf(f->address, sizeof(f->address), "unix:%s", f->unix_path);
                assert_int_equal(rpc_server_listen(f->server, f->address, NULL), 0);
        }
        assert_int_equal(rpc_server_start(f->server), 0);
        f->channel = new_channel(f->address, token);
        return f;
}

struct fixture *fixture_new(const char *listen, bool authorize, const char *token)
{
        return new_fixture(listen, authorize, token, &(struct rpc_limits){ 0 });
}

struct fixture *fixture_new_limited(const struct rpc_limits *limits)
{
        return new_fixture("127.0.0.1:0", false, NULL, limits);
}

static void remove_dir(const char *dir)
{
        DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.')
                        unlinkat(dirfd(d), e->d_name, 0);
        closedir(d);
        assert_int_equal(rmdir(dir), 0);
}

/* The server ends first: then every body has been given back, and no state is left. */
void fixture_free(struct fixture *f)
{
        rpc_channel_free(f->channel);
        rpc_server_free(f->server);
        service_wake_all(&f->service); /* references outlive the server */
        assert_int_equal(f->service.started, f->service.closed);
        assert_int_equal(f->service.sent, f->service.released);
        service_release(&f->service);
        remove_dir(f->dir);
        free(f);
}

struct rpc_stream *open_stream(struct rpc_channel *channel, const char *method, const char *message)
{
        struct rpc_stream *stream;

        assert_int_equal(rpc_stream_open(channel, method, &patient, &stream), 0);
        if (message)
                assert_int_equal(rpc_stream_send(stream, message, strlen(message)), 0);
        return stream;
}

enum rpc_code call_echo(struct rpc_channel *channel, const char *method, const void *data, size_t len)
{
        struct rpc_status status = { .code = RPC_UNKNOWN };
        uint8_t *reply = NULL;
        size_t reply_len = 0;

        assert_int_equal(rpc_unary(channel, method, &patient, data, len, &status, &reply, &reply_len), 0);
        if (status.code == RPC_OK) {
                assert_int_equal(reply_len, len);
                if (len > 0)
                        assert_memory_equal(reply, data, len);
        } else {
                assert_null(reply);
        }
        free(reply);
        return status.code;
}

void expect_text(struct rpc_stream *stream, const char *text)
{
        const uint8_t *data;
        size_t len;

        assert_int_equal(rpc_stream_receive(stream, &data, &len), RPC_MESSAGE);
        assert_int_equal(len, strlen(text));
        assert_memory_equal(data, text, len);
}

void expect_end(struct rpc_stream *stream, enum rpc_code code)
{
        const uint8_t *data;
        size_t len;

        while (rpc_stream_receive(stream, &data, &len) == RPC_MESSAGE)
                ;
        expect_status(stream, code);
        rpc_stream_free(stream);
}

void expect_status(struct rpc_stream *stream, enum rpc_code code)
{
        struct rpc_status status;

        rpc_stream_finish(stream, &status);
        if (status.code != code)
                print_message("status %s: %s\n", rpc_code_name(status.code), status.message);
        assert_int_equal(status.code, code);
        rpc_stream_finish(stream, &status); /* says the same again */
        assert_int_equal(status.code, code);
}

/* ---- cmocka ---- */

/*
 * Not ours: c-ares keeps ten bytes of a name that could not be resolved, and gRPC now and then a connection whose attempt was cut
 * short. What we allocate has no frame of theirs; that calls, states and bodies end is told by the fixture's counters.
 */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
        return "leak:libcares\nleak:libgrpc";
}

int setup_tcp(void **state)
{
        *state = fixture_new("127.0.0.1:0", false, NULL);
        return 0;
}

int setup_unix(void **state)
{
        *state = fixture_new(NULL, false, NULL);
        return 0;
}

int setup_token(void **state)
{
        *state = fixture_new("127.0.0.1:0", true, "secret");
        return 0;
}

int teardown(void **state)
{
        fixture_free(*state);
        return 0;
}

int group_setup(void **state)
{
        signal(SIGPIPE, SIG_IGN);
        alarm(240); /* a hang is a failure, not a wait */
        rpc_init();
        return 0;
}

int group_teardown(void **state)
{
        rpc_shutdown();
        return 0;
}
