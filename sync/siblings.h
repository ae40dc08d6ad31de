/*
 * The first run ever on a slow link: a task reads many small files of a folder, in an order of its own (an interpreter's imports), and each costs a round
 * trip. When the second of them has to come from the master shortly after the first was read, the folder's other small files are asked for as well, as read-ahead into
 * the store. Readers that go by the folder's order are read-ahead's (sync/readahead.h), unless the folder is so small that this costs no more.
 *
 * Thread-safe. Nothing waits for it.
 */
#pragma once

#include "sync/fetch.h"

struct siblings;

struct siblings_options {
        struct catalog *catalog; /* all borrowed for its life */
        struct store *store;
        struct fetch *fetch;
};

struct siblings_stats {
        uint64_t files, bytes; /* brought */
};

int siblings_new(const struct siblings_options *options, struct siblings **ret);

/** Ends its thread. The fetch must be freed after this and before siblings_free. NULL is fine. */
void siblings_stop(struct siblings *siblings);

/** NULL is fine. */
void siblings_free(struct siblings *siblings);

/** File ENTRY is read, and its content has to come from the master. Quick; does not block. */
void siblings_note_miss(struct siblings *siblings, const struct catalog_entry *entry);

/** File ENTRY is read, and its bytes came with its entry: it can be the first of the two, but not the second. Quick; does not block. */
void siblings_note_tiny(struct siblings *siblings, const struct catalog_entry *entry);

void siblings_get_stats(struct siblings *siblings, struct siblings_stats *ret);
