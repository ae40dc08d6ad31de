/*
 * What fsyncfs-server is told: by its configuration file, its environment and its command line, in rising order.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/setting.h"
#include "server/watcher.h"

#define OPTIONS_LISTEN_MAX     16
#define OPTIONS_CONFIG_DEFAULT "/etc/fsyncfs/server.conf"

struct options {
        const char *workspace; /* all strings borrowed from the settings */
        const char *listen[OPTIONS_LISTEN_MAX];
        size_t n_listen;   /* 0: the default */
        const char *index; /* a folder; NULL: the default */
        const char *token_file;
        const char *tls_cert, *tls_key, *tls_client_ca; /* NULL: none; cert and key go together */
        bool insecure;             /* other machines may come without proof and in clear */
        const char *metrics;       /* NULL: none */
        unsigned peer_connections; /* of one peer; 0: the default */
        unsigned peer_calls;       /* likewise, under way */
        enum hash_algorithm hash;  /* by which contents are named */
        unsigned scan_ttl_sec;
        enum watcher_kind watch;
        unsigned stat_pass_sec;
        unsigned watch_drop_percent; /* these two from the environment, for tests */
        uint64_t journal_max;
        enum log_level log_level;
        enum log_format log_format;
};

/** All options; the target is a struct options. */
extern const struct setting_table server_option_table;

/** What is kept of them for as long as the options are used. A zeroed one is fine. */
struct options_source {
        struct settings settings;
        struct config_file file;
};

enum options_result {
        OPTIONS_RUN = 0,
        OPTIONS_DONE = 1,  /* --help, --version or --check-config was answered: exit 0 */
        OPTIONS_USAGE = 2, /* wrong; one line on stderr has said how: exit 2 */
        OPTIONS_FAULT = 3, /* --check-config found faults, and said them: exit 1 */
};

/** SOURCE is to be released in any case, once RET is not used any more. */
enum options_result options_parse(int argc, char **argv, struct options_source *source, struct options *ret);

void options_source_release(struct options_source *source);

/** Appends where the index is unless --index says otherwise, for the calling user. -ENOENT: there is no such place; -ENOMEM. */
int options_default_index(struct buffer *ret);
