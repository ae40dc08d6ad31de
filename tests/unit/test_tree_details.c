/* What the tree keeps of contents by their hash (T7): lists of pieces, and the bytes of tiny files. */
#include "base/pieces.h"
#include "server/tree_db.h"
#include "tests/unit/tree_fixture.h"

/* A file that holds TEXT. */
static struct tree_row text_row(uint64_t parent, const char *name, const char *text)
{
        struct tree_row row = make_row(parent, name, ENTRY_FILE, 0);

        row.stamp.size = strlen(text);
        hash_bytes(HASH_XXH3, text, strlen(text), row.digest);
        return row;
}

static void put_text(struct tree_fixture *f, uint64_t parent, const char *name, const char *text)
{
        const struct tree_change change = { .op = TREE_PUT,
                                            .row = text_row(parent, name, text),
                                            .detail = (const uint8_t *)text };

        if (!f->update)
                assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        assert_int_equal(tree_update_apply(f->update, &change, 1), 0);
}

static struct tree_row named(uint64_t parent, const char *name)
{
        return make_row(parent, name, ENTRY_UNKNOWN, 0);
}

static struct content_id text_id(const struct tree_row *row)
{
        struct content_id id = { .algorithm = HASH_XXH3 };

        memcpy(id.bytes, row->digest, HASH_BYTES);
        return id;
}

/* The detail of what holds TEXT: TREE_OK (and it is TEXT) or TREE_NONE. */
static int kept(struct tree_fixture *f, const char *text)
{
        const struct tree_row row = text_row(1, "f", text);
        const struct content_id id = text_id(&row);
        _cleanup_buffer_ struct buffer detail = { 0 };
        struct tree_view *view;
        int r;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        r = tree_view_detail(view, &id, strlen(text), &detail);
        tree_view_put(view);
        if (r == TREE_OK)
                assert_string_equal(detail.data, text);
        return r;
}

/* ---- what is sent, as text: "d/f=bytes" or "d/f" ---- */

static int add_entry(const struct entry *entry, void *arg)
{
        return buffer_printf(arg, "%s%.*s%s%.*s ", entry->gone ? "-" : "", (int)entry->path_len, entry->path,
                             entry->data ? "=" : "", entry->data ? (int)entry->size : 0,
                             entry->data ? (const char *)entry->data : "");
}

static void check_listing(struct tree_fixture *f, const char *expected)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        struct tree_cursor *cursor;
        const struct entry *entry;
        struct tree_view *view;
        struct tree_row row;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "", 0, &row), TREE_OK);
        assert_int_equal(tree_cursor_new(view, &row, &cursor), 0);
        while (tree_cursor_next(cursor, &entry, NULL) == 0 && entry)
                assert_int_equal(add_entry(entry, &text), 0);
        tree_cursor_free(cursor);
        tree_view_put(view);
        assert_string_equal(text.data, expected);
}

static void check_changes(struct tree_fixture *f, uint64_t since, const char *expected)
{
        _cleanup_buffer_ struct buffer text = { 0 };
        struct tree_view *view;
        struct tree_row row;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_find(view, "", 0, &row), TREE_OK);
        assert_int_equal(tree_view_changes(view, &row, since, NULL, 100, add_entry, &text), TREE_OK);
        tree_view_put(view);
        assert_string_equal(text.data, expected);
}

/* ---- tiny files ---- */

static void test_tiny_bytes_are_sent(void **state)
{
        struct tree_fixture *f = *state;
        char longest[ENTRY_TINY_MAX + 1], too_long[ENTRY_TINY_MAX + 2], expected[512];
        struct tree_version first;
        uint64_t id;

        memset(longest, 'x', ENTRY_TINY_MAX);
        longest[ENTRY_TINY_MAX] = '\0';
        memset(too_long, 'y', ENTRY_TINY_MAX + 1);
        too_long[ENTRY_TINY_MAX + 1] = '\0';
        put_folder(f, 0, "");
        id = put_folder(f, TREE_ROOT_ID, "d");
        put_text(f, id, "a", "one");
        put_text(f, id, "b", longest);
        apply(f, TREE_PUT, text_row(id, "c", too_long));
        apply(f, TREE_PUT, text_row(id, "e", ""));
        first = commit(f);
        snprintf(expected, sizeof(expected), " d d/a=one d/b=%s d/c d/e ", longest);
        check_listing(f, expected);

        put_text(f, id, "a", "two");
        put_text(f, TREE_ROOT_ID, "new", "n");
        commit(f);
        check_changes(f, first.revision, "new=n d/a=two ");
        fixture_reopen(f);
        check_changes(f, first.revision, "new=n d/a=two ");
}

