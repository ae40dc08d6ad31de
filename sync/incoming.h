/*
 * A master's entries as they come over the wire: one message's FileInfo checked and turned into a struct
 * entry, and for a stock master, whose order means nothing, the whole listing kept until it can be sorted.
 */
#pragma once

#include "base/entry.h"
#include "base/failure.h"
#include "proto/sync_service.pb-c.h"

/** Reads one of our own master's entries, of a tree hashed by BASE. RET borrows from INFO. -EPROTO with a line in FAILURE. */
int incoming_read_own(enum hash_algorithm base, const Grpc__FileInfo *info, struct entry *ret,
                      struct failure *failure);

/** Reads one of a stock master's entries: kind, time and hash by the fields that it knows. */
int incoming_read_stock(const Grpc__FileInfo *info, struct entry *ret, struct failure *failure);

struct incoming;

/** An empty listing. -ENOMEM. */
int incoming_new(struct incoming **ret);
void incoming_free(struct incoming *incoming);

/** Keeps a copy of ENTRY. -ENOMEM; -EFBIG beyond INCOMING_BYTES_MAX. */
int incoming_add(struct incoming *incoming, const struct entry *entry);

/** All of them, in the order of arrival; borrowed until the next add. */
void incoming_get(const struct incoming *incoming, const struct entry **ret, size_t *ret_count);

#define INCOMING_BYTES_MAX (UINT64_C(4) << 30)

/** Calls EACH in the order of arrival; non-zero ends it and is returned. */
int incoming_each(struct incoming *incoming, int (*each)(const struct entry *entry, void *arg), void *arg);

/** Sorts so that parents come before what is in them, with a root made up if the master sent none, and calls
 * EACH in order. */
int incoming_each_sorted(struct incoming *incoming, int (*each)(const struct entry *entry, void *arg),
                         void *arg);
