/*
 * Which content the pages of an inode number are made of. Nearly always its own, the one the catalog names, fixed when the first byte
 * of it is served. But a file may be open, and never have been read, when the master replaces it: its own content is then nowhere to be
 * had. As nobody has seen a byte of it, the number may still be bound to the entry that took its place.
 *
 * Thread-safe. Costs a bit for each number up to the highest that was read, and a little for each that was bound elsewhere.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bindings;

/**
 * FIXED_FD and MOVED_FD are files in memory, borrowed, in which it is all kept: empty, or as another process left them when it died. -ENOMEM, -EIO.
 */
int bindings_new(int fixed_fd, int moved_fd, struct bindings **ret);

/** NULL is fine. */
void bindings_free(struct bindings *bindings);

/** The entry whose content and attributes INO shows now: INO itself, or what it was bound to. */
uint64_t bindings_get(struct bindings *bindings, uint64_t ino);

/** A number that is bound to SOURCE, another one; 0: there is none. A search through all that are bound elsewhere. */
uint64_t bindings_find_bound(struct bindings *bindings, uint64_t source);

/** Bytes of SOURCE's content are about to be served as INO's: from now on, for good. -EAGAIN: INO is bound to another entry; -ENOMEM. */
int bindings_fix(struct bindings *bindings, uint64_t ino, uint64_t source);

/** Binds INO, of which no byte was served, to SOURCE. -ESTALE: too late; -ENOMEM; errors of write(2). */
int bindings_move(struct bindings *bindings, uint64_t ino, uint64_t source);

/** Nobody asks about INO any more, wherever it is bound to. Errors of write(2): then it stays bound. */
int bindings_drop(struct bindings *bindings, uint64_t ino);
