/*
 * The command line of fsyncfs-server.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/log.h"
#include "server/watcher.h"

#define OPTIONS_LISTEN_MAX 16

struct options {
        const char *workspace; /* all strings borrowed from argv */
        const char *listen[OPTIONS_LISTEN_MAX];
        size_t n_listen;   /* 0: the default */
        const char *index; /* a folder; NULL: the default */
        const char *token_file;
        const char *tls_cert, *tls_key, *tls_client_ca; /* NULL: none; cert and key go together */
        bool insecure;             /* other machines may come without proof and in clear */
        const char *metrics;       /* NULL: none */
        unsigned peer_connections; /* of one peer; 0: the default */
        unsigned peer_calls;       /* likewise, under way */
        int64_t scan_ttl_sec;
        enum watcher_kind watch;
        int64_t stat_pass_sec;
        unsigned watch_drop_percent; /* these two from the environment, for tests */
        uint64_t journal_max;
        enum log_level log_level;
};

enum options_result {
        OPTIONS_RUN = 0,
        OPTIONS_DONE = 1,  /* --help or --version was answered: exit 0 */
        OPTIONS_USAGE = 2, /* wrong; one line on stderr has said how: exit 2 */
};

/** Appends where the index is unless --index says otherwise, for the calling user. -ENOENT: there is no such place; -ENOMEM. */
int options_default_index(struct buffer *ret);

enum options_result options_parse(int argc, char **argv, struct options *ret);
