#include "server/tree.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tests/unit/tree_fixture.h"

/* ---- what a difference says, as text: "!d d/f -d/g " ---- */

static int add_entry(const struct entry *entry, void *arg)
{
        struct buffer *text = arg;

        return buffer_printf(text, "%s%.*s%s ",
                             entry->gone    ? "-"
                             : entry->whole ? "!"
                                            : "",
                             entry->path_len ? (int)entry->path_len : 1, entry->path_len ? entry->path : ".",
                             entry->unknown ? "?" : "");
}

static int changes_in(struct tree_fixture *f, const char *path, uint64_t since, uint64_t limit,
                      struct buffer *ret)
{
        struct tree_view *view;
        struct tree_row row;
        int r;

        buffer_truncate(ret, 0);
        assert_int_equal(buffer_append(ret, "", 0), 0);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, path, strlen(path), &row), TREE_OK);
        r = tree_view_changes(view, &row, since, NULL, limit, add_entry, ret);
        tree_view_put(view);
        return r;
}

static void check_changes(struct tree_fixture *f, const char *path, uint64_t since, const char *expected)
{
        _cleanup_buffer_ struct buffer text = { 0 };

        assert_int_equal(changes_in(f, path, since, 100, &text), TREE_OK);
        assert_string_equal(text.data, expected);
}

static struct tree_row find(struct tree_fixture *f, const char *path)
{
        struct tree_view *view;
        struct tree_row row = { 0 };
        int r;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        r = tree_view_find(view, path, strlen(path), &row);
        assert_in_range(r, TREE_OK, TREE_NONE);
        tree_view_put(view);
        row.target = NULL; /* was the view's */
        if (r == TREE_NONE)
                row.mode = UINT32_MAX;
        return row;
}

static bool is_there(struct tree_fixture *f, const char *path)
{
        return find(f, path).mode != UINT32_MAX;
}

static struct tree_version version_of(struct tree_fixture *f)
{
        struct tree_version version;

        tree_get_version(f->tree, &version);
        return version;
}

/* "", "d" (its id is returned), "d/f". */
static uint64_t begin_tree(struct tree_fixture *f)
{
        uint64_t id;

        put_folder(f, 0, "");
        id = put_folder(f, TREE_ROOT_ID, "d");
        apply(f, TREE_PUT, make_file(id, "f", 1));
        commit(f);
        return id;
}

/* ---- versions ---- */

static void test_empty(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_view *view;
        struct tree_row row = make_row(0, "", ENTRY_DIRECTORY, TREE_ROOT_ID);

        assert_false(version_of(f).valid);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "", 0, &row), TREE_NONE);
        assert_int_equal(tree_view_changes(view, &row, 0, NULL, 1, add_entry, NULL), TREE_TOO_OLD);
        tree_view_put(view);
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        assert_int_equal(tree_update_commit(TAKE_PTR(f->update), NULL), -EINVAL); /* without a root */
        assert_false(version_of(f).valid);
}

static void test_revisions_only_rise(void **state)
{
        struct tree_fixture *f = *state;
        int64_t before = clock_wall_sec();
        struct tree_version first, second;
        char path[96];

        begin_tree(f);
        first = version_of(f);
        assert_true((int64_t)first.revision >= before);
        assert_int_equal(first.entries, 3);
        apply(f, TREE_PUT, make_file(TREE_ROOT_ID, "new", 2));
        second = commit(f);
        assert_int_equal(second.revision, first.revision + 1);
        fixture_reopen(f);
        assert_int_equal(version_of(f).revision, second.revision);
        assert_memory_equal(version_of(f).digest, second.digest, HASH_BYTES);

        while (clock_wall_sec() <= (int64_t)second.revision) /* a second has to pass for T3 to be seen */
                usleep(20000);
        tree_close(f->tree);
        f->tree = NULL;
        snprintf(path, sizeof(path), "%s/tree.db", f->dir);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(tree_open(&f->options, &f->tree), 0);
        assert_false(version_of(f).valid);
        begin_tree(f);
        assert_true(version_of(f).revision > second.revision);
}

static void test_one_update_at_a_time(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_update *other;

        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        assert_int_equal(tree_update_begin(f->tree, &other), -EBUSY);
        tree_update_abort(TAKE_PTR(f->update));
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
}

