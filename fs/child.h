/*
 * A daemon, as its keeper sees it: how it is started, by a fork or as another program, and how its death shows at once, or that it does not get on (fs/progress.h).
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct takeover;

struct child {
        pid_t pid;     /* 0: there is none, or it was reaped */
        int socket_fd; /* owned: our end; -1: none */
        int lifeline_fd; /* owned: ends when it has died, and until then brings struct progress_report; never blocks; -1: none */
};

#define CHILD_NONE ((struct child){ .socket_fd = -1, .lifeline_fd = -1 })

/** The calling process is a keeper: small, and what it holds is worth more than what it could give back when memory is short. Its children are as it was before. */
void child_protect_keeper(void);

/** What a forked process does instead of returning: the daemon's life, and its exit code. */
struct child_life {
        int (*run)(struct takeover *takeover, void *arg);
        void *arg;
        struct takeover *takeover; /* the keeper's; its keeper_fd is the child's own in the child */
};

/** Forks a daemon. Negative errno. */
int child_fork(const struct child_life *life, struct child *ret);

/**
 * Starts BINARY_FD (of an executable file) in FOLDER, with the arguments that this process was started with; there it is for child_adopt. That it could not be executed shows
 * as its death. Negative errno.
 */
int child_exec(int binary_fd, const char *folder, struct child *ret);

/**
 * In a process that may have been started by child_exec: 0 if it was not; 1 if it was, and then TAKEOVER is filled in with what it takes over: waits until the keeper sends it. Negative
 * errno: the keeper does not want this process any more, or speaks another language.
 */
int child_adopt(struct takeover *takeover);

/**
 * Waits for the rest of CHILD, which is dead or about to be, for at most TIMEOUT_MS, or if that is negative until the end. Reaps others with it that took their time. True: here is its
 * status; false: it is still there, or was reaped before.
 */
bool child_reap(struct child *child, int timeout_ms, int *ret_status);

/** Closes what is ours of it. The process is not waited for. */
void child_release(struct child *child);
