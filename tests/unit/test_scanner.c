#include "server/scanner.h"

#include <stdatomic.h>

#include "tests/unit/scan_passes.h"

static struct tree_row row(const struct fixture *f, const char *path)
{
        struct tree_row row;

        assert_int_equal(find(f, path, &row), TREE_OK);
        return row;
}

static bool is_there(const struct fixture *f, const char *path)
{
        struct tree_row row;

        return find(f, path, &row) == TREE_OK;
}

static void tell(struct spots *spots, const char *path, const char *name)
{
        assert_int_equal(spots_add(spots, path, name, false), 0);
}

static void test_empty(void **state)
{
        struct fixture *f = *state;
        struct scanner_result result = scan(f);
        uint8_t digest[HASH_BYTES], folder[HASH_BYTES];
        struct stat st;

        assert_int_equal(fstat(f->top, &st), 0);
        hash_bytes(HASH_XXH3, "", 0, folder);
        entry_root_digest(HASH_XXH3, st.st_mode & 07777,
                          st.st_mtim.tv_sec * NSEC_PER_SEC + st.st_mtim.tv_nsec, folder, digest);
        assert_memory_equal(result.version.digest, digest, HASH_BYTES);
        assert_int_equal(result.version.entries, 1);
        assert_true(result.changed);
        assert_false(scan(f).changed);
}

static void test_kinds(void **state)
{
        struct fixture *f = *state;
        struct scanner_result result;
        uint8_t hash[HASH_BYTES];
        struct timespec times[2] = { { .tv_sec = -2, .tv_nsec = 500000000 },
                                     { .tv_sec = -2, .tv_nsec = 500000000 } };

        write_file(f, "b", "hello");
        write_file(f, "a\nb", "");
        write_file(f, "\xff\xfe", "x");
        assert_int_equal(linkat(f->top, "b", f->top, "hard", 0), 0);
        assert_int_equal(fchmodat(f->top, "b", 04751, 0), 0);
        assert_int_equal(utimensat(f->top, "b", times, 0), 0);
        assert_int_equal(symlinkat("b", f->top, "link"), 0);
        assert_int_equal(mkfifoat(f->top, "fifo", 0644), 0);
        assert_int_equal(mkdirat(f->top, "dir", 0755), 0);
        assert_int_equal(fchmodat(f->top, "dir", 01777, 0), 0);
        write_file(f, "dir/inner", "hello");
        result = scan(f);
        assert_int_equal(result.version.entries, 8);
        assert_int_equal(result.version.files, 5);
        assert_int_equal(result.version.symlinks, 1);
        assert_int_equal(result.left_out, 1);
        assert_int_equal(result.version.unknown, 0);
        assert_int_equal(result.version.bytes, 16);
        hash_bytes(HASH_XXH3, "hello", 5, hash);
        assert_memory_equal(row(f, "b").digest, hash, HASH_BYTES);
        assert_memory_equal(row(f, "hard").digest, hash, HASH_BYTES);
        assert_memory_equal(row(f, "dir/inner").digest, hash, HASH_BYTES);
        assert_int_equal(row(f, "b").mode, 04751);
        assert_int_equal(row(f, "b").stamp.mtime_ns, -1500000000);
        assert_int_equal(row(f, "link").kind, ENTRY_SYMLINK);
        assert_int_equal(row(f, "link").stamp.size, 1);
        assert_int_equal(row(f, "dir").mode, 01777);
        assert_true(is_there(f, "\xff\xfe"));
        assert_false(is_there(f, "fifo"));
}

static void change(const struct fixture *f, int step)
{
        struct timespec times[2] = { { .tv_sec = 5 }, { .tv_sec = 5 } };

        if (step == 1)
                assert_int_equal(fchmodat(f->top, "d/file", 0600, 0), 0);
        if (step == 2)
                assert_int_equal(utimensat(f->top, "d/file", times, 0), 0);
        if (step == 3)
                assert_int_equal(renameat(f->top, "d/file", f->top, "d/name"), 0);
        if (step == 4)
                assert_int_equal(fchmodat(f->top, "d", 0700, 0), 0);
        if (step == 5)
                assert_int_equal(fchmod(f->top, 0711), 0);
        if (step == 6)
                assert_int_equal(unlinkat(f->top, "d/name", 0), 0);
}