static void test_what_no_worker_sees_is_no_version(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), first = version_of(f).revision;
        struct tree_row row = make_file(id, "f", 1);

        row.stamp.ctime_ns = row.stamp.inode = 77;
        row.racy = true;
        apply(f, TREE_RESTAMP, row);
        assert_int_equal(commit(f).revision, first);
        assert_int_equal(find(f, "d/f").stamp.ctime_ns, 77);
        assert_true(find(f, "d/f").racy);
        check_changes(f, "", first, "");
        /* Whatever the pass calls it: what can be seen counts. */
        row.mode = 0600;
        apply(f, TREE_RESTAMP, row);
        assert_int_equal(commit(f).revision, first + 1);
        check_changes(f, "", first, "d/f ");
}

static void test_bad_rows(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_version version = version_of(f);
        struct tree_change changes[] = {
                { .op = TREE_PUT, .row = make_file(id, "..", 1) },
                { .op = TREE_PUT, .row = make_file(id, "a/b", 1) },
                { .op = TREE_PUT, .row = make_file(id, "", 1) },
                { .op = TREE_PUT, .row = make_file(0, "x", 1) },
                { .op = TREE_PUT, .row = make_file(0, "", 1) },
                { .op = TREE_REMOVE, .row = make_file(0, "", 1) },
                { .op = TREE_PUT, .row = make_row(id, "no id", ENTRY_DIRECTORY, 0) },
                { .op = TREE_PUT, .row = make_row(id, "never given", ENTRY_DIRECTORY, 1000) },
                { .op = TREE_PUT, .row = make_row(id, "taken", ENTRY_DIRECTORY, id) },
                { .op = TREE_PUT, .row = make_row(id, "file with id", ENTRY_FILE, id) },
                { .op = TREE_PUT, .row = make_row(id, "no target", ENTRY_SYMLINK, 0) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
                apply(f, TREE_PUT, make_file(id, "good", 1));
                assert_int_equal(tree_update_apply(f->update, &changes[i], 1), -EINVAL);
                assert_int_equal(tree_update_commit(TAKE_PTR(f->update), NULL), -EINVAL);
                assert_memory_equal(version_of(f).digest, version.digest, HASH_BYTES);
                assert_false(is_there(f, "d/good"));
        }
}

/* ---- rows ---- */

static void test_names_are_bytes(void **state)
{
        struct tree_fixture *f = *state;
        static const char *const names[] = { "\x01", "A", "a", "a b", "\xc3\xa4", "\xff\xfe" };
        uint64_t id = begin_tree(f), first = version_of(f).revision;

        for (size_t i = ARRAY_SIZE(names); i > 0; i--)
                apply(f, TREE_PUT, make_file(id, names[i - 1], 1));
        commit(f);
        check_changes(f, "d", first, "\x01 A a a b \xc3\xa4 \xff\xfe ");
        assert_true(is_there(f, "d/\xff\xfe"));
        assert_false(is_there(f, "d/\xff"));
        assert_false(is_there(f, "d/f/below a file"));
}

static void test_symlink(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t first, id = begin_tree(f);
        struct tree_view *view;
        struct tree_row row;

        first = version_of(f).revision;
        apply(f, TREE_PUT, make_symlink(id, "l", "../target"));
        commit(f);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "d/l", 3, &row), TREE_OK);
        assert_string_equal(row.target, "../target");
        assert_int_equal(row.target_len, 9);
        tree_view_put(view);
        apply(f, TREE_PUT, make_symlink(id, "l", "../tarGet"));
        assert_int_equal(commit(f).revision, first + 2);
        assert_int_equal(version_of(f).symlinks, 1);
}

static int store_md5(struct tree_fixture *f, uint64_t parent, const char *name, size_t name_len,
                     const struct tree_stamp *stamp, const uint8_t md5[HASH_MD5_BYTES])
{
        struct tree_md5 item = { .parent = parent, .name = name, .name_len = name_len, .stamp = *stamp };
        size_t stored;

        memcpy(item.md5, md5, HASH_MD5_BYTES);
        assert_int_equal(tree_store_md5s(f->tree, &item, 1, &stored), 0);
        return stored == 1 ? TREE_OK : TREE_NONE;
}

