/*
 * The watcher, both ways of the kernel's, against a model of the tree (watcher_fixture.h).
 */
#include "server/watcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/io.h"
#include "tests/unit/watcher_fixture.h"
#include "tests/unit/mounts.h"

static enum watcher_kind fanotify = WATCHER_FANOTIFY, inotify = WATCHER_INOTIFY;

static void test_edits(void **state)
{
        struct fixture *f = *state;

        run(f, "mkdir -p d/e; echo 1 > d/file; echo 1 > top");
        BEGIN(f);
        tells(f, "echo new > d/made", "d", "made");
        tells(f, "echo more >> d/file", "d", "file");
        tells(f, "echo x > d/.file.tmp && mv d/.file.tmp d/file", "d", "file");
        tells(f, "mkdir -p a/b/c && echo 1 > a/b/c/f", "", "a");
        tells(f, "echo 2 > a/b/c/f", "a/b/c", "f");
        tells(f, "chmod 600 top", "", "top");
        tells(f, "chmod 700 d/e", "d", "e");
        tells(f, "chmod 711 .", "", "");
        tells(f, "touch -d 2001-01-01 d/file", "d", "file");
        tells(f, "ln top d/hard", "d", "hard");
        tells(f, "rm top && mv d/hard top", "", "top");
        tells(f, "ln -s nowhere d/link", "d", "link");
        tells(f, "ln -sfn elsewhere d/link", "d", "link");
        tells(f, "truncate -s 100000 top", "", "top");
        tells(f, "rm d/link", "d", "link");
        tells(f, "rm -r a", "", "a");
        tells(f, "rm -r d && echo file > d", "", "d");
        tells(f, "rm d && mkdir d && echo 1 > d/x", "", "d");
        tells(f, "echo 2 > d/x", "d", "x");
        tells(f, "mkdir 'a b' \"$(printf 'n\\377')\" && echo 1 > \"$(printf 'n\\377')/\"'x y'", "", "n\377");
        tells(f, "echo 1 > \"$(printf 'n\\377')/\"'x y'", "n\377", "x y");
}

static void test_moves(void **state)
{
        struct fixture *f = *state;

        run(f, "mkdir -p a/x/y b ../../out/z; echo 1 > a/x/y/f; echo 1 > ../../out/z/f");
        BEGIN(f);
        tells(f, "mv a/x b/moved", "b", "moved");
        tells(f, "echo 22 > b/moved/y/f", "b/moved/y", "f");
        tells(f, "mv b ../../b", "", "b");
        tells(f, "mv ../../b c", "", "c");
        tells(f, "echo 333 > c/moved/y/f", "c/moved/y", "f");
        tells(f, "mv ../../out in", "", "in");
        tells(f, "echo 22 > in/z/f", "in/z", "f");
        /* Away and back before anybody looked: the scanner finds the folder it knows, and only what was told about it. */
        after(f, "mv c d && echo 4444 > d/moved/y/f && mv d c");
        after(f, "mv c ../../c && echo 5 > ../../c/moved/y/f && mv ../../c c");
        after(f, "mv c d && mv d c");
        tells(f, "echo 666666 > c/moved/y/f", "c/moved/y", "f");
        /* The same, and the watcher has read of the half of it. */
        run(f, "mv c d && echo 7 > d/moved/y/f");
        watcher_drain(f->watcher);
        after(f, "mkdir d/moved/new && mv d c");
        tells(f, "echo 88 > c/moved/new/f", "c/moved/new", "f");
        /* Two change places; one takes its parent's place. */
        after(f, "mv c t && mv in c && mv t in");
        tells(f, "echo 99 > in/moved/y/f", "in/moved/y", "f");
        tells(f, "echo 99 > c/z/f", "c/z", "f");
        after(f, "mv in/moved t && rm -r in && mv t in");
        tells(f, "echo 1010 > in/y/f", "in/y", "f");
        tells(f, "echo 1 > in/direct", "in", "direct");
        after(f, "mv in/y t && mv in ../../gone && mv t in");
        tells(f, "echo 22 > in/direct", "in", "direct");
        tells(f, "mkdir in/y && echo 1 > in/y/f", "in", "y");
        after(f, "mkdir e && mv -T in e");
        tells(f, "echo 111111 > e/y/f", "e/y", "f");
}

