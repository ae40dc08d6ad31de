/*
 * Whether a daemon gets on with what it answers: each thread says when it begins and ends a piece of work that needs nobody, a request or the end of one that had to wait. What waits
 * for the master is no work: no thread holds it.
 *
 * Age is counted in looks, which a thread that does nothing else takes every second (the lifeline, fs/child.c). A daemon that is stopped, frozen, swapped out or without a CPU takes none,
 * so that nothing ages in it. No locks: a look must come back whatever the other threads are stuck in.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#define PROGRESS_THREADS 64 /* further ones are not watched */
#define PROGRESS_REPLY                                                                                       \
        0u /* work of a thread that has others as well: a request's last part, the end of the mount. Anything else: the opcode of a request */

/** What goes to the keeper, by a pipe, in one piece: the oldest work under way. */
struct progress_report {
        pid_t thread; /* 0: none is old */
        uint32_t opcode;
        uint32_t looks; /* at which it was under way already */
        uint32_t n_fresh;
        pid_t fresh[PROGRESS_THREADS +
                    1]; /* threads that only answer requests, and have none that is old; and who looks */
};

/** This thread begins; OPCODE as above. May nest: the outermost counts. */
void progress_begin(uint32_t opcode);

void progress_end(void);

/** Takes a look. Always the same thread. */
void progress_look(struct progress_report *ret);
