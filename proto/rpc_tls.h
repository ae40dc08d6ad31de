/*
 * What a side of TLS has in files: its certificate, its key, the CAs whose signature it takes for good. Checked when they are read, so that
 * a file that cannot work is named before anybody relies on it.
 *
 * Thread-safe. The server's may be read again while it listens: new connections get the new ones, those that are there stay as they are.
 */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "base/failure.h"

struct rpc_tls;

/** Paths of PEM files; borrowed. CERT with the chain up to the CA, and KEY, go together. NULL: none. */
struct rpc_tls_files {
        const char *cert;
        const char *key;
        const char *ca;
};

/**
 * Reads FILES. Without a `ca`, SYSTEM_ROOTS takes the CAs that this machine trusts. Negative errno with a line in FAILURE that names the file: it
 * cannot be read, holds no PEM of its kind (-EBADMSG), the key is not the certificate's or wants a pass phrase (-EKEYREJECTED).
 */
int rpc_tls_load(const struct rpc_tls_files *files, bool system_roots, struct rpc_tls **ret,
                 struct failure *failure);

/** Reads the same files again. On failure what was read before stays. Errors as rpc_tls_load. */
int rpc_tls_reload(struct rpc_tls *tls, struct failure *failure);

/** After the channels and servers that use it. NULL is fine. */
void rpc_tls_free(struct rpc_tls *tls);

/** When the certificate expires, in seconds since 1970; -1: there is none. One that has expired is read like any other: clocks differ. */
time_t rpc_tls_expires(struct rpc_tls *tls);

/** Whether peers must show a certificate: there is a `ca`, and it is not the system's. */
bool rpc_tls_demands_certificate(const struct rpc_tls *tls);
