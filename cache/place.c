#include "cache/place.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/util.h"

#define FUSE_MAGIC 0x65735546ul

static const struct {
        unsigned long magic; /* as in linux/magic.h, which does not have all of them */
        const char *name;
} kinds[] = {
        { 0x6969, "NFS" },        { 0xff534d42, "CIFS" }, { 0xfe534d42, "SMB" },
        { 0x517b, "SMB" },        { 0x00c36400, "Ceph" }, { 0x01021997, "9p" },
        { 0x5346414f, "AFS" },    { 0x6b414653, "AFS" },  { 0x73757245, "Coda" },
        { 0x0bd00bd0, "Lustre" }, { 0x47504653, "GPFS" }, { 0x19830326, "BeeGFS" },
        { 0x7461636f, "OCFS2" },  { 0x01161970, "GFS2" }, { 0x20030528, "OrangeFS" },
        { FUSE_MAGIC, "FUSE" },
};

const char *place_kind(unsigned long magic, int on_device)
{
        if (magic == FUSE_MAGIC && on_device) /* ntfs-3g and the like */
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (kinds[i].magic == (magic & 0xffffffff))
                        return kinds[i].name;
        return NULL;
}

/* As dirname(3), in place. */
static void cut_off(char *path)
{
        const char *parent = dirname(path);

        if (parent != path)
                memmove(path, parent, strlen(parent) + 1);
}

/* PATH becomes the nearest folder above that is there. */
static int look_up(char *path, struct statfs *ret_fs, struct stat *ret_st)
{
        while (statfs(path, ret_fs) < 0 || stat(path, ret_st) < 0) {
                if (errno != ENOENT || strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
                        return -errno;
                cut_off(path);
        }
        return 0;
}

int place_check(const char *dir, const char **ret_kind)
{
        _cleanup_free_ char *path = strdup(dir);
        struct statfs fs;
        struct stat st;
        const char *kind;
        int r = path ? look_up(path, &fs, &st) : -ENOMEM;

        if (r < 0)
                return r;
        kind = place_kind((unsigned long)fs.f_type, major(st.st_dev) != 0);
        if (!kind)
                return 0;
        *ret_kind = kind;
        return -EREMOTE;
}
