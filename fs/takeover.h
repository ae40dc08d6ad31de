/*
 * What one daemon of a mount leaves to the next, should it die: the kernel's connection, the lock of its catalog, and what must not be forgotten while
 * the kernel has files open. The keeper (fs/keeper.h) owns it and starts each daemon with it; the first one fills it in.
 *
 * What changes often lies in memory that outlives the daemon: written in place, so that a death at any instant leaves it right.
 */
#pragma once

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/channel.h"

/** Memory that keeper and daemons share. */
struct takeover_page {
        _Atomic uint64_t
                told; /* the catalog's generation of which the kernel was told all; written by the notifier */
        _Atomic uint64_t restarts;
        _Atomic uint64_t
                hangs; /* of these, daemons that did not get on and were ended; written by the keeper */
        _Atomic uint64_t upgrades, failed_upgrades;
        _Atomic uint64_t
                forgotten; /* the catalog's generation up to which rows may be gone; written by the notifier */
};

#define TAKEOVER_DEVICE_MAX 24

struct takeover {
        int keeper_fd; /* owned: the daemon's end of the socket to the keeper; -1: there is none */
        int device_fd; /* owned; -1: nothing is mounted yet, or this kernel cannot send its requests again */
        int lock_fd;   /* owned: the catalog's; -1 as long as device_fd is */
        int fixed_fd, moved_fd;     /* owned: of the bindings (fs/bindings.h) */
        int handles_fd;             /* owned: of the open files (fs/handles.h) */
        int page_fd;                /* owned */
        struct takeover_page *page; /* page_fd, mapped */
        uint32_t slot;              /* the catalog's */
        bool passthrough;           /* large files are opened by fs/passthrough.h */
        struct channel_saved channel;
        char target[PATH_MAX];            /* the mount point; empty: not mounted yet */
        char device[TAKEOVER_DEVICE_MAX]; /* "major:minor" of what was mounted there */
};

#define TAKEOVER_NONE                                                                                        \
        ((struct takeover){ .keeper_fd = -1,                                                                 \
                            .device_fd = -1,                                                                 \
                            .lock_fd = -1,                                                                   \
                            .fixed_fd = -1,                                                                  \
                            .moved_fd = -1,                                                                  \
                            .handles_fd = -1,                                                                \
                            .page_fd = -1 })

/** Nothing is left yet. Negative errno: no memory, no descriptors. */
int takeover_init(struct takeover *takeover);

void takeover_release(struct takeover *takeover);

/** Whether there is a mount to be taken over. */
static inline bool takeover_is_due(const struct takeover *takeover)
{
        return takeover->device_fd >= 0;
}

enum takeover_word {
        TAKEOVER_SERVING = 1, /* the mount is served from now on; carries all that a next daemon needs */
        TAKEOVER_ENDING =
                2, /* it was unmounted, or is given up in good order: there is nothing to take over */
        TAKEOVER_UPGRADE = 3, /* another program is to take over; carries a descriptor of it */
        TAKEOVER_ABLE = 4,    /* of a program just started: it waits for what it takes over */
};

/** The daemon's side: says WORD to the keeper, with TAKEOVER's descriptors and plain members. Negative errno. */
int takeover_tell(const struct takeover *takeover, enum takeover_word word);

/** The daemon's side: asks the keeper to have the program open as BINARY_FD (borrowed) take over. Negative errno. */
int takeover_ask_upgrade(const struct takeover *takeover, int binary_fd);

/**
 * The keeper's side: takes one word from FD; what comes with TAKEOVER_SERVING goes into TAKEOVER, the program of TAKEOVER_UPGRADE into RET_BINARY_FD, the caller's to close. The word; 0: there
 * is none; or a negative errno.
 */
int takeover_hear(struct takeover *takeover, int fd, int *ret_binary_fd);

/** The keeper's side: all of TAKEOVER, to another program. Negative errno. */
int takeover_send(const struct takeover *takeover, int fd);

/** That program's side: waits for it. -EPIPE: the keeper does not send it; -EPROTO: it speaks another language. */
int takeover_receive(struct takeover *takeover, int fd);
