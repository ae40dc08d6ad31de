/*
 * Opening a catalog: slots (C6), damage (C7).
 */
#include "cache/catalog.h"
#include "cache/catalogs.h"

#include "tests/unit/catalog_fixture.h"

/* ---- C6 ---- */

static void test_slots(void **state)
{
        struct fixture *f = *state;
        struct catalog *second, *third, *other;
        char pattern[128];
        glob_t found;

        VERSION(f->catalog, NULL, folder("d"), file("d/f", 1));
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        assert_memory_equal(version_of(second).digest, version_of(f->catalog).digest, HASH_BYTES);
        assert_int_equal(ino_of(second, "d/f"), ino_of(f->catalog, "d/f"));
        VERSION(second, NULL, file("only here", 1));
        assert_false(is_there(f->catalog, "only here"));
        assert_int_equal(catalog_open(f->dir, SOURCE, &third), 0);
        assert_true(version_of(third).valid);
        assert_int_equal(catalog_open(f->dir, "master:/other", &other), 0);
        assert_false(version_of(other).valid);
        catalog_free(other);
        catalog_free(third);
        catalog_free(second);
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        assert_true(is_there(second, "only here"));
        catalog_free(second);
        snprintf(pattern, sizeof(pattern), "%s/catalogs/*/slot*.db", f->dir);
        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
        assert_int_equal(found.gl_pathc, 4);
        globfree(&found);
}

/* C3, C6: who takes over has the same slot, while nobody else gets it, and what was retired. */
static void test_take_over(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_claim claim;
        struct catalog_entry e;
        struct catalog *other;
        uint64_t before, added = 0;

        VERSION(f->catalog, NULL, file("x", 1), file("y", 1));
        before = ino_of(f->catalog, "x");
        VERSION(f->catalog, NULL, file("x", 2), file("y", 1));
        catalog_get_claim(f->catalog, &claim);
        claim.lock_fd = dup(claim.lock_fd);
        catalog_free(f->catalog);
        assert_int_equal(catalog_open(f->dir, SOURCE, &other), 0);
        assert_int_equal(catalog_take_over(f->dir, SOURCE, &claim, &f->catalog), 0);
        close(claim.lock_fd);
        VERSION(other, NULL, file("only there", 1));
        catalog_free(other);
        assert_false(is_there(f->catalog, "only there"));
        assert_int_equal(catalog_get(f->catalog, before, &e), CATALOG_OK);
        assert_true(e.retired);
        assert_int_equal(catalog_all_changed(f->catalog, &changes), 0);
        for (size_t i = 0; i < changes.count; i++)
                added += changes.items[i].op == CHANGE_ENTRY && changes.items[i].ino == before;
        assert_int_equal(added, 1);
        assert_int_equal(changes.count, 2 * 4); /* the root, x as it was, x and y */
        catalog_changes_release(&changes);
        reopen(f);
        assert_int_equal(catalog_get(f->catalog, before, &e), CATALOG_NONE);
}

/* What was left in the log of a slot that nobody has open is copied, too. */
static void test_copy_of_a_closed_slot(void **state)
{
        static const char *const suffixes[] = { ".db", ".db-wal", ".db-shm" };
        struct fixture *f = *state;
        struct catalog *second;
        char path[256];

        VERSION(f->catalog, NULL, file("f", 1));
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        VERSION(second, NULL, file("only here", 1));
        assert_int_equal(catalog_touch(second, 99), 0);
        catalog_free(second);
        catalog_free(TAKE_PTR(f->catalog));
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                slot_path(f, suffixes[i], path);
                assert_true(unlink(path) == 0 || errno == ENOENT);
        }
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_true(is_there(f->catalog, "only here"));
        assert_int_equal(version_of(f->catalog).revision, 99);
        reopen(f);
        assert_true(is_there(f->catalog, "only here"));
        VERSION(f->catalog, NULL, file("g", 1));
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

