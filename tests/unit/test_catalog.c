#include "cache/catalog.h"

#include "tests/unit/catalog_fixture.h"
#include "tests/unit/mounts.h"

/* ---- the plain things ---- */

static void test_empty(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update, *second;
        struct catalog_entry entry;
        struct buffer text = { 0 };

        assert_false(version_of(f->catalog).valid);
        assert_int_equal(catalog_get(f->catalog, CATALOG_ROOT_INO, &entry), CATALOG_NONE);
        assert_int_equal(catalog_lookup(f->catalog, 1, "a", 1, &entry), CATALOG_NONE);
        assert_int_equal(catalog_lookup(f->catalog, 0, "", 0, &entry), CATALOG_NONE);
        assert_int_equal(catalog_path(f->catalog, 1, &text), CATALOG_NONE);
        assert_int_equal(catalog_readlink(f->catalog, 1, &text), CATALOG_NONE);
        assert_lists(f->catalog, 1, 0, "");
        assert_int_equal(catalog_touch(f->catalog, 1), -EINVAL);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        update = begin(f->catalog);
        assert_int_equal(catalog_update_begin(f->catalog, &second), -EBUSY);
        assert_int_equal(catalog_touch(f->catalog, 1), -EBUSY);
        catalog_update_abort(update);
        catalog_update_abort(NULL);
        catalog_free(NULL);
}

static void test_first_version(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_version v;
        struct catalog_entry e;
        struct buffer text = { 0 };

        VERSION(f->catalog, &changes, folder("a"), file("a/f", 10), link_to("a/l", "f"), folder("b"),
                file("z", 3));
        assert_int_equal(changes.count, 0);
        v = version_of(f->catalog);
        assert_true(v.valid);
        assert_int_equal(v.generation, 1);
        assert_int_equal(v.revision, 7);
        assert_true(v.synced_at > 1600000000);
        assert_int_equal(v.files, 2);
        assert_int_equal(v.directories, 3);
        assert_int_equal(v.symlinks, 1);
        assert_int_equal(v.unknown, 0);
        assert_int_equal(v.bytes, 13);

        assert_int_equal(find(f->catalog, "a/f", &e), CATALOG_OK);
        assert_string_equal(e.name, "f");
        assert_int_equal(e.kind, ENTRY_FILE);
        assert_int_equal(e.mode, 0644);
        assert_int_equal(e.mtime_ns, 2000);
        assert_int_equal(e.size, 10);
        assert_int_equal(e.nlink, 1);
        assert_false(e.retired);
        struct content_id want = content_of(10);
        assert_true(content_id_equal(&e.content, &want));
        assert_int_equal(find(f->catalog, "a", &e), CATALOG_OK);
        assert_int_equal(e.content.algorithm, HASH_NONE);
        assert_int_equal(find(f->catalog, "a/l", &e), CATALOG_OK);
        assert_int_equal(e.size, 1);
        assert_int_equal(e.content.algorithm, HASH_NONE);
        assert_int_equal(catalog_readlink(f->catalog, e.ino, &text), CATALOG_OK);
        assert_int_equal(catalog_path(f->catalog, e.ino, &text), CATALOG_OK);
        assert_string_equal(text.data, "fa/l");
        assert_int_equal(catalog_readlink(f->catalog, 1, &text), CATALOG_NONE);
        buffer_truncate(&text, 0);
        assert_int_equal(catalog_path(f->catalog, CATALOG_ROOT_INO, &text), CATALOG_OK);
        assert_int_equal(text.len, 0);
        buffer_release(&text);
        assert_lists(f->catalog, CATALOG_ROOT_INO, 0, "a,b,z,");
}

static int sum_sizes(const struct catalog_entry *file, void *arg)
{
        *(uint64_t *)arg += file->size;
        return *(uint64_t *)arg > 100 ? 5 : 0;
}

static void test_contents(void **state)
{
        struct fixture *f = *state;
        struct content_id id = content_of(20), none = content_of(99), nothing = { .algorithm = HASH_NONE };
        struct entry nameless = file("nameless", 1);
        struct buffer text = { 0 };
        uint64_t sum = 0;

        nameless.content.algorithm = HASH_NONE;
        VERSION(f->catalog, NULL, folder("d"), file("d/x", 20), file("y", 30), file("z", 30), nameless);
        assert_int_equal(catalog_find_content(f->catalog, &id, &text), CATALOG_OK);
        assert_string_equal(text.data, "d/x");
        assert_int_equal(catalog_find_content(f->catalog, &none, &text), CATALOG_NONE);
        assert_int_equal(catalog_find_content(f->catalog, &nothing, &text), CATALOG_NONE);
        buffer_release(&text);
        assert_int_equal(catalog_each_file(f->catalog, sum_sizes, &sum), 0);
        assert_int_equal(sum, 80);
        assert_int_equal(catalog_each_file(f->catalog, sum_sizes, &sum), 5);
}

