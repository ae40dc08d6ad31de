/*
 * Files that are in use when a new version replaces them: their new contents are fetched before the version is switched. Whoever
 * reads such a file then finds the old content or the new one here, and never one that the master, replacing the file once more,
 * has just taken away.
 */
#pragma once

#include "cache/catalog.h"
#include "cache/store.h"
#include "sync/session.h"

struct warm;

/** SESSION and STORE are borrowed for its life. */
int warm_new(struct session *session, struct store *store, struct warm **ret);

/** NULL is fine. */
void warm_free(struct warm *warm);

/** For catalog_update_on_replaced, with the warm as ARG: keeps NOW if OLD is in the store, up to WARM_FILES_MAX and WARM_BYTES_MAX. */
void warm_note(const struct content_id *old, const struct entry *now, void *arg);

/* More is left to the reads: a switch must wait neither for a bulk transfer nor for very many round trips. */
#define WARM_BYTES_MAX (UINT64_C(64) << 20)
#define WARM_FILES_MAX 1000

/**
 * Fetches what was noted. Blocks. -ESTALE: the master has replaced a file again, the version being taken is old already. Any other
 * failure ends the warming and does no harm: the reads will meet it. RET_FILES and RET_BYTES count what was fetched.
 */
int warm_run(struct warm *warm, uint64_t *ret_files, uint64_t *ret_bytes);
