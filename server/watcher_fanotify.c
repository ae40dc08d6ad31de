/*
 * fanotify: one mark for the whole file system tells of every change as (handle of a folder, name). A folder's key is a hash of its handle,
 * which never stands for another folder, wherever it is moved. Needs CAP_SYS_ADMIN and Linux 5.9.
 *
 * Handles are compared, never opened: an event from elsewhere on the file system costs one look-up in a hash table, and no path has to be
 * guessed through a mount that may hide the place.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/statfs.h>

#include "base/hash.h"
#include "server/watcher_source.h"

/* No event of reading: the master reads a lot. FAN_DELETE_SELF is for folders; those of files come without a folder and are not queued. */
#define DIRENT_EVENTS (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define EVENTS        (DIRENT_EVENTS | FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_DELETE_SELF | FAN_ONDIR)

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5: a handle for comparing, also where none can be opened */
#endif

/* A handle as it stands in an event: the file system's id, then struct file_handle. */
struct identity {
        uint64_t fsid;
        struct file_handle handle;
        char room[MAX_HANDLE_SZ];
};

static uint64_t key_of(const void *fsid_and_handle, size_t handle_bytes)
{
        return hash_xxh3_64(fsid_and_handle, sizeof(uint64_t) + sizeof(struct file_handle) + handle_bytes);
}

static int folder_key(int fd, uint64_t *ret)
{
        struct identity id = { .handle.handle_bytes = MAX_HANDLE_SZ };
        struct statfs fs;
        int mount, r;

        r = name_to_handle_at(fd, "", &id.handle, &mount, AT_EMPTY_PATH);
        if (r < 0 && errno == EOPNOTSUPP) {
                id.handle.handle_bytes = MAX_HANDLE_SZ;
                r = name_to_handle_at(fd, "", &id.handle, &mount, AT_EMPTY_PATH | AT_HANDLE_FID);
        }
        if (r < 0 || fstatfs(fd, &fs) < 0)
                return errno == EINVAL ? -EOPNOTSUPP : -errno;
        memcpy(&id.fsid, &fs.f_fsid, sizeof(id.fsid));
        *ret = key_of(&id, id.handle.handle_bytes);
        return 0;
}

/* Marking what is marked already changes nothing, and a file system that was mounted anew has lost its mark: so it is done each time. */
static int watch(const struct watcher_source *source, int fd, uint64_t *ret_key)
{
        if (fanotify_mark(source->fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, EVENTS, fd, NULL) < 0)
                return errno == EXDEV || errno == ENODEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
        return folder_key(fd, ret_key);
}

/* The mark stays: it is one for the whole file system. */
static void unwatch(const struct watcher_source *source, uint64_t key)
{
        (void)source;
        (void)key;
}

static int open_source(void)
{
        /* The queue keeps its bound: one that runs over costs a pass, one that grows costs the machine's memory. */
        int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK,
                               O_RDONLY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* The record that names a folder. False: there is none that we understand. */
static bool read_identity(const char *info, size_t len, struct watcher_event *ret)
{
        struct fanotify_event_info_fid fid;
        struct file_handle handle;
        size_t at = offsetof(struct fanotify_event_info_fid, fsid), name;

        if (len < sizeof(fid) + sizeof(handle))
                return false;
        memcpy(&fid, info, sizeof(fid));
        if (fid.hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME &&
            fid.hdr.info_type != FAN_EVENT_INFO_TYPE_DFID)
                return false;
        memcpy(&handle, info + sizeof(fid), sizeof(handle));
        name = sizeof(fid) + sizeof(handle) + handle.handle_bytes;
        if (handle.handle_bytes > MAX_HANDLE_SZ || name > len)
                return false;
        ret->key = key_of(info + at, handle.handle_bytes);
        ret->name = info + name;
        ret->name_len =
                fid.hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME ? strnlen(ret->name, len - name) : 0;
        return true;
}

static void classify(uint64_t mask, struct watcher_event *event)
{
        bool self = event->name_len == 0 || (event->name_len == 1 && event->name[0] == '.');

        if (self) {
                event->kind = mask & FAN_DELETE_SELF ? WATCHER_EVENT_GONE : WATCHER_EVENT_SELF;
                return;
        }
        event->kind = WATCHER_EVENT_NAME;
        event->folder_entry = (mask & FAN_ONDIR) && (mask & DIRENT_EVENTS);
}

static bool next(const char *data, size_t len, size_t *offset, struct watcher_event *ret)
{
        struct fanotify_event_metadata meta;
        struct fanotify_event_info_header header;
        const char *event = data + *offset;

        if (len - *offset < sizeof(meta))
                return false;
        /* A copy: events follow each other without regard for alignment. */
        memcpy(&meta, event, sizeof(meta));
        if (meta.event_len < sizeof(meta) || meta.event_len > len - *offset)
                return false;
        *offset += meta.event_len;
        *ret = (struct watcher_event){ .kind = meta.mask & FAN_Q_OVERFLOW ? WATCHER_EVENT_LOST
                                                                          : WATCHER_EVENT_NONE };
        for (size_t at = meta.metadata_len; at + sizeof(header) <= meta.event_len; at += header.len) {
                memcpy(&header, event + at, sizeof(header));
                if (header.len < sizeof(header) || header.len > meta.event_len - at)
                        break;
                if (read_identity(event + at, header.len, ret))
                        classify(meta.mask, ret);
        }
        return true;
}

const struct watcher_source_ops watcher_fanotify = {
        .name = "fanotify",
        .event_counts = FAN_EVENT_METADATA_LEN,
        .open = open_source,
        .watch = watch,
        .unwatch = unwatch,
        .next = next,
};