static void test_put_errors(void **state)
{
        struct fixture *f = *state;
        char long_name[PATH_NAME_MAX + 2], long_target[ENTRY_TARGET_MAX + 2];
        struct entry high_mode = file("f", 1), late = file("f", 1), early = file("f", 1), huge = file("f", 1),
                     odd_kind = file("f", 1), odd_hash = file("f", 1), nul = link_to("l", "abc"),
                     nul_name = file("abc", 1);

        memset(long_name, 'n', sizeof(long_name));
        long_name[PATH_NAME_MAX + 1] = '\0';
        memset(long_target, 't', sizeof(long_target));
        long_target[ENTRY_TARGET_MAX + 1] = '\0';
        high_mode.mode = 010000;
        late.mtime_ns = (ENTRY_MTIME_SEC_MAX + 1) * NSEC_PER_SEC;
        early.mtime_ns = -(ENTRY_MTIME_SEC_MAX + 1) * NSEC_PER_SEC;
        huge.size = UINT64_C(1) << 63;
        odd_kind.kind = (enum entry_kind)4;
        odd_hash.content.algorithm = (enum hash_algorithm)3;
        nul.target = "a\0c";
        nul_name.path = "a\0c";
        const struct {
                struct entry entry;
                int error;
        } table[] = {
                { file("/abs", 1), -EINVAL },
                { file("a/../b", 1), -EINVAL },
                { file("..", 1), -EINVAL },
                { file("a//b", 1), -EINVAL },
                { file("folder/", 1), -EINVAL },
                { nul_name, -EINVAL },
                { file(long_name, 1), -ENAMETOOLONG },
                { high_mode, -EINVAL },
                { late, -EINVAL },
                { early, -EINVAL },
                { huge, -EFBIG },
                { odd_kind, -EINVAL },
                { odd_hash, -EINVAL },
                { nul, -EINVAL },
                { link_to("l", ""), -EINVAL },
                { link_to("l", long_target), -EINVAL },
                { folder(""), -EEXIST },
                { file("", 1), -EINVAL },
                { unknown(ENTRY_UNKNOWN, ""), -EINVAL },
                { file("folder", 1), -EEXIST },
                { file("file", 1), -EEXIST },
                { file("file/below", 1), -ENOTDIR },
                { file("link/below", 1), -ENOTDIR },
                { file("missing/below", 1), -ENOENT },
                { file("folder/missing/below", 1), -ENOENT },
        };

        /* Over nothing, then over a version that has it all: old entries must not stand in for what did not come. */
        for (int round = 0; round < 2; round++) {
                for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                        struct catalog_update *update = begin(f->catalog);
                        struct catalog_changes changes;
                        struct entry after = file("after", 1);
                        put(update, whole(""));
                        put(update, folder("folder"));
                        put(update, file("file", 1));
                        put(update, link_to("link", "folder"));
                        assert_int_equal(catalog_update_put(update, &table[i].entry), table[i].error);
                        assert_int_equal(catalog_update_put(update, &after), table[i].error);
                        if (i % 2)
                                catalog_update_abort(update);
                        else
                                assert_int_equal(catalog_update_commit(update, NULL, 1, &changes),
                                                 table[i].error);
                        assert_int_equal(version_of(f->catalog).generation, round);
                }
                if (round == 0)
                        VERSION(f->catalog, NULL, folder("folder"), file("file", 1),
                                link_to("link", "folder"), folder("missing"), file("missing/below", 1),
                                folder("folder/missing"));
        }
}

static void test_no_root(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update = begin(f->catalog);
        struct catalog_changes changes;
        struct entry e = file("f", 1);

        assert_int_equal(catalog_update_commit(update, NULL, 1, &changes), -EINVAL);
        update = begin(f->catalog);
        assert_int_equal(catalog_update_put(update, &e), -ENOENT);
        catalog_update_abort(update);
        update = begin(f->catalog);
        e = gone("");
        assert_int_equal(catalog_update_put(update, &e), -EINVAL);
        catalog_update_abort(update);
        assert_false(version_of(f->catalog).valid);
}