static void test_slots_of_two_processes(void **state)
{
        struct fixture *f = *state;
        int status;
        pid_t pid;

        VERSION(f->catalog, NULL, file("f", 1));
        catalog_free(TAKE_PTR(f->catalog));
        int ready[2], go[2];
        char byte;
        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(go), 0);
        pid = fork();
        if (pid == 0) {
                struct catalog *catalog;
                close(go[1]);
                if (catalog_open(f->dir, SOURCE, &catalog) < 0 || write(ready[1], "r", 1) != 1)
                        _exit(1);
                _exit(read(go[0], &byte, 1) == 0 && is_there(catalog, "f") && !is_there(catalog, "g") ? 0
                                                                                                      : 2);
        }
        close(go[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_true(is_there(f->catalog, "f"));
        VERSION(f->catalog, NULL, file("g", 1));
        close(go[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        close(ready[0]);
        close(ready[1]);
}

static void test_relative_folder(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *cwd = getcwd(NULL, 0);
        struct catalog *catalog;

        assert_int_equal(chdir(f->dir), 0);
        assert_int_equal(catalog_open("sub/folder", SOURCE, &catalog), 0);
        assert_int_equal(chdir(cwd), 0);
        VERSION(catalog, NULL, file("f", 1));
        assert_true(is_there(catalog, "f"));
        catalog_free(catalog);
        assert_int_equal(catalog_open("/dev/null/x", SOURCE, &catalog), -ENOTDIR);
}

/* ---- C7 ---- */

static void scribble(const struct fixture *f, off_t from, off_t to)
{
        char path[256];
        _cleanup_close_ int fd = -1;

        checkpoint(f);
        slot_path(f, ".db", path);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        for (off_t at = from; at < to; at++)
                assert_int_equal(pwrite(fd, "\xa5", 1, at), 1);
}

static void assert_begun_anew(struct fixture *f)
{
        char path[256];

        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_false(version_of(f->catalog).valid);
        slot_path(f, ".db.damaged", path);
        assert_int_equal(access(path, F_OK), 0);
        VERSION(f->catalog, NULL, file("new", 1));
        reopen(f);
        assert_true(is_there(f->catalog, "new"));
}

static void test_damaged_header(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < 2; i++) {
                VERSION(f->catalog, NULL, file("f", 1));
                catalog_free(TAKE_PTR(f->catalog));
                scribble(f, 0, 4096);
                assert_begun_anew(f);
        }
}

/* A version that takes many pages. */
static void put_many(struct fixture *f)
{
        struct catalog_update *update = begin(f->catalog);
        char name[32];

        put(update, whole(""));
        for (int i = 0; i < 5000; i++) {
                snprintf(name, sizeof(name), "file%d", i);
                put(update, file(name, 5));
        }
        commit(update, NULL);
}

static void test_damaged_pages(void **state)
{
        struct fixture *f = *state;
        struct catalog_entry e;
        char path[256];
        struct stat st;

        put_many(f);
        catalog_free(TAKE_PTR(f->catalog));
        checkpoint(f);
        slot_path(f, ".db", path);
        assert_int_equal(stat(path, &st), 0);
        scribble(f, 8 * 4096, st.st_size);
        /* The quick look at open may miss it; the reader that meets it leaves a note for the next open. */
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        if (version_of(f->catalog).valid) {
                int r = 0;
                for (uint64_t ino = 1; ino < 5000 && r >= 0; ino++)
                        r = catalog_get(f->catalog, ino, &e);
                assert_int_equal(r, -EBADMSG);
                catalog_free(TAKE_PTR(f->catalog));
                assert_begun_anew(f);
        }
}

/* C6: the damage of another mount's catalog is no reason to have none. */
static void test_copy_of_a_damaged_slot(void **state)
{
        struct fixture *f = *state;
        struct catalog *second;
        struct catalog_claim claim;
        char path[256];

        put_many(f);
        catalog_get_claim(f->catalog, &claim);
        claim.lock_fd = dup(claim.lock_fd); /* as if it were mounted still */
        catalog_free(TAKE_PTR(f->catalog));
        scribble(f, 8 * 4096, 9 * 4096);
        for (int opened = 0; opened < 2; opened++) {
                assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
                assert_int_equal(version_of(second).valid, opened > 0);
                VERSION(second, NULL, file("new", 1));
                assert_int_equal(catalog_check_digest(second), CATALOG_OK);
                catalog_free(second);
        }
        slot_path(f, ".db", path);
        assert_int_equal(access(path, F_OK), 0);
        close(claim.lock_fd);
}

static void test_foreign_databases(void **state)
{
        struct fixture *f = *state;
        const char *const sql[] = { "PRAGMA user_version = 1000", "PRAGMA application_id = 5",
                                    "DELETE FROM version", "DROP TABLE version",
                                    "DELETE FROM entry WHERE ino = 1" };

        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
                VERSION(f->catalog, NULL, file("f", 1));
                catalog_free(TAKE_PTR(f->catalog));
                set_pragma(f, sql[i]);
                assert_begun_anew(f);
        }
}

/* An older build's is of no use to anybody, and may be large. */
static void test_older_format(void **state)
{
        struct fixture *f = *state;
        char path[256];

        VERSION(f->catalog, NULL, file("f", 1));
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "PRAGMA user_version = 1");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_false(version_of(f->catalog).valid);
        slot_path(f, ".db.damaged", path);
        assert_int_equal(access(path, F_OK), -1);
        VERSION(f->catalog, NULL, file("new", 1));
        reopen(f);
        assert_true(is_there(f->catalog, "new"));
}