/* Those whose stamp is another do not keep the others from being stored. */
static void test_md5s(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_row row = find(f, "d/f");
        struct tree_md5 items[] = {
                { .parent = id, .name = "gone", .name_len = 4, .stamp = row.stamp, .md5 = { 1 } },
                { .parent = id, .name = "f", .name_len = 1, .stamp = row.stamp, .md5 = { 2 } },
        };
        size_t stored;

        assert_int_equal(tree_store_md5s(f->tree, items, ARRAY_SIZE(items), &stored), 0);
        assert_int_equal(stored, 1);
        assert_memory_equal(find(f, "d/f").md5, items[1].md5, HASH_MD5_BYTES);
}

static void test_md5(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), first = version_of(f).revision;
        struct tree_row row = find(f, "d/f");
        struct tree_stamp other = row.stamp;
        const uint8_t md5[HASH_MD5_BYTES] = { 5 };

        other.ctime_ns++;
        assert_int_equal(store_md5(f, id, "f", 1, &other, md5), TREE_NONE);
        assert_int_equal(store_md5(f, id, "g", 1, &row.stamp, md5), TREE_NONE);
        other = find(f, "d").stamp;
        assert_int_equal(store_md5(f, TREE_ROOT_ID, "d", 1, &other, md5), TREE_NONE); /* no file */
        assert_false(find(f, "d/f").has_md5);
        assert_int_equal(store_md5(f, id, "f", 1, &row.stamp, md5), TREE_OK);
        assert_true(find(f, "d/f").has_md5);
        assert_memory_equal(find(f, "d/f").md5, md5, HASH_MD5_BYTES);
        assert_int_equal(version_of(f).revision, first);

        row.mode = 0;
        apply(f, TREE_PUT, row); /* the pass had not seen it */
        commit(f);
        assert_true(find(f, "d/f").has_md5);
        apply(f, TREE_PUT, make_file(id, "f", 9));
        commit(f);
        assert_false(find(f, "d/f").has_md5);

        row = find(f, "d/f");
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        assert_int_equal(store_md5(f, id, "f", 1, &row.stamp, md5), TREE_OK);
        assert_false(find(f, "d/f").has_md5); /* goes with the update */
        commit(f);
        assert_true(find(f, "d/f").has_md5);
}

static void test_racy_stamps(void **state)
{
        const int64_t sec = NSEC_PER_SEC, taken = 1000 * sec + 1;
        struct tree_stamp s = { .mtime_ns = 900 * sec + 1, .ctime_ns = 900 * sec + 1 };

        (void)state;
        assert_false(tree_stamp_racy(&s, taken));
        s.mtime_ns = taken - 5 * NSEC_PER_MSEC; /* within a tick */
        assert_true(tree_stamp_racy(&s, taken));
        s.mtime_ns = taken - 30 * NSEC_PER_MSEC;
        assert_false(tree_stamp_racy(&s, taken));
        s.ctime_ns = taken + sec; /* a clock that was set back */
        assert_true(tree_stamp_racy(&s, taken));
        s.ctime_ns = 999 * sec; /* a file system of whole seconds */
        assert_true(tree_stamp_racy(&s, taken));
        s.ctime_ns = 990 * sec;
        assert_false(tree_stamp_racy(&s, taken));
}

/* ---- files by inode ---- */

static int add_link(const char *path, const char *name, bool suspect, void *arg)
{
        return buffer_printf(arg, "%s%s%s%s ", path, *path ? "/" : "", name, suspect ? "!" : "");
}

/* What the update that is under way has met. */
static void check_links(struct tree_fixture *f, const char *expected)
{
        _cleanup_buffer_ struct buffer text = { 0 };

        assert_int_equal(buffer_append(&text, "", 0), 0);
        assert_int_equal(tree_update_each_link(f->update, add_link, &text), TREE_OK);
        assert_string_equal(text.data ? text.data : "", expected);
}

static struct tree_row make_link(uint64_t parent, const char *name, uint64_t inode)
{
        struct tree_row row = make_file(parent, name, 1);

        row.stamp.inode = inode;
        row.linked = true;
        return row;
}

