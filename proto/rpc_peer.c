#include "proto/rpc_peer.h"

#include <string.h>

#include "base/lock.h"
#include "base/util.h"

struct rpc_peers {
        struct mutex lock;
        struct rpc_peer *table TSA_GUARDED(lock);
        unsigned refs TSA_GUARDED(lock); /* the server's and one a peer */
};

struct rpc_peers *rpc_peers_new(void)
{
        struct rpc_peers *peers = calloc(1, sizeof(*peers));

        if (peers) {
                mutex_init(&peers->lock);
                peers->refs = 1;
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

/* Without the port: a host's next connection has another. */
static char *origin_of(const char *address)
{
        const char *colon = strncmp(address, "unix:", 5) == 0 ? NULL : strrchr(address, ':');

        return colon ? strndup(address, (size_t)(colon - address)) : strdup(address);
}

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
        char *origin = origin_of(address);
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
