/*
 * A FileSyncRequest, checked: what StreamFileScan, SyncFiles and Watch are asked.
 */
#pragma once

#include <stdbool.h>

#include "base/hash.h"
#include "server/transfer.h"

/** A zeroed struct is empty. */
struct sync_request {
        bool own;            /* one of our own workers asks; otherwise the rest but spider and path is zero */
        char *spider, *path; /* owned; checked by sync_request_check only */
        bool has_known;      /* the worker has a version: */
        uint8_t known[HASH_BYTES];
        uint64_t known_revision; /* 0: it does not know which */
        enum transfer_strategy strategy;
        uint64_t resume_revision; /* 0: nothing broke off */
        uint64_t resume_offset;
        bool stat_pass;
        char *node_key; /* owned */
};

/** Reads a message. -EBADMSG: it is none, or holds what no worker of ours would say; -ENOMEM. */
int sync_request_read(struct sync_request *ret, const uint8_t *data, size_t len);

/** 0 if spider and path are well-formed; -EINVAL, -ENAMETOOLONG. */
int sync_request_check(const struct sync_request *request);

/** Empty again. */
void sync_request_clear(struct sync_request *request);