static void test_deep(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update = begin(f->catalog);
        char path[PATH_BYTES_MAX + 1];
        struct catalog_changes changes;
        struct buffer text = { 0 };
        size_t len = 0;

        put(update, whole(""));
        while (len + 2 < PATH_BYTES_MAX) {
                strcpy(path + len, len ? "/d" : "d");
                len += len ? 2 : 1;
                put(update, folder(path));
        }
        commit(update, NULL);
        assert_int_equal(catalog_path(f->catalog, ino_of(f->catalog, path), &text), CATALOG_OK);
        assert_string_equal(text.data, path);
        buffer_release(&text);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        VERSION(f->catalog, &changes, file("d", 1));
        assert_int_equal(changes.removed, (len + 1) / 2 - 1);
        assert_int_equal(changes.modified, 1);
        catalog_changes_release(&changes);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

/* ---- C1 ---- */

static void test_update_is_invisible_before_commit(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;
        uint64_t ino;

        VERSION(f->catalog, NULL, file("old", 1));
        ino = ino_of(f->catalog, "old");
        update = begin(f->catalog);
        put(update, whole(""));
        put(update, file("new", 1));
        put(update, file("old", 2));
        assert_false(is_there(f->catalog, "new"));
        assert_int_equal(ino_of(f->catalog, "old"), ino);
        assert_lists(f->catalog, 1, 0, "old,");
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        commit(update, NULL);
        assert_lists(f->catalog, 1, 0, "new,old,");
        assert_int_not_equal(ino_of(f->catalog, "old"), ino);
}

struct reading {
        struct catalog *catalog;
        atomic_bool stop;
        pthread_t thread;
        unsigned long lists;
};

struct uniform {
        size_t count;
        uint64_t size;
};

static int check_uniform(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct uniform *uniform = arg;

        if (uniform->count++ == 0)
                uniform->size = entry->size;
        assert_int_equal(entry->size, uniform->size);
        return 0;
}

static void *read_versions(void *arg)
{
        struct reading *reading = arg;
        uint64_t last = 0;

        while (!atomic_load(&reading->stop)) {
                struct uniform uniform = { 0 };
                struct catalog_entry e;
                assert_int_equal(catalog_list(reading->catalog, CATALOG_ROOT_INO, 0, check_uniform, &uniform),
                                 0);
                assert_int_equal(uniform.count, 20);
                assert_true(uniform.size >= last);
                last = uniform.size;
                assert_int_equal(catalog_lookup(reading->catalog, CATALOG_ROOT_INO, "f00", 3, &e),
                                 CATALOG_OK);
                reading->lists++;
        }
        return NULL;
}

static void make_uniform_version(struct catalog *catalog, uint64_t number)
{
        struct catalog_update *update = begin(catalog);
        char name[16];

        put(update, whole(""));
        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "f%02d", i);
                put(update, file(name, number));
        }
        commit(update, NULL);
}

static void test_readers_see_whole_versions(void **state)
{
        struct fixture *f = *state;
        struct reading readings[3];

        make_uniform_version(f->catalog, 1);
        for (size_t i = 0; i < ARRAY_SIZE(readings); i++) {
                readings[i] = (struct reading){ .catalog = f->catalog };
                assert_int_equal(pthread_create(&readings[i].thread, NULL, read_versions, &readings[i]), 0);
        }
        for (uint64_t n = 2; n < 60; n++)
                make_uniform_version(f->catalog, n);
        for (size_t i = 0; i < ARRAY_SIZE(readings); i++) {
                atomic_store(&readings[i].stop, true);
                pthread_join(readings[i].thread, NULL);
                assert_true(readings[i].lists > 0);
        }
}

static void make_many(struct catalog *catalog, uint64_t number)
{
        struct catalog_update *update = begin(catalog);
        char name[16];

        put(update, whole(""));
        for (int i = 0; i < 4000; i++) {
                snprintf(name, sizeof(name), "f%04d", i);
                put(update, file(name, number));
        }
        commit(update, NULL);
}

static int stop_soon(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        return ++*(unsigned *)arg == 50;
}

static void *read_for_ever(void *arg)
{
        struct reading *reading = arg;

        while (!atomic_load(&reading->stop)) {
                unsigned n = 0;
                assert_int_equal(catalog_list(reading->catalog, CATALOG_ROOT_INO, 0, stop_soon, &n), 0);
                reading->lists++;
                usleep(500); /* on a machine that is slow, or valgrind, the writer would have no turn */
        }
        return NULL;
}

/* However many read, with hardly a pause: the log goes into the database, and starts from the front again. */
static void test_log_stays_short(void **state)
{
        struct fixture *f = *state;
        struct reading readings[2];
        char path[256];
        struct stat st;
        off_t largest = 0;

        make_many(f->catalog, 1);
        slot_path(f, ".db-wal", path);
        for (size_t i = 0; i < ARRAY_SIZE(readings); i++) {
                readings[i] = (struct reading){ .catalog = f->catalog };
                assert_int_equal(pthread_create(&readings[i].thread, NULL, read_for_ever, &readings[i]), 0);
        }
        for (uint64_t n = 2; n < 30; n++) {
                make_many(f->catalog, n);
                assert_int_equal(stat(path, &st), 0);
                largest = MAX(largest, st.st_size);
        }
        for (size_t i = 0; i < ARRAY_SIZE(readings); i++) {
                atomic_store(&readings[i].stop, true);
                pthread_join(readings[i].thread, NULL);
                assert_true(readings[i].lists > 0);
        }
        print_message("# longest log: %lld KiB\n", (long long)largest / 1024);
        assert_in_range(largest, 0, 16 << 20);
}

