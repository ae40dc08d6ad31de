#include "server/listeners.h"

#include <string.h>

#include "base/log.h"
#include "proto/rpc_address.h"
#include "server/credentials.h"

/* Port 9666: of all addresses, of IPv4's if there is no IPv6 here; and of this machine alone. */
#define ALL_ADDRESSES      "[::]:9666"
#define ALL_ADDRESSES_IPV4 "0.0.0.0:9666"
#define LOCAL_ADDRESS      "127.0.0.1:9666"

struct listening {
        const struct options *options;
        struct rpc_server *rpc;
        const char *name;
        struct buffer *address;
};

int listeners_set_port(const char *address, int port, struct buffer *ret)
{
        const char *colon = strrchr(address, ':');

        if (!colon || strncmp(address, "unix:", 5) == 0)
                return buffer_printf(ret, "%s", address);
        return buffer_printf(ret, "%.*s:%d", (int)(colon - address), address, port);
}

static bool is_wildcard(const char *address)
{
        return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

/* What workers are told to reach us by. */
static int note_address(struct listening *l, const char *address, int port)
{
        if (l->address->len > 0 || strncmp(address, "unix:", 5) == 0)
                return 0;
        if (is_wildcard(address))
                return buffer_printf(l->address, "%s:%d", l->name, port);
        return listeners_set_port(address, port, l->address);
}

static int listen_on(struct listening *l, const char *address)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        int port = 0, r = rpc_server_listen(l->rpc, address, &port);

        if (r < 0)
                return r;
        r = listeners_set_port(address, port, &text);
        if (r >= 0)
                r = note_address(l, address, port);
        if (r >= 0)
                log_info("listening on %s%s", text.data,
                         l->options->tls_cert && strncmp(address, "unix:", 5) != 0 ? " (TLS)" : "");
        return r;
}

static int explain_listen(const char *address, int error)
{
        const char *hint =
                error == -EADDRINUSE ? "another server is there; stop it or choose another with --listen"
                : error == -EADDRNOTAVAIL
                        ? "the name is not known, or the address not one of this machine's: check --listen"
                        : "check --listen: HOST:PORT, [V6]:PORT or unix:PATH";

        return complain("cannot listen on", address, error, hint);
}

/* ---- who else could come ---- */

static bool is_protected(const struct options *o)
{
        return o->token_file || o->tls_cert;
}

/* Once, and only if other machines can come. */
static void warn_if_open(const struct options *o)
{
        if (!is_protected(o))
                log_warning("--insecure: whoever reaches this server can read every workspace, and all of it "
                            "goes in clear");
        else if (!o->token_file && !o->tls_client_ca)
                log_warning("whoever reaches this server can read every workspace: give --token-file or "
                            "--tls-client-ca");
        else if (!o->tls_cert)
                log_info("tokens and contents go in clear: give --tls-cert and --tls-key, or keep to a "
                         "network that you trust");
}

static int refuse(const char *address)
{
        log_error("refusing to listen on '%s' for other machines without tokens or TLS: give --token-file "
                  "FILE or --tls-cert "
                  "FILE, or --insecure if everybody there may read everything",
                  address);
        return -EPERM;
}

/* ---- all of them ---- */

static int listen_default(struct listening *l)
{
        bool local = !is_protected(l->options) && !l->options->insecure;
        const char *address = local ? LOCAL_ADDRESS : ALL_ADDRESSES;
        int r = listen_on(l, address);

        if (r < 0 && r != -EADDRINUSE && !local) { /* no IPv6 here */
                address = ALL_ADDRESSES_IPV4;
                r = listen_on(l, address);
        }
        if (r < 0)
                return explain_listen(address, r);
        if (local)
                log_info("only this machine can connect: give --token-file FILE or --tls-cert FILE to serve "
                         "others");
        else
                warn_if_open(l->options);
        return 0;
}

/* All of them, before the first is opened. 1: other machines can come; 0: none can. */
static int check_addresses(const struct options *o)
{
        int others = 0;

        for (size_t i = 0; i < o->n_listen; i++) {
                int local = rpc_address_is_local(o->listen[i]);

                if (local < 0)
                        return explain_listen(o->listen[i], local);
                if (local == 0 && !is_protected(o) && !o->insecure)
                        return refuse(o->listen[i]);
                others |= local == 0;
        }
        return others;
}

int listeners_open(const struct options *o, struct rpc_server *rpc, const char *name,
                   struct buffer *ret_address)
{
        struct listening l = { .options = o, .rpc = rpc, .name = name, .address = ret_address };
        int others = check_addresses(o);

        if (others < 0)
                return others;
        if (o->n_listen == 0)
                return listen_default(&l);
        for (size_t i = 0; i < o->n_listen; i++) {
                int r = listen_on(&l, o->listen[i]);
                if (r < 0)
                        return explain_listen(o->listen[i], r);
        }
        if (others)
                warn_if_open(o);
        return 0;
}
