#include "cli/doctor.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

static int days_left(const X509 *certificate, int *ret_days)
{
        int days, seconds;

        if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
                return -EINVAL;
        *ret_days = seconds < 0 ? days - 1 : days;
        return 0;
}

int doctor_days_of_file(const char *path, int *ret_days)
{
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        X509 *certificate = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
        int r = !f ? -errno : !certificate ? -EINVAL : days_left(certificate, ret_days);

        X509_free(certificate);
        ERR_clear_error();
        return r;
}

int doctor_days_of_peer(int fd, const char *host, int *ret_days)
{
        static const unsigned char alpn[] = { 2, 'h', '2' };
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL *ssl = ctx ? SSL_new(ctx) : NULL;
        const X509 *certificate;
        int r = -EPROTO;

        if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_set_alpn_protos(ssl, alpn, sizeof(alpn)) != 0) {
                r = -ENOMEM;
        } else {
                (void)SSL_set_tlsext_host_name(ssl, host);
                /* Without a certificate of ours the handshake may fail; theirs has come by then. */
                (void)SSL_connect(ssl);
                certificate = SSL_get0_peer_certificate(ssl);
                if (certificate)
                        r = days_left(certificate, ret_days);
        }
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        ERR_clear_error();
        return r;
}