/* ---- C2 ---- */

static void test_numbers(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        uint64_t same, changed, attributes, folder_ino;
        struct entry touched = file("touched", 1);

        VERSION(f->catalog, NULL, folder("d"), file("d/same", 1), file("d/changed", 1), touched,
                file("moved", 9));
        same = ino_of(f->catalog, "d/same");
        changed = ino_of(f->catalog, "d/changed");
        attributes = ino_of(f->catalog, "touched");
        folder_ino = ino_of(f->catalog, "d");
        touched.mode = 0600;
        VERSION(f->catalog, &changes, folder("d"), file("d/same", 1), file("d/changed", 2), touched,
                file("renamed", 9));
        assert_int_equal(ino_of(f->catalog, "d/same"), same);
        assert_int_equal(ino_of(f->catalog, "d"), folder_ino);
        assert_int_equal(ino_of(f->catalog, "touched"), attributes);
        assert_true(ino_of(f->catalog, "d/changed") > attributes);
        assert_int_equal(changes.added, 1);
        assert_int_equal(changes.removed, 1);
        assert_int_equal(changes.modified, 2);
        assert_int_equal(count_op(&changes, CHANGE_ENTRY), 4);
        assert_true(has_change(&changes, CHANGE_ENTRY, changed));
        assert_true(has_change(&changes, CHANGE_ENTRY, ino_of(f->catalog, "d/changed")));
        assert_true(has_change(&changes, CHANGE_ENTRY, ino_of(f->catalog, "renamed")));
        assert_int_equal(count_op(&changes, CHANGE_ATTRIBUTES), 1);
        assert_true(has_change(&changes, CHANGE_ATTRIBUTES, attributes));
        assert_int_equal(count_op(&changes, CHANGE_LISTING), 2);
        for (size_t i = 1; i < changes.count; i++)
                assert_true(changes.items[i - 1].op <= changes.items[i].op);
        catalog_changes_release(&changes);
        reopen(f);
        assert_int_equal(ino_of(f->catalog, "d/same"), same);
        VERSION(f->catalog, NULL, folder("d"), file("d/same", 1), file("d/changed", 1));
        assert_true(ino_of(f->catalog, "d/changed") > changed + 2);
}