/* A file that stays open tells of each write; one that was written through a mapping when that ends. */
static void test_open_files(void **state)
{
        struct fixture *f = *state;
        char path[200], *mapped;
        int fd;

        run(f, "mkdir d; truncate -s 8192 d/mapped");
        BEGIN(f);
        join(path, sizeof(path), f->spider, "d/log");
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        sync_model(f);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(write(fd, "line\n", 5), 5);
                sync_model(f);
        }
        assert_int_equal(ftruncate(fd, 2), 0);
        sync_model(f);
        close(fd);
        join(path, sizeof(path), f->spider, "d/mapped");
        fd = open(path, O_RDWR | O_CLOEXEC);
        mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(mapped != MAP_FAILED);
        close(fd);
        watcher_drain(f->watcher);
        mapped[5000] = 'x';
        assert_int_equal(munmap(mapped, 8192), 0);
        sync_model(f);
}

/* More than one reading can hold, and all of it told by one drain. */
static void test_backlog(void **state)
{
        struct fixture *f = *state;

        BEGIN(f);
        hold_reader(f);
        run(f, "for i in $(seq 2000); do echo > a-longer-name-so-that-it-fills-the-buffer-$i; done");
        set_gate(f, false);
        sync_model(f);
}

/* What happens elsewhere on the same file system is not told, nor in what has been moved there. */
static void test_outside(void **state)
{
        struct fixture *f = *state;

        run(f, "mkdir -p a/b ../other ../../beside");
        BEGIN(f);
        after(f, "mv a ../../beside/a");
        forget_told(f);
        run(f, "echo 1 > ../../beside/f; echo 1 > ../../beside/a/b/f; echo 1 > ../other/f; mkdir ../other/d; "
               "echo 1 > ../file; "
               "cat ../../beside/f . ; ls -lR .. || true");
        watcher_drain(f->watcher);
        assert_int_equal(told(f) + lost_all(f) + lost_spider(f), 0);
        /* Nor what was only read. */
        run(f, "echo 1 > file");
        sync_model(f);
        forget_told(f);
        run(f, "cat file; ls -l; find . -type f; test -x file || true");
        watcher_drain(f->watcher);
        assert_int_equal(told(f) + lost_all(f) + lost_spider(f), 0);
        watcher_remove(f->watcher, SPIDER);
        assert_false(watcher_covers(f->watcher, SPIDER));
        run(f, "echo 2 > file");
        watcher_drain(f->watcher);
        assert_int_equal(told(f), 0);
}

static void test_tools(void **state)
{
        struct fixture *f = *state;

        run(f, "git init -q -b one . && git config user.email a@b && git config user.name n && mkdir -p "
               "src/deep/er lib && "
               "for i in 1 2 3 4 5 6 7 8 9; do echo $i > src/$i; echo $i > src/deep/er/$i; echo $i > lib/$i; "
               "done && git add . && "
               "git commit -qm 1 && git checkout -qb two && git rm -qr lib && git mv src/deep src/shallow && "
               "for i in 1 2 3; do echo new >> src/$i; done && mkdir extra && echo 1 > extra/f && git add . "
               "&& git commit -qm 2 && "
               "git checkout -q one && cp -a . ../../copy");
        BEGIN(f);
        after(f, "git checkout -q two");
        after(f, "git checkout -q one");
        after(f, "git stash -u -q || true; git checkout -q two; git reset -q --hard HEAD^; git clean -fdq");
        after(f, "cd ../../copy && git checkout -q two && echo more > src/4 && cd - && rsync -a --delete "
                 "../../copy/ ./");
        after(f, "rm -rf ../../copy/src && mkdir -p ../../copy/a/b/c/d && echo 1 > ../../copy/a/b/c/d/f && "
                 "rsync -a --delete ../../copy/ ./");
        after(f, "rsync -a --inplace --delete --exclude .git ../../copy/a/ ./");
        after(f, "printf 'w\\nq\\n' | ed -s b/c/d/f || sed -i s/1/2/ b/c/d/f");
        after(f, "tar cf ../../t.tar . && rm -rf ./* .git && tar xf ../../t.tar");
}

