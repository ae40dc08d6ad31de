#include "server/watcher_source.h"

#include <linux/magic.h>
#include <sys/vfs.h>

int watcher_source_open(const struct watcher_source_ops *ops, int root_fd, struct watcher_source *ret,
                        uint64_t *ret_key)
{
        struct watcher_source source = { .ops = ops, .fd = ops->open() };
        int r;

        if (source.fd < 0)
                return source.fd;
        r = ops->watch(&source, root_fd, ret_key);
        if (r < 0) {
                close(source.fd);
                return r;
        }
        *ret = source;
        return 0;
}

bool watcher_source_tells_all(int fd)
{
        static const uint32_t silent[] = {
                NFS_SUPER_MAGIC,   SMB_SUPER_MAGIC,  CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
                FUSE_SUPER_MAGIC,  V9FS_MAGIC,       CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC,
                AFS_FS_MAGIC,      CODA_SUPER_MAGIC, 0x01161970, /* GFS2 */
                OCFS2_SUPER_MAGIC, 0x0bd00bd0,                   /* Lustre */
                0x786f4256,                                      /* VirtualBox' shared folders */
        };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(silent); i++)
                if ((uint32_t)fs.f_type == silent[i])
                        return false;
        return true;
}
