#include "cache/domain.h"

#include <dirent.h>
#include <string.h>

#include "base/util.h"

#define FOLDER "domains"

bool domain_valid(const char *name)
{
        static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
        size_t len = strlen(name);

        return len > 0 && len <= DOMAIN_NAME_MAX && name[0] != '.' && strspn(name, allowed) == len;
}

int domain_dir(const char *dir, const char *name, char **ret)
{
        char *path;

        if (asprintf(&path, "%s/" FOLDER "/%s", dir, name) < 0)
                return -ENOMEM;
        *ret = path;
        return 0;
}

static int is_domain(const struct dirent *entry)
{
        return domain_valid(entry->d_name);
}

int domain_each(const char *dir, int (*each)(const char *name, void *arg), void *arg)
{
        _cleanup_free_ char *path = NULL;
        struct dirent **names;
        int n, r = 0;

        if (asprintf(&path, "%s/" FOLDER, dir) < 0)
                return -ENOMEM;
        n = scandir(path, &names, is_domain, alphasort);
        if (n < 0)
                return errno == ENOENT ? 0 : -errno;
        for (int i = 0; i < n; i++) {
                if (r == 0)
                        r = each(names[i]->d_name, arg);
                free(names[i]);
        }
        free(names);
        return r;
}
