/*
 * A connection of our own, to find out what gRPC does not tell: why it has none.
 */
#include "proto/rpc_internal.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "proto/rpc_tls_internal.h"

#define DATE_MAX 32

static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                            "\0\0\0\4\0\0\0\0\0"; /* an empty SETTINGS frame */

/* Both ends of HTTP/2 open with a SETTINGS frame (RFC 9113, 3.4): what does not is something else. */
static bool is_settings(const uint8_t frame[9])
{
        return frame[0] == 0 && frame[3] == 4 && memcmp(frame + 4, "\0\0\0\0\0", 5) == 0;
}

/* ---- in clear ---- */

static int greet_plain(int fd, int64_t deadline_ns)
{
        uint8_t frame[9];
        size_t have = 0;

        if (send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(hello) - 1)
                return -EPROTO;
        while (have < sizeof(frame)) {
                int r = rpc_address_poll(fd, POLLIN, deadline_ns);
                ssize_t n;

                if (r < 0)
                        return r;
                n = recv(fd, frame + have, sizeof(frame) - have, 0);
                if (n <= 0)
                        return -EPROTO;
                have += (size_t)n;
        }
        return is_settings(frame) ? 0 : -EPROTO;
}

/* ---- TLS ---- */

/* One connection within TLS, until it is known what is wrong with it. */
struct probe {
        struct rpc_tls *tls;
        const struct rpc_address *address;
        SSL *ssl;
        int64_t deadline_ns;
        bool asked;          /* the peer has asked for our certificate */
        char date[DATE_MAX]; /* until when, or from when on, the certificate that was refused is valid */
};

static void cleanup_context(SSL_CTX **ctx)
{
        SSL_CTX_free(*ctx);
}

static void cleanup_ssl(SSL **ssl)
{
        SSL_free(*ssl);
}

static int note_asked(SSL *ssl, void *asked)
{
        *(bool *)asked = true;
        return 1;
}

/* After R of a function of OpenSSL: 1, try again; otherwise -EPROTO, or -ETIMEDOUT. */
static int wait_for(struct probe *p, int r)
{
        int error = SSL_get_error(p->ssl, r);

        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                return -EPROTO;
        r = rpc_address_poll(SSL_get_fd(p->ssl), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT,
                             p->deadline_ns);
        return r < 0 ? r : 1;
}

static void format_date(const struct tm *tm, char ret[DATE_MAX])
{
        if (strftime(ret, DATE_MAX, "%Y-%m-%d %H:%M UTC", tm) == 0)
                ret[0] = '\0';
}

/* OpenSSL forgets a certificate that it refuses: its dates are kept here. */
static int note_refused(int fine, X509_STORE_CTX *context)
{
        SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());
        X509 *x = X509_STORE_CTX_get_current_cert(context);
        bool early = X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_NOT_YET_VALID;
        struct probe *p = SSL_get_app_data(ssl);
        struct tm tm;

        if (!fine && x && ASN1_TIME_to_tm(early ? X509_get0_notBefore(x) : X509_get0_notAfter(x), &tm) == 1)
                format_date(&tm, p->date);
        return fine;
}

static int handshake(struct probe *p)
{
        for (;;) {
                int r = SSL_connect(p->ssl);
                if (r == 1)
                        return 0;
                r = wait_for(p, r);
                if (r < 0)
                        return r;
        }
}

/* In TLS 1.3 the peer looks at our certificate when we believe to be through: only its SETTINGS say that it took it. */
static int greet_within(struct probe *p)
{
        uint8_t frame[9];
        size_t have = 0;

        SSL_write(p->ssl, hello, sizeof(hello) - 1); /* an empty socket takes it at once */
        while (have < sizeof(frame)) {
                int r = SSL_read(p->ssl, frame + have, (int)(sizeof(frame) - have));
                if (r <= 0) {
                        r = wait_for(p, r);
                        if (r < 0)
                                return r;
                } else {
                        have += (size_t)r;
                }
        }
        return is_settings(frame) ? 0 : -EPROTO;
}

/* What the peer's certificate lacks. */
static int explain_theirs(struct probe *p, long result, struct failure *why)
{
        const char *ca = rpc_tls_ca_file(p->tls);

        switch (result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
                return failure_set(why, -EKEYREJECTED, "shows a certificate that has expired on %s", p->date);
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return failure_set(
                        why, -EKEYREJECTED,
                        "shows a certificate that is not valid before %s; is this machine's clock right?",
                        p->date);
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return failure_set(why, -EKEYREJECTED,
                                   "shows a certificate that is not for the host name '%s'",
                                   p->address->host);
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
                if (ca)
                        return failure_set(why, -EKEYREJECTED,
                                           "shows a certificate that no CA in '%s' has signed", ca);
                return failure_set(why, -EKEYREJECTED,
                                   "shows a certificate that no CA trusted by this machine has signed; name "
                                   "its CA with ca=FILE");
        default:
                return failure_set(why, -EKEYREJECTED, "shows a certificate that is not valid: %s",
                                   X509_verify_cert_error_string(result));
        }
}

