#include "fs/channel.h"

#include <string.h>
#include <sys/socket.h>

#include "fs/filesystem.h"
#include "fs/kernel_abi.h"
#include "tests/unit/unit.h"

/* The kernel is played by the other end of a socket. */
struct lab {
        struct filesystem fs;
        int kernel;
        uint64_t wanted; /* what the init operation asks for */
};

struct init_request {
        struct fuse_in_header head;
        struct fuse_init_in in;
};

struct init_reply {
        struct fuse_out_header head;
        struct kernel_init_out out;
};

#define INIT_UNIQUE 4711u

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
        struct filesystem *fs = userdata;
        struct lab *lab = (struct lab *)((char *)fs - offsetof(struct lab, fs));

        conn->max_write = 1u << 20;
        channel_extend(fs->channel, lab->wanted, lab->wanted & FUSE_PASSTHROUGH ? 1 : 0);
}

static const struct fuse_lowlevel_ops operations = { .init = on_init };

static void lab_init(struct lab *lab)
{
        char program[] = "test", *argv[] = { program, NULL };
        struct fuse_args args = FUSE_ARGS_INIT(1, argv);
        int fds[2];

        *lab = (struct lab){ .wanted = FUSE_PASSTHROUGH | FUSE_PARALLEL_DIROPS };
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        lab->kernel = fds[1];
        lab->fs.fuse = fuse_session_new(&args, &operations, sizeof(operations), &lab->fs);
        fuse_opt_free_args(&args);
        assert_non_null(lab->fs.fuse);
        assert_int_equal(channel_new(&lab->fs, fds[0], &lab->fs.channel), 0);
}

static void lab_release(struct lab *lab)
{
        fuse_session_destroy(lab->fs.fuse);
        channel_free(lab->fs.channel);
        close(lab->kernel);
}

/* Has INIT answered that offers FLAGS, in its form of LEN bytes. */
static struct init_reply greet(struct lab *lab, uint64_t flags, size_t len)
{
        struct init_request request = {
                .head = { .len = (uint32_t)len, .opcode = FUSE_INIT, .unique = INIT_UNIQUE },
                .in = { .major = 7,
                        .minor = 40,
                        .max_readahead = 128 << 10,
                        .flags = (uint32_t)flags,
                        .flags2 = (uint32_t)(flags >> 32) },
        };
        struct init_reply reply = { 0 };

        assert_int_equal(write(lab->kernel, &request, len), len);
        assert_int_equal(channel_greet(lab->fs.channel), 0);
        assert_int_equal(read(lab->kernel, &reply, sizeof(reply)), sizeof(reply));
        assert_int_equal(reply.head.unique, INIT_UNIQUE);
        assert_int_equal(reply.head.error, 0);
        return reply;
}

static uint64_t flags_of(const struct init_reply *reply)
{
        return reply->out.flags | (uint64_t)reply->out.flags2 << 32;
}

static void test_extended(void **state)
{
        const struct channel_greeting *greeting;
        struct lab lab;
        struct init_reply reply;

        lab_init(&lab);
        reply = greet(&lab,
                      FUSE_INIT_EXT | FUSE_PASSTHROUGH | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
                              FUSE_HAS_RESEND,
                      sizeof(struct init_request));
        assert_true(flags_of(&reply) & FUSE_PASSTHROUGH);
        assert_true(flags_of(&reply) & FUSE_PARALLEL_DIROPS);
        assert_true(flags_of(&reply) & FUSE_INIT_EXT);
        assert_int_equal(reply.out.max_stack_depth, 1);
        greeting = channel_get_greeting(lab.fs.channel);
        assert_int_equal(greeting->agreed, flags_of(&reply));
        assert_true(greeting->offered & FUSE_PASSTHROUGH);
        assert_true(channel_can_resend(lab.fs.channel));
        assert_int_equal(greeting->minor, 40);
        assert_int_equal(greeting->max_readahead, 128 << 10);
        assert_int_equal(greeting->max_request, 1 << 20);
        lab_release(&lab);
}

static void test_not_wanted(void **state)
{
        struct lab lab;
        struct init_reply reply;

        lab_init(&lab);
        lab.wanted = 0;
        reply = greet(&lab, FUSE_INIT_EXT | FUSE_PASSTHROUGH, sizeof(struct init_request));
        assert_false(flags_of(&reply) & FUSE_PASSTHROUGH);
        assert_int_equal(reply.out.max_stack_depth, 0);
        lab_release(&lab);
}

/* Never more than the kernel offers. */
static void test_not_offered(void **state)
{
        struct lab lab;
        struct init_reply reply;

        lab_init(&lab);
        reply = greet(&lab, FUSE_INIT_EXT | FUSE_ASYNC_READ, sizeof(struct init_request));
        assert_false(flags_of(&reply) & (FUSE_PASSTHROUGH | FUSE_PARALLEL_DIROPS));
        assert_true(flags_of(&reply) & FUSE_ASYNC_READ);
        assert_false(channel_get_greeting(lab.fs.channel)->offered & FUSE_PASSTHROUGH);
        assert_int_equal(channel_get_greeting(lab.fs.channel)->max_request, 32 * sysconf(_SC_PAGESIZE));
        lab_release(&lab);
}

/* A kernel from before the second word of flags, whose INIT ends before it. */
static void test_old_kernel(void **state)
{
        struct lab lab;
        struct init_reply reply;

        lab_init(&lab);
        reply = greet(&lab, FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS,
                      sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags2));
        assert_true(flags_of(&reply) & FUSE_PARALLEL_DIROPS);
        assert_false(flags_of(&reply) & (FUSE_PASSTHROUGH | FUSE_INIT_EXT));
        assert_int_equal(reply.out.flags2, 0);
        assert_false(channel_can_resend(lab.fs.channel));
        assert_int_equal(reply.out.max_stack_depth, 0);
        lab_release(&lab);
}

static void test_unmounted(void **state)
{
        struct lab lab;

        lab_init(&lab);
        shutdown(lab.kernel, SHUT_RDWR);
        assert_int_equal(channel_greet(lab.fs.channel), -ENOTCONN);
        lab_release(&lab);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extended),    cmocka_unit_test(test_not_wanted),
        cmocka_unit_test(test_not_offered), cmocka_unit_test(test_old_kernel),
        cmocka_unit_test(test_unmounted),
};

UNIT_MAIN(tests)
