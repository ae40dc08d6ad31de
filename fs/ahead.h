/*
 * What a mount brings before it is read: read-ahead, siblings, and the list learned from earlier runs. Their beginning and end; each module
 * says the rest.
 */
#pragma once

struct filesystem;

/**
 * Starts what the mount's options want; after the fetch, before anything connects. Negative errno: what was started is for ahead_stop and ahead_free.
 */
int ahead_start(struct filesystem *fs);

/** The master FS (struct filesystem *) is to be had from has answered: asks it for what it has learned. Does not block. */
void ahead_connected(void *fs);

/** The tree's first version is here: what is on the list may be brought. Does not block. */
void ahead_begin(struct filesystem *fs);

/** The mount is over: tells the master what was read, within a second. Before session_interrupt. */
void ahead_report(struct filesystem *fs);

/** Ends their threads; before the fetch is freed. */
void ahead_stop(struct filesystem *fs);

/** Frees them; after the fetch was. */
void ahead_free(struct filesystem *fs);
