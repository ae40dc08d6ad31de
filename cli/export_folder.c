#include "cli/export_private.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/io.h"

/*
 * Names come from the master, and what is in the folder may be anybody's: every path is opened beneath the folder, through no symlink, so that nothing outside is
 * ever touched. A file appears under its name when it is whole, by rename.
 */
#define MODE_KEPT  01777u /* whose it becomes is who exports: setuid and setgid would hand that on */
#define READ_BYTES (256u << 10)

struct folder_target {
        struct export_target target; /* first */
        int root;                    /* owned */
        int dir;                     /* owned: the folder that `dir_path` names; -1: none */
        struct buffer dir_path;      /* owned */
        int fd;                      /* owned: the file that is being written; -1: none */
        char temporary[64];          /* its name in `dir` */
        char name[PATH_NAME_MAX + 1];
        uint32_t mode;
        int64_t mtime_ns;
        uint64_t count;
};

static int open_beneath(int root, const char *path, uint64_t flags)
{
        struct open_how how = {
                .flags = flags | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        int fd = (int)syscall(SYS_openat2, root, path[0] ? path : ".", &how, sizeof(how));

        return fd < 0 ? -errno : fd;
}

/* Has T's `dir` be the folder that PATH lies in; RET_NAME is its last component. */
static int use_parent(struct folder_target *t, const char *path, const char **ret_name)
{
        size_t len = path_split(path, strlen(path), ret_name);
        int fd;

        if (t->dir >= 0 && t->dir_path.len == len && memcmp(t->dir_path.data ?: "", path, len) == 0)
                return 0;
        cleanup_close(&t->dir);
        t->dir = -1;
        buffer_truncate(&t->dir_path, 0);
        if (buffer_append(&t->dir_path, path, len) < 0)
                return -ENOMEM;
        fd = open_beneath(t->root, t->dir_path.data, O_PATH | O_DIRECTORY);
        if (fd < 0)
                return fd;
        t->dir = fd;
        return 0;
}

static struct timespec *times(int64_t mtime_ns, struct timespec ret[2])
{
        ret[0] = (struct timespec){ .tv_nsec = UTIME_OMIT };
        ret[1] = clock_timespec(mtime_ns);
        return ret;
}

/* An earlier export has left folder NAME as the master has it: closed to us. */
static int open_up(struct folder_target *t, const char *name, mode_t mode)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = openat(t->dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 || asprintf(&path, "/proc/self/fd/%d", fd) < 0) {
                path = NULL;
                return fd < 0 ? -errno : -ENOMEM;
        }
        return chmod(path, (mode & 07777) | 0700) < 0 ? -errno : 0;
}

