#include "server/credentials.h"

#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

#define DAY_SEC       (24 * 60 * 60)
#define WARN_DAYS     14
#define OTHERS_ACCESS (S_IROTH | S_IWOTH | S_IWGRP)

int complain(const char *what, const char *where, int error, const char *hint)
{
        log_error("%s '%s': %s%s%s", what, where, strerror(-error), hint[0] ? "; " : "", hint);
        return error;
}

/* Not refused: the secrets that orchestrators put into a container are readable for all that is in it. */
static void warn_if_exposed(const char *file)
{
        struct stat st;

        if (stat(file, &st) == 0 && (st.st_mode & OTHERS_ACCESS))
                log_warning("'%s' can be read or changed by others: its mode is %04o, 0600 or 0640 is better",
                            file, st.st_mode & 07777);
}

static void warn_if_expiring(const char *file, time_t expires)
{
        int64_t left = (int64_t)expires - (int64_t)time(NULL);

        if (left < 0)
                log_error("the certificate '%s' has expired: workers will refuse it; replace it and send "
                          "SIGHUP",
                          file);
        else if (left < WARN_DAYS * DAY_SEC)
                log_warning("the certificate '%s' expires in %lld hours; replace it and send SIGHUP", file,
                            (long long)(left / 3600));
}

static void warn_about_files(const struct options *o, struct credentials *c)
{
        if (c->tokens)
                warn_if_exposed(o->token_file);
        if (c->tls) {
                warn_if_exposed(o->tls_key);
                warn_if_expiring(o->tls_cert, rpc_tls_expires(c->tls));
        }
}

int credentials_load(const struct options *o, struct credentials *ret)
{
        const struct rpc_tls_files files = { .cert = o->tls_cert, .key = o->tls_key, .ca = o->tls_client_ca };
        struct failure failure = { 0 };
        int r = o->token_file ? token_file_load(o->token_file, &ret->tokens, &failure) : 0;

        if (r < 0) {
                log_error("cannot use the token file '%s': %s; check --token-file and the file's owner and "
                          "mode",
                          o->token_file, failure_text(&failure, r));
                return r;
        }
        r = o->tls_cert ? rpc_tls_load(&files, false, &ret->tls, &failure) : 0;
        if (r < 0) {
                log_error("cannot speak TLS: %s", failure_text(&failure, r));
                return r;
        }
        warn_about_files(o, ret);
        return 0;
}

static void reload_tokens(const char *file, struct token_file *tokens)
{
        struct failure failure = { 0 };
        int r = token_file_reload(tokens, &failure);

        if (r < 0)
                log_error("the token file '%s' cannot be used: %s; the old tokens stay", file,
                          failure_text(&failure, r));
        else
                log_info("the token file '%s' was read again", file);
}

static void reload_tls(const char *file, struct rpc_tls *tls)
{
        struct failure failure = { 0 };
        int r = rpc_tls_reload(tls, &failure);

        if (r < 0)
                log_error("%s; the old certificate stays", failure_text(&failure, r));
        else
                log_info("the certificate '%s' and what belongs to it were read again", file);
}

void credentials_reload(const struct options *o, struct credentials *c)
{
        if (c->tokens)
                reload_tokens(o->token_file, c->tokens);
        if (c->tls)
                reload_tls(o->tls_cert, c->tls);
        if (!c->tokens && !c->tls)
                log_info("SIGHUP: there is neither a token file nor a certificate to read");
        warn_about_files(o, c);
}

void credentials_release(struct credentials *c)
{
        token_file_free(c->tokens);
        rpc_tls_free(c->tls);
        *c = (struct credentials){ 0 };
}