/* A file that could not be read any more is sent without what it held. */
static void test_unknown(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_row row = named(TREE_ROOT_ID, "f");

        put_folder(f, 0, "");
        put_text(f, TREE_ROOT_ID, "f", "text");
        commit(f);
        row.unknown = true;
        apply(f, TREE_PUT, row);
        commit(f);
        check_listing(f, " f ");
        put_text(f, TREE_ROOT_ID, "f", "text");
        commit(f);
        check_listing(f, " f=text ");
}

static void test_a_row_without_its_detail(void **state)
{
        struct tree_fixture *f = *state;

        put_folder(f, 0, "");
        apply(f, TREE_PUT, text_row(TREE_ROOT_ID, "f", "text"));
        commit(f);
        assert_int_equal(kept(f, "text"), TREE_NONE);
        check_listing(f, " f ");
}

/* Bits that flip are not sent on: the worker asks for the content then. */
static void test_damaged(void **state)
{
        struct tree_fixture *f = *state;
        const struct tree_row row = text_row(TREE_ROOT_ID, "f", "text");
        const struct content_id id = text_id(&row);
        struct tree_db *db;
        char path[96];

        put_folder(f, 0, "");
        put_text(f, TREE_ROOT_ID, "f", "text");
        commit(f);
        snprintf(path, sizeof(path), "%s/tree.db", f->dir);
        assert_int_equal(tree_db_open_writer(path, HASH_XXH3, &db), 0);
        assert_int_equal(tree_db_replace_detail(db, row.digest, (const uint8_t *)"tezt", 4), 0);
        tree_db_close(db);
        assert_int_equal(kept(f, "text"), TREE_NONE);
        check_listing(f, " f ");
        assert_int_equal(tree_store_detail(f->tree, &id, (const uint8_t *)"text", 4), TREE_OK);
        check_listing(f, " f=text ");
}

static void test_what_has_no_detail(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_change changes[] = {
                { .op = TREE_PUT, .row = make_file(TREE_ROOT_ID, "f", 1) },
                { .op = TREE_PUT, .row = text_row(TREE_ROOT_ID, "f", "") },
                { .op = TREE_PUT, .row = text_row(TREE_ROOT_ID, "f", "text") },
        };

        changes[0].row.stamp.size = ENTRY_TINY_MAX + 1;
        changes[2].row.unknown = true;
        for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
                put_folder(f, 0, "");
                changes[i].detail = (const uint8_t *)"";
                assert_int_equal(tree_update_apply(f->update, &changes[i], 1), -EINVAL);
                tree_update_abort(TAKE_PTR(f->update));
        }
}

/* ---- until when ---- */

static void test_kept_as_long_as_named(void **state)
{
        struct tree_fixture *f = *state;

        put_folder(f, 0, "");
        put_text(f, TREE_ROOT_ID, "a", "same");
        put_text(f, TREE_ROOT_ID, "b", "same");
        put_text(f, TREE_ROOT_ID, "c", "other");
        commit(f);
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "a"));
        commit(f);
        assert_int_equal(kept(f, "same"), TREE_OK);
        put_text(f, TREE_ROOT_ID, "b", "new"); /* another content in its place */
        commit(f);
        assert_int_equal(kept(f, "same"), TREE_NONE);
        assert_int_equal(kept(f, "new"), TREE_OK);
        assert_int_equal(kept(f, "other"), TREE_OK);
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "c"));
        tree_update_abort(TAKE_PTR(f->update));
        assert_int_equal(kept(f, "other"), TREE_OK);
}