static void test_spider(void **state)
{
        struct fixture *f = *state;

        run(f, "mkdir a");
        BEGIN(f);
        run(f, "cd .. && rm -r " SPIDER);
        watcher_drain(f->watcher);
        assert_true(lost_spider(f) > 0);
        forget_told(f);
        assert_int_equal(mkdir(f->spider, 0755), 0);
        watcher_drain(f->watcher);
        assert_true(lost_spider(f) > 0);
        forget_told(f);
        rows_remove(f, "");
        walk(f, "", f->watcher);
        assert_true(watcher_covers(f->watcher, SPIDER));
        tells(f, "mkdir -p n && echo 1 > n/f", "", "n");
        tells(f, "echo 2 > n/f", "n", "f");
        run(f, "mv ../" SPIDER " ../../gone && mkdir ../" SPIDER);
        watcher_drain(f->watcher);
        assert_true(lost_spider(f) > 0);
        assert_int_equal(lost_all(f), 0);
}

/* Sets the length of the queues that are made from now on; returns what it was, negative without permission. */
static int queue_length(enum watcher_kind kind, int length)
{
        const char *path = kind == WATCHER_FANOTIFY ? "/proc/sys/fs/fanotify/max_queued_events"
                                                    : "/proc/sys/fs/inotify/max_queued_events";
        FILE *file = fopen(path, "r+");
        int before = -1;

        if (!file)
                return -1;
        if (fscanf(file, "%d", &before) == 1) {
                rewind(file);
                fprintf(file, "%d\n", length);
                if (fflush(file) != 0)
                        before = -1;
        }
        fclose(file);
        return before;
}

static void test_overflow(void **state)
{
        struct fixture *f = *state;
        int length = queue_length(f->kind, 20);
        int r;

        if (length < 0)
                unit_skip("the length of the queue cannot be set here");
        /* Nothing is checked before the setting is back: all of the machine has it. */
        r = start(f, 0);
        queue_length(f->kind, length);
        if (r == -EPERM)
                unit_skip("fanotify needs CAP_SYS_ADMIN");
        assert_int_equal(r, 0);
        walk(f, "", f->watcher);
        hold_reader(f);
        run(f, "for i in $(seq 100); do echo 1 > f$i; done");
        set_gate(f, false);
        watcher_drain(f->watcher);
        assert_true(lost_all(f) > 0);
        assert_true(watcher_covers(f->watcher, SPIDER));
        /* And it goes on. What others do on the same file system may fill so short a queue again, and is told in the same way. */
        for (bool told = false; !told;) {
                forget_told(f);
                rows_remove(f, "");
                walk(f, "", f->watcher);
                run(f, "echo 2 > after");
                watcher_drain(f->watcher);
                told = was_told(f, "", "after");
                assert_true(told || lost_all(f) > 0);
        }
}

static void test_drop(void **state)
{
        static const unsigned percents[] = { 0, 30, 100 };
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
                unsigned dropped;
                int fd, r = start(f, percents[i]);
                if (r == -EPERM)
                        unit_skip("fanotify needs CAP_SYS_ADMIN");
                assert_int_equal(r, 0);
                fd = open(f->spider, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_int_equal(watcher_add(f->watcher, SPIDER, "", fd), 0);
                forget_told(f);
                for (int n = 0; n < 1000; n++) {
                        char name[32];
                        snprintf(name, sizeof(name), "d%zu.%d", i, n);
                        assert_int_equal(symlinkat("x", fd, name), 0);
                }
                watcher_drain(f->watcher);
                close(fd);
                dropped = 1000 - told(f);
                assert_in_range(dropped, percents[i] * 9, percents[i] * 11);
                watcher_free(TAKE_PTR(f->watcher));
        }
}

/* Several names of one reading are told once each. */
static void test_once(void **state)
{
        struct fixture *f = *state;

        run(f, "echo 0 > first");
        BEGIN(f);
        hold_reader(f);
        run(f, "for i in 1 2 3 4 5 6 7 8 9; do echo 1 >> a; echo 1 >> b; chmod 600 a; touch b; done; mkdir "
               "c; rmdir c; mkdir c");
        forget_told(f);
        set_gate(f, false);
        watcher_drain(f->watcher);
        /* `first`, which the gate held, perhaps once more, and one each. */
        assert_in_range(told(f), 4, 5);
        assert_true(was_told(f, "", "a") && was_told(f, "", "b") && was_told(f, "", "c"));
}

/* ---- many at random ---- */

static uint32_t random_next(uint32_t *seed)
{
        *seed = *seed * 1664525u + 1013904223u;
        return *seed >> 8;
}

