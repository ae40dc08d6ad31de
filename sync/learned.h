/*
 * What tasks read first, learned by the master from all mounts of a workspace, and brought before it is asked for.
 *
 * A mount records the order in which files are read for the first time, until nothing new was read for a while, or until it ends, and sends that to
 * the master, once. A new mount asks the master for what all of these came to, and has those contents fetched that are not here, in that order, as
 * read-ahead: whatever a task waits for goes before.
 *
 * Only with masters that know of it. Thread-safe. Nothing here ever makes a read wait.
 */
#pragma once

#include "sync/fetch.h"

struct learned;

struct learned_options {
        struct session *session; /* all borrowed for its life */
        struct catalog *catalog;
        struct store *store;
        struct fetch *fetch;
        uint64_t rate_bytes; /* a second, at most, for what is brought; 0: as fast as it goes */
};

struct learned_stats {
        uint64_t files;   /* on the master's list, and in this tree */
        uint64_t fetched; /* of these, brought because of it */
        uint64_t hits;    /* of these, read after they had come */
        uint64_t joined;  /* first reads of what was on its way because of it */
        uint64_t wasted;  /* fetched, and not read by now */
};

/** Asks for nothing yet. */
int learned_new(const struct learned_options *options, struct learned **ret);

/** The session has connected: the list is asked for, while the tree is still on its way. Does not block. NULL is fine. */
void learned_connected(struct learned *learned);

/** The catalog has its first version, maybe still loading, and the fetch may be used: what is on the list is brought. Does not block. NULL is fine. */
void learned_begin(struct learned *learned);

/**
 * Sends the report that is due, unless it takes longer than a second; brings nothing more. Before session_interrupt, and before the fetch is freed.
 * NULL is fine.
 */
void learned_stop(struct learned *learned);

/** After the fetch was freed; logs what it was good for. NULL is fine. */
void learned_free(struct learned *learned);

/** A task reads INO from its beginning, and the kernel has asked for it. True: its content was asked for already, because it is on the list. Quick; does not block. */
bool learned_note_read(struct learned *learned, uint64_t ino);

/** INO was put into the kernel's page cache ahead of its reader, so that its read will not be seen. Quick; does not block. */
void learned_note_push(struct learned *learned, uint64_t ino);

void learned_get_stats(struct learned *learned, struct learned_stats *ret);
