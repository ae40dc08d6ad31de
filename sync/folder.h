/*
 * The children of one folder, asked for out of turn while the first version of a large tree is still on its way.
 */
#pragma once

#include <stdatomic.h>

#include "cache/catalog.h"
#include "sync/session.h"

struct folder_request {
        uint64_t ino;     /* the folder, pending in the catalog */
        const char *path; /* within the workspace; path_len bytes, borrowed */
        size_t path_len;
        const uint8_t *digest; /* the folder's, digest_len bytes */
        size_t digest_len;
        atomic_bool *large; /* borrowed: one of those that share it is large at a time */
        void (*progress)(size_t bytes, void *arg); /* as download_request's */
        void *progress_arg;
};

/**
 * Fetches the folder's children into CATALOG. Blocks. 0, also if they came otherwise meanwhile; -ESTALE: the master's folder is another one
 * by now; -EAGAIN: no load is open that would take them, or this is a large folder, and another one is being listed; -EFBIG: it is too large to be listed
 * by itself, and comes in its turn; errors as download_run, with a line in FAILURE.
 */
int folder_run(struct session *session, struct catalog *catalog, const struct folder_request *request,
               struct failure *failure);
