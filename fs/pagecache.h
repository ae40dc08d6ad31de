/*
 * The kernel's page cache, filled before anybody reads: see sync/readahead.h.
 */
#pragma once

#include "fs/filesystem.h"

/**
 * Puts all LEN bytes of INO's own content into the kernel's page cache. 0; -ENOENT: the kernel does not know the number; -EAGAIN: the number shows another
 * content (fs/bindings.h); -EBUSY: the kernel reads it without its page cache (fs/passthrough.h), or just now (fs/reading.h); or another negative errno. Waits while one of the pages is being read: so never from a request's thread nor
 * under a lock. FS is the struct filesystem.
 */
int pagecache_push(uint64_t ino, const void *data, size_t len, void *fs);
