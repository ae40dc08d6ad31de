/*
 * One entry as our own workers read it where it is not in a pack: a FileInfo (docs/protocol.md).
 */
#pragma once

#include "base/buffer.h"
#include "base/entry.h"

/** Appends ENTRY to RET as a whole `files` field of a FileScanChunk: a run of them is the chunk's entries. -ENOMEM leaves RET as it was. */
int file_info_append(struct buffer *ret, const struct entry *entry);
