/* Every function that takes a path from outside, over the table of paths that attack (tests/paths.txt). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/path.h"
#include "base/pieces.h"
#include "server/fetch_queue.h"
#include "server/sync_request.h"
#include "server/workspace.h"
#include "sync/incoming.h"
#include "sync/source.h"
#include "tests/tempdir.h"

struct attack {
        bool good;
        struct buffer path; /* may hold NULs; one behind its end does not count */
};

static struct attack *attacks;
static size_t n_attacks;

/* ---- the table ---- */

/* One byte of TEXT, which may be written as \xNN. */
static const char *read_byte(const char *text, struct buffer *ret)
{
        char digits[3] = { 0 }, byte = *text++;

        if (byte == '\\' && *text == 'x') {
                memcpy(digits, text + 1, 2);
                byte = (char)strtoul(digits, NULL, 16);
                text += 3;
        }
        assert_int_equal(buffer_append(ret, &byte, 1), 0);
        return text;
}

/* {TEXT*N}; NULL: it is none. */
static const char *read_repeated(const char *text, struct buffer *ret)
{
        const char *star = *text == '{' ? strchr(text, '*') : NULL;
        struct buffer once = { 0 };
        char *end;

        if (!star || star[1] < '0' || star[1] > '9')
                return NULL;
        for (text++; text < star;)
                text = read_byte(text, &once);
        for (unsigned long n = strtoul(star + 1, &end, 10); n > 0; n--)
                assert_int_equal(buffer_append(ret, once.data, once.len), 0);
        assert_int_equal(*end, '}');
        buffer_release(&once);
        return end + 1;
}

static void read_attack(const char *line)
{
        struct attack *attack;

        attacks = reallocarray(attacks, n_attacks + 1, sizeof(*attacks));
        assert_non_null(attacks);
        attack = &attacks[n_attacks++];
        *attack = (struct attack){ .good = strncmp(line, "good ", 5) == 0 };
        assert_true(attack->good || strncmp(line, "bad ", 4) == 0);
        for (line = strchr(line, ' ') + 1; *line;)
                line = read_repeated(line, &attack->path) ?: read_byte(line, &attack->path);
        assert_int_equal(buffer_append(&attack->path, "", 1), 0);
        attack->path.len--;
}

static int read_table(void **state)
{
        FILE *file = fopen(PATHS, "re");
        char *line = NULL;
        size_t room = 0;
        ssize_t len;

        if (!file)
                return -1;
        while ((len = getline(&line, &room, file)) > 0) {
                line[len - 1] = '\0';
                if (line[0] != '#')
                        read_attack(line);
        }
        free(line);
        fclose(file);
        return n_attacks > 100 ? 0 : -1;
}

static int free_table(void **state)
{
        for (size_t i = 0; i < n_attacks; i++)
                buffer_release(&attacks[i].path);
        free(attacks);
        return 0;
}

/* What a function has said of an attack: 0, or the negative errno of its refusal. */
static void judge(const struct attack *attack, int r, const char *function)
{
        if ((r == 0) != attack->good)
                fail_msg("%s: %d for '%s' (%zu bytes)", function, r, attack->path.data, attack->path.len);
}

static bool is_string(const struct attack *attack)
{
        return !memchr(attack->path.data, '\0', attack->path.len);
}

#define EACH_ATTACK(a) (const struct attack *a = attacks; a < attacks + n_attacks; a++)

/* ---- those who take them ---- */

static void test_check(void **state)
{
        for
                EACH_ATTACK(a)
                {
                        const char *rest = a->path.data, *name;
                        size_t len = a->path.len, name_len;

                        judge(a, path_check(rest, len), "path_check");
                        while (a->good && path_next(&rest, &len, &name, &name_len))
                                judge(a, path_check_name(name, name_len), "path_check_name");
                }
}

/* An entry of a listing: by either of its two fields, and of a stock master. */
static void test_entries(void **state)
{
        static uint8_t digest[HASH_BYTES];

        for
                EACH_ATTACK(a)
                {
                        Grpc__FileInfo info = GRPC__FILE_INFO__INIT;
                        struct failure failure = { 0 };
                        struct entry entry;

                        info.kind = ENTRY_FILE;
                        info.mode = 0644;
                        info.digest = (ProtobufCBinaryData){ hash_len(HASH_XXH3), digest };
                        info.hash_algorithm = HASH_XXH3;
                        info.hash = (char *)"00112233445566778899aabbccddeeff";
                        info.raw_path = (ProtobufCBinaryData){ a->path.len, (uint8_t *)a->path.data };
                        judge(a, incoming_read_own(HASH_XXH3, &info, &entry, &failure), "incoming_read_own");
                        if (!is_string(a))
                                continue;
                        info.raw_path.len = 0;
                        info.path = a->path.data;
                        judge(a, incoming_read_own(HASH_XXH3, &info, &entry, &failure), "incoming_read_own");
                        if (strcmp(a->path.data, ".") != 0) /* which is the root */
                                judge(a, incoming_read_stock(&info, &entry, &failure), "incoming_read_stock");
                }
}

