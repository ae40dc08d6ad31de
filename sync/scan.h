/*
 * From the master's streamed scan to a new version of the catalog: checks every entry, proves that both ends
 * hold the same tree (promise 8), and falls back to a full listing where they do not. Keeps no state between
 * scans.
 */
#pragma once

#include <stdbool.h>

#include "cache/catalog.h"
#include "cache/store.h"
#include "sync/session.h"

struct scan_result {
        struct catalog_changes changes; /* release with catalog_changes_release */
        uint64_t entries;               /* received; 0 if the master said that nothing changed */
        bool unchanged;                 /* the catalog holds the master's version already */
        bool fell_back; /* the digest did not fit at first: the listing was asked for once more, in full */
        uint64_t fetched_files, fetched_bytes; /* ahead of the switch, see sync/warm.h */
};

/**
 * Brings CATALOG to the master's present version. With a STORE (NULL: none), files that are in it and change get their new content
 * before the switch. Blocks. Negative errno with a line in FAILURE; the catalog then still holds the version from before.
 * -EPROTO: the master's listing is wrong in itself; -ENOENT: no such spider or folder.
 */
int scan_run(struct session *session, struct catalog *catalog, struct store *store, struct scan_result *ret,
             struct failure *failure);
