#include "proto/rpc_tls.h"

#include <fcntl.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/io.h"
#include "base/lock.h"
#include "proto/rpc_tls_internal.h"

#define FILE_BYTES_MAX (4u << 20) /* the system's roots take 200 KiB */

/* As the files give them, each with a NUL behind it. */
struct pem {
        struct buffer cert, key, ca;
};

/* One listener of a server: gRPC asks it before each handshake whether there is something new. */
struct listener {
        struct rpc_tls *tls;
        uint64_t seen; /* generation that gRPC has; owned by gRPC, which asks one at a time */
        struct listener *next;
};

struct rpc_tls {
        char *cert, *key, *ca; /* owned: the paths; NULL: none */
        bool system_roots;
        struct listener *listeners; /* owned; written before the server starts */

        struct mutex lock;
        struct pem pem TSA_GUARDED(&lock);
        time_t expires TSA_GUARDED(&lock);
        uint64_t generation TSA_GUARDED(&lock);
};

/* Where distributions keep the CAs that they trust, in one file. */
static const char *const system_files[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch, Gentoo */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora and its kin */
        "/etc/ssl/ca-bundle.pem",                            /* SUSE */
        "/etc/ssl/cert.pem",                                 /* Alpine */
};

static void buffer_wipe(struct buffer *b)
{
        if (b->data)
                OPENSSL_cleanse(b->data, b->capacity);
        buffer_release(b);
}

static void pem_release(struct pem *pem)
{
        buffer_release(&pem->cert);
        buffer_wipe(&pem->key);
        buffer_release(&pem->ca);
}

static void cleanup_x509(X509 **x)
{
        X509_free(*x);
}

static void cleanup_pkey(EVP_PKEY **key)
{
        EVP_PKEY_free(*key);
}

static void cleanup_bio(BIO **bio)
{
        BIO_free(*bio);
}

/* ---- reading and checking ---- */

static int read_pem(const char *what, const char *file, struct buffer *ret, struct failure *failure)
{
        int r = io_read_file(AT_FDCWD, file, FILE_BYTES_MAX, ret);

        return r < 0 ? failure_set(failure, r, "cannot read the %s '%s': %s", what, file, strerror(-r)) : 0;
}

/* The first certificate of PEM, or NULL. */
static X509 *first_certificate(const struct buffer *pem)
{
        _cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
        X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

        ERR_clear_error();
        return x;
}

/* Nobody is there to be asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int writing, void *asked)
{
        *(bool *)asked = true;
        return -1;
}

static int check_key(const struct rpc_tls *tls, const struct pem *pem, X509 *x, struct failure *failure)
{
        bool asked = false;
        _cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem->key.data, (int)pem->key.len);
        _cleanup_(cleanup_pkey) EVP_PKEY *key =
                bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, &asked) : NULL;
        bool belongs = key && X509_check_private_key(x, key) == 1;

        ERR_clear_error();
        if (asked)
                return failure_set(failure, -EKEYREJECTED,
                                   "the key '%s' is protected by a pass phrase: give it without", tls->key);
        if (!key)
                return failure_set(failure, -EBADMSG, "'%s' holds no private key in PEM form", tls->key);
        if (!belongs)
                return failure_set(failure, -EKEYREJECTED,
                                   "the key '%s' does not belong to the certificate '%s'", tls->key,
                                   tls->cert);
        return 0;
}

static int read_pair(const struct rpc_tls *tls, struct pem *pem, time_t *ret_expires, struct failure *failure)
{
        _cleanup_(cleanup_x509) X509 *x = NULL;
        struct tm tm;
        int r = read_pem("certificate", tls->cert, &pem->cert, failure);

        if (r >= 0)
                r = read_pem("key", tls->key, &pem->key, failure);
        if (r < 0)
                return r;
        x = first_certificate(&pem->cert);
        if (!x || ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
                return failure_set(failure, -EBADMSG, "'%s' holds no certificate in PEM form", tls->cert);
        *ret_expires = timegm(&tm);
        return check_key(tls, pem, x, failure);
}

static int read_system_roots(struct pem *pem, struct failure *failure)
{
        for (size_t i = 0; i < ARRAY_SIZE(system_files); i++) {
                int r = io_read_file(AT_FDCWD, system_files[i], FILE_BYTES_MAX, &pem->ca);
                if (r >= 0 && pem->ca.len > 0)
                        return 0;
                if (r < 0 && r != -ENOENT && r != -ENOTDIR)
                        return failure_set(failure, r, "cannot read this machine's CAs '%s': %s",
                                           system_files[i], strerror(-r));
                buffer_release(&pem->ca);
        }
        return failure_set(failure, -ENOENT, "this machine has no list of CAs that it trusts: name one");
}

static int read_ca(const struct rpc_tls *tls, struct pem *pem, struct failure *failure)
{
        _cleanup_(cleanup_x509) X509 *x = NULL;
        int r;

        if (!tls->ca)
                return tls->system_roots ? read_system_roots(pem, failure) : 0;
        r = read_pem("CA", tls->ca, &pem->ca, failure);
        if (r < 0)
                return r;
        x = first_certificate(&pem->ca);
        return x ? 0 : failure_set(failure, -EBADMSG, "'%s' holds no certificate in PEM form", tls->ca);
}

static int read_all(const struct rpc_tls *tls, struct pem *pem, time_t *ret_expires, struct failure *failure)
{
        int r = tls->cert ? read_pair(tls, pem, ret_expires, failure) : 0;

        return r < 0 ? r : read_ca(tls, pem, failure);
}

int rpc_tls_reload(struct rpc_tls *tls, struct failure *failure)
{
        struct pem pem = { 0 }, old;
        time_t expires = -1;
        int r = read_all(tls, &pem, &expires, failure);

        if (r < 0) {
                pem_release(&pem);
                return r;
        }
        mutex_lock(&tls->lock);
        old = tls->pem;
        tls->pem = pem;
        tls->expires = expires;
        tls->generation++;
        mutex_unlock(&tls->lock);
        pem_release(&old);
        return 0;
}

/* ---- life ---- */