/* A path up to three folders deep, each of few names: so that much meets. DEPTH components. */
static const char *random_path(const struct fixture *f, uint32_t *seed, char *out, size_t size)
{
        unsigned depth = 1 + random_next(seed) % 4;
        size_t len = (size_t)snprintf(out, size, "%s", random_next(seed) % 12 == 0 ? f->base : f->spider);

        for (unsigned i = 0; i < depth; i++)
                len += (size_t)snprintf(out + len, size - len, "/%c", "abcde"[random_next(seed) % 5]);
        return out;
}

static void random_write(const char *path, int flags, uint32_t n)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

        if (fd >= 0) {
                assert_int_equal(io_write_all(fd, "0123456789", 1 + n % 9), 0);
                close(fd);
        }
}

static void random_step(const struct fixture *f, uint32_t *seed)
{
        char a[256], b[256], command[600];

        random_path(f, seed, a, sizeof(a));
        random_path(f, seed, b, sizeof(b));
        switch (random_next(seed) % 12) {
        case 0:
        case 1:
                mkdir(a, 0755);
                break;
        case 2:
        case 3:
                random_write(a, O_TRUNC, random_next(seed));
                break;
        case 4:
                random_write(a, O_APPEND, random_next(seed));
                break;
        case 5:
        case 6:
        case 7:
                rename(a, b);
                break;
        case 8:
                renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
                break;
        case 9:
                chmod(a, 0700 | (random_next(seed) & 077));
                break;
        case 10:
                if (unlink(a) < 0 && random_next(seed) % 4 == 0) {
                        snprintf(command, sizeof(command), "rm -rf '%s'", a);
                        assert_int_equal(system(command), 0);
                }
                break;
        default:
                if (symlink("target", a) < 0)
                        utimensat(AT_FDCWD, a, NULL, AT_SYMLINK_NOFOLLOW);
        }
}

static void random_run(struct fixture *f, uint32_t seed, unsigned steps, unsigned most_at_once)
{
        print_message("# seed %u\n", seed);
        while (steps > 0) {
                for (unsigned n = 1 + random_next(&seed) % most_at_once; n > 0 && steps > 0; n--, steps--) {
                        random_step(f, &seed);
                        /* Now and then what happened so far is told, but nobody looks yet. */
                        if (random_next(&seed) % 8 == 0)
                                watcher_drain(f->watcher);
                }
                sync_model(f);
        }
}

static void test_random(void **state)
{
        struct fixture *f = *state;
        const char *given = getenv("TEST_SEED");
        uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 10) : (uint32_t)getpid();

        BEGIN(f);
        random_run(f, seed, 1000, 1);
        random_run(f, seed + 1, 3000, 12);
}

/* ---- several at once ---- */

struct drainer {
        struct fixture *f;
        pthread_t thread;
        unsigned number, missed;
};

static void *drainer_main(void *arg)
{
        struct drainer *d = arg;

        for (unsigned i = 0; i < 100; i++) {
                char name[32], path[200];
                snprintf(name, sizeof(name), "t%u.%u", d->number, i);
                join(path, sizeof(path), d->f->spider, name);
                if (symlink("x", path) < 0)
                        d->missed++;
                watcher_drain(d->f->watcher);
                if (!was_told(d->f, "", name))
                        d->missed++;
        }
        return NULL;
}