static void test_links(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_row row = make_link(id, "l", 5000);

        apply(f, TREE_PUT, make_file(id, "single", 2));
        check_links(f, "");
        row.linked = false;
        apply(f, TREE_PUT, row);
        check_links(f, "");
        /* One that was alone in its time is found as well, and nothing of another device. */
        apply(f, TREE_PUT, make_link(TREE_ROOT_ID, "a", 5000));
        row = make_link(TREE_ROOT_ID, "other", 5000);
        row.stamp.device++;
        apply(f, TREE_PUT, row);
        check_links(f, "a d/l other ");
        check_links(f, "");
        commit(f);
        assert_true(find(f, "a").linked);
        assert_false(find(f, "d/l").linked);
        assert_int_equal(find(f, "other").stamp.inode, 5000);

        apply(f, TREE_PUT, make_link(TREE_ROOT_ID, "a", 5000)); /* as it was */
        check_links(f, "");
        row = find(f, "a");
        tree_update_note_link(f->update, &row.stamp);
        check_links(f, "a d/l ");
        row.stamp.ctime_ns++;
        apply(f, TREE_RESTAMP, row);
        check_links(f, "a d/l ");
        row.digest[0]++;
        apply(f, TREE_PUT, row);
        check_links(f, "a! d/l! ");
        row.stamp.ctime_ns++;
        apply(f, TREE_PUT, row);
        row.digest[0]++;
        apply(f, TREE_PUT, row);
        check_links(f, "a! d/l! ");
        apply(f, TREE_PUT, make_file(TREE_ROOT_ID, "a", 3)); /* another file in its place */
        check_links(f, "d/l ");
        commit(f);
}

static void test_links_removed(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), below = put_folder(f, id, "below");

        apply(f, TREE_PUT, make_link(TREE_ROOT_ID, "a", 5000));
        apply(f, TREE_PUT, make_link(below, "b", 5000));
        apply(f, TREE_PUT, make_link(below, "c", 6000));
        commit(f);
        fixture_reopen(f);
        apply(f, TREE_REMOVE, make_file(TREE_ROOT_ID, "a", 0));
        check_links(f, "d/below/b ");
        tree_update_abort(TAKE_PTR(f->update));
        apply(f, TREE_REMOVE, make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, id));
        check_links(f, "a ");
        commit(f);
        apply(f, TREE_PUT,
              make_row(TREE_ROOT_ID, "a", ENTRY_UNKNOWN, 0)); /* nothing is known to have changed */
        check_links(f, "");
        commit(f);
        assert_true(find(f, "a").linked);
}

/* An update shows what it has made so far; nobody else sees it. */
static void test_update_lookup(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_row row;

        apply(f, TREE_PUT, make_file(id, "new", 9));
        apply(f, TREE_PUT, make_symlink(id, "s", "target"));
        assert_int_equal(tree_update_lookup(f->update, id, "new", 3, &row), TREE_OK);
        assert_int_equal(row.stamp.size, 9);
        assert_int_equal(tree_update_lookup(f->update, id, "none", 4, &row), TREE_NONE);
        assert_int_equal(tree_update_lookup(f->update, id, "s", 1, &row), TREE_OK);
        assert_null(row.target);
        assert_false(is_there(f, "d/new"));
        commit(f);
}

static void test_too_many_links(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_stamp stamp = { .device = 7 };
        int r;

        begin_tree(f);
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        for (unsigned i = 0; i < 1000000; i++) {
                stamp.inode = i;
                tree_update_note_link(f->update, &stamp);
        }
        r = tree_update_each_link(f->update, add_link, NULL);
        assert_int_equal(r, TREE_TOO_MANY);
        check_links(f, "");
}

/* T5: a folder that cannot be read keeps what is known of it. */
static void test_unknown(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), first = version_of(f).revision;
        struct tree_version version;

        apply(f, TREE_PUT, (struct tree_row){ .parent = TREE_ROOT_ID, .name = "d", .name_len = 1 });
        version = commit(f);
        assert_int_equal(version.unknown, 1);
        assert_int_equal(version.entries, 3);
        assert_int_equal(find(f, "d").id, id);
        assert_true(is_there(f, "d/f"));
        check_changes(f, "", first, "d? ");
        apply(f, TREE_PUT, make_file(id, "below", 1)); /* nobody can see that */
        assert_int_equal(commit(f).revision, version.revision);
        check_changes(f, "", first, "d? ");
        apply(f, TREE_PUT, make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, id));
        assert_int_equal(commit(f).unknown, 0);
        check_changes(f, "", version.revision, "!d d/below d/f ");
        check_changes(f, "", first, "!d d/below d/f ");
}

