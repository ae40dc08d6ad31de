/*
 * What the command line names to tell who may call and to speak TLS: read when the server starts, and again on SIGHUP. Says in the log what came of
 * it: what is wrong with which file, how long a certificate is still good, which file others can read.
 */
#pragma once

#include "proto/rpc.h"
#include "server/options.h"
#include "server/token_file.h"

struct credentials {
        struct token_file *tokens; /* owned; NULL: everybody may call */
        struct rpc_tls *tls;       /* owned; NULL: in clear */
};

/** Negative errno, and the log says why. RET may then be filled in part. */
int credentials_load(const struct options *options, struct credentials *ret);

/** Reads all files again; where one cannot be used what was read before stays. */
void credentials_reload(const struct options *options, struct credentials *credentials);

void credentials_release(struct credentials *credentials);

/** Logs "WHAT 'WHERE': the errno's text; HINT" as an error ("": no hint) and returns ERROR. */
int complain(const char *what, const char *where, int error, const char *hint);
