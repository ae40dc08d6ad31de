/* What a session waits for can be interrupted, whatever the master does. */
#include "sync/session_private.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

#define TIMEOUT_MS  300000 /* of the session: a test that waits for it hangs */
#define PATIENCE_NS (60 * NSEC_PER_SEC)

/* A master that takes a handshake and never answers it. */
struct mute {
        struct rpc_server *server;
        struct mutex lock;
        struct condition changed;
        unsigned asked TSA_GUARDED(lock);
        char source[64];
};

static int mute_start(struct rpc_call *call, void *service, void **ret_state)
{
        *ret_state = service;
        rpc_call_receive(call);
        return 0;
}

static void mute_message(struct rpc_call *call _unused_, void *state, const uint8_t *data _unused_,
                         size_t len _unused_)
{
        struct mute *m = state;

        mutex_lock(&m->lock);
        m->asked++;
        condition_signal(&m->changed);
        mutex_unlock(&m->lock);
}

static void mute_closed(struct rpc_call *call _unused_, void *state _unused_)
{
}

static const struct rpc_call_ops mute_ops = {
        .start = mute_start,
        .message = mute_message,
        .writable = mute_closed,
        .closed = mute_closed,
};

static const struct rpc_method methods[] = { { WIRE_METHOD_HANDSHAKE, &mute_ops } };

static void mute_init(struct mute *m)
{
        const struct rpc_server_options options = { .methods = methods, .n_methods = 1, .service = m };
        int port;

        *m = (struct mute){ 0 };
        mutex_init(&m->lock);
        condition_init(&m->changed);
        assert_int_equal(rpc_server_new(&options, &m->server), 0);
        assert_int_equal(rpc_server_listen(m->server, "127.0.0.1:0", &port), 0);
        assert_int_equal(rpc_server_start(m->server), 0);
        snprintf(m->source, sizeof(m->source), "127.0.0.1:%d:/spider", port);
}

static void mute_release(struct mute *m)
{
        rpc_server_free(m->server);
        condition_release(&m->changed);
        mutex_release(&m->lock);
}

static void await_asked(struct mute *m)
{
        int64_t until = clock_monotonic_ns() + PATIENCE_NS;
        unsigned asked;

        mutex_lock(&m->lock);
        while (m->asked == 0 && condition_wait_until(&m->changed, &m->lock, until) == 0)
                continue;
        asked = m->asked;
        mutex_unlock(&m->lock);
        assert_int_not_equal(asked, 0);
}

static void *connect_main(void *arg)
{
        struct failure failure = { 0 };

        return (void *)(intptr_t)session_connect(arg, &failure);
}

static void test_handshake_is_interrupted(void **state _unused_)
{
        struct source source = { 0 };
        struct failure failure = { 0 };
        struct session *session;
        pthread_t thread;
        struct mute master;
        int64_t began_ns;
        void *result;

        rpc_init();
        mute_init(&master);
        assert_int_equal(source_parse(master.source, &source, &failure), 0);
        assert_int_equal(session_new(&(struct session_options){ .source = &source, .timeout_ms = TIMEOUT_MS },
                                     &session, &failure),
                         0);
        assert_int_equal(pthread_create(&thread, NULL, connect_main, session), 0);
        await_asked(&master);
        began_ns = clock_monotonic_ns();
        session_interrupt(session);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_int_equal((intptr_t)result, -ECANCELED);
        assert_true(clock_monotonic_ns() - began_ns < PATIENCE_NS);
        assert_int_equal(session_connect(session, &failure),
                         -ECANCELED); /* and nothing is waited for from now on */
        session_free(session);
        source_release(&source);
        mute_release(&master);
        rpc_shutdown();
}

/* What speaks of what was asked for, of the master, or of ourselves says nothing about the connection. */
static void test_suspicious_codes(void **state _unused_)
{
        static const bool suspicious[] = {
                [RPC_UNKNOWN] = true,         [RPC_INVALID_ARGUMENT] = true, [RPC_DEADLINE_EXCEEDED] = true,
                [RPC_UNIMPLEMENTED] = true,   [RPC_INTERNAL] = true,         [RPC_DATA_LOSS] = true,
                [RPC_UNAUTHENTICATED] = true,
        };

        for (size_t i = 0; i < ARRAY_SIZE(suspicious); i++)
                assert_int_equal(session_suspects((enum rpc_code)i), suspicious[i]);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspicious_codes),
        cmocka_unit_test(test_handshake_is_interrupted),
};

UNIT_MAIN(tests)