/* Every change that a worker could see is another version; nothing else is. */
static void test_changes(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "d/file", "one");
        scan(f);
        for (int i = 0; i <= 6; i++) {
                change(f, i);
                assert_int_equal(scan(f).changed, i != 0);
        }
        assert_false(is_there(f, "d/name"));
}

/* The same, and nothing but what was named is looked at. */
static void test_changes_named(void **state)
{
        static const char *const names[][2] = { { "d", "file" }, { "d", "file" }, { "d", "file" },
                                                { "d", NULL },   { "", "d" },     { "", NULL },
                                                { "d", "name" } };
        struct fixture *f = *state;

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        assert_int_equal(mkdirat(f->top, "other", 0755), 0);
        write_file(f, "d/file", "one");
        scan(f);
        write_file(f, "other/unseen", "");
        for (int i = 0; i <= 6; i++) {
                struct spots spots = { 0 };
                change(f, i);
                tell(&spots, names[i][0], names[i][1]);
                assert_int_equal(look(f, &spots).changed, i != 0);
        }
        assert_false(is_there(f, "d/name"));
        assert_false(is_there(f, "other/unseen"));
        assert_true(scan(f).changed);
        assert_true(is_there(f, "other/unseen"));
}

static uint64_t hashed(void)
{
        return metrics_get(METRIC_FILES_HASHED);
}

static void test_hashed_once(void **state)
{
        struct fixture *f = *state;
        uint64_t before;

        write_file(f, "a", "1");
        write_file(f, "b", "2");
        let_age();
        before = hashed();
        scan(f);
        assert_int_equal(hashed(), before + 2);
        scan(f);
        assert_int_equal(hashed(), before + 2);
        assert_int_equal(fchmodat(f->top, "a", 0600, 0), 0); /* a new ctime: looked at again */
        let_age();
        scan(f);
        assert_int_equal(hashed(), before + 3);
        scan(f);
        assert_int_equal(hashed(), before + 3);
}

/* mv of a folder reads no file again, wherever it goes and whatever is told. */
static void test_moved_folder(void **state)
{
        struct fixture *f = *state;
        struct spots spots = { 0 };
        uint64_t before, id;

        assert_int_equal(mkdirat(f->top, "from", 0755), 0);
        assert_int_equal(mkdirat(f->top, "from/sub", 0755), 0);
        assert_int_equal(mkdirat(f->top, "to", 0755), 0);
        write_file(f, "from/a", "1");
        write_file(f, "from/sub/b", "2");
        assert_int_equal(symlinkat("b", f->top, "from/sub/link"), 0);
        let_age();
        scan(f);
        id = row(f, "from").id;
        before = hashed();
        assert_int_equal(renameat(f->top, "from", f->top, "to/there"), 0);
        tell(&spots, "", "from");
        tell(&spots, "to", "there");
        assert_true(look(f, &spots).changed);
        assert_false(is_there(f, "from"));
        assert_true(is_there(f, "to/there/sub/link"));
        assert_true(row(f, "to/there").id != id);
        assert_int_equal(row(f, "to/there/sub/b").stamp.size, 1);
        assert_int_equal(hashed(), before);
        assert_int_equal(renameat(f->top, "to/there", f->top, "back"), 0);
        scan(f);
        assert_true(is_there(f, "back/sub/b"));
        assert_int_equal(hashed(), before);
}

/* A folder that was removed and made again often gets the same inode: only what was named is looked at, and yet all of it is. */
static void test_folder_made_again(void **state)
{
        struct fixture *f = *state;

        for (unsigned i = 0; i < 20; i++) {
                struct spots spots = { 0 };
                char name[32];
                snprintf(name, sizeof(name), "d/n%u", i);
                assert_int_equal(mkdirat(f->top, "d", 0755), 0);
                write_file(f, name, "");
                tell(&spots, "", "d");
                assert_true(look(f, &spots).changed);
                assert_true(is_there(f, name));
                if (i > 0) {
                        char last[32];
                        snprintf(last, sizeof(last), "d/n%u", i - 1);
                        assert_false(is_there(f, last));
                }
                assert_int_equal(unlinkat(f->top, name, 0), 0);
                assert_int_equal(unlinkat(f->top, "d", AT_REMOVEDIR), 0);
        }
}

