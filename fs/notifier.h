/*
 * Tells the kernel what a new version changed, so that everything else can stay cached for as long as it
 * likes. On a thread of its own: the kernel may hold a notification back until a request under way in the
 * same folder has been answered.
 */
#pragma once

#include "cache/catalog.h"

struct bindings;
struct fuse_session;
struct notifier;
struct takeover_page;

/**
 * All are borrowed for the notifier's life. In PAGE it notes for who takes over which of the catalog's generations the kernel was told all of, and which may be forgotten.
 */
int notifier_new(struct fuse_session *fuse, struct catalog *catalog, struct bindings *bindings,
                 struct takeover_page *page, struct notifier **ret);

/** Drops what has not been told yet, stops. NULL is fine. */
void notifier_free(struct notifier *notifier);

/** Queues CHANGES (taken over, emptied), with which the catalog came to GENERATION. Does not block. -ENOMEM: nothing is queued. Thread-safe. */
int notifier_push(struct notifier *notifier, struct catalog_changes *changes, uint64_t generation);

/** Waits until all that was pushed so far has been told. Never from a FUSE request. Thread-safe. */
void notifier_drain(struct notifier *notifier);
