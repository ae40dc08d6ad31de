/*
 * gRPC's listeners take whatever comes, and end for good, without a word, when accept4(2) fails for want of descriptors or memory. They have no hook for
 * either. So the accept4 that they call is ours: a program's own symbols come before those of libc. It closes what is too much at once, and knows how
 * to go on when there is nothing left. Every listener of the process is bounded by it, whoever it belongs to. And as gRPC does not tell which user
 * is at the other end of a unix socket, getpeername is ours, too.
 *
 * Nobody tells when a connection ends. It has when its descriptor's number is given to another one, or, looked at when there seem to be too many,
 * names another socket: a socket's cookie is never given twice.
 */
#include "proto/rpc_gate.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

#define SWEEP_NS (100 * NSEC_PER_MSEC) /* at most so often: a flood must not make us look all the time */

struct gate_peer {
        struct rpc_gate_key key;
        unsigned connections;
        UT_hash_handle hh;
};

/* By descriptor. */
struct slot {
        struct gate_peer *peer; /* NULL: no connection */
        uint64_t cookie;
};

static struct {
        struct mutex lock;
        struct rpc_gate_limits limits TSA_GUARDED(&lock);
        struct slot *slots TSA_GUARDED(&lock); /* NULL: no limits */
        struct gate_peer *peers TSA_GUARDED(&lock);
        unsigned connections TSA_GUARDED(&lock);
        int64_t swept_ns TSA_GUARDED(&lock);
        int spare TSA_GUARDED(&lock); /* a descriptor to be given up when there are no others */
} gate = { .lock = { PTHREAD_MUTEX_INITIALIZER }, .spare = -1 };

static _Atomic uint64_t refused;

static int open_spare(void)
{
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int rpc_gate_open(const struct rpc_gate_limits *limits)
{
        struct slot *slots = calloc(limits->descriptors, sizeof(*slots));
        int spare = open_spare(), r = 0;

        mutex_lock(&gate.lock);
        if (gate.slots)
                r = -EBUSY;
        else if (!slots || spare < 0)
                r = -ENOMEM;
        if (r == 0) {
                gate.limits = *limits;
                gate.slots = TAKE_PTR(slots);
                gate.spare = take_fd(&spare);
        }
        mutex_unlock(&gate.lock);
        free(slots);
        if (spare >= 0)
                close(spare);
        return r;
}

uint64_t rpc_gate_refused(void)
{
        return atomic_load(&refused);
}

/* ---- who it is ---- */

void rpc_gate_key_of(int fd, struct rpc_gate_key *ret)
{
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
                struct sockaddr_storage storage;
        } address = { 0 };
        socklen_t len = sizeof(address);
        struct ucred user = { .uid = (uid_t)-1 };
        socklen_t user_len = sizeof(user);

        memset(ret, 0, sizeof(*ret));
        if (getpeername(fd, &address.sa, &len) < 0)
                return; /* gone already; all of those are one */
        ret->bytes[0] = (uint8_t)address.sa.sa_family;
        if (address.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address.in6.sin6_addr)) {
                ret->bytes[0] = AF_INET;
                memcpy(ret->bytes + 1, address.in6.sin6_addr.s6_addr + 12, 4);
        } else if (address.sa.sa_family == AF_INET6) {
                memcpy(ret->bytes + 1, address.in6.sin6_addr.s6_addr, 8);
        } else if (address.sa.sa_family == AF_INET) {
                memcpy(ret->bytes + 1, &address.in.sin_addr, 4);
        } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &user_len) == 0) {
                memcpy(ret->bytes + 1, &user.uid, sizeof(user.uid));
        }
}