/* What is told of a folder that the tree does not know yet is found from above. */
static void test_spot_in_new_folder(void **state)
{
        struct fixture *f = *state;
        struct spots spots = { 0 };

        scan(f);
        assert_int_equal(mkdirat(f->top, "a", 0755), 0);
        assert_int_equal(mkdirat(f->top, "a/b", 0755), 0);
        write_file(f, "a/b/file", "x");
        write_file(f, "a/other", "y");
        tell(&spots, "a/b", "file");
        tell(&spots, "gone/deep", "name");
        tell(&spots, "a/other/not/a/folder", "name");
        assert_true(look(f, &spots).changed);
        assert_true(is_there(f, "a/b/file"));
        assert_true(is_there(f, "a/other"));
        assert_int_equal(unlinkat(f->top, "a/b/file", 0), 0);
        assert_int_equal(unlinkat(f->top, "a/b", AT_REMOVEDIR), 0);
        tell(&spots, "a/b", "file");
        assert_true(look(f, &spots).changed);
        assert_false(is_there(f, "a/b"));
}

/* A write of the same size, in the same tick, with the mtime put back: only distrust of young times can show it. */
static void test_racy_write(void **state)
{
        struct fixture *f = *state;
        struct timespec times[2] = { { .tv_sec = 7, .tv_nsec = 7 }, { .tv_sec = 7, .tv_nsec = 7 } };
        char text[] = "a";

        for (unsigned i = 0; i < 100; i++) {
                uint8_t hash[HASH_BYTES];

                text[0] = (char)('a' + i % 26);
                write_file(f, "file", text);
                assert_int_equal(utimensat(f->top, "file", times, 0), 0);
                scan(f);
                hash_bytes(HASH_XXH3, text, 1, hash);
                assert_memory_equal(row(f, "file").digest, hash, HASH_BYTES);
        }
}

/* A hash taken of a file that young is used, but not trusted the next time; once it is old it is. */
static void test_young_is_hashed_again(void **state)
{
        struct fixture *f = *state;
        bool again = false;
        uint64_t before;

        for (unsigned i = 0; !again && i < 100;
             i++) { /* on a busy machine a file can be old before it is read */
                write_file(f, "file", i % 2 ? "a" : "b");
                scan(f);
                again = row(f, "file").racy;
        }
        assert_true(again);
        let_age();
        before = hashed();
        assert_false(scan(f).changed);
        assert_int_equal(hashed(), before + 1);
        assert_false(row(f, "file").racy);
        scan(f);
        assert_int_equal(hashed(), before + 1);
}

/* A file under suspicion is read although its stamp is the same. */
static void test_suspect(void **state)
{
        struct fixture *f = *state;
        struct spots spots = { 0 };
        uint64_t before;

        write_file(f, "file", "a");
        write_file(f, "other", "b");
        let_age();
        scan(f);
        before = hashed();
        tell(&spots, "", "file");
        look(f, &spots);
        assert_int_equal(hashed(), before);
        assert_int_equal(spots_add(&spots, "", "file", true), 0);
        look(f, &spots);
        assert_int_equal(hashed(), before + 1);
}

/* ---- files with several names: a pass is told of one of them ---- */

static void assert_hash(const struct fixture *f, const char *path, const char *text)
{
        uint8_t hash[HASH_BYTES];

        hash_bytes(HASH_XXH3, text, strlen(text), hash);
        assert_memory_equal(row(f, path).digest, hash, HASH_BYTES);
}

/* "a", "d/b" and "d/c" are one file, which holds "one". */
static void make_links(const struct fixture *f)
{
        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "a", "one");
        assert_int_equal(linkat(f->top, "a", f->top, "d/b", 0), 0);
        assert_int_equal(linkat(f->top, "a", f->top, "d/c", 0), 0);
        let_age();
        scan(f);
}

static void look_at(const struct fixture *f, const char *path, const char *name)
{
        struct spots spots = { 0 };

        tell(&spots, path, name);
        look(f, &spots);
}

static void assert_links(const struct fixture *f, const char *text, uint32_t mode)
{
        static const char *const names[] = { "a", "d/b", "d/c" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_hash(f, names[i], text);
                assert_int_equal(row(f, names[i]).mode, mode);
        }
        assert_false(scan(f).changed);
}