static void test_kind_changes(void **state)
{
        struct fixture *f = *state;
        uint64_t first, second;

        VERSION(f->catalog, NULL, folder("x"), folder("x/sub"), file("x/sub/f", 1));
        first = ino_of(f->catalog, "x");
        VERSION(f->catalog, NULL, file("x", 1));
        second = ino_of(f->catalog, "x");
        assert_true(second > first);
        assert_int_equal(version_of(f->catalog).directories, 1);
        assert_int_equal(version_of(f->catalog).files, 1);
        VERSION(f->catalog, NULL, link_to("x", "elsewhere"));
        assert_true(ino_of(f->catalog, "x") > second);
        second = ino_of(f->catalog, "x");
        VERSION(f->catalog, NULL, link_to("x", "nowhere"));
        assert_true(ino_of(f->catalog, "x") > second);
        VERSION(f->catalog, NULL, folder("x"), folder("x/sub"), file("x/sub/f", 1));
        assert_true(ino_of(f->catalog, "x") > second + 1);
        assert_int_equal(version_of(f->catalog).files, 1);
        assert_int_equal(version_of(f->catalog).directories, 3);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

static void test_nothing_changed(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_version before, after;

        VERSION(f->catalog, NULL, folder("d"), file("d/f", 1));
        before = version_of(f->catalog);
        VERSION(f->catalog, &changes, folder("d"), file("d/f", 1));
        after = version_of(f->catalog);
        assert_int_equal(changes.count, 0);
        assert_int_equal(changes.added + changes.removed + changes.modified, 0);
        assert_int_equal(after.generation, before.generation);
        assert_memory_equal(after.digest, before.digest, HASH_BYTES);
        assert_int_equal(catalog_touch(f->catalog, 99), 0);
        assert_int_equal(version_of(f->catalog).revision, 99);
        reopen(f);
        assert_int_equal(version_of(f->catalog).revision, 99);
        assert_int_equal(version_of(f->catalog).generation, before.generation);
        assert_memory_equal(version_of(f->catalog).digest, before.digest, HASH_BYTES);
}

static void test_root_attributes(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;
        struct catalog_changes changes;
        struct catalog_version before;
        struct entry root = whole("");

        VERSION(f->catalog, NULL, file("f", 1));
        before = version_of(f->catalog);
        root.mode = 0700;
        update = begin(f->catalog);
        put(update, root);
        put(update, file("f", 1));
        commit(update, &changes);
        assert_int_equal(changes.count, 1);
        assert_true(has_change(&changes, CHANGE_ATTRIBUTES, CATALOG_ROOT_INO));
        catalog_changes_release(&changes);
        assert_memory_not_equal(version_of(f->catalog).digest, before.digest, HASH_BYTES);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

/* ---- C3 ---- */

static void test_retired_stay_readable(void **state)
{
        struct fixture *f = *state;
        struct catalog_entry e;
        struct buffer text = { 0 };
        uint64_t ino, link;

        VERSION(f->catalog, NULL, folder("d"), file("d/f", 1), link_to("d/l", "f"));
        ino = ino_of(f->catalog, "d/f");
        link = ino_of(f->catalog, "d/l");
        VERSION(f->catalog, NULL, file("other", 1));
        assert_int_equal(catalog_get(f->catalog, ino, &e), CATALOG_OK);
        assert_true(e.retired);
        assert_int_equal(e.size, 1);
        assert_int_equal(catalog_path(f->catalog, ino, &text), CATALOG_OK);
        assert_string_equal(text.data, "d/f");
        buffer_truncate(&text, 0);
        assert_int_equal(catalog_readlink(f->catalog, link, &text), CATALOG_OK);
        assert_string_equal(text.data, "f");
        buffer_release(&text);
        reopen(f);
        assert_int_equal(catalog_get(f->catalog, ino, &e), CATALOG_NONE);
}

static void test_listing_over_switch(void **state)
{
        struct fixture *f = *state;
        struct names first = { .limit = 2 }, rest = { 0 };
        struct catalog_update *update;

        VERSION(f->catalog, NULL, file("a", 1), file("b", 1), file("c", 1), file("d", 1), file("e", 1));
        assert_int_equal(catalog_list(f->catalog, 1, 0, add_name, &first), 0);
        assert_string_equal(first.text.data, "a,b,");
        assert_true(first.current);
        /* What it stands at goes, what follows changes, goes, comes. */
        VERSION(f->catalog, NULL, file("a", 1), file("bb", 1), file("c", 2), file("e", 1), file("f", 1));
        assert_int_equal(catalog_list(f->catalog, 1, first.last_cookie, add_name, &rest), 0);
        assert_string_equal(rest.text.data, "c,d,e,");
        assert_false(rest.current);
        VERSION(f->catalog, NULL, file("zz", 1));
        assert_lists(f->catalog, 1, first.last_cookie, "c,d,e,");
        assert_lists(f->catalog, 1, rest.last_cookie, "");
        assert_lists(f->catalog, 1, 0, "zz,");
        /* One more being written does not show either. */
        update = begin(f->catalog);
        put(update, whole(""));
        assert_lists(f->catalog, 1, first.last_cookie, "c,d,e,");
        commit(update, NULL);
        buffer_release(&first.text);
        buffer_release(&rest.text);
}

static void test_cookies(void **state)
{
        struct fixture *f = *state;
        struct names names = { .limit = 1 };
        uint64_t cookie = 0, inner;

        VERSION(f->catalog, NULL, folder("d"), file("d/x", 1), file("e", 1), file("g", 1));
        for (int i = 0; i < 3; i++) {
                names.count = 0;
                assert_int_equal(catalog_list(f->catalog, 1, cookie, add_name, &names), 0);
                cookie = names.last_cookie;
        }
        assert_string_equal(names.text.data, "d,e,g,");
        assert_lists(f->catalog, 1, cookie, "");
        names.count = 0;
        assert_int_equal(catalog_list(f->catalog, ino_of(f->catalog, "d"), 0, add_name, &names), 0);
        inner = names.last_cookie;
        const uint64_t bad[] = { inner,
                                 1,
                                 12345,
                                 cookie + 1000,
                                 cookie | UINT64_C(1) << 63,
                                 UINT64_MAX,
                                 INT64_MAX,
                                 cookie + (UINT64_C(1) << 43),
                                 cookie + (UINT64_C(1) << 60) };
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct names none = { 0 };
                int r = catalog_list(f->catalog, 1, bad[i], add_name, &none);
                assert_true(r == -EINVAL || none.count == 0);
                buffer_release(&none.text);
        }
        assert_int_equal(catalog_list(f->catalog, 1, inner, add_name, &names), -EINVAL);
        assert_int_equal(catalog_list(f->catalog, 1, cookie + 1000, add_name, &names), -EINVAL);
        buffer_release(&names.text);
}

/* Only the low bits of a generation travel in a cookie: they wrap. */
static void test_cookie_generation_wraps(void **state)
{
        struct fixture *f = *state;
        struct names first = { .limit = 1 };

        VERSION(f->catalog, NULL, file("a", 1), file("b", 1), file("c", 1));
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "UPDATE version SET generation = (1 << 20) - 1");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        assert_int_equal(catalog_list(f->catalog, 1, 0, add_name, &first), 0);
        VERSION(f->catalog, NULL, file("c", 2), file("d", 1));
        VERSION(f->catalog, NULL, file("e", 2));
        assert_int_equal(version_of(f->catalog).generation, (1 << 20) + 1);
        assert_lists(f->catalog, 1, first.last_cookie, "b,c,");
        first.count = 0;
        assert_int_equal(catalog_list(f->catalog, 1, 0, add_name, &first), 0);
        assert_lists(f->catalog, 1, first.last_cookie, "");
        buffer_release(&first.text);
}

