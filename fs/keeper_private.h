/*
 * What fs/keeper*.c share: the daemon's life and its replacement are in fs/keeper.c, upgrades in fs/keeper_upgrade.c, hangs in fs/keeper_hang.c,
 * stops in fs/keeper_stopped.c. One thread, which waits in
 * one poll.
 */
#pragma once

#include "base/util.h"
#include "fs/child.h"
#include "fs/keeper.h"
#include "fs/takeover.h"

#define REAP_MS     200 /* a dead daemon's threads hold locks that the next one would wait for */
#define CRASHES_MAX 12u /* within CRASHES_SEC: then it is given up */
#define CRASHES_SEC 60

/* What is known of the daemon's oldest request, by the reports of fs/progress.h. */
struct keeper_hang {
        pid_t thread;        /* that has it; 0: none is old */
        uint32_t looks;      /* its age when it was looked at last */
        unsigned long moves; /* how often the thread had been taken from a CPU by then */
        unsigned asleep;     /* how often nobody was found at work, less how often somebody was */
        unsigned recent;     /* hangs, each within RECENT_SEC of the one before */
        int64_t last_ns;     /* when the last one was found; 0: none ever */
};

struct keeper {
        const struct keeper_options *options;
        struct takeover takeover;
        char folder[PATH_MAX]; /* where the mount was asked for */
        int signal_fd;         /* owned */
        struct child now;      /* the daemon */
        bool ending;           /* it said that it ends */
        bool asked;            /* to end the mount, by a signal */

        int binary_fd; /* owned: the program of the daemon; -1: this one */

        /* An upgrade: another program is started, says that it is able, gets what there is to take over when the daemon has been killed, and serves. */
        struct child next;
        int next_fd;         /* owned: its program, until it is the daemon's */
        bool able;           /* the next one is */
        bool unproven;       /* it is the daemon now, and does not serve yet */
        int before_fd;       /* owned: then, the program to go back to; -1: this one */
        int64_t deadline_ns; /* of it all; INT64_MAX: no upgrade is under way */

        int64_t kill_ns; /* then the daemon is killed, unless it is dead: it was asked to end. INT64_MAX: it was not */
        int64_t continue_ns; /* then the daemon, which was stopped, is made to go on; INT64_MAX: it was not */
        struct keeper_hang hang;

        int64_t crashes_ns[CRASHES_MAX]; /* when; the oldest is overwritten */
        unsigned crashes;                /* ever */
};

static inline void keeper_drop_fd(int *fd)
{
        int old = take_fd(fd);

        cleanup_close(&old);
}

/** Starts the program BINARY_FD (taken over) beside the daemon, unless an upgrade is under way or there is nothing to take over yet. */
void keeper_upgrade_begin(struct keeper *k, int binary_fd);

/** What the next program says: once it is able the daemon is killed. A daemon that can die at any moment does not mind at which. */
void keeper_upgrade_hear(struct keeper *k);

/** The daemon is dead, and the next one, which is able, takes its place. */
void keeper_upgrade_promote(struct keeper *k);

/** The program that took the daemon's place died before it served: the one before is the daemon's again, to be started. */
void keeper_upgrade_undo(struct keeper *k);

/** The upgrade under way is over: it failed for the reason FAILURE, or succeeded if that is NULL. Counted and logged. */
void keeper_upgrade_end(struct keeper *k, const char *failure);

/** Ends an upgrade that takes too long. */
void keeper_upgrade_check_deadline(struct keeper *k);

/** A child was stopped, goes on, or is dead. */
void keeper_stopped_hear(struct keeper *k);

/** Makes a daemon go on that has been stopped for long. */
void keeper_stopped_check(struct keeper *k);

/** Whether the daemon is in a debugger. */
bool keeper_hang_is_traced(const struct keeper *k);

/** Hears the daemon's reports of a request that gets old, looks at its threads, and if it hangs ends it. */
void keeper_hang_hear(struct keeper *k);