/* A file that cannot be read keeps its hash, and gets it back if it has not changed meanwhile. */
static void test_unknown_file(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), first = version_of(f).revision;
        struct tree_row before = find(f, "d/f"), blind = make_row(id, "f", ENTRY_FILE, 0), now;

        blind.unknown = true;
        blind.stamp.ctime_ns = 12345;
        apply(f, TREE_PUT, blind);
        commit(f);
        now = find(f, "d/f");
        assert_true(now.unknown);
        assert_memory_equal(now.digest, before.digest, HASH_BYTES);
        assert_true(tree_stamp_equal(&now.stamp, &before.stamp));
        check_changes(f, "", first, "d/f? ");
        apply(f, TREE_PUT, before);
        assert_int_equal(commit(f).revision, first + 2);
        check_changes(f, "", first + 1, "d/f ");
}

/* ---- the journal ---- */

static void test_replaced_by_the_same(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f), first = version_of(f).revision, second;

        apply(f, TREE_PUT, make_file(id, "f", 2));
        second = commit(f).revision;
        check_changes(f, "", first, "d/f ");
        id = put_folder(f, TREE_ROOT_ID, "d"); /* another one, with the same in it */
        apply(f, TREE_PUT, make_file(id, "f", 2));
        assert_int_equal(commit(f).revision, second);
        check_changes(f, "", second, "");
        check_changes(f, "", first, "!d d/f "); /* its old id says nothing any more */
        apply(f, TREE_PUT, make_file(TREE_ROOT_ID, "x", 2));
        commit(f);
        check_changes(f, "", second, "x ");
}

static void test_whole_stays_whole(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id, first;
        struct tree_row row;

        begin_tree(f);
        first = version_of(f).revision;
        id = put_folder(f, TREE_ROOT_ID, "d");
        row = make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, id);
        row.mode = 0700;
        apply(f, TREE_PUT, row); /* the same folder once more in the same pass */
        commit(f);
        check_changes(f, "", first, "!d ");
}

static void test_gone_and_back(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t first, second, id;

        begin_tree(f);
        first = version_of(f).revision;
        apply(f, TREE_REMOVE, make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, 0));
        second = commit(f).revision;
        assert_int_equal(version_of(f).entries, 1);
        check_changes(f, "", first, "-d ");
        apply(f, TREE_REMOVE, make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, 0)); /* that it is gone is fine */
        assert_int_equal(commit(f).revision, second);
        id = put_folder(f, TREE_ROOT_ID, "d");
        put_folder(f, id, "e");
        commit(f);
        check_changes(f, "", first, "!d d/e ");
        check_changes(f, "", second, "!d d/e ");
        check_changes(f, "d", first, "!. e ");
        check_changes(f, "d/e", first, "!. ");
        assert_int_equal(version_of(f).entries, 3);
}

static void test_order(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t d = begin_tree(f), e = put_folder(f, TREE_ROOT_ID, "e"), first;

        commit(f);
        first = version_of(f).revision;
        apply(f, TREE_PUT, make_file(e, "2", 1));
        apply(f, TREE_PUT, make_file(d, "z", 1));
        apply(f, TREE_REMOVE, make_file(d, "f", 1));
        put_folder(f, d, "sub");
        apply(f, TREE_PUT, make_file(TREE_ROOT_ID, "z", 1));
        commit(f);
        check_changes(f, "", first,
                      "z -d/f !d/sub d/z e/2 "); /* d and e have changed in their digests alone */
}

static void test_limit(void **state)
{
        struct tree_fixture *f = *state;
        _cleanup_buffer_ struct buffer text = { 0 };
        uint64_t id = begin_tree(f), first = version_of(f).revision;

        id = put_folder(f, id, "new");
        for (char name[] = "a"; name[0] <= 'j'; name[0]++)
                apply(f, TREE_PUT, make_file(id, name, 1));
        commit(f);
        assert_int_equal(changes_in(f, "", first, 10, &text), TREE_TOO_MANY);
        assert_int_equal(changes_in(f, "", first, 0, &text), TREE_TOO_MANY);
        assert_int_equal(text.len, 0);
        assert_int_equal(changes_in(f, "", first, 100, &text), TREE_OK);
        assert_int_equal(changes_in(f, "", version_of(f).revision, 0, &text), TREE_OK);
}

