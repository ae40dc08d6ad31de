/*
 * Which of SOURCE's masters is used, and how each of them is: policy, and the thread that asks. It knows no network: it asks through its
 * user's callbacks, and what its user meets it is told.
 *
 * The first master that is well is used. The one in use is asked when nothing has come from it for a while although something is open; if it
 * does not answer, it is away. Those before it are asked again and again, and used once they have been well for some time: longer for
 * one that was lost soon after it had been returned to. Those behind it are asked now and then, so that people can be told. Thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct masters;

#define MASTERS_MAX  16
#define MASTERS_NONE SIZE_MAX

/* From the thread of its own, without a lock. */
struct masters_options {
        size_t n;       /* 1 to MASTERS_MAX */
        int timeout_ms; /* a read's: a master that is gone is found out within two thirds of it, and within 10 s */
        /* Asks master I for a word, for TIMEOUT_MS at most. 0: it is well; -EHOSTUNREACH, -ECONNREFUSED, -ETIMEDOUT: it is away; any other
         * errno: it is there, and yet of no use. */
        int (*ask)(size_t i, int timeout_ms, void *arg);
        /* When something last came from I over what is open to it; 0: nothing is. */
        int64_t (*heard_ns)(size_t i, void *arg);
        /* I, which is in use, is silent: what is open to it is to end. */
        void (*lost)(size_t i, void *arg);
        /* I is to be used from now on: calls masters_use. */
        void (*move)(size_t i, void *arg);
        void *arg;
};

enum master_state {
        MASTER_UNKNOWN = 0, /* never asked */
        MASTER_WELL,
        MASTER_AWAY,
};

struct master_health {
        enum master_state state;
        int error;        /* MASTER_AWAY: why, negative errno */
        int64_t since_ns; /* when it came to this state, on the monotonic clock */
        bool used;
};

/** Starts the thread. -ENOMEM, -EAGAIN. */
int masters_new(const struct masters_options *options, struct masters **ret);

/** Ends the thread: `ask` must not wait any more. NULL is fine. */
void masters_free(struct masters *masters);

/** The one in use; MASTERS_NONE: there was none yet. Cheap. */
size_t masters_current(const struct masters *masters);

/** I, asked by our user, is well, or away with ERROR (as `ask` says it). */
void masters_note(struct masters *masters, size_t i, int error);

/** An exchange with I has failed as if it were away: it is to be asked before it is used again. After three in a row it is away, whatever it says. */
void masters_doubt(struct masters *masters, size_t i);

/** An exchange with I has gone as it should. */
void masters_note_heard(struct masters *masters, size_t i);

/** Whether the one in use may be used without being asked. */
bool masters_is_sure(struct masters *masters);

/** In which order they are to be tried, MASTERS_MAX at most: how many. */
size_t masters_order(struct masters *masters, size_t ret[MASTERS_MAX]);

/** I is in use now. The one before; MASTERS_NONE: none. */
size_t masters_use(struct masters *masters, size_t i);

void masters_get(struct masters *masters, size_t i, struct master_health *ret);

/** Whether ERROR says that a master is away, rather than that it refuses. */
bool masters_is_away(int error);