/* A link's digest is the hash of its target: that of a file that held the same bytes, and yet no row names those any more. */
static void test_replaced_by_a_link(void **state)
{
        struct tree_fixture *f = *state;

        put_folder(f, 0, "");
        put_text(f, TREE_ROOT_ID, "f", "text");
        commit(f);
        apply(f, TREE_PUT, make_symlink(TREE_ROOT_ID, "f", "text"));
        commit(f);
        assert_int_equal(kept(f, "text"), TREE_NONE);
}

static void test_removed_with_its_folder(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id, below;

        put_folder(f, 0, "");
        id = put_folder(f, TREE_ROOT_ID, "d");
        below = put_folder(f, id, "d");
        put_text(f, below, "f", "below");
        commit(f);
        assert_int_equal(kept(f, "below"), TREE_OK);
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "d"));
        commit(f);
        assert_int_equal(kept(f, "below"), TREE_NONE);
}

/* A pass that finds a folder elsewhere takes its files over, unread: the old rows may go first. */
static void test_moved(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id;

        put_folder(f, 0, "");
        id = put_folder(f, TREE_ROOT_ID, "d");
        put_text(f, id, "f", "text");
        commit(f);
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "d"));
        id = put_folder(f, TREE_ROOT_ID, "e");
        apply(f, TREE_PUT, text_row(id, "f", "text"));
        commit(f);
        check_listing(f, " e e/f=text ");
}

/* What a pass told of in a new folder, and then not of the folder. */
static void test_of_rows_that_were_dropped(void **state)
{
        struct tree_fixture *f = *state;

        put_folder(f, 0, "");
        commit(f);
        assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        put_text(f, tree_update_new_id(f->update), "f", "text");
        commit(f);
        assert_int_equal(kept(f, "text"), TREE_NONE);
}

/* More contents than are noted one by one. */
static void test_very_many_removed(void **state)
{
        struct tree_fixture *f = *state;
        uint64_t id;
        char text[16];

        put_folder(f, 0, "");
        put_text(f, TREE_ROOT_ID, "stays", "stays");
        id = put_folder(f, TREE_ROOT_ID, "d");
        for (unsigned i = 0; i < 66000; i++) {
                snprintf(text, sizeof(text), "%u", i);
                put_text(f, id, text, text);
        }
        commit(f);
        assert_int_equal(kept(f, "0"), TREE_OK);
        assert_int_equal(kept(f, "65999"), TREE_OK);
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "d"));
        commit(f);
        assert_int_equal(kept(f, "0"), TREE_NONE);
        assert_int_equal(kept(f, "65999"), TREE_NONE);
        assert_int_equal(kept(f, "stays"), TREE_OK);
}

/* ---- lists ---- */

#define LARGE_PIECES 40000 /* 9.8 GiB: a list of 640 kB */
#define LARGE_SIZE   ((LARGE_PIECES - 1) * PIECE_BYTES + 1)

struct large {
        uint8_t list[LARGE_PIECES * 16];
        struct tree_row row;
};

static struct large *large_new(uint64_t parent, const char *name)
{
        struct large *large = malloc(sizeof(*large));
        struct content_id id;

        assert_non_null(large);
        for (size_t i = 0; i < sizeof(large->list); i++)
                large->list[i] = (uint8_t)(i * 31 + i / 1000);
        pieces_name(HASH_XXH3_PIECES, LARGE_SIZE, large->list, sizeof(large->list), &id);
        large->row = make_row(parent, name, ENTRY_FILE, 0);
        large->row.stamp.size = LARGE_SIZE;
        memcpy(large->row.digest, id.bytes, HASH_BYTES);
        return large;
}

static struct content_id large_id(const struct tree_row *row)
{
        struct content_id id = { .algorithm = HASH_XXH3_PIECES };

        memcpy(id.bytes, row->digest, HASH_BYTES);
        return id;
}

static int find_list(struct tree_fixture *f, const struct large *large)
{
        const struct content_id id = large_id(&large->row);
        _cleanup_buffer_ struct buffer list = { 0 };
        struct tree_view *view;
        int r;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        assert_int_equal(tree_view_detail(view, &id, LARGE_SIZE - PIECE_BYTES, &list), TREE_NONE);
        r = tree_view_detail(view, &id, LARGE_SIZE, &list);
        tree_view_put(view);
        if (r == TREE_OK)
                assert_memory_equal(list.data, large->list, sizeof(large->list));
        return r;
}