static void test_pruning(void **state)
{
        struct tree_fixture *f = *state;
        _cleanup_buffer_ struct buffer text = { 0 };
        uint64_t first, last, id;
        struct tree_view *view;
        struct tree_row root;
        uint8_t digest[HASH_BYTES];

        f->options.journal_max = 10;
        fixture_reopen(f);
        id = begin_tree(f);
        first = version_of(f).revision;
        id = put_folder(f, TREE_ROOT_ID, "d"); /* noted, though nobody can see it */
        apply(f, TREE_PUT, make_file(id, "f", 1));
        assert_int_equal(commit(f).revision, first);
        for (uint8_t i = 2; i < 32; i++) {
                apply(f, TREE_PUT, make_file(id, "f", i));
                last = commit(f).revision;
                memcpy(digest, version_of(f).digest, HASH_BYTES);
        }
        assert_int_equal(last, first + 30);
        check_changes(f, "", last - 10, "d/f ");
        assert_int_equal(changes_in(f, "", last - 11, 100, &text), TREE_TOO_OLD);
        assert_int_equal(changes_in(f, "", last + 1, 100, &text), TREE_TOO_OLD);
        assert_int_equal(changes_in(f, "", 0, 100, &text), TREE_TOO_OLD);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "", 0, &root), TREE_OK);
        assert_int_equal(tree_view_changes(view, &root, last, digest, 9, add_entry, &text), TREE_OK);
        digest[0] ^= 1;
        assert_int_equal(tree_view_changes(view, &root, last, digest, 9, add_entry, &text), TREE_TOO_OLD);
        tree_view_put(view);
}

/* ---- many at once ---- */

#define WRITERS 4
#define FILES   200

struct writer {
        struct tree_fixture *f;
        uint64_t folder;
        pthread_t thread;
};

static void *write_files(void *arg)
{
        struct writer *writer = arg;

        for (int i = 0; i < FILES; i++) {
                char name[32];
                struct tree_change change = { .op = TREE_PUT };
                uint64_t id = tree_update_new_id(writer->f->update);
                snprintf(name, sizeof(name), "%d", i);
                change.row = i % 2 ? make_file(writer->folder, name, (uint8_t)i)
                                   : make_row(writer->folder, name, ENTRY_DIRECTORY, id);
                if (tree_update_apply(writer->f->update, &change, 1) < 0)
                        return writer;
        }
        return NULL;
}

static void test_threads(void **state)
{
        struct tree_fixture *f = *state;
        struct writer writers[WRITERS];
        struct tree_view *view;
        struct tree_row row;

        put_folder(f, 0, "");
        for (int i = 0; i < WRITERS; i++) {
                char name[] = { (char)('a' + i), '\0' };
                writers[i] = (struct writer){ .f = f, .folder = put_folder(f, TREE_ROOT_ID, name) };
                assert_int_equal(pthread_create(&writers[i].thread, NULL, write_files, &writers[i]), 0);
        }
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "", 0, &row), TREE_NONE); /* T1 */
        for (int i = 0; i < WRITERS; i++) {
                void *failed;
                assert_int_equal(pthread_join(writers[i].thread, &failed), 0);
                assert_null(failed);
        }
        assert_int_equal(commit(f).entries, 1 + WRITERS + WRITERS * FILES);
        assert_int_equal(tree_view_find(view, "", 0, &row), TREE_NONE);
        tree_view_put(view);
        assert_true(is_there(f, "d/199"));
}

/* ---- damage, crashes, full disks ---- */

static void overwrite(struct tree_fixture *f, off_t offset, const void *data, size_t len)
{
        char path[96];
        int fd;

        tree_close(TAKE_PTR(f->tree));
        snprintf(path, sizeof(path), "%s/tree.db", f->dir);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, data, len, offset), len);
        close(fd);
        assert_int_equal(tree_open(&f->options, &f->tree), 0);
}

static bool was_moved_aside(struct tree_fixture *f)
{
        char path[96];

        snprintf(path, sizeof(path), "%s/tree.damaged.db", f->dir);
        return access(path, F_OK) == 0;
}

static void test_not_a_database(void **state)
{
        struct tree_fixture *f = *state;

        begin_tree(f);
        overwrite(f, 0, "hello, world!", 13);
        assert_false(version_of(f).valid);
        assert_true(was_moved_aside(f));
        begin_tree(f);
}

static void test_other_format(void **state)
{
        struct tree_fixture *f = *state;

        begin_tree(f);
        overwrite(f, 60, "\0\0\0\x63", 4); /* user_version */
        assert_false(version_of(f).valid);
        assert_true(was_moved_aside(f));
}

static int each_row(const struct tree_row *row, void *arg)
{
        (void)row;
        ++*(size_t *)arg;
        return 0;
}

