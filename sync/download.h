/*
 * One content from the master into the store: a StreamFileDownload call, checked as it comes.
 */
#pragma once

#include <stdint.h>

#include "cache/store.h"
#include "sync/session.h"

struct download_request {
        const char *path; /* within the workspace; path_len bytes, borrowed */
        size_t path_len;
        struct content_id content;
        uint64_t size;
        /* Called after every chunk that arrived, with its length. */
        void (*progress)(size_t bytes, void *arg);
        void *progress_arg;
};

/**
 * Fetches the content into WRITER and publishes it; the writer is used up in every case. 0; -ESTALE: the
 * master's file no longer holds this content; -EBADMSG: what came does not match the hash; -EPROTO: the peer
 * broke the protocol; -EHOSTUNREACH, -ETIMEDOUT, -EACCES: as the session says; -ENOSPC and others from the
 * store. A line in FAILURE for all but -ESTALE.
 */
int download_run(struct session *session, const struct download_request *request, struct store_writer *writer,
                 struct failure *failure);
