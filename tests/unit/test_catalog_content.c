/* Bytes that come with their entries, and what large contents replaced. */
#include "cache/catalog.h"

#include "tests/unit/catalog_fixture.h"

/* A file whose bytes, TEXT, come with it. */
static struct entry tiny(const char *path, const char *text)
{
        struct entry e = file(path, 0);

        e.size = strlen(text);
        e.data = (const uint8_t *)text;
        hash_bytes(HASH_XXH3, text, e.size, e.content.bytes);
        return e;
}

/* The same without its bytes. */
static struct entry bare(const char *path, const char *text)
{
        struct entry e = tiny(path, text);

        e.data = NULL;
        return e;
}

static struct entry large(const char *path, uint64_t number)
{
        struct entry e = file(path, number);

        e.size = (UINT64_C(1) << 20) + number;
        e.content.algorithm = HASH_XXH3_PIECES;
        return e;
}

static int get_tiny(struct catalog *catalog, const struct catalog_entry *entry, struct buffer *ret)
{
        uint8_t data[ENTRY_TINY_MAX];
        size_t len = 4711;
        int r = catalog_get_tiny(catalog, entry, data, &len);

        buffer_truncate(ret, 0);
        if (r == CATALOG_OK)
                assert_int_equal(buffer_append(ret, data, len), 0);
        else
                assert_int_equal(len, 4711);
        return r;
}

static void assert_reads(struct catalog *catalog, const struct catalog_entry *entry, const char *text)
{
        _cleanup_buffer_ struct buffer got = { 0 };

        assert_true(entry->tiny);
        assert_int_equal(get_tiny(catalog, entry, &got), CATALOG_OK);
        assert_int_equal(got.len, strlen(text));
        assert_memory_equal(got.data ? got.data : "", text, got.len);
}

static void assert_holds(struct catalog *catalog, const char *path, const char *text)
{
        struct catalog_entry e;

        assert_int_equal(find(catalog, path, &e), CATALOG_OK);
        assert_reads(catalog, &e, text);
}

/* PATH is there, without its bytes. */
static void assert_lacks(struct catalog *catalog, const char *path)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        struct catalog_entry e;

        assert_int_equal(find(catalog, path, &e), CATALOG_OK);
        assert_false(e.tiny);
        assert_int_equal(get_tiny(catalog, &e, &got), CATALOG_NONE);
}

static void test_kept(void **state)
{
        struct fixture *f = *state;
        struct catalog_entry folder_entry, link;
        _cleanup_buffer_ struct buffer got = { 0 };

        VERSION(f->catalog, NULL, folder("a"), tiny("a/x", "some bytes"), tiny("a/y", "some bytes"),
                bare("a/z", "some bytes"), tiny("empty", ""), file("f", 500), link_to("l", "a/x"));
        assert_holds(f->catalog, "a/x", "some bytes");
        assert_holds(f->catalog, "a/y", "some bytes");
        assert_holds(f->catalog, "empty", "");
        assert_lacks(f->catalog, "a/z");
        assert_lacks(f->catalog, "f");
        assert_int_equal(find(f->catalog, "a", &folder_entry), CATALOG_OK);
        assert_int_equal(find(f->catalog, "l", &link), CATALOG_OK);
        assert_false(folder_entry.tiny || link.tiny);
        assert_int_equal(get_tiny(f->catalog, &folder_entry, &got), CATALOG_NONE);
        assert_int_equal(get_tiny(f->catalog, &link, &got), CATALOG_NONE);
        /* Nor are a file's bytes a link's target. */
        assert_int_equal(catalog_readlink(f->catalog, ino_of(f->catalog, "a/x"), &got), CATALOG_NONE);
        reopen(f);
        assert_holds(f->catalog, "a/x", "some bytes");
        assert_holds(f->catalog, "empty", "");
}

