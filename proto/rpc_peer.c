#include "proto/rpc_peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/lock.h"
#include "base/util.h"

struct rpc_peers {
        struct mutex lock;
        struct rpc_peer *table TSA_GUARDED(lock);
        unsigned refs TSA_GUARDED(lock);       /* the server's and one a peer */
        struct rpc_share shares[RPC_SCARCE_N]; /* not changed */
        size_t charged[RPC_SCARCE_N] TSA_GUARDED(lock);
};

struct rpc_peers *rpc_peers_new(const struct rpc_share *shares)
{
        struct rpc_peers *peers = calloc(1, sizeof(*peers));

        if (peers) {
                mutex_init(&peers->lock);
                peers->refs = 1;
                if (shares)
                        memcpy(peers->shares, shares, sizeof(peers->shares));
        }
        return peers;
}

/* Lets go of the lock and of one reference. */
static void unlock_and_unref(struct rpc_peers *peers) TSA_RELEASES(peers->lock)
{
        bool last = --peers->refs == 0;

        mutex_unlock(&peers->lock);
        if (!last)
                return;
        mutex_release(&peers->lock);
        free(peers);
}

void rpc_peers_free(struct rpc_peers *peers)
{
        if (!peers)
                return;
        mutex_lock(&peers->lock);
        unlock_and_unref(peers);
}

/* ---- who it is ---- */

/* Skips one of TEXT, a bracket, and ENCODED, the same as newer versions of gRPC write it. */
static size_t bracket(const char *at, char text, const char *encoded)
{
        return *at == text ? 1 : strncmp(at, encoded, 3) == 0 ? 3 : 0;
}

/* "[ADDRESS]:PORT", with a zone or not; false: it is none. */
static bool parse_ipv6(const char *text, struct in6_addr *ret)
{
        char address[INET6_ADDRSTRLEN];
        size_t len;

        text += bracket(text, '[', "%5B");
        len = strspn(text, "0123456789abcdefABCDEF:.");
        if (len >= sizeof(address) || (text[len] != ']' && text[len] != '%'))
                return false;
        memcpy(address, text, len);
        address[len] = '\0';
        return inet_pton(AF_INET6, address, ret) == 1;
}

static char *ipv6_origin(const struct in6_addr *address)
{
        const uint8_t *b = address->s6_addr;
        char *origin = NULL;
        int n;

        if (IN6_IS_ADDR_V4MAPPED(address))
                n = asprintf(&origin, "ipv4:%u.%u.%u.%u", b[12], b[13], b[14], b[15]);
        else
                n = asprintf(&origin, "ipv6:%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64", b[0], b[1], b[2], b[3],
                             b[4], b[5], b[6], b[7]);
        return n < 0 ? NULL : origin;
}

/* Without the port: a host's next connection has another. */
char *rpc_peer_origin(const char *address)
{
        const char *colon = strncmp(address, "unix:", 5) == 0 ? NULL : strrchr(address, ':');
        struct in6_addr in6;

        if (strncmp(address, "ipv6:", 5) == 0 && parse_ipv6(address + 5, &in6))
                return ipv6_origin(&in6);
        return colon ? strndup(address, (size_t)(colon - address)) : strdup(address);
}

/* ---- the table ---- */

static struct rpc_peer *add_locked(struct rpc_peers *peers, char *origin) TSA_REQUIRES(peers->lock)
{
        struct rpc_peer *peer = calloc(1, sizeof(*peer));

        if (!peer)
                return NULL;
        peer->origin = origin;
        peer->owner = peers;
        HASH_ADD_KEYPTR(hh, peers->table, peer->origin, strlen(peer->origin), peer);
        if (!peer->hh.tbl) {
                free(peer);
                return NULL;
        }
        peers->refs++;
        return peer;
}

struct rpc_peer *rpc_peer_get(struct rpc_peers *peers, const char *address)
{
        char *origin = rpc_peer_origin(address);
        struct rpc_peer *peer = NULL;

        if (!origin)
                return NULL;
        mutex_lock(&peers->lock);
        HASH_FIND_STR(peers->table, origin, peer);
        if (!peer) {
                peer = add_locked(peers, origin);
                if (peer)
                        origin = NULL; /* is the peer's */
        }
        if (peer)
                peer->refs++;
        mutex_unlock(&peers->lock);
        free(origin);
        return peer;
}

struct rpc_peer *rpc_peer_ref(struct rpc_peer *peer)
{
        mutex_lock(&peer->owner->lock);
        peer->refs++;
        mutex_unlock(&peer->owner->lock);
        return peer;
}

void rpc_peer_unref(struct rpc_peer *peer)
{
        struct rpc_peers *peers;

        if (!peer)
                return;
        peers = peer->owner;
        mutex_lock(&peers->lock);
        if (--peer->refs > 0) {
                mutex_unlock(&peers->lock);
                return;
        }
        HASH_DEL(peers->table, peer);
        free(peer->origin);
        free(peer);
        unlock_and_unref(peers);
}

/* ---- accounts ---- */

static bool fits(size_t charged, size_t amount, size_t limit)
{
        return limit == 0 || amount == 0 || charged == 0 || (charged <= limit && amount <= limit - charged);
}

bool rpc_peer_charge(struct rpc_peer *peer, enum rpc_scarce what, size_t amount)
{
        struct rpc_peers *peers = peer->owner;
        bool may;

        mutex_lock(&peers->lock);
        may = fits(peer->charged[what], amount, peers->shares[what].peer) &&
              fits(peers->charged[what], amount, peers->shares[what].all);
        if (may) {
                peer->charged[what] += amount;
                peers->charged[what] += amount;
        }
        mutex_unlock(&peers->lock);
        return may;
}

void rpc_peer_discharge(struct rpc_peer *peer, enum rpc_scarce what, size_t amount)
{
        struct rpc_peers *peers = peer->owner;

        mutex_lock(&peers->lock);
        assert(peer->charged[what] >= amount);
        peer->charged[what] -= amount;
        peers->charged[what] -= amount;
        mutex_unlock(&peers->lock);
}

size_t rpc_peer_charged(struct rpc_peer *peer, enum rpc_scarce what)
{
        size_t charged;

        mutex_lock(&peer->owner->lock);
        charged = peer->charged[what];
        mutex_unlock(&peer->owner->lock);
        return charged;
}
