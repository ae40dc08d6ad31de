/*
 * Read-ahead: the tree's order, what starts it, what is pushed and when, and what is not. The kernel is a table here; contents are in a real store.
 */
#include "sync/readahead.h"
#include "sync/tree_cursor.h"
#include "tests/unit/catalog_fixture.h"

#define FILES     200
#define WAIT_MS   5000
#define QUIET_MS  100
#define INO_LIMIT 4096

/* What the kernel has. */
struct pages {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned pushed;           /* pushes that succeeded */
        unsigned tried[INO_LIMIT]; /* by inode number */
        bool has[INO_LIMIT];
        uint64_t unknown_folder; /* numbers of files in it are not known; 0: all are */
        struct catalog *catalog;
};

struct ahead {
        struct fixture *f;
        struct store *store;
        struct readahead *ra;
        struct pages pages;
};

static struct entry small(const char *path, uint64_t number)
{
        struct entry entry = file(path, number);

        entry.size = sizeof(number);
        return entry;
}

static int push(uint64_t ino, const void *data, size_t len, void *arg)
{
        struct pages *pages = arg;
        struct catalog_entry entry;
        struct content_id id = { .algorithm = HASH_XXH3 };
        int r = 0;

        assert_true(ino < INO_LIMIT);
        assert_int_equal(catalog_get(pages->catalog, ino, &entry), CATALOG_OK);
        assert_int_equal(len, entry.size);
        hash_bytes(HASH_XXH3, data, len, id.bytes);
        assert_true(content_id_equal(&id, &entry.content));
        pthread_mutex_lock(&pages->lock);
        pages->tried[ino]++;
        if (pages->unknown_folder && entry.parent == pages->unknown_folder)
                r = -ENOENT;
        pages->has[ino] = pages->has[ino] || r == 0;
        pages->pushed += r == 0;
        pthread_cond_broadcast(&pages->changed);
        pthread_mutex_unlock(&pages->lock);
        return r;
}

static void keep(struct store *store, uint64_t number)
{
        struct content_id id = content_of(number);
        struct store_writer *writer;

        assert_int_equal(store_write_begin(store, &id, sizeof(number), &writer), STORE_OK);
        assert_int_equal(store_write(writer, &number, sizeof(number)), 0);
        assert_int_equal(store_write_commit(writer), STORE_OK);
}

static int set_up_ahead(void **state)
{
        struct ahead *a = calloc(1, sizeof(*a));
        struct readahead_options options;
        char dir[80];

        set_up((void **)&a->f);
        snprintf(dir, sizeof(dir), "%s/store", a->f->dir);
        assert_int_equal(store_open(dir, &a->store), 0);
        pthread_mutex_init(&a->pages.lock, NULL);
        pthread_cond_init(&a->pages.changed, NULL);
        a->pages.catalog = a->f->catalog;
        options = (struct readahead_options){
                .catalog = a->f->catalog, .store = a->store, .push = push, .arg = &a->pages
        };
        assert_int_equal(readahead_new(&options, &a->ra), 0);
        *state = a;
        return 0;
}

static int tear_down_ahead(void **state)
{
        struct ahead *a = *state;

        readahead_stop(a->ra);
        readahead_free(a->ra);
        store_free(a->store);
        tear_down((void **)&a->f);
        free(a);
        return 0;
}

/* FILES files "dN/fN", PER_FOLDER in each folder, all in the store. */
static void make_files(struct ahead *a, unsigned per_folder)
{
        struct catalog_update *update = begin(a->f->catalog);
        char path[64];

        put(update, whole(""));
        for (unsigned i = 0; i < FILES; i++) {
                snprintf(path, sizeof(path), "d%04u", i / per_folder);
                if (i % per_folder == 0)
                        put(update, whole(path));
                snprintf(path, sizeof(path), "d%04u/f%04u", i / per_folder, i);
                put(update, small(path, i + 1));
                keep(a->store, i + 1);
        }
        commit(update, NULL);
}

static uint64_t ino_at(struct ahead *a, unsigned i, unsigned per_folder)
{
        char path[64];

        snprintf(path, sizeof(path), "d%04u/f%04u", i / per_folder, i);
        return ino_of(a->f->catalog, path);
}

/* A task reads file I: asks the daemon unless the kernel has it. */
static bool read_file(struct ahead *a, unsigned i, unsigned per_folder)
{
        uint64_t ino = ino_at(a, i, per_folder);
        bool has;

        pthread_mutex_lock(&a->pages.lock);
        has = a->pages.has[ino];
        pthread_mutex_unlock(&a->pages.lock);
        if (!has)
                readahead_note_read(a->ra, ino);
        return has;
}