static int copy_path(const char *path, char **ret)
{
        *ret = path ? strdup(path) : NULL;
        return path && !*ret ? -ENOMEM : 0;
}

int rpc_tls_load(const struct rpc_tls_files *files, bool system_roots, struct rpc_tls **ret,
                 struct failure *failure)
{
        struct rpc_tls *tls = calloc(1, sizeof(*tls));
        int r;

        if (!tls)
                return -ENOMEM;
        mutex_init(&tls->lock);
        tls->system_roots = system_roots;
        r = copy_path(files->cert, &tls->cert);
        if (r >= 0)
                r = copy_path(files->key, &tls->key);
        if (r >= 0)
                r = copy_path(files->ca, &tls->ca);
        if (r >= 0)
                r = rpc_tls_reload(tls, failure);
        if (r < 0)
                rpc_tls_free(tls);
        else
                *ret = tls;
        return r;
}

void rpc_tls_free(struct rpc_tls *tls) TSA_NONE
{
        if (!tls)
                return;
        while (tls->listeners) {
                struct listener *listener = tls->listeners;
                tls->listeners = listener->next;
                free(listener);
        }
        pem_release(&tls->pem);
        mutex_release(&tls->lock);
        free(tls->cert);
        free(tls->key);
        free(tls->ca);
        free(tls);
}

time_t rpc_tls_expires(struct rpc_tls *tls)
{
        time_t expires;

        mutex_lock(&tls->lock);
        expires = tls->expires;
        mutex_unlock(&tls->lock);
        return expires;
}

bool rpc_tls_demands_certificate(const struct rpc_tls *tls)
{
        return tls->ca != NULL;
}

/* ---- what gRPC makes of it ---- */

static grpc_ssl_pem_key_cert_pair pair_of(const struct pem *pem)
{
        return (grpc_ssl_pem_key_cert_pair){ .private_key = pem->key.data, .cert_chain = pem->cert.data };
}

grpc_channel_credentials *rpc_tls_channel_credentials(struct rpc_tls *tls)
{
        grpc_channel_credentials *credentials;

        mutex_lock(&tls->lock);
        grpc_ssl_pem_key_cert_pair pair = pair_of(&tls->pem);
        credentials = grpc_ssl_credentials_create_ex(tls->pem.ca.data, tls->cert ? &pair : NULL, NULL, NULL);
        mutex_unlock(&tls->lock);
        return credentials;
}

static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **ret)
{
        struct listener *listener = arg;
        struct rpc_tls *tls = listener->tls;
        grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;

        mutex_lock(&tls->lock);
        if (listener->seen != tls->generation) {
                grpc_ssl_pem_key_cert_pair pair = pair_of(&tls->pem);
                /* gRPC insists on CAs also where no certificate will be asked for: then any will do. */
                const char *roots = tls->pem.ca.data ?: tls->pem.cert.data;

                *ret = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
                listener->seen = tls->generation;
                status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
        }
        mutex_unlock(&tls->lock);
        return status;
}

grpc_server_credentials *rpc_tls_server_credentials(struct rpc_tls *tls)
{
        struct listener *listener = calloc(1, sizeof(*listener));

        if (!listener)
                return NULL;
        listener->tls = tls;
        listener->next = tls->listeners;
        tls->listeners = listener;
        return grpc_ssl_server_credentials_create_with_options(
                grpc_ssl_server_credentials_create_options_using_config_fetcher(
                        tls->ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                        fetch, listener));
}

/* ---- what a connection of our own makes of it ---- */

static int use_ca(SSL_CTX *ctx, const struct buffer *pem)
{
        _cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
        X509 *x;

        if (!bio)
                return -ENOMEM;
        while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
                X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x);
                X509_free(x);
        }
        ERR_clear_error();
        return 0;
}

static int use_chain(SSL_CTX *ctx, const struct buffer *pem)
{
        _cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
        X509 *x;
        bool first = true, ok = bio != NULL;

        while (ok && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
                ok = first ? SSL_CTX_use_certificate(ctx, x) : SSL_CTX_add1_chain_cert(ctx, x);
                first = false;
                X509_free(x);
        }
        ERR_clear_error();
        return ok ? 0 : -ENOMEM;
}

static int use_key(SSL_CTX *ctx, const struct buffer *pem)
{
        _cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
        _cleanup_(cleanup_pkey) EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

        return key && SSL_CTX_use_PrivateKey(ctx, key) == 1 ? 0 : -ENOMEM;
}

SSL_CTX *rpc_tls_context(struct rpc_tls *tls)
{
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        int r = ctx ? 0 : -ENOMEM;

        mutex_lock(&tls->lock);
        if (r == 0)
                r = use_ca(ctx, &tls->pem.ca);
        if (r == 0 && tls->cert)
                r = use_chain(ctx, &tls->pem.cert);
        if (r == 0 && tls->cert)
                r = use_key(ctx, &tls->pem.key);
        mutex_unlock(&tls->lock);
        if (r < 0) {
                SSL_CTX_free(ctx);
                return NULL;
        }
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        return ctx;
}

const char *rpc_tls_ca_file(const struct rpc_tls *tls)
{
        return tls->ca;
}

const char *rpc_tls_cert_file(const struct rpc_tls *tls)
{
        return tls->cert;
}
