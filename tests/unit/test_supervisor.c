#include "server/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/rpc_fixture.h"

/* The service manager's end, in the abstract namespace. */
static int manager_fd;

static int setup(void **state)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char name[64];
        int n = snprintf(name, sizeof(name), "@fsyncfs-test-notify-%d", (int)getpid());

        memcpy(address.sun_path + 1, name + 1, (size_t)n - 1);
        manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(manager_fd >= 0);
        assert_int_equal(bind(manager_fd, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)),
                         0);
        setenv("NOTIFY_SOCKET", name, 1);
        return 0;
}

static int leave(void **state)
{
        close(manager_fd);
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        return 0;
}

/* What was told last; "": nothing, as what was told is here at once. */
static const char *heard(void)
{
        static char text[1024];
        ssize_t n = recv(manager_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

        text[MAX(n, (ssize_t)0)] = '\0';
        return text;
}

static void test_life(void **state)
{
        struct supervisor s;
        long long usec;

        supervisor_init(&s);
        supervisor_tell(&s, false, "not ready: it\nstarts");
        assert_string_equal(heard(), "STATUS=not ready: it?starts");
        supervisor_reloading(&s);
        supervisor_reloaded(&s);
        assert_string_equal(heard(), "");
        supervisor_tell(&s, true, "serving");
        assert_string_equal(heard(), "READY=1\nSTATUS=serving");
        supervisor_tell(&s, true, "serving");
        assert_string_equal(heard(), "");
        supervisor_tell(&s, false, "not ready: no index");
        assert_string_equal(heard(), "STATUS=not ready: no index");
        supervisor_tell(&s, true, "serving");
        assert_string_equal(heard(), "STATUS=serving");
        supervisor_reloading(&s);
        assert_int_equal(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%lld", &usec), 1);
        assert_true(usec > 0 && usec <= clock_monotonic_ns() / 1000);
        supervisor_reloaded(&s);
        assert_string_equal(heard(), "READY=1");
        supervisor_stopping(&s, 3);
        assert_string_equal(heard(), "STOPPING=1\nSTATUS=stopping, calls under way: 3");
}

static void test_nobody_listens(void **state)
{
        struct supervisor s;

        unsetenv("NOTIFY_SOCKET");
        supervisor_init(&s);
        supervisor_tell(&s, true, "serving");
        assert_string_equal(heard(), "");
}

static void test_watchdog_unset(void **state)
{
        struct supervisor s;

        supervisor_init(&s);
        assert_int_equal(supervisor_tick_ns(&s, 77), 77);
        supervisor_watch(&s, NULL, 0);
        assert_string_equal(heard(), "");
}

/* An event thread that is held up, by the mutex that each callback of the service takes, is the end of good news. */
static void test_watchdog(void **state)
{
        struct fixture *f = fixture_new("127.0.0.1:0", false, NULL);
        struct rpc_server *const servers[] = { NULL, f->server };
        struct rpc_stream *stream;
        struct supervisor s;

        setenv("WATCHDOG_USEC", "4000000", 1);
        supervisor_init(&s);
        assert_int_equal(supervisor_tick_ns(&s, INT64_MAX), 2 * NSEC_PER_SEC);
        assert_int_equal(supervisor_tick_ns(&s, 77), 77);
        do
                supervisor_watch(&s, servers, ARRAY_SIZE(servers));
        while (strcmp(heard(), "WATCHDOG=1") != 0);
        mutex_lock(&f->service.mutex);
        stream = open_stream(f->channel, METHOD_WAIT, "x");
        do {
                poll(NULL, 0, 20);
                supervisor_watch(&s, servers, ARRAY_SIZE(servers));
        } while (strcmp(heard(), "") != 0);
        supervisor_watch(&s, servers, 1); /* of the others it is true */
        assert_string_equal(heard(), "WATCHDOG=1");
        mutex_unlock(&f->service.mutex);
        do {
                poll(NULL, 0, 20);
                supervisor_watch(&s, servers, ARRAY_SIZE(servers));
        } while (strcmp(heard(), "WATCHDOG=1") != 0);
        service_await(&f->service, &f->service.started, 1);
        service_wake_all(&f->service);
        rpc_stream_free(stream);
        fixture_free(f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_life, setup, leave),
                cmocka_unit_test_setup_teardown(test_nobody_listens, setup, leave),
                cmocka_unit_test_setup_teardown(test_watchdog_unset, setup, leave),
                cmocka_unit_test_setup_teardown(test_watchdog, setup, leave),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
