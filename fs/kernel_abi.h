/*
 * What newer kernels understand on the FUSE device, for builds with older headers than that: <linux/fuse.h> of protocol 7.45.
 */
#pragma once

#include <linux/fuse.h>
#include <sys/ioctl.h>

#ifndef FUSE_INIT_EXT
#define FUSE_INIT_EXT (1 << 30)
#endif
#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (1ULL << 41)
#endif
#ifndef FUSE_REQUEST_TIMEOUT
#define FUSE_REQUEST_TIMEOUT (1ULL << 42)
#endif
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5)
#endif
#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1 << 7)
#endif

/* struct fuse_init_out; the last two in use are named only by newer headers. */
struct kernel_init_out {
        uint32_t major, minor;
        uint32_t max_readahead;
        uint32_t flags;
        uint16_t max_background, congestion_threshold;
        uint32_t max_write;
        uint32_t time_gran;
        uint16_t max_pages, map_alignment;
        uint32_t flags2;
        uint32_t max_stack_depth;
        uint16_t request_timeout; /* seconds; with FUSE_REQUEST_TIMEOUT */
        uint16_t unused[11];
};

_Static_assert(sizeof(struct kernel_init_out) == sizeof(struct fuse_init_out), "one layout");

/* struct fuse_open_out, likewise. */
struct kernel_open_out {
        uint64_t fh;
        uint32_t open_flags;
        int32_t backing_id;
};

/* struct fuse_backing_map. */
struct kernel_backing_map {
        int32_t fd;
        uint32_t flags;
        uint64_t padding;
};

#define KERNEL_NOTIFY_RESEND 7 /* enum fuse_notify_code */
#define KERNEL_UNIQUE_RESEND (UINT64_C(1) << 63)

#define KERNEL_BACKING_OPEN  _IOW(229, 1, struct kernel_backing_map)
#define KERNEL_BACKING_CLOSE _IOW(229, 2, uint32_t)
