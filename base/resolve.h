/*
 * Names of hosts looked up in a time that is given: getaddrinfo(3) asks for as long as resolv.conf and other services, which may hang, have it.
 */
#pragma once

#include <netdb.h>
#include <stdint.h>

/**
 * As getaddrinfo(3) for a stream socket with a numeric PORT and these FLAGS: 0 with RET, for freeaddrinfo; or an EAI_ code. EAI_SYSTEM with errno
 * ETIMEDOUT: there was no answer by DEADLINE_NS (clock_monotonic_ns); EAGAIN: too many questions of before have none yet. Thread-safe.
 */
int resolve_host(const char *host, const char *port, int flags, int64_t deadline_ns, struct addrinfo **ret);

/** What is wrong, for people; after a code of resolve_host, before errno is another. Static, or strerror(3)'s. */
const char *resolve_error(int code);
