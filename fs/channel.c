#include "fs/channel.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#include "fs/filesystem.h"
#include "fs/kernel_abi.h"
#include "fs/progress.h"

#define DEFAULT_PAGES 32u /* of a request, if nothing else is agreed */
#define REQUEST_SEC   (4u * 60 * 60)

struct channel {
        struct fuse_session *fuse; /* borrowed */
        struct channel_greeting greeting;
        struct channel_saved init;
        bool resumed;       /* `init` is of the connection's past: not to be answered again */
        uint64_t unique;    /* INIT's; 0: it has not come */
        bool answered;      /* the kernel has taken INIT's answer in */
        uint64_t more;      /* flags of channel_extend */
        uint32_t max_depth; /* likewise */
        _Atomic uint64_t requests, reply_bytes;
};

static void note_init(struct channel *c, const void *request, size_t len)
{
        const struct fuse_in_header *head = request;
        const struct fuse_init_in *in = (const void *)(head + 1);

        /* The oldest form, which all others begin with, has no second word of flags. */
        if (len < sizeof(*head) + offsetof(struct fuse_init_in, flags2) || head->opcode != FUSE_INIT)
                return;
        if (!c->resumed && len <= sizeof(c->init.init)) {
                memcpy(c->init.init, request, len);
                c->init.len = (uint32_t)len;
        }
        c->unique = head->unique;
        c->greeting.minor = in->minor;
        c->greeting.max_readahead = in->max_readahead;
        c->greeting.offered = in->flags;
        if ((in->flags & FUSE_INIT_EXT) && len >= sizeof(*head) + sizeof(*in))
                c->greeting.offered |= (uint64_t)in->flags2 << 32;
}

static _Thread_local uint64_t last_unique;

static ssize_t channel_read(int fd, void *data, size_t len, void *userdata)
{
        struct channel *c = ((struct filesystem *)userdata)->channel;
        bool replay = c->resumed && !c->unique;
        ssize_t n;

        progress_end(); /* of what this thread was asked before */
        n = replay ? (ssize_t)MIN(len, c->init.len) : read(fd, data, len);

        if (replay)
                memcpy(data, c->init.init, (size_t)n);
        /*
         * How the kernel says that the mount is gone if it was in the middle of handing over a request. Of what libfuse does not expect it speaks by perror(3), on a thread
         * that it is about to cancel: if that is in there, standard error stays locked for ever.
         */
        if (n < 0 && errno == ECONNABORTED)
                errno = ENODEV;
        if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
                last_unique = ((const struct fuse_in_header *)data)->unique;
                progress_begin(((const struct fuse_in_header *)data)->opcode);
        }
        if (n > 0)
                atomic_fetch_add_explicit(&c->requests, 1, memory_order_relaxed);
        if (n > 0 && !c->unique)
                note_init(c, data, (size_t)n);
        return n;
}

/*
 * After how many seconds without an answer to a request the kernel ends the mount: the last resort, should all that could answer be gone, and the kernel not know it.
 * A thread that a SIGKILL meets while it waits for a page's lock is such a case: it ends when the page has been read, and as long as it is there
 * the connection counts as served (docs/promises.md).
 */
static uint16_t request_sec(void)
{
        const char *text = getenv("FSYNCFS_TEST_REQUEST_SEC");

        return text ? (uint16_t)strtoul(text, NULL, 10) : REQUEST_SEC;
}

/* The answer as libfuse made it, extended. */
static ssize_t answer_init(struct channel *c, int fd, const struct iovec *iov)
{
        struct kernel_init_out out = { 0 };
        struct iovec extended[] = { iov[0], { .iov_base = &out, .iov_len = iov[1].iov_len } };
        ssize_t n;

        memcpy(&out, iov[1].iov_base, MIN(iov[1].iov_len, sizeof(out)));
        out.flags |= (uint32_t)c->more;
        if ((c->greeting.offered & FUSE_INIT_EXT) && iov[1].iov_len == sizeof(out)) {
                out.flags |= FUSE_INIT_EXT;
                out.flags2 |= (uint32_t)(c->more >> 32);
                out.max_stack_depth = MAX(out.max_stack_depth, c->max_depth);
                out.request_timeout = request_sec();
        }
        n = writev(fd, extended, ARRAY_SIZE(extended));
        if (n > 0) {
                c->answered = true;
                c->greeting.agreed = out.flags | (uint64_t)out.flags2 << 32;
                c->greeting.max_request = (out.flags & FUSE_MAX_PAGES ? out.max_pages : DEFAULT_PAGES) *
                                          (uint32_t)sysconf(_SC_PAGESIZE);
        }
        return n;
}