static void test_largest(void **state)
{
        struct fixture *f = *state;
        char text[ENTRY_TINY_MAX + 2];
        struct entry most, more;

        memset(text, 't', sizeof(text));
        text[ENTRY_TINY_MAX + 1] = '\0';
        more = tiny("more", text);
        VERSION(f->catalog, NULL, more);
        assert_lacks(f->catalog, "more");
        text[ENTRY_TINY_MAX] = '\0';
        most = tiny("most", text);
        VERSION(f->catalog, NULL, most);
        assert_holds(f->catalog, "most", text);
}

/* Open files keep theirs over a version (C3), and not beyond the next open. */
static void test_replaced(void **state)
{
        struct fixture *f = *state;
        struct catalog_entry before, gone_one, e;

        VERSION(f->catalog, NULL, tiny("x", "before"), tiny("y", "gone"));
        assert_int_equal(find(f->catalog, "x", &before), CATALOG_OK);
        assert_int_equal(find(f->catalog, "y", &gone_one), CATALOG_OK);
        DIFFERENCE(f->catalog, NULL, tiny("x", "after!"), gone("y"));
        assert_holds(f->catalog, "x", "after!");
        assert_reads(f->catalog, &before, "before");
        assert_reads(f->catalog, &gone_one, "gone");
        assert_int_equal(catalog_get(f->catalog, before.ino, &e), CATALOG_OK);
        assert_true(e.retired && e.tiny);
        reopen(f);
        assert_holds(f->catalog, "x", "after!");
        assert_int_equal(catalog_get(f->catalog, before.ino, &e), CATALOG_NONE);
        assert_int_equal(catalog_get(f->catalog, gone_one.ino, &e), CATALOG_NONE);
}

static void test_aborted(void **state)
{
        struct fixture *f = *state;
        struct catalog_update *update;

        VERSION(f->catalog, NULL, tiny("x", "before"));
        update = begin(f->catalog);
        put(update, tiny("x", "after!"));
        catalog_update_abort(update);
        assert_holds(f->catalog, "x", "before");
}

/* C5 */
static void test_unknown_keeps(void **state)
{
        struct fixture *f = *state;
        struct entry with_data = unknown(ENTRY_FILE, "y");

        with_data.data = (const uint8_t *)"12345";
        VERSION(f->catalog, NULL, tiny("x", "before"));
        DIFFERENCE(f->catalog, NULL, unknown(ENTRY_FILE, "x"), with_data);
        assert_holds(f->catalog, "x", "before");
        assert_lacks(f->catalog, "y");
}

/* ---- C9 ---- */

static void test_not_its_own(void **state)
{
        struct fixture *f = *state;
        struct entry other = tiny("other", "these"), md5 = tiny("md5", "stock"), nameless = tiny("none", "x");

        other.data = (const uint8_t *)"those";
        md5.content.algorithm = HASH_MD5;
        nameless.content.algorithm = HASH_NONE;
        VERSION(f->catalog, NULL, other, md5, nameless, tiny("own", "these"));
        assert_lacks(f->catalog, "other");
        assert_lacks(f->catalog, "md5");
        assert_lacks(f->catalog, "none");
        assert_holds(f->catalog, "own", "these");
        assert_int_equal(version_of(f->catalog).files, 4);
}

/* Changed in the database: never handed out, and everything else stays. */
static void test_damaged(void **state)
{
        struct fixture *f = *state;
        const char *const sql[] = {
                "UPDATE entry SET data = x'7468657365' WHERE name = x'66'",   /* "these", one bit off */
                "UPDATE entry SET data = x'74686f73' WHERE name = x'66'",     /* cut */
                "UPDATE entry SET data = x'74686f736574' WHERE name = x'66'", /* longer */
                "UPDATE entry SET data = zeroblob(5) WHERE name = x'66'",
                "UPDATE entry SET data = zeroblob(5000) WHERE name = x'66'",
                "UPDATE entry SET data = 5 WHERE name = x'66'",
                "UPDATE entry SET data = x'' WHERE name = x'66'",
        };

        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
                _cleanup_buffer_ struct buffer got = { 0 };
                struct catalog_entry e;

                VERSION(f->catalog, NULL, tiny("f", "those"), tiny("g", "those"));
                assert_holds(f->catalog, "f", "those");
                catalog_free(TAKE_PTR(f->catalog));
                set_pragma(f, sql[i]);
                assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
                assert_int_equal(find(f->catalog, "f", &e), CATALOG_OK);
                assert_int_equal(get_tiny(f->catalog, &e, &got), CATALOG_NONE);
                assert_holds(f->catalog, "g", "those");
                VERSION(f->catalog, NULL); /* the next one comes anew */
        }
}