static void test_requests(void **state)
{
        for
                EACH_ATTACK(a)
                {
                        struct sync_request request = { .spider = (char *)"spider", .path = a->path.data };
                        int r;

                        if (!is_string(a))
                                continue;
                        judge(a, sync_request_check(&request), "sync_request_check");
                        request = (struct sync_request){ .spider = a->path.data, .path = (char *)"" };
                        r = sync_request_check(&request);
                        if (r == 0 && (!a->good || strchr(a->path.data, '/')))
                                fail_msg("'%s' is no spider", a->path.data);
                }
}

static void test_wants(void **state)
{
        static const uint8_t digest[HASH_BYTES];
        struct rpc_peers *peers = rpc_peers_new(NULL);
        struct rpc_peer *peer = rpc_peer_get(peers, "ipv4:192.0.2.1:1");
        struct fetch_queue *queue;

        assert_int_equal(fetch_queue_new(peer, &queue), 0);
        for
                EACH_ATTACK(a)
                {
                        const struct fetch_want want = { .id = 1,
                                                         .path = (const uint8_t *)a->path.data,
                                                         .path_len = a->path.len,
                                                         .hash_algorithm = HASH_XXH3,
                                                         .digest = digest,
                                                         .digest_len = hash_len(HASH_XXH3) };
                        struct fetch_item *item;
                        uint64_t ticket;

                        assert_int_equal(fetch_queue_add(queue, &want), 0);
                        item = fetch_queue_take(queue, &ticket);
                        judge(a, item->refused ? -EINVAL : 0, "fetch_queue_add");
                        fetch_queue_finish(queue, item);
                }
        fetch_queue_free(queue);
        rpc_peer_unref(peer);
        rpc_peers_free(peers);
}

/* The parser forgives a slash at the end; what it takes is a spider and a path all the same. */
static void test_sources(void **state)
{
        size_t taken = 0;

        for
                EACH_ATTACK(a)
                {
                        struct failure failure = { 0 };
                        struct source source = { 0 };
                        char *text;

                        if (!is_string(a))
                                continue;
                        assert_true(asprintf(&text, "master:/%s", a->path.data) >= 0);
                        if (source_parse(text, &source, &failure) == 0) {
                                taken++;
                                assert_int_equal(path_check_name(source.spider, strlen(source.spider)), 0);
                                assert_int_equal(path_check(source.path, strlen(source.path)), 0);
                                assert_true(path_is_utf8(source.spider, strlen(source.spider)));
                        }
                        source_release(&source);
                        free(text);
                }
        assert_true(taken > 20);
}

/* ---- files ---- */

static void write_file(int dirfd, const char *path, const char *text)
{
        int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
}

/* What is opened is a file of the workspace, and there is only one. */
static void check_opened(const struct attack *a, int r, int fd, const struct stat *inner)
{
        struct stat st;

        if (r < 0)
                return;
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
        if (!a->good || st.st_ino != inner->st_ino)
                fail_msg("'%s' was opened", a->path.data);
}

static void open_all(const struct workspace_root *root, int spider, const struct stat *inner)
{
        for
                EACH_ATTACK(a)
                {
                        struct stat st;
                        int fd = -1, r;

                        if (!is_string(a))
                                continue;
                        check_opened(a, workspace_open_file(spider, a->path.data, &fd, &st), fd, inner);
                        check_opened(a, workspace_open_file_following(spider, a->path.data, &fd, &st), fd,
                                     inner);
                        r = workspace_open_folder(root, "sp", a->path.data, &fd);
                        if (r == 0)
                                fail_msg("the folder '%s' was opened", a->path.data);
                        r = workspace_open_folder(root, a->path.data, "", &fd);
                        if (r == 0)
                                fail_msg("the spider '%s' was opened", a->path.data);
                }
}

static void test_files(void **state)
{
        char dir[] = "/tmp/test_paths.XXXXXX", command[64];
        struct workspace_root *root;
        struct stat inner;
        int top, spider;

        assert_non_null(mkdtemp(dir));
        top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(top >= 0);
        assert_int_equal(mkdirat(top, "root", 0755), 0);
        assert_int_equal(mkdirat(top, "root/sp", 0755), 0);
        assert_int_equal(mkdirat(top, "root/sp/d", 0755), 0);
        assert_int_equal(mkdirat(top, "root/other", 0700), 0);
        write_file(top, "secret", "outside");
        write_file(top, "root/secret", "outside");
        write_file(top, "root/other/secret", "outside");
        write_file(top, "root/sp/d/inner", "inside");
        assert_int_equal(fstatat(top, "root/sp/d/inner", &inner, 0), 0);
        spider = openat(top, "root/sp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        snprintf(command, sizeof(command), "%s/root", dir);
        assert_int_equal(workspace_root_open(command, &root), 0);
        open_all(root, spider, &inner);
        workspace_root_free(root);
        close(spider);
        close(top);
        assert_int_equal(tempdir_remove(dir), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_check), cmocka_unit_test(test_entries), cmocka_unit_test(test_requests),
                cmocka_unit_test(test_wants), cmocka_unit_test(test_sources), cmocka_unit_test(test_files),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, read_table, free_table);
}