static void test_link_written(void **state)
{
        struct fixture *f = *state;
        struct timespec times[2] = { { .tv_sec = 9 }, { .tv_sec = 9 } };

        make_links(f);
        assert_true(row(f, "a").linked);
        write_file(f, "d/b", "two");
        look_at(f, "d", "b");
        assert_links(f, "two", 0644);
        assert_int_equal(fchmodat(f->top, "a", 0600, 0), 0);
        look_at(f, "", "a");
        assert_links(f, "two", 0600);
        assert_int_equal(utimensat(f->top, "d/c", times, 0), 0);
        look_at(f, "d", NULL);
        assert_int_equal(row(f, "a").stamp.mtime_ns, 9 * NSEC_PER_SEC);
        assert_links(f, "two", 0600);
}

/* What is not told, and is no other name of what is, is not looked at. */
static void test_link_looks_at_no_others(void **state)
{
        struct fixture *f = *state;
        uint64_t before;

        write_file(f, "other", "x");
        make_links(f);
        write_file(f, "other", "unseen");
        write_file(f, "a", "two");
        let_age();
        before = hashed();
        look_at(f, "", "a");
        assert_int_equal(hashed(), before + 3); /* each name once */
        assert_hash(f, "other", "x");
        look_at(f, "", "a");
        assert_int_equal(hashed(), before + 3);
        write_file(f, "d/b", "three"); /* so young that it would be read whenever it is looked at */
        look_at(f, "d", "b");
        assert_int_equal(hashed(), before + 6);
}

/* The name that was written to is gone when the pass comes: by itself, with its folder, or because another file took its place. */
static void test_link_removed(void **state)
{
        struct fixture *f = *state;

        make_links(f);
        write_file(f, "d/c", "two");
        assert_int_equal(unlinkat(f->top, "d/c", 0), 0);
        look_at(f, "d", "c");
        assert_hash(f, "a", "two");
        assert_hash(f, "d/b", "two");
        write_file(f, "new", "new");
        write_file(f, "a", "three");
        assert_int_equal(renameat(f->top, "new", f->top, "a"), 0); /* one name is left */
        look_at(f, "", "a");
        assert_hash(f, "a", "new");
        assert_hash(f, "d/b", "three");
        assert_false(row(f, "d/b").linked);
        write_file(f, "d/b", "four");
        look_at(f, "d", "b");
        assert_hash(f, "d/b", "four");
        assert_hash(f, "a", "new");
}

static void test_link_removed_with_folder(void **state)
{
        struct fixture *f = *state;

        make_links(f);
        write_file(f, "d/c", "two");
        assert_int_equal(unlinkat(f->top, "d/b", 0), 0);
        assert_int_equal(unlinkat(f->top, "d/c", 0), 0);
        assert_int_equal(unlinkat(f->top, "d", AT_REMOVEDIR), 0);
        look_at(f, "", "d");
        assert_false(is_there(f, "d"));
        assert_hash(f, "a", "two");
        assert_false(row(f, "a").linked);
}

/* A file gets its second name: nothing is told of the first, ever. */
static void test_link_made(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "a", "one");
        let_age();
        scan(f);
        assert_int_equal(linkat(f->top, "a", f->top, "d/b", 0), 0);
        look_at(f, "d", "b");
        assert_true(row(f, "a").linked);
        write_file(f, "d/b", "two");
        look_at(f, "d", "b");
        assert_hash(f, "a", "two");
        assert_int_equal(renameat(f->top, "d", f->top, "e"), 0);
        write_file(f, "e/b", "three");
        look_at(f, "", "d");
        look_at(f, "", "e");
        assert_hash(f, "a", "three");
        write_file(f, "a", "four");
        look_at(f, "", "a");
        assert_hash(f, "e/b", "four");
        assert_false(scan(f).changed);
}

