/*
 * What the tests of rpc share: a server of the service in rpc_service.h that runs, and a channel to it.
 */
#pragma once

#include "tests/unit/rpc_service.h"

struct fixture {
        struct service service;
        struct rpc_server *server;
        struct rpc_channel *channel;
        char address[80];
        int port;
        char dir[32];
        char unix_path[64];
};

/* Longer than anything may take, so that a hang shows as a failure. */
extern const struct rpc_stream_options patient;

struct rpc_server *new_server(struct service *service, bool authorize);
struct rpc_channel *new_channel(const char *target, const char *token);

/** A running server at LISTEN (NULL: a unix socket) and a channel with TOKEN; ends the test if there is none. */
struct fixture *fixture_new(const char *listen, bool authorize, const char *token);

/** The same over TCP, for everybody, within LIMITS. */
struct fixture *fixture_new_limited(const struct rpc_limits *limits);

/** Ends both, and the test if a call, a state or a body is left. */
void fixture_free(struct fixture *f);

/** A call with MESSAGE (may be NULL) sent. */
struct rpc_stream *open_stream(struct rpc_channel *channel, const char *method, const char *message);

/** Sends DATA, expects it back if the call is OK; returns how the call ended. */
enum rpc_code call_echo(struct rpc_channel *channel, const char *method, const void *data, size_t len);

/** The next message is TEXT. */
void expect_text(struct rpc_stream *stream, const char *text);

/** After what messages there may be the call ends with CODE. Frees it. */
void expect_end(struct rpc_stream *stream, enum rpc_code code);

void expect_status(struct rpc_stream *stream, enum rpc_code code);

/* For cmocka. */
int setup_tcp(void **state);
int setup_unix(void **state);
int setup_token(void **state);
int teardown(void **state);
int group_setup(void **state);
int group_teardown(void **state);

#define TCP(f) cmocka_unit_test_setup_teardown(f, setup_tcp, teardown)
#define UNIX(f)                                                                                              \
        {                                                                                                    \
                "unix:" #f, f, setup_unix, teardown, NULL                                                    \
        }
#define TOKEN(f) cmocka_unit_test_setup_teardown(f, setup_token, teardown)
