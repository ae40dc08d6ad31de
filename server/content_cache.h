/*
 * Contents that many workers want at the same time, in memory: when a task starts on fifty of them, all read the same files. What is kept is runs of bytes (a small
 * content, a piece of a large one) by the XXH3 that they were proved to have, apart for each spider. A run that is found by its hash is right whatever has
 * become of the file since; and nobody finds what belongs to another spider.
 *
 * It is for what is wanted again soon: a run enters when it is read from the disk again before as many bytes were read as can be kept, so that one worker alone, or a
 * second one far behind it in a larger file, costs neither copies nor memory; those used longest ago leave first, and all that nobody has asked for of late leave by themselves. Thread-safe; nothing blocks.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/util.h"

struct content_cache;

/** What a run is found by. */
struct content_key {
        const char *spider;  /* borrowed */
        const uint8_t *hash; /* borrowed; hash_len of `base` */
        enum hash_algorithm base;
        size_t len;
};

/** A run: `len` bytes of `data`, which never change. A reference keeps it, also beyond the cache. */
struct content_run {
        struct content_run *prev,
                *next; /* of all, used longest ago first. The cache's, as are the others up to `hash` */
        struct content_run *same_bucket;
        const char *spider; /* behind the bytes */
        int64_t used_ns;
        enum hash_algorithm base;
        uint8_t hash[HASH_BYTES];
        atomic_uint refs; /* the cache's is one */
        size_t len;
        uint8_t data[];
};

/** Keeps BYTES_MAX at most, all it takes included but what is still referenced when it leaves. -ENOMEM. */
int content_cache_new(size_t bytes_max, struct content_cache **ret);

/** NULL is fine. */
void content_cache_free(struct content_cache *cache);

/** The run of KEY, a reference; NULL: it is not here. */
struct content_run *content_cache_get(struct content_cache *cache, const struct content_key *key);

/** Lets go of a run; the argument is a void pointer so that it serves as rpc_frame's `release`. */
void content_cache_unref(void *run);

/** The run of KEY is about to be read from the disk. True: it was so lately, too; then it is to be put here. */
bool content_cache_note_read(struct content_cache *cache, const struct content_key *key);

/** Copies the bytes DATA, which were proved to have KEY's hash. For want of memory, or beside one that is here already, nothing. */
void content_cache_put(struct content_cache *cache, const struct content_key *key, const uint8_t *data);

/** Drops what nobody has asked for in IDLE_MS. Now and then. */
void content_cache_expire(struct content_cache *cache, int64_t idle_ms);

/** How many bytes it holds. */
size_t content_cache_get_bytes(struct content_cache *cache);
