/*
 * From the master's answer to a new version of the catalog: asks for what changed since the version there is, or for everything; goes on where a
 * transfer broke off; and asks once more, in full, where the digests say that the two ends differ (promise 8). Keeps no state between scans.
 */
#pragma once

#include <stdbool.h>

#include "sync/intake.h"

struct scan_options {
        struct session *session; /* all borrowed */
        struct catalog *catalog;
        struct store *
                store; /* with one, files that are in it and change get their new content before the switch; NULL: none do */
        struct progress *progress;
        /*
         * Optional: whether the version DIGEST, listed in full by MASTER (session_get_address), may take the place of the one there
         * is. If not, the scan ends with -EAGAIN as soon as it is named.
         */
        bool (*accepts)(const uint8_t digest[HASH_BYTES], const char *master, void *arg);
        void *accepts_arg;
        bool stat_pass; /* the master must look at all its files, whatever its watcher says */
        const struct intake_preview
                *preview; /* optional: what changes is told, and not taken. Without a store */
};

struct scan_result {
        struct intake_result intake;
        bool unchanged; /* the catalog holds the master's version already */
        bool fell_back; /* the digest did not fit at first: the listing was asked for once more, in full */
        const char *master; /* that the last answer came from; NULL: none did */
        unsigned resumed;   /* how often the transfer broke off and went on */
};

/** Releases what RESULT owns. */
void scan_result_release(struct scan_result *result);

/**
 * Brings the catalog to the master's present version. Blocks. Negative errno with a line in FAILURE; the catalog then still holds the
 * version from before. -EAGAIN: `accepts` says no; -EPROTO: the master's listing is wrong in itself; -ENOENT: no such spider or folder.
 */
int scan_run(const struct scan_options *options, struct scan_result *ret, struct failure *failure);

/** Sends the request for what changed since KNOWN (NULL: everything) over STREAM, an exchange of METHOD_SCAN or METHOD_WATCH. */
struct scan_request {
        const struct catalog_version *known;
        uint64_t resume_revision, resume_offset; /* 0: from the beginning */
        bool stat_pass;
};
int scan_send_request(struct session *session, struct rpc_stream *stream, const struct scan_request *request);
