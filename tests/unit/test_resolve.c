#include "base/resolve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/util.h"
#include "tests/unit/unit.h"

#define SHORT_NS (20 * NSEC_PER_MSEC)
#define LONG_NS  (60 * NSEC_PER_SEC)
#define THREADS  8 /* that resolve_host has at most */

/* A resolver that knows one name, and for another one asks a server that does not answer before it is told to. */
static sem_t answers;
static atomic_int asked;

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        if (hints->ai_flags & AI_NUMERICHOST)
                return real(host, port, hints, ret);
        atomic_fetch_add(&asked, 1);
        if (strcmp(host, "slow") == 0)
                sem_wait(&answers);
        return strcmp(host, "unknown") == 0 ? EAI_NONAME : real("127.0.0.2", port, hints, ret);
}

static int set_up(void **state)
{
        atomic_store(&asked, 0);
        return sem_init(&answers, 0, 0);
}

static int resolve(const char *host, int64_t wait_ns, struct addrinfo **ret)
{
        return resolve_host(host, "80", 0, clock_monotonic_ns() + wait_ns, ret);
}

static void assert_first(struct addrinfo *list, const char *address)
{
        const struct sockaddr_in *in = (const struct sockaddr_in *)list->ai_addr;
        char text[INET_ADDRSTRLEN];

        assert_int_equal(list->ai_family, AF_INET);
        assert_int_equal(list->ai_socktype, SOCK_STREAM);
        assert_int_equal(ntohs(in->sin_port), 80);
        assert_string_equal(inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)), address);
        freeaddrinfo(list);
}

static void test_address(void **state)
{
        struct addrinfo *list;

        assert_int_equal(resolve("10.1.2.3", 0, &list), 0);
        assert_first(list, "10.1.2.3");
        assert_int_equal(resolve("::1", 0, &list), 0);
        assert_int_equal(list->ai_family, AF_INET6);
        freeaddrinfo(list);
        assert_int_equal(atomic_load(&asked), 0);
}

static void test_name(void **state)
{
        struct addrinfo *list;

        assert_int_equal(resolve("known", LONG_NS, &list), 0);
        assert_first(list, "127.0.0.2");
        assert_int_equal(resolve("unknown", LONG_NS, &list), EAI_NONAME);
        assert_string_equal(resolve_error(EAI_NONAME), gai_strerror(EAI_NONAME));
        assert_int_equal(atomic_load(&asked), 2);
}

static void assert_no_answer(int error)
{
        struct addrinfo *list;

        errno = 0;
        assert_int_equal(resolve("slow", SHORT_NS, &list), EAI_SYSTEM);
        assert_int_equal(errno, error);
}

/* Each wait ends; what is left behind is bounded, and ends when there is an answer. */
static void test_no_answer(void **state)
{
        struct addrinfo *list;
        int r;

        for (int i = 0; i < THREADS; i++)
                assert_no_answer(ETIMEDOUT);
        assert_string_equal(resolve_error(EAI_SYSTEM), "the name server does not answer");
        assert_no_answer(EAGAIN);
        assert_int_equal(resolve("10.1.2.3", 0, &list), 0);
        assert_first(list, "10.1.2.3");
        assert_int_equal(atomic_load(&asked), THREADS);
        for (int i = 0; i < THREADS; i++)
                sem_post(&answers);
        for (int64_t until_ns = clock_monotonic_ns() + LONG_NS; (r = resolve("known", LONG_NS, &list)) != 0;)
                assert_true(r == EAI_SYSTEM && clock_monotonic_ns() < until_ns);
        assert_first(list, "127.0.0.2");
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_address, set_up),
        cmocka_unit_test_setup(test_name, set_up),
        cmocka_unit_test_setup(test_no_answer, set_up),
};

UNIT_MAIN(tests)