static uint64_t cookie_of(int fd)
{
        uint64_t cookie = 0; /* is nobody's */
        socklen_t len = sizeof(cookie);

        return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* ---- counting ---- */

static struct gate_peer *find_peer_locked(const struct rpc_gate_key *key) TSA_REQUIRES(gate.lock)
{
        struct gate_peer *peer;

        HASH_FIND(hh, gate.peers, key, sizeof(*key), peer);
        if (peer)
                return peer;
        peer = calloc(1, sizeof(*peer));
        if (!peer)
                return NULL;
        peer->key = *key;
        HASH_ADD(hh, gate.peers, key, sizeof(peer->key), peer);
        if (!peer->hh.tbl) {
                free(peer);
                return NULL;
        }
        return peer;
}

static void drop_unused_locked(struct gate_peer *peer) TSA_REQUIRES(gate.lock)
{
        if (peer->connections > 0)
                return;
        HASH_DEL(gate.peers, peer);
        free(peer);
}

static void vacate_locked(struct slot *slot) TSA_REQUIRES(gate.lock)
{
        struct gate_peer *peer = TAKE_PTR(slot->peer);

        gate.connections--;
        peer->connections--;
        drop_unused_locked(peer);
}

/* Forgets the connections that are no more. */
static void sweep_locked(void) TSA_REQUIRES(gate.lock)
{
        int64_t now_ns = clock_monotonic_ns();

        if (gate.swept_ns != 0 && now_ns - gate.swept_ns < SWEEP_NS)
                return;
        gate.swept_ns = now_ns;
        for (unsigned fd = 0; fd < gate.limits.descriptors; fd++)
                if (gate.slots[fd].peer && cookie_of((int)fd) != gate.slots[fd].cookie)
                        vacate_locked(&gate.slots[fd]);
}

static bool is_full_locked(const struct gate_peer *peer) TSA_REQUIRES(gate.lock)
{
        return gate.connections >= gate.limits.connections ||
               peer->connections >= gate.limits.peer_connections;
}

static bool enter_locked(int fd) TSA_REQUIRES(gate.lock)
{
        struct slot *slot = &gate.slots[fd];
        struct gate_peer *peer;
        struct rpc_gate_key key;

        if (slot->peer)
                vacate_locked(slot);
        rpc_gate_key_of(fd, &key);
        peer = find_peer_locked(&key);
        if (!peer)
                return false;
        if (is_full_locked(peer)) {
                peer->connections++; /* so that the sweep does not take it away */
                sweep_locked();
                peer->connections--;
        }
        if (is_full_locked(peer)) {
                drop_unused_locked(peer);
                return false;
        }
        slot->peer = peer;
        slot->cookie = cookie_of(fd);
        peer->connections++;
        gate.connections++;
        return true;
}

static bool enter(int fd)
{
        bool entered;

        mutex_lock(&gate.lock);
        entered = !gate.slots || ((unsigned)fd < gate.limits.descriptors && enter_locked(fd));
        mutex_unlock(&gate.lock);
        return entered;
}

/* ---- accept4 ---- */

static int real_accept4(int listener, struct sockaddr *address, socklen_t *len, int flags)
{
        return (int)syscall(SYS_accept4, listener, address, len, flags);
}

/* What is short, if that is why it failed, which says nothing of the listener; otherwise NULL. */
static const char *shortage(int error)
{
        if (error == EMFILE || error == ENFILE)
                return "there are no descriptors left";
        return error == ENOMEM || error == ENOBUFS ? "there is no memory left" : NULL;
}

/* Whoever is first in the queue is taken with the spare descriptor, and what that takes, and sent away. False: not even that. */
static bool send_one_away(int listener)
{
        int fd;

        mutex_lock(&gate.lock);
        if (gate.spare >= 0)
                close(gate.spare);
        fd = real_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
                close(fd);
        gate.spare = open_spare();
        mutex_unlock(&gate.lock);
        return fd >= 0;
}

static void note_refusal(const char *why)
{
        atomic_fetch_add(&refused, 1);
        log_limited(LOG_LEVEL_WARNING, "refused connection", "a connection was refused: %s", why);
}

int gate_accept4(int listener, struct sockaddr *address, socklen_t *len, int flags) __asm__("accept4");

__attribute__((visibility("default"), used)) int gate_accept4(int listener, struct sockaddr *address,
                                                              socklen_t *len, int flags)
{
        const socklen_t room = len ? *len : 0;

        for (;;) {
                int fd = real_accept4(listener, address, len, flags);
                const char *lack = fd < 0 ? shortage(errno) : NULL;

                if (fd < 0 && !lack)
                        return fd;
                if (fd >= 0 && enter(fd))
                        return fd;
                if (fd >= 0) {
                        close(fd);
                        note_refusal("there are too many, in all or from this peer");
                } else if (send_one_away(listener)) {
                        note_refusal(lack);
                } else {
                        errno = EAGAIN; /* the next one that comes has this looked at again */
                        return -1;
                }
                if (len)
                        *len = room;
        }
}

/* ---- getpeername ---- */

/*
 * The other end of a unix socket gets a name by which users are told apart (rpc_peer.h), as gRPC asks for one. Most have none of their own, and whoever has one
 * has chosen it: as many peers as he likes, or another user.
 */
static socklen_t name_user(int fd, struct sockaddr_un *ret)
{
        struct ucred user = { .uid = (uid_t)-1 };
        socklen_t user_len = sizeof(user);
        int n;

        (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &user_len); /* all whom it fails for are one */
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "user-%u", user.uid);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
}

int gate_getpeername(int fd, struct sockaddr *address, socklen_t *len) __asm__("getpeername");

__attribute__((visibility("default"), used)) int gate_getpeername(int fd, struct sockaddr *address,
                                                                  socklen_t *len)
{
        const socklen_t room = *len;
        int r = (int)syscall(SYS_getpeername, fd, address, len);

        if (r == 0 && room >= sizeof(struct sockaddr_un) && address->sa_family == AF_UNIX)
                *len = name_user(fd, (struct sockaddr_un *)address);
        return r;
}
