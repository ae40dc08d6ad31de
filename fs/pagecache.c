#include "fs/pagecache.h"

#include "fs/bindings.h"
#include "fs/passthrough.h"
#include "sync/learned.h"

int pagecache_push(uint64_t ino, const void *data, size_t len, void *fs)
{
        struct filesystem *f = fs;
        struct fuse_bufvec pages = FUSE_BUFVEC_INIT(len);
        int r;

        if (passthrough_has(f->passthrough, ino) || reading_has(&f->reading, ino))
                return -EBUSY;
        /* As for a read: from the first byte that the kernel has, the number is bound to this content. */
        r = bindings_fix(f->bindings, ino, ino);
        if (r < 0)
                return r;
        pages.buf[0].mem = (void *)data;
        r = fuse_lowlevel_notify_store(f->fuse, ino, 0, &pages, 0);
        if (r == 0 && f->learned)
                learned_note_push(f->learned, ino);
        return r;
}