/* Libfuse's answer to what was answered already. */
static ssize_t swallow_answer(struct channel *c, const struct iovec *iov)
{
        c->answered = true;
        c->greeting.agreed = c->init.agreed;
        c->greeting.max_request = c->init.max_request;
        return (ssize_t)(iov[0].iov_len + iov[1].iov_len);
}

static ssize_t channel_writev(int fd, struct iovec *iov, int count, void *userdata)
{
        struct channel *c = ((struct filesystem *)userdata)->channel;
        const struct fuse_out_header *head = iov[0].iov_base;

        if (!c->answered && count == 2 && head->unique == c->unique && head->error == 0)
                return c->resumed ? swallow_answer(c, iov) : answer_init(c, fd, iov);
        if (head->error == 0) /* a notification has its kind there */
                atomic_fetch_add_explicit(&c->reply_bytes, head->len - sizeof(*head), memory_order_relaxed);
        return writev(fd, iov, count);
}

static ssize_t channel_splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t len,
                              unsigned flags, void *userdata)
{
        return splice(in, in_offset, out, out_offset, len, flags);
}

int channel_new(struct filesystem *fs, int device_fd, struct channel **ret)
{
        static const struct fuse_custom_io io = {
                .read = channel_read,
                .writev = channel_writev,
                .splice_receive = channel_splice,
                .splice_send = channel_splice,
        };
        struct channel *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->fuse = fs->fuse;
        r = fuse_session_custom_io(fs->fuse, &io, device_fd);
        if (r != 0) {
                free(c);
                return r < 0 ? r : -EIO;
        }
        *ret = c;
        return 0;
}

void channel_free(struct channel *channel)
{
        free(channel);
}

int channel_greet(struct channel *channel)
{
        struct fuse_buf request = { 0 };
        int r;

        while (!channel->answered && !fuse_session_exited(channel->fuse)) {
                r = fuse_session_receive_buf(channel->fuse, &request);
                if (r > 0)
                        fuse_session_process_buf(channel->fuse, &request);
                else if (r != -EINTR)
                        break;
        }
        progress_end();
        free(request.mem);
        return channel->answered ? 0 : -ENOTCONN;
}

void channel_save(const struct channel *channel, struct channel_saved *ret)
{
        *ret = channel->init;
        ret->agreed = channel->greeting.agreed;
        ret->max_request = channel->greeting.max_request;
}

void channel_resume(struct channel *channel, const struct channel_saved *saved)
{
        channel->init = *saved;
        channel->resumed = true;
}

bool channel_can_resend(const struct channel *channel)
{
        return channel->greeting.offered & FUSE_HAS_RESEND;
}

int channel_resend(const struct channel *channel)
{
        const struct fuse_out_header notification = { .len = sizeof(notification),
                                                      .error = KERNEL_NOTIFY_RESEND };

        return write(fuse_session_fd(channel->fuse), &notification, sizeof(notification)) < 0 ? -errno : 0;
}

uint64_t channel_get_request(bool *ret_again)
{
        *ret_again = last_unique & KERNEL_UNIQUE_RESEND;
        return last_unique & ~KERNEL_UNIQUE_RESEND;
}

void channel_extend(struct channel *channel, uint64_t flags, uint32_t stack_depth)
{
        channel->more = flags & channel->greeting.offered;
        channel->max_depth = stack_depth;
}

void channel_get_counts(const struct channel *channel, struct channel_counts *ret)
{
        ret->requests = atomic_load(&channel->requests);
        ret->reply_bytes = atomic_load(&channel->reply_bytes);
}

const struct channel_greeting *channel_get_greeting(const struct channel *channel)
{
        return &channel->greeting;
}

int channel_backing_open(const struct channel *channel, int fd)
{
        struct kernel_backing_map map = { .fd = fd };
        int id = ioctl(fuse_session_fd(channel->fuse), KERNEL_BACKING_OPEN, &map);

        return id < 0 ? -errno : id;
}

void channel_backing_close(const struct channel *channel, int backing_id)
{
        uint32_t id = (uint32_t)backing_id;

        (void)ioctl(fuse_session_fd(channel->fuse), KERNEL_BACKING_CLOSE, &id);
}
