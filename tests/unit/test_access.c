/* The guard of all methods: what it finds in requests, and what becomes of a call when the token file is read again. */
#include "server/access.h"

#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "proto/wire.h"
#include "proto/wire_field.h"
#include "server/master.h"
#include "tests/unit/unit.h"

struct fixture {
        char path[64];
        struct token_file *tokens;
};

static void write_tokens(struct fixture *f, const char *text)
{
        _cleanup_close_ int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct failure failure = { 0 };

        strcpy(f->path, "/tmp/test-access-XXXXXX");
        close(mkstemp(f->path));
        write_tokens(f, "red r-* both\nblue b-* both\nname:host r-1\n");
        assert_int_equal(token_file_load(f->path, &f->tokens, &failure), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        token_file_free(f->tokens);
        unlink(f->path);
        free(f);
        return 0;
}

static enum rpc_code admit(struct fixture *f, const char *method, const char *token, const char *name,
                           void **ret_pass)
{
        struct rpc_caller caller = { .authorization = token, .certificate = name, .peer = "test" };

        return access_guard.admit(f->tokens, method, &caller, ret_pass);
}

static void *pass_of(struct fixture *f, const char *method, const char *token)
{
        void *pass = NULL;

        assert_int_equal(admit(f, method, token, NULL, &pass), RPC_OK);
        assert_non_null(pass);
        return pass;
}

static enum rpc_code request(struct fixture *f, void *pass, const void *data, size_t len)
{
        return access_guard.allow(f->tokens, pass, "test", data, len);
}

/* A request that names SPIDER, behind PREFIX. */
static enum rpc_code name_spider(struct fixture *f, void *pass, const char *spider)
{
        uint8_t data[600], *at = data;
        size_t len = strlen(spider);

        at = wire_write_varint(at, WIRE_TAG(3, WIRE_VARINT));
        at = wire_write_varint(at, 7);
        at = wire_write_varint(at, WIRE_TAG(1, WIRE_BYTES));
        at = wire_write_varint(at, len);
        memcpy(at, spider, len);
        return request(f, pass, data, (size_t)(at - data) + len);
}

static enum rpc_code about_to_send(struct fixture *f, void *pass)
{
        return access_guard.allow(f->tokens, pass, "test", NULL, 0);
}

/* Not all threads hash, and not all that do for one peer, however small the machine. */
static void test_threads(void **state)
{
        for (unsigned threads = 0; threads <= 4; threads += threads == 0 ? POOL_THREADS_MIN : 1) {
                struct master master = { 0 };
                struct rpc_server_options options;
                struct rpc_share share;

                assert_int_equal(pool_new(threads, &master.pool), 0);
                master_rpc_options(&master, 1024, &options);
                share = options.limits.shares[RPC_HASHINGS];
                assert_true(share.peer > 0 && share.peer < share.all);
                assert_int_equal(share.all, pool_threads(master.pool) - 1);
                pool_free(master.pool);
        }
}

/* What the server serves is what the .proto files describe, every request but the greeting names a spider, and none but the health service is open. */
static void test_methods(void **state)
{
        struct master master = { 0 };
        struct rpc_server_options options;

        assert_int_equal(pool_new(0, &master.pool), 0);
        master_rpc_options(&master, 1024, &options);
        assert_null(options.guard);
        assert_true(options.n_methods >= 9);
        for (size_t i = 0; i < options.n_methods; i++) {
                const char *name = options.methods[i].name;
                bool open = options.methods[i].ops->open;
                int expected = open ? -ENOENT : strcmp(name, WIRE_METHOD_HANDSHAKE) == 0 ? 0 : 1;

                assert_int_equal(open, strncmp(name, "/grpc.health.v1.Health/", 23) == 0);
                if (access_spider_field(name) != expected)
                        fail_msg("%s: %d", name, access_spider_field(name));
        }
        master.tokens = (struct token_file *)&master;
        master_rpc_options(&master, 1024, &options);
        assert_ptr_equal(options.guard, &access_guard);
        assert_ptr_equal(options.guard_context, master.tokens);
        assert_int_equal(access_spider_field("other"), -ENOENT);
        assert_int_equal(access_spider_field("/grpc.SyncService/"), -ENOENT);
        assert_int_equal(access_spider_field("/grpc.SyncService/StreamFileScanX"), -ENOENT);
        assert_int_equal(access_spider_field("/grpc.SyncServiceX/StreamFileScan"), -ENOENT);
        pool_free(master.pool);
}

static void test_admit(void **state)
{
        struct fixture *f = *state;
        void *pass = NULL;

        assert_int_equal(admit(f, WIRE_METHOD_SCAN, NULL, NULL, &pass), RPC_UNAUTHENTICATED);
        assert_int_equal(admit(f, WIRE_METHOD_SCAN, "green", NULL, &pass), RPC_UNAUTHENTICATED);
        assert_int_equal(admit(f, WIRE_METHOD_SCAN, "name:host", NULL, &pass), RPC_UNAUTHENTICATED);
        assert_int_equal(admit(f, WIRE_METHOD_SCAN, NULL, "other", &pass), RPC_UNAUTHENTICATED);
        assert_int_equal(admit(f, "other", "green", NULL, &pass), RPC_UNAUTHENTICATED);
        assert_int_equal(admit(f, "other", "red", NULL, &pass), RPC_UNIMPLEMENTED);
        assert_null(pass);
        assert_int_equal(admit(f, WIRE_METHOD_SCAN, NULL, "host", &pass), RPC_OK);
        assert_int_equal(name_spider(f, pass, "r-1"), RPC_OK);
        assert_int_equal(name_spider(f, pass, "r-2"), RPC_PERMISSION_DENIED);
        access_guard.release(pass);
}

static void test_requests(void **state)
{
        static const uint8_t not_a_string[] = { 0x08, 0x01 }, cut[] = { 0x0a, 0x05, 'r' },
                             two[] = { 0x0a, 3, 'r', '-', '1', 0x0a, 3, 'b', '-', '1' },
                             nul[] = { 0x0a, 4, 'r', '-', '1', 0 }, group[] = { 0x13 },
                             none[] = { 0x12, 3, 'b', '-', '1' };
        struct fixture *f = *state;
        void *pass = pass_of(f, WIRE_METHOD_SCAN, "red");
        char longest[400];

        assert_int_equal(name_spider(f, pass, "r-1"), RPC_OK);
        assert_int_equal(name_spider(f, pass, "both"), RPC_OK);
        assert_int_equal(name_spider(f, pass, "b-1"), RPC_PERMISSION_DENIED);
        assert_int_equal(name_spider(f, pass, ""), RPC_PERMISSION_DENIED);
        assert_int_equal(request(f, pass, two, sizeof(two)), RPC_PERMISSION_DENIED);
        assert_int_equal(request(f, pass, not_a_string, sizeof(not_a_string)), RPC_INVALID_ARGUMENT);
        assert_int_equal(request(f, pass, cut, sizeof(cut)), RPC_INVALID_ARGUMENT);
        assert_int_equal(request(f, pass, nul, sizeof(nul)), RPC_INVALID_ARGUMENT);
        assert_int_equal(request(f, pass, group, sizeof(group)), RPC_INVALID_ARGUMENT);
        assert_int_equal(request(f, pass, none, sizeof(none)), RPC_OK); /* no spider: nothing will be found */
        assert_int_equal(request(f, pass, "", 0), RPC_OK);
        memset(longest, 'r', sizeof(longest) - 1);
        longest[1] = '-';
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(name_spider(f, pass, longest), RPC_PERMISSION_DENIED);
        access_guard.release(pass);

        /* The greeting names none: what stands there is a number. */
        pass = pass_of(f, WIRE_METHOD_HANDSHAKE, "red");
        assert_int_equal(request(f, pass, not_a_string, sizeof(not_a_string)), RPC_OK);
        access_guard.release(pass);
}

static void reload(struct fixture *f, const char *text)
{
        struct failure failure = { 0 };

        write_tokens(f, text);
        assert_int_equal(token_file_reload(f->tokens, &failure), 0);
}

static void test_reload(void **state)
{
        struct fixture *f = *state;
        struct failure failure = { 0 };
        void *red = pass_of(f, WIRE_METHOD_SYNC, "red"), *blue = pass_of(f, WIRE_METHOD_SYNC, "blue");

        assert_int_equal(name_spider(f, red, "r-1"), RPC_OK);
        assert_int_equal(name_spider(f, red, "both"), RPC_OK);
        assert_int_equal(name_spider(f, blue, "both"), RPC_OK);
        assert_int_equal(about_to_send(f, red), RPC_OK);

        write_tokens(f, "");
        assert_int_equal(token_file_reload(f->tokens, &failure), -EINVAL);
        assert_int_equal(about_to_send(f, red), RPC_OK);

        reload(f, "red r-1 both\nblue b-*\n"); /* red keeps what it named; blue loses it */
        assert_int_equal(about_to_send(f, red), RPC_OK);
        assert_int_equal(about_to_send(f, blue), RPC_PERMISSION_DENIED);
        reload(f, "red both\n"); /* its last, but not its first, which a Fetch goes on with */
        assert_int_equal(about_to_send(f, red), RPC_PERMISSION_DENIED);
        reload(f, "green\n");
        assert_int_equal(about_to_send(f, red), RPC_UNAUTHENTICATED);
        assert_int_equal(name_spider(f, blue, "both"), RPC_UNAUTHENTICATED);
        reload(f, "red\n");
        assert_int_equal(about_to_send(f, red), RPC_OK);
        access_guard.release(red);
        access_guard.release(blue);
}

/* A stream that has named more than can be looked at again ends, as one in between may have been taken away. */
static void test_reload_of_many(void **state)
{
        struct fixture *f = *state;
        void *two = pass_of(f, WIRE_METHOD_SYNC, "red"), *three = pass_of(f, WIRE_METHOD_SYNC, "red");

        assert_int_equal(name_spider(f, two, "r-1"), RPC_OK);
        assert_int_equal(name_spider(f, two, "both"), RPC_OK);
        assert_int_equal(name_spider(f, two, "both"), RPC_OK);
        assert_int_equal(name_spider(f, three, "r-1"), RPC_OK);
        assert_int_equal(name_spider(f, three, "r-2"), RPC_OK);
        assert_int_equal(name_spider(f, three, "both"), RPC_OK);
        assert_int_equal(about_to_send(f, three), RPC_OK);
        reload(f, "red r-1 both\n");
        assert_int_equal(about_to_send(f, two), RPC_OK);
        assert_int_equal(about_to_send(f, three), RPC_UNAVAILABLE);
        access_guard.release(two);
        access_guard.release(three);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_threads),
        TEST(test_admit),
        TEST(test_requests),
        TEST(test_reload),
        TEST(test_reload_of_many),
};

UNIT_MAIN(tests)
