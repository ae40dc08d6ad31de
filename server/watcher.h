/*
 * Tells which names beneath the workspace root may have changed, so that a fresh answer needs no walk. The best that the kernel and our
 * privileges allow: one fanotify mark for the whole file system, else an inotify watch for every folder, else nothing.
 *
 * What it says is a hint to look there, never a fact: the scanner looks. What it does not say may have happened all the same (a mapping that is
 * still written to, a mount, a write under a name that is not beneath the root or in another spider, an event lost on the way): the periodic
 * stat pass is the safety net. Of a file with several names it tells the one that was used: the others are the scanner's to find.
 *
 * It knows folders as the scanner last saw them: by watcher_add until watcher_forget, whatever is moved meanwhile. A new folder is told of as
 * a name in its parent; what happens in it is told once it is added, which is before the scanner reads it.
 * Thread-safe.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

struct watcher;

enum watcher_kind { /* in the order of the option's choices */
                    WATCHER_AUTO = 0,
                    WATCHER_FANOTIFY,
                    WATCHER_INOTIFY,
                    WATCHER_OFF,
};

struct watcher_options {
        const char *root;       /* the workspace root's path; copied */
        enum watcher_kind kind; /* what to use; AUTO: the best that works */
        unsigned drop_percent;  /* for tests: so many of all events are lost without a word */
        /*
         * NAME in folder PATH ("" for the top one) of SPIDER may have come, gone or changed; NAME NULL: anything directly in that folder or the
         * folder itself. From the watcher's thread or from within watcher_drain, never under a lock of the watcher's.
         */
        void (*changed)(void *arg, const char *spider, const char *path, const char *name);
        /* Events were lost, or a spider's own folder came, went or was moved: anything in SPIDER (NULL: in all) may have changed. */
        void (*lost)(void *arg, const char *spider);
        void *arg;
};

/**
 * Starts the thread. AUTO never fails for lack of a kernel feature or of privileges: the kind is then OFF, and so it is where the file system is
 * one that others may change unseen (NFS, FUSE and the like). -ENOMEM, -EPERM, -ENOSYS …
 */
int watcher_new(const struct watcher_options *options, struct watcher **ret);

/** Ends the thread, frees. NULL is fine. */
void watcher_free(struct watcher *watcher);

/** What is in use; never AUTO. */
enum watcher_kind watcher_get_kind(const struct watcher *watcher);

/**
 * Has folder PATH of SPIDER, open as FD, watched from now on. Call it before the folder is read, its parent's first; again for the same folder costs
 * little. If another folder was known at PATH, that and all below it are forgotten. 0, or a negative errno (-ENOSPC: no more
 * watches; -EOPNOTSUPP: its file system cannot be watched): then the spider is not covered (watcher_covers) until watcher_remove; logged once.
 */
int watcher_add(struct watcher *watcher, const char *spider, const char *path, int fd);

/**
 * Forgets folder PATH of SPIDER with all below it: the scanner found it gone (not: replaced by another folder; watcher_add sees that). Until
 * then a folder that was moved away is still told about under the path that it was added with, since it may come back unseen.
 */
void watcher_forget(struct watcher *watcher, const char *spider, const char *path);

/** Forgets SPIDER: gives its watches back. It is covered again after a pass over everything. */
void watcher_remove(struct watcher *watcher, const char *spider);

/** Whether all folders of SPIDER that were added are watched: false once watcher_add has failed for it, and with OFF. */
bool watcher_covers(struct watcher *watcher, const char *spider);

/**
 * Reports all that the kernel had queued when it was called: afterwards every change that was finished before the call has been told.
 * Not from within `changed` or `lost`, and under no lock that they take.
 */
void watcher_drain(struct watcher *watcher);
