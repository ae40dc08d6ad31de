/*
 * Countdown injection: of the calls that a path makes, the n-th fails, for n = 1, 2, 3, … until the path comes to its end without a fault; once
 * with that call alone, once with all that follow. After each the path's own check says whether all invariants hold.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Calls beyond so many are mostly those of loops: then only every half more is tried, but with FSYNCFS_TEST_FULL=1. */
#define COUNTDOWN_ALL 16

/* What is run; all get ARG. Every function but `run` is undisturbed. */
struct countdown_path {
        const char *name;
        void (*prepare)(void *arg);
        int (*run)(void *arg);           /* without a fault it has to return what is not negative */
        void (*check)(void *arg, int r); /* R: from `run`. Closes and frees all that prepare and run made */
        void *arg;
        unsigned classes; /* of enum fault_class: these alone; 0: all up to FAULT_MEMORY */
        /* Libraries with threads of their own take memory, too, so that what is in use says nothing; and only COUNTDOWN_SHARED_RUN calls fail in a row: who tries
         * again until its time is up comes to its end. */
        bool shared;
};

#define COUNTDOWN_SHARED_RUN 3

struct countdown_result {
        uint64_t injected; /* runs in which a call failed */
        uint64_t failed;   /* of those, runs that said so */
        uint64_t syncs;    /* runs in which an fsync failed */
};

/** Makes a folder for what is run, in memory as each run begins with an empty one, and has the log tell of errors alone: RET_PATH, of 64 bytes. */
void countdown_begin(char *ret_path);

/**
 * Runs PATH, injecting into calls on the file system of FOLDER. Asserts (cmocka) that after each run no descriptor is open, and no memory in use,
 * that was not before. Adds to RET.
 *
 * A failure is repeated by FSYNCFS_COUNTDOWN="<path>/<kind>/<once or on>/<n>", which countdown_where printed: nothing else is run then.
 */
void countdown(const struct countdown_path *path, const char *folder, struct countdown_result *ret);

/** Whether the disk gave back nothing of what was read, for the run that is being checked: as damage does. */
bool countdown_cannot_read(void);

/** Prints where the countdown was when an assertion ended it; for a test's teardown. */
void countdown_where(void);

/** Prints a row for docs/reliability.md (tests/fault/report.py). */
void countdown_report(const char *fault, const char *promised, const struct countdown_result *result);