/* A pass that found the change under one name only does not hide it from the next that is told of it. */
static void test_link_seen_before(void **state)
{
        struct fixture *f = *state;
        struct tree_update *update;
        struct tree_change change = { .op = TREE_RESTAMP };
        struct stat st;

        make_links(f);
        write_file(f, "a", "two");
        let_age();
        assert_int_equal(fstatat(f->top, "a", &st, 0), 0);
        change.row = row(f, "a");
        change.row.stamp = tree_stamp_of(&st);
        hash_bytes(HASH_XXH3, "two", 3, change.row.digest);
        assert_int_equal(tree_update_begin(f->tree, &update), 0);
        assert_int_equal(tree_update_apply(update, &change, 1), 0);
        assert_int_equal(tree_update_commit(update, NULL), 0);
        look_at(f, "", "a");
        assert_links(f, "two", 0644);
}

/* Bytes that came through a mapping, under one stamp: the other names are read as well. */
static void test_link_suspect(void **state)
{
        struct fixture *f = *state;
        struct spots spots = { 0 };
        struct tree_update *update;
        struct tree_change change = { .op = TREE_PUT };

        make_links(f);
        assert_int_equal(tree_update_begin(f->tree, &update), 0);
        for (int i = 0; i < 3; i++) {
                change.row = row(f, i == 0 ? "a" : i == 1 ? "d/b" : "d/c");
                hash_bytes(HASH_XXH3, "old", 3, change.row.digest);
                assert_int_equal(tree_update_apply(update, &change, 1), 0);
        }
        assert_int_equal(tree_update_commit(update, NULL), 0);
        assert_int_equal(spots_add(&spots, "d", "b", true), 0);
        tell(&spots, "", "a");
        look(f, &spots);
        assert_links(f, "one", 0644);
}

/* More names than is good to look up: everything is walked over instead, and what was found before counts. */
static void test_link_too_many(void **state)
{
        struct fixture *f = *state;
        struct spots spots = { 0 };
        char name[32];

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "a", "one");
        for (unsigned i = 0; i < SPOTS_MAX + 10; i++) {
                snprintf(name, sizeof(name), "d/%u", i);
                assert_int_equal(linkat(f->top, "a", f->top, name, 0), 0);
        }
        let_age();
        scan(f);
        write_file(f, "d/77", "two");
        assert_int_equal(mkdirat(f->top, "new", 0755), 0);
        write_file(f, "new/file", "x");
        tell(&spots, "d", "77");
        tell(&spots, "", "new");
        assert_true(look(f, &spots).changed);
        for (unsigned i = 0; i < SPOTS_MAX + 10; i += 1000) {
                snprintf(name, sizeof(name), "d/%u", i);
                assert_hash(f, name, "two");
        }
        assert_true(is_there(f, "new/file"));
        assert_false(scan(f).changed);
}

static void test_many_and_deep(void **state)
{
        struct fixture *f = *state;
        struct scanner_result result;
        char name[32];
        int fd;

        assert_int_equal(mkdirat(f->top, "a", 0755), 0);
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "a/f%u", i * 7919 % 1000);
                write_file(f, name, name);
        }
        /* One level deeper than a path can name is left out and counted; everything above is there. */
        fd = dup(f->top);
        for (unsigned i = 0; i < 2049; i++) {
                int next;
                assert_int_equal(mkdirat(fd, "d", 0755), 0);
                next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        close(fd);
        result = scan(f);
        assert_int_equal(result.version.files, 1000);
        assert_int_equal(result.version.entries, 1 + 1 + 1000 + 2048);
        assert_int_equal(result.left_out, 1);
        assert_false(scan(f).changed);
}

static struct scanner_result scan_as_nobody(struct fixture *f, struct spots *spots)
{
        struct scanner_result result;
        uid_t me = geteuid();
        char command[128];

        snprintf(command, sizeof(command), "chmod -R a+rwX '%s/tree'", f->dir);
        assert_int_equal(system(command), 0);
        if (me == 0)
                assert_int_equal(seteuid(65534), 0);
        result = spots ? look(f, spots) : scan(f);
        if (me == 0)
                assert_int_equal(seteuid(me), 0);
        return result;
}

