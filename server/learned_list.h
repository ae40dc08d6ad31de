/*
 * The files that tasks of one workspace read first, in the order in which they do: what many reports of single runs come to. Each path has a score,
 * how often it was reported of late (a report counts half after ten more), and a position, its average rank. So a file that one run alone read
 * fades, and one that all read stays where most read it.
 *
 * Not thread-safe. A zeroed struct is an empty list. It is only a hint: what is read back from disk is checked as a peer's message is.
 */
#pragma once

#include "base/buffer.h"

struct learned_entry;

struct learned_list {
        struct learned_entry **entries; /* owned, in order */
        size_t n;
        size_t bytes; /* of their paths */
};

struct learned_entry {
        uint32_t score;    /* reports, in thousandths */
        uint64_t position; /* average rank, in thousandths */
        size_t len;
        char path[]; /* within the workspace, checked; NUL-terminated */
};

/** Some bytes; borrowed. */
struct learned_path {
        const char *data;
        size_t len;
};

/** One run's first reads, in order. All borrowed. */
struct learned_report {
        const char *folder;               /* what was mounted, a checked path */
        const struct learned_path *paths; /* relative to it, checked */
        size_t n;
};

#define LEARNED_LIST_TEXT_MAX ((size_t)4 << 20) /* what learned_list_write comes to at most */

/** The list is empty and usable again. */
void learned_list_release(struct learned_list *list);

/** Merges REPORT; afterwards at most WIRE_LEARNED_PATHS_MAX paths and WIRE_LEARNED_BYTES_MAX bytes are left, the most reported. -ENOMEM: LIST may hold part of it. */
int learned_list_merge(struct learned_list *list, const struct learned_report *report);

/** Reads what learned_list_write wrote into LIST, which is empty. -EBADMSG for anything else, -ENOMEM; LIST is empty then. */
int learned_list_read(struct learned_list *list, const char *text, size_t len);

/** Appends the list as text (docs/formats.md). -ENOMEM. */
int learned_list_write(const struct learned_list *list, struct buffer *out);

/** ENTRY's path relative to FOLDER; NULL: it does not lie in it. */
const char *learned_entry_below(const struct learned_entry *entry, const char *folder);