/* Rows that no update could have written are errors, not crashes. */
static void test_senseless_rows(void **state)
{
        struct fixture *f = *state;
        const char *const sql[] = { "UPDATE entry SET kind = 77 WHERE name = x'66'",
                                    "UPDATE entry SET hash = x'00' WHERE name = x'66'",
                                    "UPDATE entry SET algorithm = -1 WHERE name = x'66'",
                                    "UPDATE entry SET name = zeroblob(999) WHERE name = x'66'" };

        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
                struct catalog_entry e;
                uint64_t ino;
                VERSION(f->catalog, NULL, file("f", 1));
                ino = ino_of(f->catalog, "f");
                catalog_free(TAKE_PTR(f->catalog));
                set_pragma(f, sql[i]);
                assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
                assert_int_equal(catalog_get(f->catalog, ino, &e), -EBADMSG);
                catalog_free(TAKE_PTR(f->catalog));
                assert_begun_anew(f);
        }
}

/* A number that was never given: what is noted of numbers would take memory up to it. */
static void test_senseless_number(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;
        const struct entry same = file("f", 1);

        VERSION(f->catalog, NULL, file("f", 1));
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "UPDATE entry SET ino = 1 << 42 WHERE name = x'66'");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        update = begin(f->catalog);
        assert_int_equal(catalog_update_put(update, &same), -EBADMSG);
        catalog_update_abort(update);
        catalog_free(TAKE_PTR(f->catalog));
        assert_begun_anew(f);
}

static void test_circle(void **state)
{
        struct fixture *f = *state;
        struct buffer text = { 0 };
        uint64_t ino;

        VERSION(f->catalog, NULL, folder("f"));
        ino = ino_of(f->catalog, "f");
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "UPDATE entry SET parent = ino WHERE name = x'66'");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_int_equal(catalog_path(f->catalog, ino, &text), -EBADMSG);
        buffer_release(&text);
}

static void test_check_digest_finds(void **state)
{
        struct fixture *f = *state;

        VERSION(f->catalog, NULL, folder("d"), file("d/f", 1));
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "UPDATE entry SET mode = 0 WHERE name = x'66'");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_MISMATCH);
}

