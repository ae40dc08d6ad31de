/*
 * What is in the folder of all catalogs and of no use any more.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/util.h"
#include "cache/catalog_folder.h"
#include "cache/catalogs.h"

struct collect_run {
        int64_t unused_since_sec; /* of the epoch */
        struct catalog_collected result;
};

/* What a database's files say together. */
struct look {
        int64_t used_at_sec;
        uint64_t bytes;
};

static int look_at(const char *path, void *arg)
{
        struct look *look = arg;
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        look->used_at_sec = MAX(look->used_at_sec, (int64_t)st.st_mtim.tv_sec);
        look->bytes += (uint64_t)st.st_blocks * 512;
        return 0;
}

static int collect_damaged(const char *path, void *arg)
{
        struct collect_run *run = arg;
        struct look look = { 0 };
        int r = look_at(path, &look);

        if (r < 0)
                return r;
        if (unlink(path) < 0)
                return errno == ENOENT ? 0 : -errno;
        run->result.damaged_files++;
        run->result.bytes += look.bytes;
        return 0;
}

static int collect_unused(const char *path, void *arg)
{
        struct collect_run *run = arg;
        _cleanup_close_ int lock = -1;
        struct look look = { 0 };
        struct stat st;
        int r = catalog_folder_lock(path, &lock);

        if (r == -EWOULDBLOCK)
                return 0;
        if (r == 0 && fstat(lock, &st) < 0)
                r = -errno;
        if (r == 0)
                r = catalog_folder_each_part(path, look_at, &look);
        if (r < 0 || MAX(look.used_at_sec, (int64_t)st.st_mtim.tv_sec) > run->unused_since_sec)
                return r;
        r = catalog_folder_remove(path);
        if (r < 0)
                return r;
        run->result.unused++;
        run->result.bytes += look.bytes;
        return 0;
}

int catalog_collect(const char *dir, int64_t unused_sec, struct catalog_collected *ret)
{
        struct collect_run run = { .unused_since_sec = clock_wall_sec() - unused_sec };
        int r = catalog_folder_each(dir, "slot*.damaged", collect_damaged, &run);

        if (r == 0)
                r = catalog_folder_each(dir, "slot*.db", collect_unused, &run);
        if (r == 0)
                *ret = run.result;
        return r;
}
