#include "cli/mounts.h"

#include <string.h>

#include "base/util.h"

static int add(const char *target, struct mounts *mounts)
{
        if (mounts->n == MOUNTS_MAX)
                return 0;
        mounts->targets[mounts->n] = strdup(target);
        return mounts->targets[mounts->n++] ? 0 : -ENOMEM;
}

static int take_mount(const struct mountinfo *info, void *arg)
{
        return add(info->target, arg);
}

int mounts_each(int (*each)(const struct mountinfo *info, void *arg), void *arg)
{
        int r = mountinfo_each_own(each, arg);

        if (r < 0)
                fprintf(stderr, "fsyncfs: cannot find out what is mounted: %s\n", strerror(-r));
        return r;
}

int mounts_get(const char *dir, struct mounts *ret)
{
        int r;

        *ret = (struct mounts){ 0 };
        r = dir ? add(dir, ret) : mounts_each(take_mount, ret);
        if (r < 0)
                mounts_release(ret);
        return r;
}

int mounts_need(const char *dir, struct mounts *ret)
{
        int r = mounts_get(dir, ret);

        if (r == 0 && ret->n > 0)
                return 0;
        if (r == 0)
                fputs("fsyncfs: nothing is mounted\n", stderr);
        return 1;
}

void mounts_release(struct mounts *mounts)
{
        while (mounts->n > 0)
                free(mounts->targets[--mounts->n]);
}
