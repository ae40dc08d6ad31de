#include "server/workspace.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/path.h"
#include "tests/fault/interpose.h"
#include "tests/tempdir.h"
#include "tests/unit/unit.h"

static unsigned renames; /* so many openat2(2) to come meet one */

PUBLIC long syscall(long number, ...)
{
        long a[6];

        ARGUMENTS_AFTER(number, a);
        if (number == SYS_openat2 && renames > 0) {
                renames--;
                errno = EAGAIN;
                return -1;
        }
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

struct fixture {
        char dir[64];
        struct workspace_root *root;
        int spider; /* the spider's folder */
};

static void write_file(int dirfd, const char *path)
{
        int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, "x", 1), 1);
        close(fd);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        char path[128];

        strcpy(f->dir, "/tmp/test_workspace.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(path, sizeof(path), "%s/sp", f->dir);
        assert_int_equal(mkdir(path, 0755), 0);
        f->spider = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->spider >= 0);
        assert_int_equal(mkdirat(f->spider, "dir", 0755), 0);
        write_file(f->spider, "file");
        write_file(f->spider, "dir/inner");
        assert_int_equal(symlinkat("file", f->spider, "in"), 0);
        assert_int_equal(symlinkat("dir", f->spider, "dirlink"), 0);
        assert_int_equal(symlinkat("../outside", f->spider, "out"), 0);
        assert_int_equal(symlinkat("/etc/passwd", f->spider, "absolute"), 0);
        assert_int_equal(symlinkat("loop", f->spider, "loop"), 0);
        assert_int_equal(mkfifoat(f->spider, "fifo", 0644), 0);
        snprintf(path, sizeof(path), "%s/outside", f->dir);
        write_file(AT_FDCWD, path);
        snprintf(path, sizeof(path), "%s/linkspider", f->dir);
        assert_int_equal(symlink("sp", path), 0);
        assert_int_equal(workspace_root_open(f->dir, &f->root), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        workspace_root_free(f->root);
        close(f->spider);
        assert_int_equal(tempdir_remove(f->dir), 0);
        free(f);
        return 0;
}

static void test_root(void **state)
{
        struct fixture *f = *state;
        struct workspace_root *root = NULL;

        assert_int_equal(workspace_root_open("/nowhere/at/all", &root), -ENOENT);
        assert_int_equal(workspace_root_open("/dev/null", &root), -ENOTDIR);
        assert_null(root);
        assert_string_equal(workspace_root_path(f->root), f->dir);
        workspace_root_free(NULL);
}

static void test_spiders(void **state)
{
        static const char *const not [] = { "",      ".",          "..",      "sp/dir", "/",
                                            "../sp", "linkspider", "outside", "none" };
        struct fixture *f = *state;

        assert_true(workspace_has_spider(f->root, "sp"));
        for (size_t i = 0; i < ARRAY_SIZE(not ); i++)
                assert_false(workspace_has_spider(f->root, not [i]));
}

static void test_folders(void **state)
{
        static const struct {
                const char *path;
                int error;
        } bad[] = {
                { "..", -EINVAL },     { "dir/..", -EINVAL }, { "/", -EINVAL },
                { "/etc", -EINVAL },   { "dir/", -EINVAL },   { "./dir", -EINVAL },
                { "dir//x", -EINVAL }, { "file", -ENOTDIR },  { "dirlink", -ENOTDIR },
                { "none", -ENOENT },   { "fifo", -ENOTDIR },  { "dir/../..", -EINVAL },
        };
        struct fixture *f = *state;
        int fd = -1;

        assert_int_equal(workspace_open_folder(f->root, "sp", "", &fd), 0);
        close(fd);
        assert_int_equal(workspace_open_folder(f->root, "sp", "dir", &fd), 0);
        close(fd);
        fd = -1;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r = workspace_open_folder(f->root, "sp", bad[i].path, &fd);
                /* A link in a folder's place: kernels say either. */
                assert_true(r == bad[i].error || (strcmp(bad[i].path, "dirlink") == 0 && r == -ELOOP));
        }
        assert_int_equal(fd, -1);
}

static void test_files(void **state)
{
        static const char *const not_there[] = { "none", "in",   "out",           "absolute", "loop",
                                                 "dir",  "fifo", "dirlink/inner", "file/x" };
        static const char *const not_paths[] = { "..", "../outside", "/etc/passwd", "dir/../file", "file/" };
        struct fixture *f = *state;
        struct stat st;
        int fd = -1;

        for (size_t i = 0; i < ARRAY_SIZE(not_there); i++) {
                int r = workspace_open_file(f->spider, not_there[i], &fd, &st);
                assert_true(r == -ENOENT || r == -ELOOP || r == -ENOTDIR);
        }
        for (size_t i = 0; i < ARRAY_SIZE(not_paths); i++) {
                assert_int_equal(workspace_open_file(f->spider, not_paths[i], &fd, &st), -EINVAL);
                assert_int_equal(workspace_open_file_following(f->spider, not_paths[i], &fd, &st), -EINVAL);
        }
        assert_int_equal(fd, -1);
        assert_int_equal(workspace_open_file(f->spider, "dir/inner", &fd, &st), 0);
        assert_int_equal(st.st_size, 1);
        close(fd);
}

static void test_following(void **state)
{
        struct fixture *f = *state;
        struct stat st;
        int fd = -1;

        assert_int_equal(workspace_open_file_following(f->spider, "out", &fd, &st), -EXDEV);
        assert_int_equal(workspace_open_file_following(f->spider, "absolute", &fd, &st), -EXDEV);
        assert_int_equal(workspace_open_file_following(f->spider, "loop", &fd, &st), -ELOOP);
        assert_int_equal(workspace_open_file_following(f->spider, "dirlink", &fd, &st), -ENOENT);
        assert_int_equal(fd, -1);
        assert_int_equal(workspace_open_file_following(f->spider, "in", &fd, &st), 0);
        close(fd);
        assert_int_equal(workspace_open_file_following(f->spider, "dirlink/inner", &fd, &st), 0);
        close(fd);
}

/* While a link leads through ".." the kernel gives up when anything on the machine is renamed: the file is there nevertheless. */
static void test_renames(void **state)
{
        struct fixture *f = *state;
        struct stat st;
        int fd = -1;

        renames = 20;
        assert_int_equal(workspace_open_file_following(f->spider, "in", &fd, &st), 0);
        assert_int_equal(renames, 0);
        close(fd);
        fd = -1;
        renames = UINT_MAX;
        assert_int_equal(workspace_open_file_following(f->spider, "in", &fd, &st), -EAGAIN);
        assert_true(renames > 0);
        assert_int_equal(fd, -1);
        renames = 0;
}

static void test_long_paths(void **state)
{
        struct fixture *f = *state;
        char path[PATH_BYTES_MAX + 3];
        struct stat st;
        int fd = -1;

        for (size_t i = 0; i < sizeof(path); i++)
                path[i] = i % 2 ? '/' : 'a';
        path[PATH_BYTES_MAX + 2] = '\0'; /* ends in 'a' */
        assert_int_equal(workspace_open_file(f->spider, path, &fd, &st), -ENAMETOOLONG);
        path[PATH_BYTES_MAX] = '\0';
        assert_int_equal(workspace_open_file(f->spider, path, &fd, &st), -ENOENT);
        memset(path, 'n', 256);
        path[256] = '\0';
        assert_int_equal(workspace_open_folder(f->root, path, "", &fd), -ENAMETOOLONG);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spiders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_following, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_renames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_paths, set_up, tear_down),
};

UNIT_MAIN(tests)