/* The peer asked for our certificate and hung up. */
static int explain_ours(struct probe *p, struct failure *why)
{
        const char *cert = rpc_tls_cert_file(p->tls);
        time_t expires = rpc_tls_expires(p->tls);
        char date[DATE_MAX] = "";
        struct tm tm;

        if (!cert)
                return failure_set(
                        why, -EKEYREJECTED,
                        "wants a certificate of this machine; give one with cert=FILE and key=FILE");
        if (expires < time(NULL) && gmtime_r(&expires, &tm)) {
                format_date(&tm, date);
                return failure_set(why, -EKEYREJECTED,
                                   "does not accept the certificate '%s', which has expired on %s", cert,
                                   date);
        }
        return failure_set(why, -EKEYREJECTED,
                           "does not accept the certificate '%s'; is it signed by the CA that the master "
                           "has in --tls-client-ca?",
                           cert);
}

/* As gRPC checks the name. */
static bool expect_host(SSL *ssl, const char *host)
{
        X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
        struct in6_addr any;

        if (inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1)
                return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
        return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

/* 0, or what is wrong; -EPROTO: whoever is there does not speak TLS, or not HTTP/2 in it. */
static int greet_tls(int fd, const struct rpc_address *address, struct rpc_tls *tls, int64_t deadline_ns,
                     struct failure *why)
{
        static const uint8_t alpn[] = { 2, 'h', '2' };
        _cleanup_(cleanup_context) SSL_CTX *ctx = rpc_tls_context(tls);
        _cleanup_(cleanup_ssl) SSL *ssl = ctx ? SSL_new(ctx) : NULL;
        struct probe p = { .tls = tls, .address = address, .ssl = ssl, .deadline_ns = deadline_ns };
        long verdict;
        int r;

        if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_set_alpn_protos(ssl, alpn, sizeof(alpn)) != 0 ||
            !expect_host(ssl, address->host))
                return -ENOMEM;
        SSL_set_app_data(ssl, &p);
        SSL_set_verify(ssl, SSL_VERIFY_PEER, note_refused);
        SSL_set_cert_cb(ssl, note_asked, &p.asked);
        r = handshake(&p);
        if (r == 0)
                r = greet_within(&p);
        ERR_clear_error();
        verdict = SSL_get_verify_result(ssl);
        if (r == -EPROTO && verdict != X509_V_OK)
                return explain_theirs(&p, verdict, why);
        if (r == -EPROTO && p.asked)
                return explain_ours(&p, why);
        return r;
}

/* Whether a ClientHello is answered in kind; whose certificate it is does not matter. */
static bool speaks_tls(int fd, int64_t deadline_ns)
{
        _cleanup_(cleanup_context) SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        _cleanup_(cleanup_ssl) SSL *ssl = ctx ? SSL_new(ctx) : NULL;
        struct probe p = { .ssl = ssl, .deadline_ns = deadline_ns };
        bool answered;

        if (!ssl || SSL_set_fd(ssl, fd) != 1)
                return false;
        answered = handshake(&p) == 0 || SSL_get0_peer_certificate(ssl) != NULL;
        ERR_clear_error();
        return answered;
}

/* ---- both ---- */

/* It does not speak what we do: whether it speaks the other. */
static int explain_mismatch(const struct rpc_address *address, bool tls, int64_t deadline_ns,
                            struct failure *why)
{
        _cleanup_close_ int fd = rpc_address_connect(address, deadline_ns, NULL);

        if (fd >= 0 && tls && greet_plain(fd, deadline_ns) == 0)
                return failure_set(
                        why, -EPROTO,
                        "does not speak TLS; mount without the option tls, or start it with --tls-cert");
        if (fd >= 0 && !tls && speaks_tls(fd, deadline_ns))
                return failure_set(why, -EPROTO, "speaks TLS; mount with the option tls");
        return -EPROTO;
}

int rpc_diagnose(const char *target, struct rpc_tls *tls, int64_t deadline_ns, struct failure *why)
{
        struct rpc_address address;
        _cleanup_close_ int fd = -1;
        int r = rpc_address_parse(target, &address);

        if (r < 0)
                return r;
        fd = rpc_address_connect(&address, deadline_ns, why);
        if (fd == -ENOENT) /* a unix path that is not there: nobody listens */
                return -ECONNREFUSED;
        if (fd == -EAGAIN) /* a unix socket whose queue is full: somebody is there, and does not answer */
                return -ETIMEDOUT;
        if (fd == -ENETUNREACH || fd == -ENETDOWN || fd == -EHOSTDOWN || fd == -EADDRNOTAVAIL)
                return -EHOSTUNREACH; /* there is no way to it, wherever that ends: already here, if no network is up */
        if (fd < 0)
                return fd;
        r = tls ? greet_tls(fd, &address, tls, deadline_ns, why) : greet_plain(fd, deadline_ns);
        return r == -EPROTO && !address.is_unix ? explain_mismatch(&address, tls != NULL, deadline_ns, why)
                                                : r;
}