static void test_numbers_run_out(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;
        struct entry last = file("b", 1);

        VERSION(f->catalog, NULL);
        catalog_free(TAKE_PTR(f->catalog));
        set_pragma(f, "UPDATE version SET next_ino = (1 << 43) - 1");
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        VERSION(f->catalog, NULL, file("a", 1));
        assert_int_equal(ino_of(f->catalog, "a"), (UINT64_C(1) << 43) - 1);
        assert_lists(f->catalog, 1, 0, "a,");
        update = begin(f->catalog);
        put(update, whole(""));
        put(update, file("a", 1));
        assert_int_equal(catalog_update_put(update, &last), -EFBIG);
        catalog_update_abort(update);
        assert_true(is_there(f->catalog, "a"));
}

static int fail_each(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        return -EBADMSG;
}

/* An error of the callback's is not the database's: nothing is moved aside at the next open. */
static void test_listing_error(void **state)
{
        struct fixture *f = *state;

        VERSION(f->catalog, NULL, file("a", 1));
        assert_int_equal(catalog_list(f->catalog, 1, 0, fail_each, NULL), -EBADMSG);
        reopen(f);
        assert_true(is_there(f->catalog, "a"));
}

/* ---- C4 ---- */

static void test_mismatch_changes_nothing(void **state)
{
        struct fixture *f = *state;
        uint8_t wrong[HASH_BYTES] = { 1 };
        struct catalog_changes changes;
        struct catalog_update *update;
        struct catalog_version before, after;

        VERSION(f->catalog, NULL, file("a", 1));
        before = version_of(f->catalog);
        for (int i = 0; i < 2; i++) {
                update = begin(f->catalog);
                put(update, whole(""));
                put(update, file("b", 1));
                if (i == 0)
                        assert_int_equal(catalog_update_commit(update, wrong, 8, &changes), CATALOG_MISMATCH);
                else
                        catalog_update_abort(update);
                after = version_of(f->catalog);
                assert_memory_equal(&before, &after, sizeof(before));
                assert_lists(f->catalog, 1, 0, "a,");
        }
        update = begin(f->catalog);
        put(update, whole(""));
        put(update, file("a", 1));
        assert_int_equal(catalog_update_commit(update, before.digest, 8, &changes), CATALOG_OK);
}

static void test_killed_update(void **state)
{
        struct fixture *f = *state;
        struct catalog_version before, after;
        int ready[2], status;
        char byte;
        pid_t pid;

        VERSION(f->catalog, NULL, folder("d"), file("d/a", 1));
        before = version_of(f->catalog);
        catalog_free(TAKE_PTR(f->catalog));
        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                struct catalog *catalog;
                char name[32];
                if (catalog_open(f->dir, SOURCE, &catalog) < 0)
                        _exit(1);
                struct catalog_update *update = begin(catalog);
                put(update, whole(""));
                /* Enough for SQLite to spill to its log. */
                for (int i = 0; i < 300000; i++) {
                        snprintf(name, sizeof(name), "file%07d", i);
                        put(update, file(name, 5));
                }
                if (write(ready[1], "r", 1) != 1)
                        _exit(2);
                pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
        after = version_of(f->catalog);
        assert_memory_equal(&before, &after, sizeof(before));
        assert_lists(f->catalog, 1, 0, "d,");
        assert_true(is_there(f->catalog, "d/a"));
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

/* Killed at any instant, between and within commits and checkpoints: some version, and a whole one. */
static void test_killed_anywhere(void **state)
{
        struct fixture *f = *state;

        make_uniform_version(f->catalog, 1);
        for (int i = 0; i < 12; i++) {
                struct uniform uniform = { 0 };
                uint64_t next = version_of(f->catalog).generation + 1;
                pid_t pid;
                catalog_free(TAKE_PTR(f->catalog));
                pid = fork();
                if (pid == 0) {
                        struct catalog *catalog;
                        if (catalog_open(f->dir, SOURCE, &catalog) < 0)
                                _exit(1);
                        for (;;)
                                make_uniform_version(catalog, next++);
                }
                usleep((useconds_t)(10000 + i * 1700));
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
                assert_true(version_of(f->catalog).generation + 1 >= next);
                assert_int_equal(catalog_list(f->catalog, CATALOG_ROOT_INO, 0, check_uniform, &uniform), 0);
                assert_int_equal(uniform.count, 20);
                assert_int_equal(uniform.size, version_of(f->catalog).generation);
                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        }
}

/* 0, or at which step it is not right. */
static int fill_disk(struct catalog *catalog)
{
        struct catalog_update *update;
        char name[32];
        int r = 0;

        VERSION(catalog, NULL, file("a", 1));
        update = begin(catalog);
        put(update, whole(""));
        for (int i = 0; r == 0 && i < 1000000; i++) {
                snprintf(name, sizeof(name), "file%07d", i);
                struct entry e = file(name, 5);
                r = catalog_update_put(update, &e);
        }
        catalog_update_abort(update);
        if (r != -ENOSPC || !is_there(catalog, "a") || version_of(catalog).generation != 1)
                return 2;
        VERSION(catalog, NULL, file("b", 1));
        return is_there(catalog, "b") && catalog_check_digest(catalog) == CATALOG_OK ? 0 : 3;
}

static int fill_small_disk(struct fixture *f)
{
        struct catalog *catalog;
        int r;

        if (unit_own_mounts() < 0 || mount("none", f->dir, "tmpfs", 0, "size=1m") < 0)
                return SKIPPED;
        if (catalog_open(f->dir, SOURCE, &catalog) < 0)
                return 1;
        r = fill_disk(catalog);
        catalog_free(catalog);
        return r;
}

static void test_full_disk(void **state)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(fill_small_disk(*state));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
                unit_skip("needs the right to mount a tmpfs");
        assert_int_equal(status, 0);
}

