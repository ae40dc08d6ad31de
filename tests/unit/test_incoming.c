#include "sync/incoming.h"

#include <string.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

#define GO_DIR (UINT32_C(1) << 31)

static uint8_t some_digest[HASH_BYTES] = { 1, 2, 3 };

static Grpc__FileInfo own_file(const char *path)
{
        Grpc__FileInfo info = GRPC__FILE_INFO__INIT;

        info.path = (char *)path;
        info.kind = ENTRY_FILE;
        info.mode = 0640;
        info.file_size = 7;
        info.mod_time = -2;
        info.mtime_nsec = 5;
        info.hash_algorithm = HASH_XXH3;
        info.digest = (ProtobufCBinaryData){ hash_len(HASH_XXH3), some_digest };
        return info;
}

static Grpc__FileInfo stock_file(const char *path)
{
        Grpc__FileInfo info = GRPC__FILE_INFO__INIT;

        info.path = (char *)path;
        info.mode = 0644;
        info.file_size = 3;
        info.mod_time = 1600000000;
        info.hash = (char *)"00112233445566778899aabbccddeeff";
        return info;
}

static void test_own_file(void **state)
{
        Grpc__FileInfo info = own_file("a/b");
        struct failure failure = { 0 };
        struct entry e;

        assert_int_equal(incoming_read_own(HASH_XXH3, &info, &e, &failure), 0);
        assert_int_equal(e.kind, ENTRY_FILE);
        assert_int_equal(e.mode, 0640);
        assert_int_equal(e.size, 7);
        assert_true(e.mtime_ns == -2 * NSEC_PER_SEC + 5);
        assert_int_equal(e.content.algorithm, HASH_XXH3);
        assert_memory_equal(e.content.bytes, some_digest, hash_len(HASH_XXH3));
        assert_false(e.unknown);
}

static void test_own_other_kinds(void **state)
{
        Grpc__FileInfo folder = own_file(""), link = own_file("l"), unknown = own_file("u");
        struct failure failure = { 0 };
        struct entry e;

        folder.kind = ENTRY_DIRECTORY;
        folder.mode = GO_DIR | 0755;
        assert_int_equal(incoming_read_own(HASH_XXH3, &folder, &e, &failure), 0);
        assert_int_equal(e.size, 0);
        assert_int_equal(e.path_len, 0);

        link.kind = ENTRY_SYMLINK;
        link.mode = UINT32_C(1) << 27 | 0777;
        link.link_target = (ProtobufCBinaryData){ 4, (uint8_t *)"\xff/to" };
        assert_int_equal(incoming_read_own(HASH_XXH3, &link, &e, &failure), 0);
        assert_int_equal(e.size, 4);
        assert_memory_equal(e.target, "\xff/to", 4);

        unknown.kind = ENTRY_UNKNOWN;
        unknown.mode = 0xffffffff; /* nothing but the name counts */
        assert_int_equal(incoming_read_own(HASH_XXH3, &unknown, &e, &failure), 0);
        assert_true(e.unknown);
}

static void test_raw_path(void **state)
{
        Grpc__FileInfo info = own_file("ignored");
        struct failure failure = { 0 };
        struct entry e;

        info.raw_path = (ProtobufCBinaryData){ 3, (uint8_t *)"a/\xff" };
        assert_int_equal(incoming_read_own(HASH_XXH3, &info, &e, &failure), 0);
        assert_int_equal(e.path_len, 3);
        info.raw_path = (ProtobufCBinaryData){ 3, (uint8_t *)"a\0b" };
        assert_int_equal(incoming_read_own(HASH_XXH3, &info, &e, &failure), -EPROTO);
}

