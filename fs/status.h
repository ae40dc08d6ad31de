/*
 * What a mount says about itself, as JSON: the keys are a contract with scripts (docs/status.md).
 */
#pragma once

#include <stdint.h>

#include <jansson.h>

#include "base/entry.h"

struct filesystem;
struct catalog_entry;

/** All of `fsyncfs status --json`. NULL: out of memory. The caller's. May read the whole catalog: not for a
 * FUSE request. */
json_t *status_json(struct filesystem *fs);

/** The same but for cached_files and cached_bytes: no walk over catalog and store. Any thread. */
json_t *status_brief_json(struct filesystem *fs);

/** digest (hex), revision and generation of the version mounted. NULL: out of memory. */
json_t *status_version_json(struct filesystem *fs);

/** "online", "stock" or "offline"; static. */
const char *status_state_name(struct filesystem *fs);

/** "file", "directory" or "symlink"; static. */
const char *status_kind_name(enum entry_kind kind);

/** JSON is UTF-8, a name need not be: of one that is not the bytes beyond ASCII are shown as '?'. NULL: out of memory. */
json_t *status_path_json(const char *path);

/** How far a sync under way is; phase "idle": none is. NULL: out of memory. */
json_t *status_progress_json(struct filesystem *fs);

/** How much of ENTRY can be read without the master: 100 only if all of it can be. Looks into the store. */
unsigned status_cached_percent(const struct filesystem *fs, const struct catalog_entry *entry);

/** hash, cached (0..100), size and path of inode INO. NULL: no such inode, or out of memory. */
json_t *status_entry_json(struct filesystem *fs, uint64_t ino);