/* Waits until AT_LEAST pushes have succeeded; false: they have not in time. */
static bool wait_pushed(struct ahead *a, unsigned at_least, int ms)
{
        struct timespec until;
        int r = 0;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += ms % 1000 * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&a->pages.lock);
        while (a->pages.pushed < at_least && r == 0)
                r = pthread_cond_timedwait(&a->pages.changed, &a->pages.lock, &until);
        pthread_mutex_unlock(&a->pages.lock);
        return r == 0;
}

/* ---- the tree's order ---- */

static int append_path(const struct catalog_entry *entry, void *arg)
{
        buffer_printf(arg, "%s ", entry->name);
        return 0;
}

static void check_order(struct catalog *catalog, const char *from, const char *expected)
{
        _cleanup_buffer_ struct buffer names = { 0 };
        struct catalog_entry entry;
        struct tree_cursor cursor;

        assert_int_equal(find(catalog, from, &entry), CATALOG_OK);
        cursor = tree_cursor_at(&entry);
        buffer_printf(&names, "%s", "");
        assert_int_equal(tree_cursor_next(&cursor, catalog, append_path, &names), 1);
        assert_string_equal(names.data, expected);
        assert_int_equal(tree_cursor_next(&cursor, catalog, append_path, &names), 1); /* still the end */
}

static void test_order(void **state)
{
        struct fixture *f = *state;

        VERSION(f->catalog, NULL, small("a", 1), whole("b"), small("b/c", 2), whole("b/d"), small("b/d/e", 3),
                whole("b/f"), link_to("b/g", "x"), small("b/h", 4), small("i", 5), whole("j"), whole("j/k"));
        check_order(f->catalog, "", "a c e h i ");
        check_order(f->catalog, "a", "c e h i ");
        check_order(f->catalog, "b/d/e", "h i ");
        check_order(f->catalog, "b/g", "h i ");
        check_order(f->catalog, "i", "");
        check_order(f->catalog, "b", "c e h i "); /* a folder: from its beginning */
}

static void test_order_below_a_folder(void **state)
{
        struct fixture *f = *state;
        _cleanup_buffer_ struct buffer names = { 0 };
        struct tree_cursor cursor;

        VERSION(f->catalog, NULL, small("a", 1), whole("b"), whole("b/c"), small("b/c/d", 2), small("b/e", 3),
                small("f", 4));
        cursor = (struct tree_cursor){ .folder = ino_of(f->catalog, "b"), .top = ino_of(f->catalog, "b") };
        assert_int_equal(tree_cursor_next(&cursor, f->catalog, append_path, &names), 1);
        assert_string_equal(names.data, "d e ");
}

static int stop_at_once(const struct catalog_entry *entry, void *arg)
{
        *(uint64_t *)arg = entry->ino;
        return 1;
}

static void test_order_in_a_new_version(void **state)
{
        struct fixture *f = *state;
        struct tree_cursor cursor = { .folder = CATALOG_ROOT_INO };
        uint64_t ino;

        VERSION(f->catalog, NULL, small("a", 1), small("c", 2));
        assert_int_equal(tree_cursor_next(&cursor, f->catalog, stop_at_once, &ino), 0);
        assert_int_equal(ino, ino_of(f->catalog, "a"));
        DIFFERENCE(f->catalog, NULL, small("b", 3), gone("a"));
        assert_int_equal(tree_cursor_next(&cursor, f->catalog, stop_at_once, &ino), 0);
        assert_int_equal(ino, ino_of(f->catalog, "b"));
        assert_int_equal(tree_cursor_next(&cursor, f->catalog, stop_at_once, &ino), 0);
        assert_int_equal(ino, ino_of(f->catalog, "c"));
}

/* ---- readers ---- */

static void test_three_in_order_begin_it(void **state)
{
        struct ahead *a = *state;

        make_files(a, FILES);
        for (unsigned i = 0; i < 2; i++)
                assert_false(read_file(a, i, FILES));
        assert_false(wait_pushed(a, 1, QUIET_MS));
        assert_false(read_file(a, 2, FILES));
        assert_true(wait_pushed(a, 8, WAIT_MS));
}

