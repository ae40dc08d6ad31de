/*
 * The way between libfuse and the kernel's FUSE device: every request, reply and notification of a mount passes here. It shows what libfuse hides, what the
 * kernel offered in INIT and what was agreed, and puts into the reply what this libfuse has no word for.
 *
 * INIT is a connection's first request, and is answered alone, by channel_greet; after that nothing here changes, and any thread may use it. A session can also go on with
 * a connection whose INIT another one answered (channel_resume).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct channel;
struct filesystem;

/** What the two sides told each other; all zero before channel_greet. */
struct channel_greeting {
        uint32_t minor;   /* of the kernel's protocol, 7.MINOR */
        uint64_t offered; /* FUSE_* flags of INIT, both words */
        uint64_t agreed;
        uint32_t max_readahead; /* bytes: what the kernel offered */
        uint32_t max_request;   /* bytes of the largest READ */
};

#define CHANNEL_INIT_MAX 256u /* bytes of an INIT request; today's are 104 */

/** What a session needs to go on with a connection that another one greeted. Plain data. */
struct channel_saved {
        uint32_t len; /* of `init` */
        uint32_t max_request;
        uint64_t agreed;
        uint8_t init[CHANNEL_INIT_MAX]; /* the kernel's INIT request, as it came */
};

/**
 * Has FS's session, whose userdata FS is, use the device DEVICE_FD (from now on the session's) through here; RET is FS's `channel`. -ENOMEM, -EBADF.
 */
int channel_new(struct filesystem *fs, int device_fd, struct channel **ret);

/** NULL is fine. After the session was destroyed. */
void channel_free(struct channel *channel);

/**
 * Waits for INIT and has libfuse answer it. When it returns 0 the kernel has taken the answer in. -ENOTCONN: unmounted meanwhile, or the kernel and libfuse do not
 * understand each other.
 */
int channel_greet(struct channel *channel);

/** After channel_greet: for the session that is to go on when this one has died. */
void channel_save(const struct channel *channel, struct channel_saved *ret);

/**
 * Before channel_greet, which then shows the session the INIT of SAVED once more and keeps its answer from the kernel: that was answered, and what was agreed
 * stands. SAVED is copied.
 */
void channel_resume(struct channel *channel, const struct channel_saved *saved);

/** After channel_greet: whether this kernel knows how to send again what it has had no answer to, so that another daemon can take over. */
bool channel_can_resend(const struct channel *channel);

/** Has the kernel send again what it has had no answer to. When all is ready to answer. Negative errno: it does not know how to. */
int channel_resend(const struct channel *channel);

/** The number of the request that this thread took last; RET_AGAIN: the kernel sends it once more, as its answer was lost. */
uint64_t channel_get_request(bool *ret_again);

/** For the init operation, once: also agree to FLAGS, as far as the kernel offers them, and to files of file systems that are stacked less than STACK_DEPTH deep. */
void channel_extend(struct channel *channel, uint64_t flags, uint32_t stack_depth);

struct channel_counts {
        uint64_t requests;    /* of the kernel's */
        uint64_t reply_bytes; /* of what they were answered with: contents, listings, attributes */
};

/** Since the session began. Cheap. */
void channel_get_counts(const struct channel *channel, struct channel_counts *ret);

const struct channel_greeting *channel_get_greeting(const struct channel *channel);

/**
 * Has the kernel hold the file open as FD, so that reads of a file here can go to it directly: its number, more than 0, until channel_backing_close. -EPERM: this process
 * may not; -ELOOP: FD's file system lies on others itself; -EOPNOTSUPP and so on: see ioctl(2).
 */
int channel_backing_open(const struct channel *channel, int fd);

void channel_backing_close(const struct channel *channel, int backing_id);
