/*
 * What the rpc runtime makes of the files of struct rpc_tls, and nobody else sees.
 */
#pragma once

#include <grpc/grpc_security.h>
#include <openssl/ssl.h>

#include "proto/rpc_tls.h"

/** For a channel; the caller's. What is read again later does not reach it. */
grpc_channel_credentials *rpc_tls_channel_credentials(struct rpc_tls *tls);

/** For one listener, before the server starts; the caller's. TLS must outlive the server. NULL: no memory. */
grpc_server_credentials *rpc_tls_server_credentials(struct rpc_tls *tls);

/** For a connection of our own that does as gRPC would; free with SSL_CTX_free. NULL: no memory. */
SSL_CTX *rpc_tls_context(struct rpc_tls *tls);

/** The paths, as given; NULL: none. */
const char *rpc_tls_ca_file(const struct rpc_tls *tls);
const char *rpc_tls_cert_file(const struct rpc_tls *tls);
