/* Whose connection is ended when one too many comes. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/util.h"
#include "server/http_connections.h"

#define PAIRS_MAX 40

/* Pairs in the order in which they came: OURS[i] is what the listener took, THEIRS[i] is the peer's end. */
struct fixture {
        struct http_connections connections;
        struct sockaddr_in address;
        int listener, ours[PAIRS_MAX], theirs[PAIRS_MAX];
        unsigned n;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        socklen_t len = sizeof(f->address);

        f->address.sin_family = AF_INET;
        f->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        *state = f;
        return bind(f->listener, (struct sockaddr *)&f->address, len) < 0 || listen(f->listener, 1) < 0 ||
               getsockname(f->listener, (struct sockaddr *)&f->address, &len) < 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        for (unsigned i = 0; i < f->n; i++) {
                close(f->ours[i]);
                close(f->theirs[i]);
        }
        close(f->listener);
        free(f);
        return 0;
}

/* One connection from 127.0.0.PEER. */
static void come(struct fixture *f, uint8_t peer)
{
        struct sockaddr_in source = { .sin_family = AF_INET };
        int theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        source.sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~0xffU) | peer);
        assert_true(f->n < PAIRS_MAX);
        assert_int_equal(bind(theirs, (struct sockaddr *)&source, sizeof(source)), 0);
        assert_int_equal(connect(theirs, (struct sockaddr *)&f->address, sizeof(f->address)), 0);
        f->theirs[f->n] = theirs;
        f->ours[f->n] = accept(f->listener, NULL, NULL);
        http_connections_add(&f->connections, f->ours[f->n]);
        f->n++;
}

static void come_all(struct fixture *f, unsigned number, uint8_t peer)
{
        while (number-- > 0)
                come(f, peer);
}

static bool was_ended(const struct fixture *f, unsigned i)
{
        char byte;

        return recv(f->ours[i], &byte, 1, MSG_DONTWAIT) == 0;
}

/* These have been ended, and no others. */
static void assert_ended(const struct fixture *f, const unsigned *these, unsigned number)
{
        for (unsigned i = 0; i < f->n; i++) {
                bool expected = false;

                for (unsigned k = 0; k < number; k++)
                        expected |= these[k] == i;
                if (was_ended(f, i) != expected)
                        fail_msg("connection %u was%s ended", i, expected ? " not" : "");
        }
}

#define ENDED(f, ...)                                                                                        \
        assert_ended(f, (const unsigned[]){ __VA_ARGS__ }, ARRAY_SIZE(((const unsigned[]){ __VA_ARGS__ })))

/* Nobody has closed anything yet: each one that comes has another one ended. */
static void test_flood(void **state)
{
        struct fixture *f = *state;

        come(f, 1);
        come_all(f, 15, 2);
        assert_ended(f, NULL, 0);
        come(f, 3);
        ENDED(f, 1);
        come_all(f, 3, 2);
        ENDED(f, 1, 2, 3, 4);
        come(f, 1);
        ENDED(f, 1, 2, 3, 4, 5);
        assert_int_equal(f->connections.n, HTTP_CONNECTIONS_MAX);
}

/* Who comes counts: of two that have the same, the one of whom another comes loses one. */
static void test_equal(void **state)
{
        struct fixture *f = *state;

        come_all(f, 8, 1);
        come_all(f, 8, 2);
        come(f, 2);
        ENDED(f, 8);
        come(f, 3); /* now it is the older of both */
        ENDED(f, 8, 0);
        come(f, 3);
        ENDED(f, 8, 0, 9);
}

/* Nobody has two: the oldest of all goes. */
static void test_everyone_another(void **state)
{
        struct fixture *f = *state;

        for (uint8_t peer = 1; peer <= HTTP_CONNECTIONS_MAX; peer++)
                come(f, peer);
        come(f, 100);
        ENDED(f, 0);
        come(f, 101);
        ENDED(f, 0, 1);
        come(f, 101);
        ENDED(f, 0, 1, 17);
}

/* Who goes makes room; that one that was ended goes, too, does not. */
static void test_removal(void **state)
{
        struct fixture *f = *state;

        come_all(f, 17, 1);
        ENDED(f, 0);
        http_connections_remove(&f->connections, f->ours[0]);
        assert_int_equal(f->connections.n, HTTP_CONNECTIONS_MAX);
        http_connections_remove(&f->connections, f->ours[5]);
        http_connections_remove(&f->connections, f->ours[16]);
        come_all(f, 2, 1);
        ENDED(f, 0);
        come_all(f, 5, 1);
        ENDED(f, 0, 1, 2, 3, 4, 6);
        for (unsigned i = 0; i < f->n; i++)
                http_connections_remove(&f->connections, f->ours[i]);
        assert_int_equal(f->connections.n, 0);
}

/* What a peer that is ended has not taken is thrown away when it is closed, not kept by the kernel. */
static void test_reset(void **state)
{
        struct fixture *f = *state;
        char buf[4096] = { 0 };

        come(f, 1);
        while (send(f->ours[0], buf, sizeof(buf), MSG_DONTWAIT) > 0)
                ;
        come_all(f, HTTP_CONNECTIONS_MAX, 1);
        close(f->ours[0]);
        f->ours[0] = -1;
        while (recv(f->theirs[0], buf, sizeof(buf), 0) > 0)
                ;
        assert_int_equal(errno, ECONNRESET);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
        TEST(test_flood), TEST(test_equal), TEST(test_everyone_another), TEST(test_removal), TEST(test_reset),
};

UNIT_MAIN(tests)