/* What cannot be read any more stays, and is unknown; once it can be read again, all of it is looked at. */
static void test_unreadable(void **state)
{
        struct fixture *f = *state;
        struct scanner_result result, again;
        struct spots spots = { 0 };

        write_file(f, "closed", "secret");
        write_file(f, "open", "text");
        assert_int_equal(mkdirat(f->top, "dir", 0755), 0);
        write_file(f, "dir/kept", "x");
        assert_int_equal(fchmodat(f->top, "closed", 0, 0), 0);
        scan(f);
        let_age();
        assert_int_equal(fchmodat(f->top, "dir", 0, 0), 0);
        assert_int_equal(fchmodat(f->top, "closed", 0100, 0), 0);
        result = scan_as_nobody(f, NULL);
        assert_int_equal(result.version.unknown, 2);
        assert_true(row(f, "closed").unknown);
        assert_true(row(f, "dir").unknown);
        assert_int_equal(row(f, "dir").kind, ENTRY_DIRECTORY);
        assert_true(is_there(f, "dir/kept"));
        assert_false(row(f, "open").unknown);
        /* Of an unknown entry the digest covers the name alone. */
        assert_int_equal(fchmodat(f->top, "closed", 0200, 0), 0);
        again = scan_as_nobody(f, NULL);
        assert_false(again.changed);
        assert_int_equal(unlinkat(f->top, "dir/kept", 0), 0);
        write_file(f, "dir/new", "y");
        assert_int_equal(fchmodat(f->top, "closed", 0644, 0), 0);
        assert_int_equal(fchmodat(f->top, "dir", 0755, 0), 0);
        tell(&spots, "", "closed");
        tell(&spots, "", "dir");
        again = scan_as_nobody(f, &spots);
        assert_int_equal(again.version.unknown, 0);
        assert_true(again.changed);
        assert_false(is_there(f, "dir/kept"));
        assert_true(is_there(f, "dir/new"));
}

static void test_cancel(void **state)
{
        struct fixture *f = *state;
        struct scanner_result result;
        struct tree_version version;

        write_file(f, "file", "");
        pool_cancel(f->pool);
        assert_int_equal(try_scan(f, f->tree, NULL, &result), -ECANCELED);
        tree_get_version(f->tree, &version);
        assert_false(version.valid);
}

static atomic_bool churning;

/* Entries come, go and change their kind all the time. */
static void *churn(void *arg)
{
        struct fixture *f = arg;

        for (unsigned i = 0; atomic_load(&churning); i++) {
                char name[32], to[32];
                snprintf(name, sizeof(name), "n%u", i % 50);
                snprintf(to, sizeof(to), "n%u", (i + 17) % 50);
                switch (i * 7 % 5) {
                case 0:
                        close(openat(f->top, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                                     0644));
                        break;
                case 1:
                        mkdirat(f->top, name, 0755);
                        break;
                case 2:
                        symlinkat("target", f->top, name);
                        break;
                case 3:
                        renameat(f->top, name, f->top, to);
                        break;
                default:
                        unlinkat(f->top, to, 0);
                        unlinkat(f->top, to, AT_REMOVEDIR);
                        break;
                }
        }
        return NULL;
}

static void assert_as_scanned_anew(const struct fixture *f)
{
        struct scanner_result fresh;
        struct tree_version version;
        struct tree *tree;
        char command[128];

        open_tree(f, "fresh", &tree);
        assert_int_equal(try_scan(f, tree, NULL, &fresh), 0);
        tree_get_version(f->tree, &version);
        assert_memory_equal(version.digest, fresh.version.digest, HASH_BYTES);
        assert_int_equal(version.entries, fresh.version.entries);
        assert_int_equal(version.files, fresh.version.files);
        assert_int_equal(version.bytes, fresh.version.bytes);
        tree_close(tree);
        snprintf(command, sizeof(command), "rm -rf '%s/fresh'", f->dir);
        assert_int_equal(system(command), 0);
}

static void test_churn(void **state)
{
        struct fixture *f = *state;
        pthread_t thread;

        write_file(f, "stays", "here");
        atomic_store(&churning, true);
        assert_int_equal(pthread_create(&thread, NULL, churn, f), 0);
        for (unsigned i = 0; i < 200; i++) {
                struct spots spots = { 0 };
                tell(&spots, "", NULL);
                assert_int_equal((i % 2 ? scan(f) : look(f, &spots)).version.unknown, 0);
                spots_clear(&spots);
                assert_true(is_there(f, "stays"));
        }
        atomic_store(&churning, false);
        pthread_join(thread, NULL);
        scan(f);
        assert_as_scanned_anew(f);
}

/* ---- random changes, told exactly ---- */