static void test_concurrent(void **state)
{
        struct fixture *f = *state;
        struct drainer drainers[4];

        BEGIN(f);
        for (unsigned i = 0; i < ARRAY_SIZE(drainers); i++) {
                drainers[i] = (struct drainer){ .f = f, .number = i };
                assert_int_equal(pthread_create(&drainers[i].thread, NULL, drainer_main, &drainers[i]), 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(drainers); i++) {
                pthread_join(drainers[i].thread, NULL);
                assert_int_equal(drainers[i].missed, 0);
        }
        sync_model(f);
}

/* ---- other file systems ---- */

static bool private_mounts;

static int bind_mount(const struct fixture *f, const char *from, const char *to)
{
        char source[200], target[200];

        join(source, sizeof(source), f->base, from);
        join(target, sizeof(target), f->spider, to);
        return mount(source, target, NULL, MS_BIND, NULL);
}

static void unmount(const struct fixture *f, const char *at)
{
        char path[200];

        join(path, sizeof(path), f->spider, at);
        assert_int_equal(umount2(path, MNT_DETACH), 0);
}

static void test_mounts(void **state)
{
        struct fixture *f = *state;
        char path[200];

        if (!private_mounts)
                unit_skip("mounting needs CAP_SYS_ADMIN");
        run(f, "mkdir -p mem bound twice/in ../../elsewhere/deep");
        join(path, sizeof(path), f->spider, "mem");
        assert_int_equal(mount("none", path, "tmpfs", 0, "size=1m"), 0);
        run(f, "mkdir -p mem/d");
        assert_int_equal(bind_mount(f, "elsewhere", "bound"), 0);
        BEGIN(f);
        tells(f, "echo 1 > mem/d/f", "mem/d", "f");
        tells(f, "mkdir -p mem/e/g && echo 1 > mem/e/g/f", "mem", "e");
        tells(f, "echo 1 > bound/deep/f", "bound/deep", "f");
        tells(f, "echo 22 > ../../elsewhere/deep/f", "bound/deep", "f");
        tells(f, "mkdir ../../elsewhere/new && echo 1 > ../../elsewhere/new/f", "bound", "new");
        tells(f, "echo 22 > ../../elsewhere/new/f", "bound/new", "f");
        /* One folder in two places: both are told. */
        assert_int_equal(bind_mount(f, "elsewhere", "twice/in"), 0);
        rows_remove(f, "");
        walk(f, "", f->watcher);
        run(f, "echo 333 > ../../elsewhere/new/f");
        watcher_drain(f->watcher);
        assert_true(was_told(f, "bound/new", "f") && was_told(f, "twice/in/new", "f"));
        sync_model(f);
        unmount(f, "twice/in");
        unmount(f, "bound");
        unmount(f, "mem");
}

/* ---- limits, kinds ---- */

/* Lines of the inotify descriptor's fdinfo: its watches. */
static unsigned count_watches(void)
{
        unsigned count = 0;
        struct dirent *d;
        DIR *dir = opendir("/proc/self/fd");

        assert_non_null(dir);
        while ((d = readdir(dir))) {
                char path[300], link[64] = "";
                struct buffer text = { 0 };
                if (readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1) < 0 ||
                    strcmp(link, "anon_inode:inotify") != 0)
                        continue;
                snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", d->d_name);
                assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, &text), 0);
                for (const char *at = text.data; at && (at = strstr(at, "inotify wd:")); at++)
                        count++;
                buffer_release(&text);
        }
        closedir(dir);
        return count;
}

static void test_watches(void **state)
{
        struct fixture *f = *state;

        run(f, "mkdir -p a/b/c d");
        BEGIN(f);
        assert_int_equal(count_watches(), 6); /* the root's, the spider's */
        walk(f, "", f->watcher);
        assert_int_equal(count_watches(), 6);
        after(f, "mkdir d/new");
        assert_int_equal(count_watches(), 7);
        after(f, "mv a ../../a");
        assert_int_equal(count_watches(), 4);
        after(f, "mv ../../a a");
        assert_int_equal(count_watches(), 7);
        after(f, "rm -r a/b && mv a/ b");
        assert_int_equal(count_watches(), 5);
        after(f, "mkdir -p c/d/e");
        assert_int_equal(count_watches(), 8);
        after(f, "mv c ../../gone && mkdir c");
        assert_int_equal(count_watches(), 6);
        after(f, "mkdir -p c/d/e && mv c/d ../../t && rmdir c && mv ../../t c");
        assert_int_equal(count_watches(), 7);
        watcher_remove(f->watcher, SPIDER);
        assert_int_equal(count_watches(), 1);
}

static int write_text(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC), r;

        if (fd < 0)
                return -errno;
        r = io_write_all(fd, text, strlen(text));
        close(fd);
        return r;
}

