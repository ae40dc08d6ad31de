#include "cache/catalog_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>

#include "base/util.h"

struct walk {
        const char *pattern; /* of files */
        int (*each)(const char *path, void *arg);
        void *arg;
};

/* Calls EACH with the path of every name in folder DIR that PATTERN fits, in order of the names; no such folder is no error. */
static int each_path(const char *dir, const char *pattern, int (*each)(const char *path, void *arg),
                     void *arg)
{
        struct dirent **names;
        int n = scandir(dir, &names, NULL, alphasort), r = 0;

        if (n < 0)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;
                bool fits = r == 0 && fnmatch(pattern, names[i]->d_name, FNM_PERIOD) == 0;
                if (fits && asprintf(&path, "%s/%s", dir, names[i]->d_name) < 0) {
                        path = NULL;
                        r = -ENOMEM;
                }
                if (fits && r == 0)
                        r = each(path, arg);
                free(names[i]);
        }
        free(names);
        return r;
}

static int walk_source(const char *path, void *arg)
{
        const struct walk *walk = arg;

        return each_path(path, walk->pattern, walk->each, walk->arg);
}

int catalog_folder_each(const char *dir, const char *pattern, int (*each)(const char *path, void *arg),
                        void *arg)
{
        struct walk walk = { .pattern = pattern, .each = each, .arg = arg };
        _cleanup_free_ char *catalogs = NULL;

        if (asprintf(&catalogs, "%s/catalogs", dir) < 0) {
                catalogs = NULL;
                return -ENOMEM;
        }
        return each_path(catalogs, "*", walk_source, &walk);
}

int catalog_folder_lock(const char *path, int *ret_fd)
{
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -1;

        if (asprintf(&name, "%.*s.lock", (int)(strlen(path) - strlen(".db")), path) < 0) {
                name = NULL;
                return -ENOMEM;
        }
        fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        *ret_fd = take_fd(&fd);
        return 0;
}

int catalog_folder_each_part(const char *path, int (*each)(const char *path, void *arg), void *arg)
{
        static const char *const suffixes[] = { "-wal", "-shm", "" };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(suffixes); i++) {
                _cleanup_free_ char *name = NULL;
                if (asprintf(&name, "%s%s", path, suffixes[i]) < 0) {
                        name = NULL;
                        return -ENOMEM;
                }
                r = each(name, arg);
        }
        return r;
}

static int remove_file(const char *path, void *arg)
{
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int catalog_folder_remove(const char *path)
{
        return catalog_folder_each_part(path, remove_file, NULL);
}
