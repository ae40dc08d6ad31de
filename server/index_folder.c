#include "server/index_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "server/credentials.h"
#include "server/options.h"

/* Before there were folders, it was a file. */
static int move_old_file(const char *path)
{
        _cleanup_free_ char *aside = NULL;
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        if (asprintf(&aside, "%s.old", path) < 0) {
                aside = NULL;
                return -ENOMEM;
        }
        if (rename(path, aside) < 0)
                return -errno;
        log_info("the index '%s' of an older version was moved to '%s': it can be removed; all files will be "
                 "hashed once more",
                 path, aside);
        return 0;
}

/* flock(2) and not a process id in a file: it ends with its process, however that ends. */
static int take_lock(const char *path, int *ret)
{
        _cleanup_buffer_ struct buffer file = { 0 };
        _cleanup_close_ int fd = -1;
        int r = buffer_printf(&file, "%s/lock", path);

        if (r < 0)
                return r;
        fd = open(file.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        *ret = take_fd(&fd);
        return 0;
}

int index_folder_open(const char *named, struct index_folder *ret)
{
        const char *path;
        int r = named ? buffer_printf(&ret->path, "%s", named) : options_default_index(&ret->path);

        if (r < 0)
                return complain("no place for the index", "$HOME", r, "give one with --index DIR");
        path = ret->path.data;
        r = move_old_file(path);
        if (r >= 0)
                r = io_mkdir_parents(path, 0700);
        if (r >= 0 && access(path, R_OK | W_OK | X_OK) < 0)
                r = -errno;
        if (r >= 0)
                r = take_lock(path, &ret->lock);
        if (r == -EBUSY)
                log_error("another server is using the index '%s'; stop that one, or give this one a folder "
                          "of its own with --index DIR",
                          path);
        else if (r < 0)
                complain("cannot open the index", path, r, "give another place with --index DIR");
        return r;
}

void index_folder_release(struct index_folder *folder)
{
        if (folder->lock >= 0)
                close(take_fd(&folder->lock));
        buffer_release(&folder->path);
}