/* In a user namespace of its own: no fanotify, and few watches. What is wrong, or 0; 77: no such namespace here. */
static int unprivileged(struct fixture *f)
{
        char map[64];
        int fd;

        snprintf(map, sizeof(map), "0 %u 1", getuid());
        if (unshare(CLONE_NEWUSER) < 0 || write_text("/proc/self/uid_map", map) < 0 ||
            write_text("/proc/sys/user/max_inotify_watches", "4") < 0)
                return 77;
        f->kind = WATCHER_FANOTIFY;
        if (start(f, 0) != -EPERM)
                return 2;
        f->kind = WATCHER_AUTO;
        if (start(f, 0) != 0 || watcher_get_kind(f->watcher) != WATCHER_INOTIFY)
                return 3;
        fd = open(f->spider, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (watcher_add(f->watcher, SPIDER, "", fd) != 0 || !watcher_covers(f->watcher, SPIDER))
                return 4;
        for (const char *name = "abc"; *name; name++) {
                const char path[] = { *name, '\0' };
                int folder, r;
                mkdirat(fd, path, 0755);
                folder = openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = watcher_add(f->watcher, SPIDER, path, folder);
                close(folder);
                if (r != (*name == 'c' ? -ENOSPC : 0))
                        return 5;
        }
        /* Not covered, its watches given back, and it stays so until it is forgotten. */
        if (watcher_covers(f->watcher, SPIDER) || count_watches() != 1 ||
            watcher_add(f->watcher, SPIDER, "", fd) != -ENOSPC)
                return 6;
        watcher_remove(f->watcher, SPIDER);
        if (watcher_add(f->watcher, SPIDER, "", fd) != 0 || !watcher_covers(f->watcher, SPIDER))
                return 7;
        close(fd);
        watcher_free(f->watcher);
        return 0;
}

static void test_unprivileged(void **state)
{
        struct fixture *f = *state;
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(unprivileged(f));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                unit_skip("no user namespaces here");
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_off(void **state)
{
        struct fixture *f = *state;
        int fd = open(f->spider, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        f->kind = WATCHER_OFF;
        assert_int_equal(start(f, 0), 0);
        assert_int_equal(watcher_get_kind(f->watcher), WATCHER_OFF);
        assert_int_equal(watcher_add(f->watcher, SPIDER, "", fd), -EOPNOTSUPP);
        assert_false(watcher_covers(f->watcher, SPIDER));
        watcher_forget(f->watcher, SPIDER, "a");
        watcher_remove(f->watcher, SPIDER);
        watcher_drain(f->watcher);
        close(fd);
        watcher_free(NULL);
}

/* A folder that is deleted between being opened and being added costs no spider its watches. */
static void test_deleted_folder(void **state)
{
        struct fixture *f = *state;
        char path[200];
        int fd;

        BEGIN(f);
        join(path, sizeof(path), f->spider, "d");
        assert_int_equal(mkdir(path, 0755), 0);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(watcher_add(f->watcher, SPIDER, "d", fd), 0);
        close(fd);
        assert_true(watcher_covers(f->watcher, SPIDER));
        tells(f, "mkdir d && echo 1 > d/f", "", "d");
        tells(f, "echo 2 > d/f", "d", "f");
}

static void test_bad(void **state)
{
        struct fixture *f = *state;
        struct watcher *none = NULL;
        const struct watcher_options nowhere = { .root = "/nowhere/at/all" };
        int fd = open(f->spider, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_int_equal(watcher_new(&nowhere, &none), -ENOENT);
        assert_null(none);
        BEGIN(f);
        assert_int_equal(watcher_add(f->watcher, "a/b", "", fd), -EINVAL);
        assert_int_equal(watcher_add(f->watcher, "..", "", fd), -EINVAL);
        assert_true(watcher_covers(f->watcher, SPIDER));
        assert_int_equal(watcher_add(f->watcher, SPIDER, "../x", fd), -EINVAL);
        assert_false(watcher_covers(f->watcher, SPIDER));
        close(fd);
}

static int enter_mount_namespace(void **state)
{
        (void)state;
        private_mounts = unit_own_mounts() == 0;
        return 0;
}

#define BOTH(test)                                                                                           \
        { #test "_fanotify", test, set_up, tear_down, &fanotify },                                           \
        {                                                                                                    \
#test "_inotify", test, set_up, tear_down, &inotify                                          \
        }

static const struct CMUnitTest tests[] = {
        BOTH(test_edits),
        BOTH(test_moves),
        BOTH(test_open_files),
        BOTH(test_backlog),
        BOTH(test_outside),
        BOTH(test_tools),
        BOTH(test_spider),
        BOTH(test_overflow),
        BOTH(test_drop),
        BOTH(test_once),
        BOTH(test_random),
        BOTH(test_concurrent),
        BOTH(test_mounts),
        BOTH(test_deleted_folder),
        BOTH(test_bad),
        { "test_watches", test_watches, set_up, tear_down, &inotify },
        { "test_unprivileged", test_unprivileged, set_up, tear_down, &inotify },
        { "test_off", test_off, set_up, tear_down, &inotify },
};

int main(void)
{
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, enter_mount_namespace, NULL);
}