/* ---- other ways in ---- */

static struct catalog_load_target target_of(const struct entry *root)
{
        struct catalog_load_target target = { .hash = HASH_XXH3, .revision = 1 };

        entry_root_digest(HASH_XXH3, root->mode, root->mtime_ns, root->content.bytes, target.digest);
        return target;
}

/* The digest of a folder that holds the files ENTRIES, in order. */
static struct content_id digest_of(const struct entry *entries, size_t n)
{
        _cleanup_hasher_ struct hasher *h = NULL;
        struct content_id digest;

        assert_int_equal(hasher_new(HASH_XXH3, &h), 0);
        for (size_t i = 0; i < n; i++) {
                struct entry_digest_input input = { .kind = ENTRY_FILE,
                                                    .mode = entries[i].mode,
                                                    .mtime_ns = entries[i].mtime_ns,
                                                    .size = entries[i].size,
                                                    .algorithm = entries[i].content.algorithm,
                                                    .digest = entries[i].content.bytes };
                input.name_len =
                        entries[i].path_len - path_split(entries[i].path, entries[i].path_len, &input.name);
                input.name_len -= input.name != entries[i].path;
                entry_digest_add(h, &input);
        }
        hasher_final(h, &digest);
        return digest;
}

static void test_load(void **state)
{
        struct fixture *f = *state;
        struct entry files[] = { tiny("a", "first"), bare("b", "second"), tiny("c", "third") };
        struct entry root = folder("");
        struct catalog_load_target target;
        struct catalog_load *load;

        root.content = digest_of(files, ARRAY_SIZE(files));
        files[2].data = (const uint8_t *)"wrong";
        target = target_of(&root);
        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), 0);
        assert_int_equal(catalog_load_put(load, &root), 0);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                assert_int_equal(catalog_load_put(load, &files[i]), 0);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_holds(f->catalog, "a", "first");
        assert_lacks(f->catalog, "b");
        assert_lacks(f->catalog, "c");
}

static void test_folder_out_of_turn(void **state)
{
        struct fixture *f = *state;
        struct entry x = tiny("d/x", "bytes"), d = folder("d"), root = folder("");
        _cleanup_hasher_ struct hasher *h = NULL;
        struct entry_digest_input input = { .name = "d",
                                            .name_len = 1,
                                            .kind = ENTRY_DIRECTORY,
                                            .mode = d.mode,
                                            .mtime_ns = d.mtime_ns,
                                            .algorithm = HASH_XXH3,
                                            .digest = d.content.bytes };
        struct catalog_load_target target;
        struct catalog_load *load;

        d.content = digest_of(&x, 1);
        assert_int_equal(hasher_new(HASH_XXH3, &h), 0);
        entry_digest_add(h, &input);
        hasher_final(h, &root.content);
        target = target_of(&root);
        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), 0);
        assert_int_equal(catalog_load_put(load, &root), 0);
        assert_int_equal(catalog_load_put(load, &d), 0);
        assert_int_equal(catalog_load_put(load, &x), 0); /* closes the root, and shows "d" after the save */
        assert_int_equal(catalog_load_save(load, 3), 0);
        assert_int_equal(catalog_load_folder(f->catalog, ino_of(f->catalog, "d"), &x, 1), 0);
        assert_holds(f->catalog, "d/x", "bytes");
        catalog_load_free(load);
}

