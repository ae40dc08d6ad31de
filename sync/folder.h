/*
 * The children of one folder, asked for out of turn while the first version of a large tree is still on its way.
 */
#pragma once

#include "cache/catalog.h"
#include "sync/session.h"

struct folder_request {
        uint64_t ino;     /* the folder, pending in the catalog */
        const char *path; /* within the workspace; path_len bytes, borrowed */
        size_t path_len;
        const uint8_t *digest; /* the folder's, digest_len bytes */
        size_t digest_len;
        void (*progress)(size_t bytes, void *arg); /* as download_request's */
        void *progress_arg;
};

/**
 * Fetches the folder's children into CATALOG. Blocks. 0, also if they came otherwise meanwhile; -ESTALE: the master's folder is another one
 * by now; errors as download_run, with a line in FAILURE.
 */
int folder_run(struct session *session, struct catalog *catalog, const struct folder_request *request,
               struct failure *failure);