/* ---- C5 ---- */

static void test_unknown_keeps(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_entry e;
        uint64_t deep, plain;
        uint8_t digest[HASH_BYTES];

        VERSION(f->catalog, NULL, folder("d"), folder("d/sub"), file("d/sub/deep", 1), file("plain", 4));
        deep = ino_of(f->catalog, "d/sub/deep");
        plain = ino_of(f->catalog, "plain");
        memcpy(digest, version_of(f->catalog).digest, HASH_BYTES);
        /* Whatever kind the master takes it for. */
        VERSION(f->catalog, &changes, unknown(ENTRY_UNKNOWN, "d"), unknown(ENTRY_DIRECTORY, "plain"));
        assert_int_equal(changes.count, 0);
        assert_int_equal(ino_of(f->catalog, "d/sub/deep"), deep);
        assert_int_equal(find(f->catalog, "plain", &e), CATALOG_OK);
        assert_int_equal(e.ino, plain);
        assert_int_equal(e.kind, ENTRY_FILE);
        assert_int_equal(e.mode, 0644);
        assert_int_equal(version_of(f->catalog).unknown, 2);
        assert_int_equal(version_of(f->catalog).files, 2);
        assert_memory_not_equal(version_of(f->catalog).digest, digest, HASH_BYTES);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        /* Known again. */
        VERSION(f->catalog, &changes, folder("d"), folder("d/sub"), file("d/sub/deep", 1), file("plain", 4));
        assert_int_equal(changes.count, 0);
        assert_int_equal(version_of(f->catalog).unknown, 0);
        assert_int_equal(ino_of(f->catalog, "d/sub/deep"), deep);
        assert_memory_equal(version_of(f->catalog).digest, digest, HASH_BYTES);
}

static void test_unknown_new(void **state)
{
        struct fixture *f = *state;
        struct catalog_changes changes;
        struct catalog_entry e;
        uint64_t ino;

        VERSION(f->catalog, NULL, unknown(ENTRY_DIRECTORY, "d"), unknown(ENTRY_FILE, "f"),
                unknown(ENTRY_UNKNOWN, "u"), unknown(ENTRY_SYMLINK, "l"));
        assert_int_equal(find(f->catalog, "f", &e), CATALOG_OK);
        ino = e.ino;
        assert_int_equal(e.content.algorithm, HASH_NONE);
        assert_int_equal(e.size, 5);
        assert_int_equal(e.mode, 0600);
        assert_lists(f->catalog, 1, 0, "d,f,");
        assert_false(is_there(f->catalog, "u"));
        assert_int_equal(version_of(f->catalog).unknown, 4);
        assert_int_equal(version_of(f->catalog).files, 1);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        /* The same again changes nothing; what goes unseen tells nobody. */
        VERSION(f->catalog, &changes, unknown(ENTRY_DIRECTORY, "d"), unknown(ENTRY_FILE, "f"),
                unknown(ENTRY_UNKNOWN, "u"));
        assert_int_equal(changes.count, 0);
        assert_int_equal(version_of(f->catalog).unknown, 3);
        VERSION(f->catalog, &changes, folder("d"), file("f", 5), file("u", 5));
        assert_int_equal(changes.added + changes.removed, 0);
        assert_int_equal(changes.modified, 3);
        assert_true(has_change(&changes, CHANGE_LISTING, CATALOG_ROOT_INO));
        catalog_changes_release(&changes);
        assert_true(ino_of(f->catalog, "f") != ino);
        assert_lists(f->catalog, 1, 0, "d,f,u,");
        assert_int_equal(version_of(f->catalog).unknown, 0);
}