/* C6 */
static void test_copied(void **state)
{
        struct fixture *f = *state;
        struct entry old = large("f", 1), new = large("f", 2);
        struct content_id previous;
        struct catalog *second;

        VERSION(f->catalog, NULL, old, tiny("x", "bytes"));
        DIFFERENCE(f->catalog, NULL, new);
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        assert_holds(second, "x", "bytes");
        assert_int_equal(catalog_get_previous(second, &new.content, &previous), CATALOG_OK);
        assert_true(content_id_equal(&previous, &old.content));
        catalog_free(second);
}

/* ---- what large contents replaced ---- */

static void assert_previous(struct catalog *catalog, uint64_t now, uint64_t old)
{
        struct content_id content = large("", now).content, expected = large("", old).content, got;

        assert_int_equal(catalog_get_previous(catalog, &content, &got), CATALOG_OK);
        assert_true(content_id_equal(&got, &expected));
}

static void assert_no_previous(struct catalog *catalog, struct entry entry)
{
        struct content_id got;

        assert_int_equal(catalog_get_previous(catalog, &entry.content, &got), CATALOG_NONE);
}

static void test_previous(void **state)
{
        struct fixture *f = *state;

        VERSION(f->catalog, NULL, large("a", 1), large("b", 2), file("s", 3), file("t", 4));
        assert_no_previous(f->catalog, large("", 1));
        DIFFERENCE(f->catalog, NULL, large("a", 11), large("new", 12), large("s", 13), file("t", 14));
        assert_previous(f->catalog, 11, 1);
        assert_no_previous(f->catalog, large("", 12));
        assert_no_previous(f->catalog, large("", 13)); /* it was a small one */
        assert_no_previous(f->catalog, file("", 14));
        /* Mode and time are no new content; a ring is possible. */
        DIFFERENCE(f->catalog, NULL, large("a", 1), large("b", 2));
        assert_previous(f->catalog, 1, 11);
        assert_previous(f->catalog, 11, 1);
        assert_no_previous(f->catalog, large("", 2));
        reopen(f);
        assert_previous(f->catalog, 1, 11);
        /* The last one counts. */
        DIFFERENCE(f->catalog, NULL, large("b", 1));
        assert_previous(f->catalog, 1, 2);
}

/* C4 */
static void test_previous_aborted(void **state)
{
        struct fixture *f = *state;
        const uint8_t wrong[HASH_BYTES] = { 0 };
        struct catalog_changes changes;
        struct catalog_update *update;

        VERSION(f->catalog, NULL, large("a", 1));
        update = begin(f->catalog);
        put(update, large("a", 2));
        assert_int_equal(catalog_update_commit(update, wrong, 1, &changes), CATALOG_MISMATCH);
        assert_no_previous(f->catalog, large("", 2));
}

static void test_previous_bounded(void **state)
{
        struct fixture *f = *state;
        uint64_t n = CATALOG_PREVIOUS_MAX + 100;
        struct catalog_update *update = begin(f->catalog);
        char name[32];

        put(update, whole(""));
        for (uint64_t i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "%llu", (unsigned long long)i);
                put(update, large(name, 2 * i));
        }
        commit(update, NULL);
        update = begin(f->catalog);
        for (uint64_t i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "%llu", (unsigned long long)i);
                put(update, large(name, 2 * i + 1));
        }
        commit(update, NULL);
        for (uint64_t i = 0; i < n; i++) {
                if (i < 100)
                        assert_no_previous(f->catalog, large("", 2 * i + 1));
                else
                        assert_previous(f->catalog, 2 * i + 1, 2 * i);
        }
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_largest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_aborted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_keeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folder_out_of_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_previous, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_previous_aborted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_previous_bounded, set_up, tear_down),
};

UNIT_MAIN(tests)
