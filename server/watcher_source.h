/*
 * Where the watcher's events come from: one way of the kernel's to tell of changes, behind a vtable. The watcher (watcher.c) does all the rest.
 */
#pragma once

#include <stdbool.h>

#include "base/util.h"

enum watcher_event_kind {
        WATCHER_EVENT_NONE = 0, /* nothing that we care for */
        WATCHER_EVENT_NAME,     /* something about `name` in the folder */
        WATCHER_EVENT_SELF,     /* the folder's own attributes */
        WATCHER_EVENT_GONE,     /* the folder is deleted: its key will not come again */
        WATCHER_EVENT_UNMOUNT,  /* what the folder lies on is not there any more */
        WATCHER_EVENT_LOST,     /* the kernel's queue ran over: anything may have happened */
};

struct watcher_event {
        enum watcher_event_kind kind;
        bool folder_entry; /* NAME: a folder of that name came, went or was moved */
        uint64_t key;      /* of the folder; not for LOST */
        const char *name;  /* NAME: borrowed from what was read */
        size_t name_len;
};

struct watcher_source {
        const struct watcher_source_ops *ops;
        int fd; /* readable when events are there; non-blocking; owned */
};

/* Every hook is mandatory. `next` is called by one thread at a time, `watch` and `unwatch` under the watcher's lock. */
struct watcher_source_ops {
        const char *name;
        /* What one event counts in FIONREAD's answer; 0: as many bytes as are read. */
        unsigned event_counts;
        /* The descriptor, or -EPERM, -ENOSYS or -EINVAL (the kernel does not know it), -EMFILE … */
        int (*open)(void);
        /* Has the folder FD watched; that it is already is fine. RET_KEY: what its events will carry. -ENOSPC, -EOPNOTSUPP, -ENOMEM … */
        int (*watch)(const struct watcher_source *source, int fd, uint64_t *ret_key);
        /* Nobody wants to hear of the folder with KEY any more. */
        void (*unwatch)(const struct watcher_source *source, uint64_t key);
        /* The event at *OFFSET of what was read; moves *OFFSET behind it. False at the end. */
        bool (*next)(const char *data, size_t len, size_t *offset, struct watcher_event *ret);
};

extern const struct watcher_source_ops watcher_fanotify;
extern const struct watcher_source_ops watcher_inotify;

/** Opens a source and has the workspace root watched: so we know that it works there. Errors of `open` and `watch`; *RET is untouched then. */
int watcher_source_open(const struct watcher_source_ops *ops, int root_fd, struct watcher_source *ret,
                        uint64_t *ret_key);

/** False if what FD lies on may be changed by another machine, or behind a server's back, without our kernel's knowing. */
bool watcher_source_tells_all(int fd);
