#include "fs/takeover.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

#define FORMAT                                                                                               \
        2u /* of struct message, of what comes over the lifeline, and of what lies in the files: a program that knows another one does not take over */
#define FDS_MAX 6

/* What goes over the socket. */
struct message {
        uint32_t format;
        uint32_t word; /* enum takeover_word; 0: of takeover_send */
        uint32_t slot;
        uint32_t passthrough;
        struct channel_saved channel;
        char target[PATH_MAX];
        char device[TAKEOVER_DEVICE_MAX];
};

/* Room for the descriptors of a message. */
union control {
        struct cmsghdr head;
        char data[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

/* ---- life ---- */

static int map_page(struct takeover *takeover)
{
        void *page =
                mmap(NULL, sizeof(*takeover->page), PROT_READ | PROT_WRITE, MAP_SHARED, takeover->page_fd, 0);

        if (page == MAP_FAILED)
                return -errno;
        takeover->page = page;
        return 0;
}

static int make_file(const char *name, size_t size, int *ret)
{
        int fd = memfd_create(name, MFD_CLOEXEC);

        if (fd < 0)
                return -errno;
        *ret = fd;
        return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int takeover_init(struct takeover *takeover)
{
        int r;

        *takeover = TAKEOVER_NONE;
        r = make_file("fsyncfs-fixed", 0, &takeover->fixed_fd);
        if (r == 0)
                r = make_file("fsyncfs-moved", 0, &takeover->moved_fd);
        if (r == 0)
                r = make_file("fsyncfs-handles", 0, &takeover->handles_fd);
        if (r == 0)
                r = make_file("fsyncfs-page", sizeof(*takeover->page), &takeover->page_fd);
        return r == 0 ? map_page(takeover) : r;
}

void takeover_release(struct takeover *takeover)
{
        cleanup_close(&takeover->keeper_fd);
        cleanup_close(&takeover->device_fd);
        cleanup_close(&takeover->lock_fd);
        cleanup_close(&takeover->fixed_fd);
        cleanup_close(&takeover->moved_fd);
        cleanup_close(&takeover->handles_fd);
        cleanup_close(&takeover->page_fd);
        if (takeover->page)
                munmap(takeover->page, sizeof(*takeover->page));
        *takeover = TAKEOVER_NONE;
}

/* ---- messages ---- */

static int send_message(const struct takeover *takeover, int fd, uint32_t word, const int *fds, size_t n_fds)
{
        struct message message = { .format = FORMAT,
                                   .word = word,
                                   .slot = takeover->slot,
                                   .passthrough = takeover->passthrough,
                                   .channel = takeover->channel };
        struct iovec part = { .iov_base = &message, .iov_len = sizeof(message) };
        union control control = { 0 };
        struct msghdr head = { .msg_iov = &part, .msg_iovlen = 1 };

        memcpy(message.target, takeover->target, sizeof(message.target));
        memcpy(message.device, takeover->device, sizeof(message.device));
        if (n_fds > 0) {
                head.msg_control = control.data;
                head.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
                                                 .cmsg_level = SOL_SOCKET,
                                                 .cmsg_type = SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.head), fds, n_fds * sizeof(int));
        }
        return sendmsg(fd, &head, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static size_t take_fds(struct msghdr *head, int fds[FDS_MAX])
{
        struct cmsghdr *control = CMSG_FIRSTHDR(head);
        size_t len;

        if (!control || control->cmsg_type != SCM_RIGHTS)
                return 0;
        len = control->cmsg_len - CMSG_LEN(0);
        memcpy(fds, CMSG_DATA(control), len);
        return len / sizeof(int);
}

/* The number of descriptors that came, now the caller's, or a negative errno; -EPIPE: nobody is at the other end. */
static int receive_message(int fd, int flags, struct message *ret, int fds[FDS_MAX])
{
        struct iovec part = { .iov_base = ret, .iov_len = sizeof(*ret) };
        union control control;
        struct msghdr head = { .msg_iov = &part,
                               .msg_iovlen = 1,
                               .msg_control = control.data,
                               .msg_controllen = sizeof(control.data) };
        ssize_t n = recvmsg(fd, &head, MSG_CMSG_CLOEXEC | flags);
        size_t n_fds;

        if (n <= 0)
                return n < 0 ? -errno : -EPIPE;
        n_fds = take_fds(&head, fds);
        if ((size_t)n == sizeof(*ret) && ret->format == FORMAT)
                return (int)n_fds;
        for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
        return -EPROTO;
}

static void take_plain(struct takeover *takeover, const struct message *message)
{
        takeover->slot = message->slot;
        takeover->passthrough = message->passthrough;
        takeover->channel = message->channel;
        memcpy(takeover->target, message->target, sizeof(takeover->target));
        takeover->target[sizeof(takeover->target) - 1] = '\0';
        memcpy(takeover->device, message->device, sizeof(takeover->device));
        takeover->device[sizeof(takeover->device) - 1] = '\0';
}

int takeover_tell(const struct takeover *takeover, enum takeover_word word)
{
        const int fds[] = { takeover->device_fd, takeover->lock_fd };

        return send_message(takeover, takeover->keeper_fd, word, fds, takeover->device_fd >= 0 ? 2 : 0);
}

int takeover_ask_upgrade(const struct takeover *takeover, int binary_fd)
{
        return send_message(takeover, takeover->keeper_fd, TAKEOVER_UPGRADE, &binary_fd, 1);
}

int takeover_hear(struct takeover *takeover, int fd, int *ret_binary_fd)
{
        struct message message;
        int fds[FDS_MAX], n = receive_message(fd, MSG_DONTWAIT, &message, fds);

        *ret_binary_fd = -1;
        if (n < 0)
                return n == -EPIPE || n == -EAGAIN ? 0 : n;
        if (message.word == TAKEOVER_SERVING)
                take_plain(takeover, &message);
        if (message.word == TAKEOVER_SERVING && n == 2) {
                cleanup_close(&takeover->device_fd);
                cleanup_close(&takeover->lock_fd);
                takeover->device_fd = fds[0];
                takeover->lock_fd = fds[1];
                n = 0;
        }
        if (message.word == TAKEOVER_UPGRADE && n == 1) {
                *ret_binary_fd = fds[0];
                n = 0;
        }
        while (n > 0)
                close(fds[--n]);
        return (int)message.word;
}

int takeover_send(const struct takeover *takeover, int fd)
{
        const int fds[FDS_MAX] = { takeover->device_fd, takeover->lock_fd,    takeover->fixed_fd,
                                   takeover->moved_fd,  takeover->handles_fd, takeover->page_fd };

        return send_message(takeover, fd, 0, fds, FDS_MAX);
}

int takeover_receive(struct takeover *takeover, int fd)
{
        struct message message;
        int fds[FDS_MAX], n = receive_message(fd, 0, &message, fds);

        if (n != FDS_MAX)
                return n < 0 ? n : -EPROTO;
        *takeover = (struct takeover){ .keeper_fd = fd,
                                       .device_fd = fds[0],
                                       .lock_fd = fds[1],
                                       .fixed_fd = fds[2],
                                       .moved_fd = fds[3],
                                       .handles_fd = fds[4],
                                       .page_fd = fds[5] };
        take_plain(takeover, &message);
        return map_page(takeover);
}
