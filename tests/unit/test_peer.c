/* Who is one peer, and what one peer may hold. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "proto/rpc_peer.h"

/* Each address as gRPC writes it. */
static void test_origins(void **state)
{
        static const struct {
                const char *address, *origin;
        } rows[] = {
                { "ipv4:192.0.2.1:5678", "ipv4:192.0.2.1" },
                { "ipv4:192.0.2.1:1", "ipv4:192.0.2.1" },
                { "ipv4:192.0.2.12:1", "ipv4:192.0.2.12" },
                { "ipv6:[2001:db8:1:2::1]:5678", "ipv6:2001:0db8:0001:0002::/64" },
                { "ipv6:%5B2001:db8:1:2::1%5D:5678", "ipv6:2001:0db8:0001:0002::/64" },
                { "ipv6:%5B2001:db8:1:2:ffff:ffff:ffff:ffff%5D:1", "ipv6:2001:0db8:0001:0002::/64" },
                { "ipv6:%5B2001:db8:1:3::1%5D:5678", "ipv6:2001:0db8:0001:0003::/64" },
                { "ipv6:%5B::1%5D:5678", "ipv6:0000:0000:0000:0000::/64" },
                { "ipv6:%5Bfe80::1%25eth0%5D:5678", "ipv6:fe80:0000:0000:0000::/64" },
                { "ipv6:[fe80::1%eth0]:5678", "ipv6:fe80:0000:0000:0000::/64" },
                { "ipv6:[::ffff:192.0.2.1]:5678", "ipv4:192.0.2.1" },
                { "ipv6:%5B::ffff:192.0.2.1%5D:5678", "ipv4:192.0.2.1" },
                { "unix:user-1000", "unix:user-1000" },
                { "unix:/run/a:1", "unix:/run/a:1" },
                { "unix:", "unix:" },
                /* What is no address is somebody, too. */
                { "ipv6:[nonsense]:1", "ipv6:[nonsense]" },
                { "ipv6:[2001:db8::1", "ipv6:[2001:db8:" },
                { "ipv6:%5B0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000%5D:1",
                  "ipv6:%5B0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000%5D" },
                { "unknown", "unknown" },
                { "", "" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char *origin = rpc_peer_origin(rows[i].address);

                assert_string_equal(origin, rows[i].origin);
                free(origin);
        }
}

static void test_one_origin_is_one_peer(void **state)
{
        struct rpc_peers *peers = rpc_peers_new(NULL);
        struct rpc_peer *a = rpc_peer_get(peers, "ipv6:[2001:db8::1]:1"),
                        *b = rpc_peer_get(peers, "ipv6:%5B2001:db8::2%5D:2"),
                        *c = rpc_peer_get(peers, "ipv6:[2001:db8:0:1::1]:1");

        assert_ptr_equal(a, b);
        assert_ptr_not_equal(a, c);
        rpc_peer_unref(a);
        rpc_peer_unref(b);
        rpc_peers_free(peers); /* the last peer frees the table */
        rpc_peer_unref(c);
}

static void test_shares(void **state)
{
        struct rpc_peers *peers = rpc_peers_new(
                (const struct rpc_share[RPC_SCARCE_N]){ [RPC_FILES] = { .peer = 10, .all = 25 } });
        struct rpc_peer *a = rpc_peer_get(peers, "ipv4:192.0.2.1:1"),
                        *b = rpc_peer_get(peers, "ipv4:192.0.2.2:1"),
                        *c = rpc_peer_get(peers, "ipv4:192.0.2.3:1");

        assert_true(rpc_peer_charge(a, RPC_FILES, 9));
        assert_false(rpc_peer_charge(a, RPC_FILES, 2));
        assert_true(rpc_peer_charge(a, RPC_FILES, 1));
        assert_false(rpc_peer_charge(a, RPC_FILES, SIZE_MAX));
        assert_true(rpc_peer_charge(a, RPC_FILES, 0));
        assert_int_equal(rpc_peer_charged(a, RPC_FILES), 10);
        assert_true(rpc_peer_charge(a, RPC_WANTS, SIZE_MAX / 2)); /* without a limit */
        assert_true(rpc_peer_charge(b, RPC_FILES, 10));
        assert_false(rpc_peer_charge(c, RPC_FILES, 6)); /* in all */
        assert_true(rpc_peer_charge(c, RPC_FILES, 5));
        rpc_peer_discharge(a, RPC_FILES, 10);
        assert_true(rpc_peer_charge(c, RPC_FILES, 5));
        assert_false(
                rpc_peer_charge(a, RPC_FILES, 11)); /* not while others hold some: in all it is too much */
        rpc_peer_discharge(b, RPC_FILES, 10);
        assert_true(rpc_peer_charge(a, RPC_FILES, 11)); /* more than a share, for who holds nothing else */
        assert_false(rpc_peer_charge(a, RPC_FILES, 1));
        rpc_peer_discharge(a, RPC_FILES, 11);
        rpc_peer_discharge(c, RPC_FILES, 10);
        rpc_peer_discharge(a, RPC_WANTS, SIZE_MAX / 2);
        rpc_peer_unref(a);
        rpc_peer_unref(b);
        rpc_peer_unref(c);
        rpc_peers_free(peers);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_one_origin_is_one_peer),
        cmocka_unit_test(test_shares),
};

UNIT_MAIN(tests)
