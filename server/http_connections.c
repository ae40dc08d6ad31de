#include "server/http_connections.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

static bool is_same_peer(const struct http_connection *a, const struct http_connection *b)
{
        return memcmp(&a->peer, &b->peer, sizeof(a->peer)) == 0;
}

static unsigned count_of_peer(const struct http_connections *connections, unsigned of)
{
        unsigned n = 0;

        for (unsigned i = 0; i < connections->n; i++)
                n += is_same_peer(&connections->table[i], &connections->table[of]);
        return n;
}

/* The oldest one of the peer that has the most; of several such peers, the oldest one. Not the last one, if there are two. */
static unsigned find_superfluous(const struct http_connections *connections)
{
        unsigned found = 0, most = 0;

        for (unsigned i = 0; i < connections->n; i++) {
                unsigned n = count_of_peer(connections, i);

                if (n > most) {
                        most = n;
                        found = i;
                }
        }
        return found;
}

static void forget(struct http_connections *connections, unsigned i)
{
        struct http_connection *gone = &connections->table[i];

        connections->n--;
        memmove(gone, gone + 1, (connections->n - i) * sizeof(*gone));
}

/* Closed later, it is reset: or the kernel would keep what a slow reader has not taken, for as many of them as come. */
static void end(int fd)
{
        const struct linger none = { .l_onoff = 1 };

        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        (void)shutdown(fd, SHUT_RDWR); /* ENOTCONN: the peer was faster */
}

void http_connections_add(struct http_connections *connections, int fd)
{
        struct http_connection *new = &connections->table[connections->n++];
        unsigned superfluous;

        new->fd = fd;
        rpc_gate_key_of(fd, &new->peer);
        if (connections->n <= HTTP_CONNECTIONS_MAX)
                return;
        superfluous = find_superfluous(connections);
        end(connections->table[superfluous].fd);
        forget(connections, superfluous);
        log_limited(LOG_LEVEL_INFO, "ended connection",
                    "a connection to --metrics was ended for another one: there are more than %d",
                    HTTP_CONNECTIONS_MAX);
}

void http_connections_remove(struct http_connections *connections, int fd)
{
        for (unsigned i = 0; i < connections->n; i++)
                if (connections->table[i].fd == fd) {
                        forget(connections, i);
                        return;
                }
}
