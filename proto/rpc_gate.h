/*
 * How many connections this process takes, and from whom one comes.
 */
#pragma once

#include <stdint.h>

/** What the listeners of this process take, whoever they belong to. */
struct rpc_gate_limits {
        unsigned descriptors;      /* the limit of open files */
        unsigned connections;      /* in all */
        unsigned peer_connections; /* of one IPv4 address, one /64 of IPv6, or, by unix sockets, one user */
};

/**
 * From now on connections beyond LIMITS are closed as they come, and one that there is no descriptor or memory for does not end its listener. Once, for the
 * life of the process. -ENOMEM; -EBUSY: it was done before.
 */
int rpc_gate_open(const struct rpc_gate_limits *limits);

/** How many have been closed so. (Linked with this, getpeername(2) names the other end of a unix socket after its user, whatever it calls itself: "user-1000".) */
uint64_t rpc_gate_refused(void);

/** Who is at the other end: an IPv4 address, the /64 that one IPv6 host has, or a user of this machine. The same bytes, the same peer. */
struct rpc_gate_key {
        uint8_t bytes[12];
};

/** Who is at the other end of FD, a connection. All who are gone already are one. */
void rpc_gate_key_of(int fd, struct rpc_gate_key *ret);