/* T6: what is found out while it is used ends the use, and the next open begins anew. */
static void test_damage_found_later(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        static const char noise[4096] = { 1, 2, 3 };
        struct tree_view *view;
        size_t n = 0;

        for (int i = 0; i < 2000; i++) {
                char name[32];
                snprintf(name, sizeof(name), "file %d", i);
                apply(f, TREE_PUT, make_file(id, name, 1));
        }
        commit(f);
        for (off_t page = 14; page < 30; page++)
                overwrite(f, page * 4096, noise, sizeof(noise));
        assert_true(version_of(f).valid);
        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_list(view, id, each_row, &n), -EBADMSG);
        assert_true(n < 2000);
        tree_view_put(view);
        assert_false(was_moved_aside(f));
        fixture_reopen(f);
        assert_false(version_of(f).valid);
        assert_true(was_moved_aside(f));
        begin_tree(f);
        fixture_reopen(f);
        assert_true(version_of(f).valid);
}

static void put_many(struct tree_fixture *f, uint64_t id)
{
        for (int i = 0; i < 60000; i++) { /* more than the writer keeps in memory */
                char name[64];
                snprintf(name, sizeof(name), "a file with a rather long name, number %d", i);
                apply(f, TREE_PUT, make_file(id, name, 1));
        }
}

static void test_killed_in_mid_update(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_version before = version_of(f), after;
        int status;
        pid_t child;

        tree_close(TAKE_PTR(f->tree));
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                struct tree_row gone = make_row(TREE_ROOT_ID, "d", ENTRY_DIRECTORY, 0);
                if (tree_open(&f->options, &f->tree) < 0)
                        _exit(1);
                put_many(f, id);
                apply(f, TREE_REMOVE, gone);
                kill(getpid(), SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(tree_open(&f->options, &f->tree), 0);
        after = version_of(f);
        assert_memory_equal(&after, &before, sizeof(after));
        assert_true(is_there(f, "d/f"));
        assert_false(is_there(f, "d/a file with a rather long name, number 0"));
        apply(f, TREE_PUT, make_file(id, "next", 1));
        assert_int_equal(commit(f).entries, 4);
}

/* A limit on the size of files stands for the full disk. */
static void test_disk_full(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id = begin_tree(f);
        struct tree_version before = version_of(f), after;
        struct tree_change change = { .op = TREE_PUT };
        struct rlimit old, small;
        int r = 0;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){ .rlim_cur = 1 << 20, .rlim_max = old.rlim_max };
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        for (int i = 0; r == 0 && i < 200000; i++) {
                char name[32];
                snprintf(name, sizeof(name), "file %d", i);
                change.row = make_file(id, name, 1);
                r = tree_update_apply(f->update, &change, 1);
        }
        assert_in_set(-r, ((const unsigned long[]){ EIO, ENOSPC }), 2);
        assert_int_equal(tree_update_apply(f->update, &change, 1), r); /* only abort is possible */
        assert_int_equal(tree_update_commit(TAKE_PTR(f->update), NULL), r);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        signal(SIGXFSZ, SIG_DFL);
        after = version_of(f);
        assert_memory_equal(&after, &before, sizeof(after));
        assert_false(is_there(f, "d/file 0"));
        apply(f, TREE_PUT, make_file(id, "next", 1));
        assert_int_equal(commit(f).entries, 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_revisions_only_rise),
        TEST(test_one_update_at_a_time),
        TEST(test_what_no_worker_sees_is_no_version),
        TEST(test_bad_rows),
        TEST(test_names_are_bytes),
        TEST(test_symlink),
        TEST(test_md5),
        TEST(test_md5s),
        TEST(test_racy_stamps),
        TEST(test_links),
        TEST(test_links_removed),
        TEST(test_update_lookup),
        TEST(test_too_many_links),
        TEST(test_unknown),
        TEST(test_unknown_file),
        TEST(test_replaced_by_the_same),
        TEST(test_whole_stays_whole),
        TEST(test_gone_and_back),
        TEST(test_order),
        TEST(test_limit),
        TEST(test_pruning),
        TEST(test_threads),
        TEST(test_not_a_database),
        TEST(test_other_format),
        TEST(test_damage_found_later),
        TEST(test_killed_in_mid_update),
        TEST(test_disk_full),
};

UNIT_MAIN(tests)
