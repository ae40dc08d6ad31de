/*
 * What was learned of each workspace from its workers' reports: the list of files that tasks read first (server/learned_list.h), kept beside its tree.
 * It is only a hint: one that is damaged or lost is begun anew. Nothing is held in memory.
 *
 * Thread-safe. Both calls read and write a small file.
 */
#pragma once

#include "server/learned_list.h"
#include "server/versions.h"

struct learned;

/** VERSIONS is borrowed for its life. -ENOMEM. */
int learned_new(struct versions *versions, struct learned **ret);

/** NULL is fine. */
void learned_free(struct learned *learned);

/**
 * Merges REPORT into SPIDER's list. -EBUSY: another one was merged within the last second; -ENOENT: nobody ever mounted that spider; -ENOSPC and
 * so on.
 */
int learned_merge(struct learned *learned, const char *spider, const struct learned_report *report);

/** SPIDER's list into RET, which is empty; it stays so if nothing was learned, or the spider is not known yet: its first mount asks while it is being scanned. */
int learned_get(struct learned *learned, const char *spider, struct learned_list *ret);