/* A folder read in part: what of it came is taken, the rest stays. */
static void test_unknown_folder_with_children(void **state)
{
        struct fixture *f = *state;
        struct entry e = file("d/sub/x", 1);
        struct catalog_update *update;

        VERSION(f->catalog, NULL, folder("d"), folder("d/sub"), file("d/sub/x", 1), file("d/old", 1),
                folder("d/was"), file("d/was/y", 1));
        VERSION(f->catalog, NULL, unknown(ENTRY_DIRECTORY, "d"), file("d/new", 1), file("d/was", 3));
        assert_lists(f->catalog, ino_of(f->catalog, "d"), 0, "new,old,sub,was,");
        assert_true(is_there(f->catalog, "d/sub/x"));
        assert_int_equal(version_of(f->catalog).files, 4);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        update = begin(f->catalog);
        put(update, whole(""));
        put(update, unknown(ENTRY_DIRECTORY, "d"));
        assert_int_equal(catalog_update_put(update, &e), -ENOENT);
        catalog_update_abort(update);
}

/* ---- another base ---- */

static struct entry sha256_file(const char *path, uint64_t content)
{
        struct entry entry = file(path, content);

        entry.content.algorithm = HASH_SHA256;
        memset(entry.content.bytes + 16, 1, 16);
        return entry;
}

/* All digests are made anew: of folders that are empty, unchanged, or kept as the master could not read them, as well. */
static void test_another_base(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;
        const struct entry xxh3 = file("x", 1);
        struct catalog_entry a, again;

        VERSION(f->catalog, NULL, folder("a"), folder("a/empty"), file("a/f", 5), folder("b"), folder("b/c"),
                folder("b/c/d"), link_to("l", "a/f"));
        assert_int_equal(version_of(f->catalog).hash, HASH_XXH3);
        assert_int_equal(find(f->catalog, "a", &a), CATALOG_OK);
        update = begin(f->catalog);
        catalog_update_set_hash(update, HASH_SHA256);
        put(update, whole(""));
        put(update, folder("a"));
        put(update, folder("a/empty"));
        put(update, sha256_file("a/f", 5));
        put(update, unknown(ENTRY_DIRECTORY, "b"));
        put(update, link_to("l", "a/f"));
        commit(update, NULL);
        assert_int_equal(version_of(f->catalog).hash, HASH_SHA256);
        assert_int_equal(find(f->catalog, "a", &again), CATALOG_OK);
        assert_int_equal(again.ino, a.ino);
        assert_int_equal(find(f->catalog, "a/f", &again), CATALOG_OK);
        assert_int_equal(again.content.algorithm, HASH_SHA256);
        assert_int_equal(find(f->catalog, "b/c/d", &again), CATALOG_OK);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);

        /* Names by another base than the tree's are refused. */
        update = begin(f->catalog);
        catalog_update_set_hash(update, HASH_SHA256);
        assert_int_equal(catalog_update_put(update, &xxh3), -EINVAL);
        catalog_update_abort(update);

        /* And it survives a restart, and leads back. */
        reopen(f);
        assert_int_equal(version_of(f->catalog).hash, HASH_SHA256);
        VERSION(f->catalog, NULL, folder("a"), file("a/f", 5));
        assert_int_equal(version_of(f->catalog).hash, HASH_XXH3);
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_empty),
                TEST(test_first_version),
                TEST(test_contents),
                TEST(test_put_errors),
                TEST(test_no_root),
                TEST(test_deep),
                TEST(test_update_is_invisible_before_commit),
                TEST(test_readers_see_whole_versions),
                TEST(test_log_stays_short),
                TEST(test_numbers),
                TEST(test_kind_changes),
                TEST(test_nothing_changed),
                TEST(test_root_attributes),
                TEST(test_retired_stay_readable),
                TEST(test_listing_over_switch),
                TEST(test_cookies),
                TEST(test_cookie_generation_wraps),
                TEST(test_numbers_run_out),
                TEST(test_listing_error),
                TEST(test_mismatch_changes_nothing),
                TEST(test_killed_update),
                TEST(test_killed_anywhere),
                TEST(test_full_disk),
                TEST(test_unknown_keeps),
                TEST(test_unknown_new),
                TEST(test_unknown_folder_with_children),
                TEST(test_another_base),
        };

        log_setup("test_catalog", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
