/*
 * inotify: a watch for every folder, for masters without the privileges that fanotify asks for. A folder's key is its watch descriptor, which
 * stays with the folder wherever it is moved, and which the kernel does not use again (it counts up).
 */
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "server/watcher_source.h"

#define DIRENT_EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define EVENTS        (DIRENT_EVENTS | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_ONLYDIR | IN_EXCL_UNLINK)

static int watch(const struct watcher_source *source, int fd, uint64_t *ret_key)
{
        char path[32];
        int wd;

        /* There is no way to name a folder by its descriptor but this link. */
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        wd = inotify_add_watch(source->fd, path, EVENTS);
        if (wd < 0)
                return -errno;
        *ret_key = (uint64_t)wd;
        return 0;
}

static void unwatch(const struct watcher_source *source, uint64_t key)
{
        /* EINVAL: the folder is deleted, and its watch with it. */
        (void)inotify_rm_watch(source->fd, (int)key);
}

static int open_source(void)
{
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

static enum watcher_event_kind kind_of(const struct inotify_event *event)
{
        if (event->mask & IN_Q_OVERFLOW)
                return WATCHER_EVENT_LOST;
        if (event->mask & IN_UNMOUNT)
                return WATCHER_EVENT_UNMOUNT;
        if (event->mask & IN_IGNORED)
                return WATCHER_EVENT_GONE;
        return event->len > 0 ? WATCHER_EVENT_NAME : WATCHER_EVENT_SELF;
}

static bool next(const char *data, size_t len, size_t *offset, struct watcher_event *ret)
{
        struct inotify_event event;

        if (len - *offset < sizeof(event))
                return false;
        memcpy(&event, data + *offset, sizeof(event));
        if (event.len > len - *offset - sizeof(event))
                return false;
        *ret = (struct watcher_event){
                .kind = kind_of(&event),
                .folder_entry = (event.mask & IN_ISDIR) && (event.mask & DIRENT_EVENTS),
                .key = (uint64_t)event.wd,
                .name = data + *offset + sizeof(event),
        };
        ret->name_len = strnlen(ret->name, event.len);
        *offset += sizeof(event) + event.len;
        return true;
}

const struct watcher_source_ops watcher_inotify = {
        .name = "inotify",
        .event_counts = 0,
        .open = open_source,
        .watch = watch,
        .unwatch = unwatch,
        .next = next,
};
