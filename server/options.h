/*
 * The command line of fsyncfs-server.
 */
#pragma once

#include "base/log.h"

#define OPTIONS_LISTEN_MAX 16

struct options {
        const char *workspace; /* all strings borrowed from argv */
        const char *listen[OPTIONS_LISTEN_MAX];
        size_t n_listen;   /* 0: the default */
        const char *index; /* NULL: the default */
        const char *token_file;
        const char *metrics; /* NULL: none */
        int64_t scan_ttl_sec;
        enum log_level log_level;
};

enum options_result {
        OPTIONS_RUN = 0,
        OPTIONS_DONE = 1,  /* --help or --version was answered: exit 0 */
        OPTIONS_USAGE = 2, /* wrong; one line on stderr has said how: exit 2 */
};

enum options_result options_parse(int argc, char **argv, struct options *ret);
