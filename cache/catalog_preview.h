/*
 * What an update of the catalog would change, told instead of committed. The writer's open transaction shows the version to be; readers still see the one
 * that is.
 */
#pragma once

#include "cache/catalog.h"

enum catalog_difference_kind { DIFFERENCE_ADDED, DIFFERENCE_REMOVED, DIFFERENCE_MODIFIED };

/** One path that an update would change; borrowed. */
struct catalog_difference {
        enum catalog_difference_kind kind;
        const char *path; /* of the workspace, NUL-terminated */
        struct catalog_entry before,
                after; /* what there is; what there would be: of ADDED and REMOVED only one is set */
};

/**
 * In place of a commit: tells EACH of everything that it would change, in no order, folders' times included, then drops the update. Returns as catalog_update_commit, and
 * what EACH returns other than 0, which ends it. Looks at every row.
 */
int catalog_update_preview(struct catalog_update *update, const uint8_t *expected,
                           int (*each)(const struct catalog_difference *difference, void *arg), void *arg);