static ProtobufCBinaryData bytes(const char *text)
{
        return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

static void test_own_contents(void **state)
{
        Grpc__FileInfo tiny = own_file("tiny"), large = own_file("large"), folder = own_file("folder"),
                       unknown = own_file("unknown");
        struct failure failure = { 0 };
        struct entry e;

        tiny.content = bytes("7 bytes");
        assert_int_equal(incoming_read_own(HASH_XXH3, &tiny, &e, &failure), 0);
        assert_ptr_equal(e.data, tiny.content.data);
        tiny.content = bytes("");
        assert_int_equal(incoming_read_own(HASH_XXH3, &tiny, &e, &failure), 0);
        assert_null(e.data);
        large.file_size = 1 << 20;
        large.hash_algorithm = HASH_XXH3_PIECES;
        assert_int_equal(incoming_read_own(HASH_XXH3, &large, &e, &failure), 0);
        assert_int_equal(e.content.algorithm, HASH_XXH3_PIECES);
        /* Of what is no file, or not known, they mean nothing. */
        folder.kind = ENTRY_DIRECTORY;
        folder.mode = GO_DIR | 0755;
        folder.content = bytes("7 bytes");
        assert_int_equal(incoming_read_own(HASH_XXH3, &folder, &e, &failure), 0);
        assert_null(e.data);
        unknown.unknown = true;
        unknown.content = bytes("7 bytes");
        assert_int_equal(incoming_read_own(HASH_XXH3, &unknown, &e, &failure), 0);
        assert_null(e.data);
}

static void refuse_own(Grpc__FileInfo info)
{
        struct failure failure = { 0 };
        struct entry e;

        assert_int_equal(incoming_read_own(HASH_XXH3, &info, &e, &failure), -EPROTO);
        assert_non_null(strstr(failure.text, "refused"));
}

static void test_own_refused(void **state)
{
        uint8_t too_long[ENTRY_TINY_MAX + 1] = { 0 };
        static const char *const paths[] = { "..", "/a", "a/", "a//b", "a/../b", "." };
        Grpc__FileInfo info;

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                refuse_own(own_file(paths[i]));
        info = own_file("f"), info.kind = 4, refuse_own(info);
        info = own_file("f"), info.mode = GO_DIR | 0755, refuse_own(info);
        info = own_file("f"), info.mode = UINT32_C(1) << 26, refuse_own(info);
        info = own_file("f"), info.file_size = -1, refuse_own(info);
        info = own_file("f"), info.mtime_nsec = 1000000000, refuse_own(info);
        info = own_file("f"), info.mod_time = ENTRY_MTIME_SEC_MAX + 1, refuse_own(info);
        info = own_file("f"), info.mod_time = INT64_MIN, refuse_own(info);
        info = own_file("f"), info.hash_algorithm = HASH_MD5, refuse_own(info);
        info = own_file("f"), info.digest.len = 15, refuse_own(info);
        info = own_file("f"), info.hash_algorithm = HASH_XXH3_PIECES, refuse_own(info);
        info = own_file("f"), info.file_size = 1 << 20, refuse_own(info);
        info = own_file("f"), info.content = bytes("6bytes"), refuse_own(info);
        info = own_file("f"), info.content = bytes("8 bytes."), refuse_own(info);
        info = own_file("f"), info.file_size = 0, info.content = bytes("x"), refuse_own(info);
        info = own_file("f"), info.file_size = ENTRY_TINY_MAX + 1;
        info.content = (ProtobufCBinaryData){ ENTRY_TINY_MAX + 1, too_long }, refuse_own(info);
}

static void test_stock(void **state)
{
        Grpc__FileInfo info = stock_file("a/b"), root = stock_file(".");
        struct failure failure = { 0 };
        struct entry e;

        assert_int_equal(incoming_read_stock(&info, &e, &failure), 0);
        assert_int_equal(e.content.algorithm, HASH_MD5);
        assert_int_equal(e.content.bytes[15], 0xff);
        info.mode |= UINT32_C(1) << 27; /* a link, shown as the file it leads to */
        assert_int_equal(incoming_read_stock(&info, &e, &failure), 0);
        assert_int_equal(e.kind, ENTRY_FILE);
        root.is_dir = 1;
        root.mode = GO_DIR | 0755;
        root.hash = (char *)"";
        assert_int_equal(incoming_read_stock(&root, &e, &failure), 0);
        assert_int_equal(e.path_len, 0);
        assert_int_equal(e.size, 0);
        info = stock_file("f"), info.hash = (char *)"xyz";
        assert_int_equal(incoming_read_stock(&info, &e, &failure), -EPROTO);
        info = stock_file("f"), info.is_dir = 1;
        assert_int_equal(incoming_read_stock(&info, &e, &failure), -EPROTO);
}

static int join(const struct entry *entry, void *arg)
{
        char *joined = arg;

        snprintf(joined + strlen(joined), 256 - strlen(joined), "%.*s,", (int)entry->path_len, entry->path);
        return 0;
}

static void add(struct incoming *incoming, const char *path)
{
        char copy[64]; /* gone before the listing is used */
        struct entry e = { .path = strcpy(copy, path), .path_len = strlen(path), .kind = ENTRY_FILE };

        e.size = e.path_len;
        e.data = (const uint8_t *)copy;
        assert_int_equal(incoming_add(incoming, &e), 0);
        memset(copy, 'x', sizeof(copy));
}

static int check_data(const struct entry *entry, void *arg)
{
        assert_memory_equal(entry->data, entry->path, entry->path_len);
        return 0;
}

static void test_sorted(void **state)
{
        static const char *const paths[] = { "b/c", "a-b", "a/z", "b", "a", "a/b/c", "a/b" };
        struct incoming *incoming;
        char joined[256] = "";

        assert_int_equal(incoming_new(&incoming), 0);
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                add(incoming, paths[i]);
        assert_int_equal(incoming_each(incoming, join, joined), 0);
        assert_string_equal(joined, "b/c,a-b,a/z,b,a,a/b/c,a/b,");
        assert_int_equal(incoming_each(incoming, check_data, NULL), 0);
        joined[0] = '\0';
        assert_int_equal(incoming_each_sorted(incoming, join, joined), 0);
        assert_string_equal(joined, ",a,a/b,a/b/c,a/z,a-b,b,b/c,"); /* the root was made up */
        incoming_free(incoming);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_file),     cmocka_unit_test(test_own_other_kinds),
        cmocka_unit_test(test_own_contents), cmocka_unit_test(test_raw_path),
        cmocka_unit_test(test_own_refused),  cmocka_unit_test(test_stock),
        cmocka_unit_test(test_sorted),
};

UNIT_MAIN(tests)