static void test_list(void **state)
{
        struct tree_fixture *f = *state;
        struct large *large = large_new(TREE_ROOT_ID, "f");
        const struct tree_change change = { .op = TREE_PUT, .row = large->row, .detail = large->list };
        struct content_id id = tree_row_content(&large->row);

        assert_int_equal(id.algorithm, HASH_XXH3_PIECES);
        assert_true(pieces_prove(&id, large->row.stamp.size, large->list, sizeof(large->list)));
        assert_int_equal(tree_row_detail_len(&large->row), sizeof(large->list));
        put_folder(f, 0, "");
        assert_int_equal(tree_update_apply(f->update, &change, 1), 0);
        commit(f);
        assert_int_equal(find_list(f, large), TREE_OK);
        check_listing(f, " f ");
        apply(f, TREE_REMOVE, named(TREE_ROOT_ID, "f"));
        commit(f);
        assert_int_equal(find_list(f, large), TREE_NONE);
        free(large);
}

static void test_list_made_anew(void **state)
{
        struct tree_fixture *f = *state;
        struct large *large = large_new(TREE_ROOT_ID, "f");
        struct tree_row other = large->row;
        struct content_id id = large_id(&other), other_id;

        put_folder(f, 0, "");
        apply(f, TREE_PUT, large->row);
        commit(f);
        assert_int_equal(find_list(f, large), TREE_NONE);
        other.digest[0] ^= 1;
        other_id = large_id(&other);
        assert_int_equal(tree_store_detail(f->tree, &other_id, large->list, sizeof(large->list)),
                         TREE_NONE); /* no row names it */
        assert_int_equal(tree_store_detail(f->tree, &id, large->list, sizeof(large->list)), TREE_OK);
        assert_int_equal(find_list(f, large), TREE_OK);

        apply(f, TREE_PUT, other);
        assert_int_equal(tree_store_detail(f->tree, &other_id, large->list, sizeof(large->list)),
                         TREE_OK); /* goes with the update */
        tree_update_abort(TAKE_PTR(f->update));
        assert_int_equal(find_list(f, large), TREE_OK);
        free(large);
}

/* The worker reckons its root digest from what it is sent: the algorithm by which a content is named counts in it. */
static void test_algorithm_in_the_digest(void **state)
{
        struct tree_fixture *f = *state;
        struct tree_row row = make_file(TREE_ROOT_ID, "f", 1);
        struct content_id folder;
        struct hasher *hasher;
        uint8_t digest[HASH_BYTES];

        put_folder(f, 0, "");
        row.stamp.size = PIECE_BYTES + 1;
        apply(f, TREE_PUT, row);
        assert_int_equal(hasher_new(HASH_XXH3, &hasher), 0);
        entry_digest_add(hasher, &(struct entry_digest_input){ .name = "f",
                                                               .name_len = 1,
                                                               .kind = ENTRY_FILE,
                                                               .mode = row.mode,
                                                               .mtime_ns = row.stamp.mtime_ns,
                                                               .size = row.stamp.size,
                                                               .algorithm = HASH_XXH3_PIECES,
                                                               .digest = row.digest });
        hasher_final(hasher, &folder);
        hasher_free(hasher);
        entry_root_digest(HASH_XXH3, 0644, 1000, folder.bytes, digest);
        assert_memory_equal(commit(f).digest, digest, HASH_BYTES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_tiny_bytes_are_sent),
        TEST(test_unknown),
        TEST(test_a_row_without_its_detail),
        TEST(test_damaged),
        TEST(test_what_has_no_detail),
        TEST(test_kept_as_long_as_named),
        TEST(test_replaced_by_a_link),
        TEST(test_removed_with_its_folder),
        TEST(test_moved),
        TEST(test_of_rows_that_were_dropped),
        TEST(test_very_many_removed),
        TEST(test_list),
        TEST(test_list_made_anew),
        TEST(test_algorithm_in_the_digest),
};

UNIT_MAIN(tests)
