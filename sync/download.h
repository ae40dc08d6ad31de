/*
 * Contents from a master by StreamFileDownload calls, checked as they come: all of one into the store, or some of its bytes into memory.
 */
#pragma once

#include <stdint.h>

#include "cache/store.h"
#include "sync/session.h"

struct download_request {
        const char *path; /* within the workspace; path_len bytes, borrowed */
        size_t path_len;
        struct content_id content;
        uint64_t size;           /* of the content */
        uint64_t offset, length; /* download_range: what is wanted of it */
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

/**
 * Fetches `length` bytes at `offset`, more than none and within the content, into DATA. From masters of ours only. Errors as download_run; what came is
 * the caller's to verify.
 */
int download_range(struct session *session, const struct download_request *request, uint8_t *data,
                   struct failure *failure);