struct mutation {
        const struct fixture *f;
        struct spots spots;
        unsigned seed;
};

static unsigned pick(struct mutation *m, unsigned n)
{
        m->seed = m->seed * 1103515245u + 12345u;
        return (m->seed >> 16) % n;
}

/* A name of one to three levels out of few, so that they meet. */
static void pick_path(struct mutation *m, char path[64])
{
        unsigned depth = 1 + pick(m, 3);
        size_t at = 0;

        for (unsigned i = 0; i < depth; i++)
                at += (size_t)snprintf(path + at, 64 - at, "%s%c", i ? "/" : "", 'a' + pick(m, 5));
}

static void tell_path(struct mutation *m, const char *path)
{
        char folder[64];
        const char *name;
        size_t len = path_split(path, strlen(path), &name);

        memcpy(folder, path, len);
        folder[len] = '\0';
        tell(&m->spots, folder, name);
}

static void mutate(struct mutation *m)
{
        char path[64], to[64], command[256];
        struct timespec times[2] = { { .tv_sec = pick(m, 9) }, { .tv_sec = pick(m, 9) } };
        int top = m->f->top, fd;

        pick_path(m, path);
        pick_path(m, to);
        switch (pick(m, 10)) {
        case 0:
        case 1:
                fd = openat(top, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_APPEND, 0644);
                if (fd >= 0) {
                        assert_int_equal(write(fd, "x", 1), 1);
                        close(fd);
                }
                break;
        case 2:
        case 3:
                mkdirat(top, path, 0755);
                break;
        case 4:
                renameat(top, path, top, to);
                break;
        case 5:
                unlinkat(top, path, 0);
                break;
        case 6:
                snprintf(command, sizeof(command), "rm -rf '%s/ws/sp/%s'", m->f->dir, path);
                assert_int_equal(system(command), 0);
                break;
        case 7:
                if (symlinkat("nowhere", top, path) < 0) /* nothing is to be changed through a link */
                        utimensat(top, path, times, AT_SYMLINK_NOFOLLOW);
                break;
        case 8: /* written to under either name from now on */
                linkat(top, path, top, to, 0);
                break;
        default:
                fchmodat(top, path, 0700 + pick(m, 64), 0);
                break;
        }
        tell_path(m, path);
        tell_path(m, to);
}

static int add_racy(uint64_t parent, const char *name, size_t name_len, void *arg)
{
        struct mutation *m = arg;
        struct buffer path = { 0 };
        struct tree_view *view;

        assert_int_equal(tree_view_take(m->f->tree, &view), 0);
        assert_int_equal(tree_view_path(view, parent, &path), TREE_OK);
        tree_view_put(view);
        if (buffer_printf(&path, "%s%.*s", path.len ? "/" : "", (int)name_len, name) < 0)
                fail();
        tell_path(m, path.data);
        buffer_release(&path);
        return 0;
}

static void test_random(void **state)
{
        struct mutation m = { .f = *state, .seed = 20260101 };
        const struct fixture *f = *state;

        scan(f);
        for (unsigned i = 0; i < 300; i++) {
                struct tree_view *view;
                for (unsigned n = 1 + pick(&m, 6); n > 0; n--)
                        mutate(&m);
                assert_int_equal(tree_view_take(f->tree, &view), 0);
                assert_int_equal(tree_view_racy(view, add_racy, &m), 0);
                tree_view_put(view);
                look(f, &m.spots);
                assert_as_scanned_anew(f);
        }
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_kinds),
        TEST(test_changes),
        TEST(test_changes_named),
        TEST(test_hashed_once),
        TEST(test_moved_folder),
        TEST(test_folder_made_again),
        TEST(test_spot_in_new_folder),
        TEST(test_racy_write),
        TEST(test_young_is_hashed_again),
        TEST(test_suspect),
        TEST(test_link_written),
        TEST(test_link_looks_at_no_others),
        TEST(test_link_removed),
        TEST(test_link_removed_with_folder),
        TEST(test_link_made),
        TEST(test_link_seen_before),
        TEST(test_link_suspect),
        TEST(test_link_too_many),
        TEST(test_many_and_deep),
        TEST(test_unreadable),
        TEST(test_churn),
        TEST(test_cancel),
        TEST(test_random),
};

UNIT_MAIN(tests)