static int folder_enter(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        struct folder_target *t = (struct folder_target *)target;
        const char *name;
        struct stat st;
        int r;

        if (!item->path[0])
                return 0;
        r = use_parent(t, item->path, &name);
        if (r < 0)
                return r;
        if (mkdirat(t->dir, name, 0700) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        if (fstatat(t->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode))
                return failure_set(failure, -ENOTDIR,
                                   "there is something else in the way of a folder: remove it");
        return (st.st_mode & 0700) == 0700 ? 0 : open_up(t, name, st.st_mode);
}

static int folder_leave(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        struct folder_target *t = (struct folder_target *)target;
        struct timespec when[2];
        _cleanup_close_ int fd = -1;

        if (!item->path[0])
                return 0;
        fd = open_beneath(t->root, item->path, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                return fd;
        if (fchmod(fd, item->entry->mode & MODE_KEPT) < 0 ||
            futimens(fd, times(item->entry->mtime_ns, when)) < 0)
                return -errno;
        return 0;
}

/* A name of our own in the same folder. One that was killed, and had our number, may have left such a file: then the next will do. */
static const char *new_temporary(struct folder_target *t)
{
        do
                snprintf(t->temporary, sizeof(t->temporary), ".fsyncfs-export-%d-%llu", getpid(),
                         (unsigned long long)++t->count);
        while (faccessat(t->dir, t->temporary, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
        return t->temporary;
}

static int put_in_place(struct folder_target *t, const char *name)
{
        int r = renameat(t->dir, t->temporary, t->dir, name) < 0 ? -errno : 0;

        if (r < 0)
                (void)unlinkat(t->dir, t->temporary, 0);
        return r;
}

static int say_in_the_way(int error, struct failure *failure)
{
        return error == -EISDIR || error == -ENOTEMPTY || error == -EEXIST
                       ? failure_set(failure, error, "there is a folder in its way: remove it")
                       : error;
}

static bool is_that_link(struct folder_target *t, const char *name, const char *link)
{
        char now[ENTRY_TARGET_MAX + 1];
        ssize_t n = readlinkat(t->dir, name, now, sizeof(now));

        return n >= 0 && (size_t)n == strlen(link) && memcmp(now, link, (size_t)n) == 0;
}

static int folder_symlink(struct export_target *target, const struct export_item *item,
                          struct failure *failure)
{
        struct folder_target *t = (struct folder_target *)target;
        struct timespec when[2];
        const char *name;
        int r = use_parent(t, item->path, &name);

        if (r < 0)
                return r;
        if (!is_that_link(t, name, item->link)) {
                if (symlinkat(item->link, t->dir, new_temporary(t)) < 0)
                        return -errno;
                r = put_in_place(t, name);
                if (r < 0)
                        return say_in_the_way(r, failure);
        }
        (void)utimensat(t->dir, name, times(item->entry->mtime_ns, when), AT_SYMLINK_NOFOLLOW);
        return 0;
}

static int hash_fd(int fd, enum hash_algorithm algorithm, struct content_id *ret)
{
        _cleanup_hasher_ struct hasher *h = NULL;
        _cleanup_free_ char *data = malloc(READ_BYTES);
        int r = data ? hasher_new(algorithm, &h) : -ENOMEM;
        ssize_t n = 0;

        if (r < 0)
                return r;
        while ((n = read(fd, data, READ_BYTES)) > 0)
                hasher_update(h, data, (size_t)n);
        hasher_final(h, ret);
        return n < 0 ? -errno : 0;
}

static bool folder_has(struct export_target *target, const struct export_item *item)
{
        struct folder_target *t = (struct folder_target *)target;
        const struct catalog_entry *entry = item->entry;
        _cleanup_close_ int fd = -1;
        struct timespec when[2];
        struct content_id id;
        struct stat st;
        const char *name;

        if (entry->content.algorithm == HASH_NONE || use_parent(t, item->path, &name) < 0)
                return false;
        fd = openat(t->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != entry->size ||
            st.st_nlink != 1 /* else its mode would change elsewhere, too */ ||
            hash_fd(fd, entry->content.algorithm, &id) < 0 || !content_id_equal(&id, &entry->content))
                return false;
        return fchmod(fd, entry->mode & MODE_KEPT) == 0 && futimens(fd, times(entry->mtime_ns, when)) == 0;
}

static int folder_begin(struct export_target *target, const struct export_item *item, struct failure *failure)
{
        struct folder_target *t = (struct folder_target *)target;
        const char *name;
        int r = use_parent(t, item->path, &name);

        if (r < 0)
                return r;
        t->fd = openat(t->dir, new_temporary(t), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (t->fd < 0)
                return -errno;
        snprintf(t->name, sizeof(t->name), "%s", name);
        t->mode = item->entry->mode & MODE_KEPT;
        t->mtime_ns = item->entry->mtime_ns;
        return 0;
}

static int folder_data(struct export_target *target, const void *data, size_t len)
{
        return io_write_all(((struct folder_target *)target)->fd, data, len);
}

static int folder_restart(struct export_target *target)
{
        struct folder_target *t = (struct folder_target *)target;

        if (t->fd < 0)
                return 0;
        close(take_fd(&t->fd));
        return unlinkat(t->dir, t->temporary, 0) < 0 ? -errno : 0;
}

static int folder_end(struct export_target *target, struct failure *failure)
{
        struct folder_target *t = (struct folder_target *)target;
        struct timespec when[2];
        int r = fchmod(t->fd, t->mode) < 0 || futimens(t->fd, times(t->mtime_ns, when)) < 0 ? -errno : 0;

        if (r < 0) {
                (void)folder_restart(target);
                return r;
        }
        if (close(take_fd(&t->fd)) < 0) { /* where a network file system says that it had no room */
                r = -errno;
                (void)unlinkat(t->dir, t->temporary, 0);
                return r;
        }
        return say_in_the_way(put_in_place(t, t->name), failure);
}

static int folder_finish(struct export_target *target, bool ok)
{
        struct folder_target *t = (struct folder_target *)target;

        (void)folder_restart(target);
        cleanup_close(&t->dir);
        cleanup_close(&t->root);
        buffer_release(&t->dir_path);
        free(t);
        return 0;
}

int export_folder_new(const char *dir, struct export_target **ret, struct failure *failure)
{
        struct folder_target *t = calloc(1, sizeof(*t));
        int r = t ? io_mkdir_parents(dir, 0777) : -ENOMEM;

        if (r == 0) {
                t->root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
                r = t->root < 0 ? -errno : 0;
        }
        if (r < 0) {
                free(t);
                return failure_set(failure, r, "cannot export into '%s': %s", dir, strerror(-r));
        }
        t->dir = t->fd = -1;
        t->target = (struct export_target){
                .enter = folder_enter,
                .leave = folder_leave,
                .symlink = folder_symlink,
                .has = folder_has,
                .begin = folder_begin,
                .data = folder_data,
                .restart = folder_restart,
                .end = folder_end,
                .finish = folder_finish,
        };
        *ret = &t->target;
        return 0;
}