static void test_a_reader_that_goes_on_asks_seldom(void **state)
{
        struct ahead *a = *state;
        struct readahead_stats stats;
        unsigned asked = 0;

        make_files(a, FILES);
        for (unsigned i = 0; i < FILES; i++) {
                asked += !read_file(a, i, FILES);
                usleep(2000);
        }
        readahead_get_stats(a->ra, &stats);
        assert_true(asked < FILES / 4);
        assert_true(asked > 3); /* the markers */
        assert_true(stats.files >= FILES - asked);
        assert_true(stats.bytes == stats.files * sizeof(uint64_t));
        assert_true(stats.hits > FILES / 2);
}

static void test_a_reader_that_stops_costs_a_window(void **state)
{
        struct ahead *a = *state;

        make_files(a, FILES);
        for (unsigned i = 0; i < 3; i++)
                read_file(a, i, FILES);
        assert_true(wait_pushed(a, 8, WAIT_MS));
        assert_false(wait_pushed(a, 24, QUIET_MS));
}

static void test_no_order_no_pushes(void **state)
{
        struct ahead *a = *state;

        make_files(a, FILES);
        for (unsigned i = FILES; i > 20; i -= 7)
                assert_false(read_file(a, i - 1, FILES));
        assert_false(wait_pushed(a, 1, QUIET_MS));
}

static void test_across_folders(void **state)
{
        struct ahead *a = *state;

        make_files(a, 1); /* one file a folder, as `cat * / conf` reads them */
        for (unsigned i = 0; i < 3; i++)
                read_file(a, i, 1);
        assert_true(wait_pushed(a, 8, WAIT_MS));
}

static void test_files_that_the_kernel_does_not_know_yet(void **state)
{
        struct ahead *a = *state;
        uint64_t folder;
        unsigned tries = 0;

        make_files(a, 10);
        folder = ino_of(a->f->catalog, "d0001");
        a->pages.unknown_folder = folder; /* nobody pushes yet */
        for (unsigned i = 0; i < 3; i++)
                read_file(a, i, 10);
        assert_true(wait_pushed(a, 4, WAIT_MS)); /* what is left of the first folder, but for the markers */
        usleep(QUIET_MS * 1000);
        pthread_mutex_lock(&a->pages.lock);
        for (unsigned i = 10; i < 20; i++)
                tries += a->pages.tried[ino_at(a, i, 10)];
        pthread_mutex_unlock(&a->pages.lock);
        assert_in_range(tries, 1, 2); /* one file was enough to find out */

        pthread_mutex_lock(&a->pages.lock);
        a->pages.unknown_folder = 0;
        a->pages.pushed = 0;
        pthread_mutex_unlock(&a->pages.lock);
        readahead_note_listed(a->ra, folder);
        assert_true(wait_pushed(a, 4, WAIT_MS));
}

static void test_what_is_not_here_is_left_alone(void **state)
{
        struct ahead *a = *state;

        /* The same tree, but nobody has its contents, and there is no master to ask. */
        struct catalog_update *update = begin(a->f->catalog);
        char path[64];

        put(update, whole(""));
        put(update, whole("d0000"));
        for (unsigned i = 0; i < FILES; i++) {
                snprintf(path, sizeof(path), "d0000/f%04u", i);
                put(update, small(path, i + 1));
        }
        commit(update, NULL);
        for (unsigned i = 0; i < 20; i++)
                assert_false(read_file(a, i, FILES));
        assert_false(wait_pushed(a, 1, QUIET_MS));
}

static void test_many_readers(void **state)
{
        struct ahead *a = *state;

        make_files(a, 10);
        /* Each folder has a reader of its own, more than are kept; then all stop in the middle. */
        for (unsigned step = 0; step < 6; step++)
                for (unsigned d = 0; d < FILES / 10; d++, usleep(1000))
                        read_file(a, d * 10 + step, 10);
        assert_true(wait_pushed(a, 1, WAIT_MS));
}

#define AHEAD(test) cmocka_unit_test_setup_teardown(test, set_up_ahead, tear_down_ahead)

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_below_a_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_in_a_new_version, set_up, tear_down),
        AHEAD(test_three_in_order_begin_it),
        AHEAD(test_a_reader_that_goes_on_asks_seldom),
        AHEAD(test_a_reader_that_stops_costs_a_window),
        AHEAD(test_no_order_no_pushes),
        AHEAD(test_across_folders),
        AHEAD(test_files_that_the_kernel_does_not_know_yet),
        AHEAD(test_what_is_not_here_is_left_alone),
        AHEAD(test_many_readers),
};

UNIT_MAIN(tests)