/* Whatever its folder is called, and what cannot be looked at is told. */
static void test_verify_all(void **state)
{
        struct fixture *f = *state;
        struct catalog_verified verified;
        struct catalog *catalog;
        char dir[128], path[256];

        snprintf(dir, sizeof(dir), "%s/[a]*", f->dir);
        assert_int_equal(catalog_verify_all(dir, false, NULL, NULL, &verified), 0);
        assert_int_equal(verified.catalogs, 0);
        for (int i = 0; i < 2; i++) {
                snprintf(path, sizeof(path), "master:/spider%d", i);
                assert_int_equal(catalog_open(dir, path, &catalog), 0);
                VERSION(catalog, NULL, file("f", 1));
                catalog_free(catalog);
        }
        assert_int_equal(catalog_verify_all(dir, true, NULL, NULL, &verified), 0);
        assert_int_equal(verified.catalogs, 2);
        assert_int_equal(verified.damaged, 0);
        snprintf(path, sizeof(path), "%s/catalogs/loop", dir);
        assert_int_equal(symlink("loop", path), 0);
        assert_int_equal(catalog_verify_all(dir, false, NULL, NULL, &verified), -ELOOP);
}

#define DAY (24 * 60 * 60)

/* As if it had last been written to AGE_SEC ago. */
static void age(struct fixture *f, const char *suffix, int64_t age_sec)
{
        const struct timespec then = { .tv_sec = clock_wall_sec() - age_sec };
        char path[256];

        slot_path(f, suffix, path);
        assert_true(utimensat(AT_FDCWD, path, (const struct timespec[]){ then, then }, 0) == 0 ||
                    errno == ENOENT);
}

static void age_all(struct fixture *f, int64_t age_sec)
{
        age(f, ".db", age_sec);
        age(f, ".db-wal", age_sec);
        age(f, ".db-shm", age_sec);
        age(f, ".lock", age_sec);
}

static struct catalog_collected collect(struct fixture *f)
{
        struct catalog_collected collected;

        assert_int_equal(catalog_collect(f->dir, 30 * DAY, &collected), 0);
        return collected;
}

static bool has_database(struct fixture *f)
{
        char path[256];

        slot_path(f, ".db", path);
        return access(path, F_OK) == 0;
}

/* Only what is neither in use nor was for that long; the lock stays, for who waits for it has it open. */
static void test_collect(void **state)
{
        struct fixture *f = *state;
        struct catalog_collected collected;
        char path[256];

        VERSION(f->catalog, NULL, file("f", 1));
        age_all(f, 31 * DAY);
        assert_int_equal(collect(f).unused, 0); /* it is open */
        catalog_free(TAKE_PTR(f->catalog));     /* and was until now */
        assert_int_equal(collect(f).unused, 0);
        age_all(f, 29 * DAY);
        assert_int_equal(collect(f).unused, 0);
        age_all(f, 31 * DAY);
        age(f, ".db-wal", 0);
        assert_int_equal(collect(f).unused, 0);
        age_all(f, 31 * DAY);
        assert_true(has_database(f));
        collected = collect(f);
        assert_int_equal(collected.unused, 1);
        assert_true(collected.bytes >= 4096);
        assert_false(has_database(f));
        slot_path(f, ".lock", path);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_false(version_of(f->catalog).valid);
}

static void test_collect_damaged(void **state)
{
        struct fixture *f = *state;
        struct catalog_collected collected;
        char path[256];
        int fd;

        slot_path(f, ".db.damaged", path);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, "pages", 5), 5);
        close(fd);
        collected = collect(f);
        assert_int_equal(collected.unused, 0);
        assert_int_equal(collected.damaged_files, 1);
        assert_true(collected.bytes > 0);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(collect(f).damaged_files, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_slots),
                TEST(test_take_over),
                TEST(test_copy_of_a_closed_slot),
                TEST(test_slots_of_two_processes),
                TEST(test_relative_folder),
                TEST(test_damaged_header),
                TEST(test_damaged_pages),
                TEST(test_copy_of_a_damaged_slot),
                TEST(test_foreign_databases),
                TEST(test_older_format),
                TEST(test_senseless_rows),
                TEST(test_senseless_number),
                TEST(test_circle),
                TEST(test_check_digest_finds),
                TEST(test_verify_all),
                TEST(test_collect),
                TEST(test_collect_damaged),
        };

        log_setup("test_catalog_open", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
