/*
 * The keeper of a mount: a process that starts its daemon, and when the daemon dies without a word starts it anew, so that no task notices. It holds what the next daemon needs
 * (fs/takeover.h), above all the kernel's connection, which would end with the last process that has it open.
 *
 * A dead daemon is not always gone: because of what is pushed into the page cache (fs/pagecache.c) a thread of it may be waiting, in the kernel and
 * beyond any signal, for a page that only a daemon could give. So the keeper goes by the death of a thread that is never stuck, and does not wait for the rest: the next daemon gives
 * the page.
 *
 * A daemon that hangs (fs/keeper_hang.c) is ended, and one that was asked to end and does not is killed.
 *
 * It gives up when the daemon dies again and again, or cannot be started, or if this kernel cannot send once more what the dead one left unanswered. Then it ends the
 * connection: a task gets ENOTCONN at once, instead of waiting for ever.
 */
#pragma once

#include <stdbool.h>

struct takeover;

struct keeper_options {
        /* A daemon's life, in a process of its own; returns its exit code. TAKEOVER is the daemon's copy. It tells the keeper when it serves, and when it ends. */
        int (*daemon)(struct takeover *takeover, void *arg);
        void *arg;
        bool foreground; /* stay with the terminal */
        int ready_fd;    /* the first daemon's: not for the keeper to keep open; -1: none */
};

/** For the keeper, and for the first daemon: off the terminal from which it was started. Later daemons are then as the keeper is. */
void keeper_leave_terminal(void);

/** Returns when the mount has ended, or never was: the exit code of mount(8). Before any thread was started. SIGTERM, SIGINT and SIGHUP go to the daemon. */
int keeper_run(const struct keeper_options *options);
