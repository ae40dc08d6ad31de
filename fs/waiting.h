/*
 * Requests on a folder whose children are not here yet, because the first version of a large tree is still on its way: they are asked for
 * out of turn, and the request is answered when they have come. No thread waits.
 */
#pragma once

#include "fs/filesystem.h"

/** What to answer once the folder's children are here. */
struct waiting_request {
        fuse_req_t req;
        uint64_t folder;
        const char *name; /* LOOKUP: of the child; copied. NULL: a listing */
        size_t size;      /* of a listing's reply */
        off_t offset;
        bool plus;
};

/**
 * Parks REQUEST: AGAIN is called with it when the children are here, from a thread of the fetch, and may park it once more. Otherwise, by the
 * deadline, an interrupt or for want of a master, it is answered with an error: EHOSTUNREACH, ETIMEDOUT, EINTR, ENOMEM, EIO.
 */
void waiting_park(struct filesystem *fs, const struct waiting_request *request,
                  void (*again)(struct filesystem *fs, const struct waiting_request *request));
