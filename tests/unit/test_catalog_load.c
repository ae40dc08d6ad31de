/*
 * The first version of a tree, folder by folder: what is shown when, what is refused, and going on after an end at any point.
 */
#include "cache/catalog.h"

#include <sys/mman.h>

#include "tests/unit/catalog_fixture.h"
#include "tests/unit/mounts.h"
#include "tests/unit/snapshot_fixture.h"

/* ---- loading ---- */

static struct catalog_load *begin_load(struct catalog *catalog, const struct snapshot *s)
{
        struct catalog_load *load;

        assert_int_equal(catalog_load_begin(catalog, &s->target, &load), 0);
        return load;
}

static void put_range(struct catalog_load *load, const struct snapshot *s, size_t from, size_t to)
{
        for (size_t i = from; i < to; i++)
                assert_int_equal(catalog_load_put(load, &s->entries[i]), 0);
}

static void assert_loaded(struct catalog *catalog, const struct snapshot *s)
{
        struct catalog_version version = version_of(catalog);
        struct catalog_load_target target;
        struct catalog_changes changes;
        struct catalog_update *update = begin(catalog);
        size_t files = 0, directories = 0, symlinks = 0, unknowns = 0;

        assert_true(version.valid);
        assert_false(version.loading);
        assert_false(catalog_get_load(catalog, &target));
        assert_memory_equal(version.digest, s->target.digest, HASH_BYTES);
        assert_int_equal(version.revision, s->target.revision);
        for (size_t i = 0; i < s->n; i++) {
                struct entry e = s->entries[i];
                files += e.kind == ENTRY_FILE;
                directories += e.kind == ENTRY_DIRECTORY;
                symlinks += e.kind == ENTRY_SYMLINK && !e.unknown;
                unknowns += e.unknown;
                e.whole = i == 0;
                put(update, e);
        }
        assert_int_equal(catalog_update_commit(update, s->target.digest, s->target.revision, &changes),
                         CATALOG_OK);
        assert_int_equal(changes.count + changes.added + changes.removed + changes.modified, 0);
        assert_int_equal(version_of(catalog).generation, version.generation);
        assert_int_equal(version.files, files);
        assert_int_equal(version.directories, directories);
        assert_int_equal(version.symlinks, symlinks);
        assert_int_equal(version.unknown, unknowns);
        assert_int_equal(catalog_check_digest(catalog), CATALOG_OK);
}

static void test_plain(void **state)
{
        struct fixture *f = *state;

        for (uint64_t seed = 1; seed <= 20; seed++) {
                _cleanup_free_ struct snapshot *s = random_snapshot(seed, 1 + seed * 20);
                struct catalog_load *load = begin_load(f->catalog, s);
                for (size_t i = 0; i < s->n; i++) {
                        put_range(load, s, i, i + 1);
                        if (i % 13 == 0)
                                assert_int_equal(catalog_load_save(load, i), 0);
                }
                assert_int_equal(catalog_load_finish(load), 0);
                assert_loaded(f->catalog, s);
                reopen(f);
                assert_loaded(f->catalog, s);
                tear_down(state);
                set_up(state);
                f = *state;
        }
}

static void assert_pending(struct catalog *catalog, const char *path)
{
        struct names names = { 0 };
        struct catalog_entry e;
        uint64_t ino;

        assert_int_equal(catalog_find_path(catalog, path, strlen(path), &e), CATALOG_OK);
        assert_true(e.pending);
        ino = e.ino;
        assert_int_equal(catalog_lookup(catalog, ino, "x", 1, &e), CATALOG_PENDING);
        assert_int_equal(catalog_lookup(catalog, ino, "none", 4, &e), CATALOG_PENDING);
        assert_int_equal(catalog_list(catalog, ino, 0, add_name, &names), CATALOG_PENDING);
        assert_int_equal(names.count, 0);
}

static void test_shown_before_all_is_there(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        struct catalog_load_target target;
        struct catalog_load *load;
        struct catalog_entry e;
        uint64_t generation;

        assert_false(catalog_get_load(f->catalog, &target));
        load = begin_load(f->catalog, s);
        assert_true(catalog_get_load(f->catalog, &target));
        assert_int_equal(target.offset, 0);
        put_range(load, s, 0, 4); /* not all of the root */
        assert_int_equal(catalog_load_save(load, 400), 0);
        assert_false(version_of(f->catalog).valid);
        assert_true(version_of(f->catalog).loading);
        assert_int_equal(catalog_lookup(f->catalog, 1, "a", 1, &e), CATALOG_PENDING);
        put_range(load, s, 4, 7); /* the root, and of "a" the first entry */
        assert_false(version_of(f->catalog).valid);
        generation = version_of(f->catalog).generation;
        assert_int_equal(catalog_load_save(load, 700), 0);
        assert_true(version_of(f->catalog).valid);
        assert_true(version_of(f->catalog).loading);
        assert_int_equal(version_of(f->catalog).generation, generation + 1);
        assert_int_equal(version_of(f->catalog).synced_at, 0);
        assert_memory_equal(version_of(f->catalog).digest, s->target.digest, HASH_BYTES);
        assert_true(catalog_get_load(f->catalog, &target));
        assert_int_equal(target.offset, 700);
        assert_int_equal(target.revision, 42);
        assert_lists(f->catalog, 1, 0, "a,b,empty,f,l,");
        assert_pending(f->catalog, "a");
        assert_pending(f->catalog, "b");
        assert_int_equal(catalog_find_path(f->catalog, "a/x", 3, &e), CATALOG_PENDING);
        assert_lists(f->catalog, ino_of(f->catalog, "empty"), 0, "");
        assert_false(is_there(f->catalog, "empty/x"));
        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
        put_range(load, s, 7, 10);
        assert_int_equal(catalog_load_save(load, 1000), 0);
        assert_lists(f->catalog, ino_of(f->catalog, "a"), 0, "sub,x,");
        assert_pending(f->catalog, "a/sub");
        put_range(load, s, 10, s->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_true(version_of(f->catalog).synced_at > 1600000000);
        assert_loaded(f->catalog, s);
}

static void test_nothing_but_a_root(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = SNAPSHOT();
        struct catalog_load *load = begin_load(f->catalog, s);

        assert_int_equal(catalog_load_finish(load), -EBADMSG);
        assert_false(version_of(f->catalog).valid);
        load = begin_load(f->catalog, s);
        put_range(load, s, 0, 1);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_loaded(f->catalog, s);
}

static void test_busy(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        struct catalog_load *load = begin_load(f->catalog, s), *second;
        struct catalog_update *update;

        assert_int_equal(catalog_load_begin(f->catalog, &s->target, &second), -EBUSY);
        assert_int_equal(catalog_update_begin(f->catalog, &update), -EBUSY);
        assert_int_equal(catalog_touch(f->catalog, 1), -EBUSY);
        catalog_load_free(load);
        catalog_load_free(NULL);
        assert_int_equal(catalog_touch(f->catalog, 1), -EINVAL);
        VERSION(f->catalog, NULL, file("f", 1));
        assert_int_equal(catalog_load_begin(f->catalog, &s->target, &second), -EEXIST);
        assert_true(is_there(f->catalog, "f"));
}

/* ---- what is refused ---- */

enum harm { REPLACE, OMIT, ADD, SWAP };

static void test_refused(void **state)
{
        struct fixture *f = *state;
        struct entry no_digest = folder("a"), other_digest = folder("b"), other_root = folder(""),
                     mode = file("a/x", 3), high_mode = file("a/x", 3), huge = file("a/x", 3);
        static const struct entry nothing = { 0 };

        other_digest.content = content_of(1);
        other_root.mode = 0700;
        other_root.content = content_of(2);
        mode.mode = 0600;
        high_mode.mode = 010000;
        huge.size = UINT64_MAX;
        /* 0 "", 1 a, 2 b, 3 empty, 4 f, 5 l, 6 a/sub, 7 a/x, 8 a/sub/y, 9 a/sub/z, 10 b/w */
        const struct {
                enum harm harm;
                size_t at;
                struct entry entry;
                int error;
        } table[] = {
                { REPLACE, 0, other_root, -EBADMSG },
                { REPLACE, 0, unknown(ENTRY_DIRECTORY, ""), -EBADMSG },
                { REPLACE, 0, file("", 1), -EINVAL },
                { OMIT, 0, nothing, -ENOENT },
                { ADD, 1, folder(""), -EBADMSG },
                { REPLACE, 1, no_digest, -EBADMSG },
                { REPLACE, 2, other_digest, -EBADMSG },
                { REPLACE, 4, file("f", 6), -EBADMSG },
                { REPLACE, 5, link_to("l", "g"), -EBADMSG },
                { REPLACE, 7, mode, -EBADMSG },
                { REPLACE, 7, high_mode, -EINVAL },
                { REPLACE, 7, huge, -EFBIG },
                { REPLACE, 7, file("a/../x", 3), -EINVAL },
                { REPLACE, 7, file("a/x\n", 3), -EBADMSG },
                { REPLACE, 7, unknown(ENTRY_FILE, "a/x"), -EBADMSG },
                { REPLACE, 7, gone("a/x"), -EBADMSG },
                { REPLACE, 7, link_to("a/x", ""), -EINVAL },
                { OMIT, 4, nothing, -EBADMSG },
                { OMIT, 7, nothing, -EBADMSG },
                { OMIT, 9, nothing, -EBADMSG },
                { OMIT, 10, nothing, -EBADMSG },
                { ADD, 6, file("zz", 1), -EBADMSG },
                { ADD, 8, file("a/y", 1), -EBADMSG },
                { ADD, 11, file("b/x", 1), -EBADMSG },
                { ADD, 11, file("empty/x", 1), -EBADMSG },
                { ADD, 11, file("f/x", 1), -ENOTDIR },
                { ADD, 11, file("none/x", 1), -ENOENT },
                { ADD, 8, file("a/x", 3), -EBADMSG },     /* twice */
                { ADD, 6, file("a/sub/y", 1), -EBADMSG }, /* before its folder is proved */
                { ADD, 1, file("a/x", 1), -EBADMSG },
                { SWAP, 4, nothing, -EBADMSG },
                { SWAP, 6, nothing, -EBADMSG },
                { SWAP, 8, nothing, -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                _cleanup_free_ struct snapshot *s = small_snapshot(), *good = small_snapshot();
                struct catalog_load *load = begin_load(f->catalog, s);
                size_t at = table[i].at;
                int r = 0;
                switch (table[i].harm) {
                case REPLACE:
                        s->entries[at] = table[i].entry;
                        break;
                case OMIT:
                        memmove(&s->entries[at], &s->entries[at + 1],
                                (s->n - at - 1) * sizeof(s->entries[0]));
                        s->n--;
                        break;
                case ADD:
                        memmove(&s->entries[at + 1], &s->entries[at], (s->n - at) * sizeof(s->entries[0]));
                        s->entries[at] = table[i].entry;
                        s->n++;
                        break;
                case SWAP: {
                        struct entry e = s->entries[at];
                        s->entries[at] = s->entries[at + 1];
                        s->entries[at + 1] = e;
                }
                }
                for (size_t j = 0; r == 0 && j < s->n; j++)
                        r = catalog_load_put(load, &s->entries[j]);
                if (r < 0) {
                        assert_int_equal(r, table[i].error);
                        assert_int_equal(catalog_load_put(load, &good->entries[1]), r);
                        assert_int_equal(catalog_load_save(load, 9), r);
                }
                assert_int_equal(catalog_load_finish(load), table[i].error);
                assert_false(version_of(f->catalog).valid);
                reopen(f); /* no damage was noted */
                load = begin_load(f->catalog, good);
                put_range(load, good, 0, good->n);
                assert_int_equal(catalog_load_finish(load), 0);
                assert_loaded(f->catalog, good);
                tear_down(state);
                set_up(state);
                f = *state;
        }
}

/* A child of a folder that the master could not read is one that nobody proves. */
static void test_below_unknown(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = SNAPSHOT(unknown(ENTRY_DIRECTORY, "d"), file("f", 1));
        struct catalog_load *load = begin_load(f->catalog, s);
        struct entry below = file("d/x", 1);

        put_range(load, s, 0, s->n);
        assert_int_equal(catalog_load_put(load, &below), -EBADMSG);
        catalog_load_free(load);
        load = begin_load(f->catalog, s);
        put_range(load, s, 0, s->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_lists(f->catalog, ino_of(f->catalog, "d"), 0, "");
        assert_loaded(f->catalog, s);
}

/* What was saved before an error stays, and is what the next load begins with. */
static void test_error_keeps_what_was_saved(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        struct catalog_load *load = begin_load(f->catalog, s);
        struct catalog_load_target target;
        struct entry wrong = file("a/sub/y", 9);

        put_range(load, s, 0, 8);
        assert_int_equal(catalog_load_save(load, 8), 0);
        assert_int_equal(catalog_load_put(load, &wrong), 0);
        assert_int_equal(catalog_load_put(load, &s->entries[9]), 0);
        assert_int_equal(catalog_load_put(load, &s->entries[10]), -EBADMSG);
        /* Which says nothing about a folder that somebody asks for: it has to be asked for again. */
        assert_int_equal(catalog_load_folder(f->catalog, ino_of(f->catalog, "a"), NULL, 0), -EAGAIN);
        catalog_load_free(load);
        assert_true(catalog_get_load(f->catalog, &target));
        assert_int_equal(target.offset, 8);
        target.offset = 7;
        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), -EINVAL);
        target.digest[0] ^= 1;
        target.offset = 8;
        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), -EINVAL);
        target.digest[0] ^= 1;
        assert_lists(f->catalog, 1, 0, "a,b,empty,f,l,");
        assert_pending(f->catalog, "a");
        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), 0);
        put_range(load, s, 8, s->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_loaded(f->catalog, s);
}

/* ---- going on ---- */

/* Ended after each number of entries, saved at each number before that, reopened or not, from the offset or from the root. */
static void test_go_on_anywhere(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();

        for (size_t end = 0; end <= s->n; end++)
                for (size_t save = 1; save <= end; save++)
                        for (int how = 0; how < 4; how++) {
                                struct catalog_load *load = begin_load(f->catalog, s);
                                struct catalog_load_target target;
                                put_range(load, s, 0, save);
                                assert_int_equal(catalog_load_save(load, save), 0);
                                put_range(load, s, save, end);
                                catalog_load_free(load);
                                if (how & 1)
                                        reopen(f);
                                assert_true(catalog_get_load(f->catalog, &target));
                                assert_int_equal(target.offset, save);
                                if (how & 2)
                                        target.offset = 0;
                                assert_int_equal(catalog_load_begin(f->catalog, &target, &load), 0);
                                put_range(load, s, target.offset, s->n);
                                assert_int_equal(catalog_load_finish(load), 0);
                                assert_loaded(f->catalog, s);
                                tear_down(state);
                                set_up(state);
                                f = *state;
                        }
}

/* Loads S into the catalog in DIR, from where it was left, and counts its steps for whoever is to kill it. */
static _Noreturn void load_until_killed(const char *dir, const struct snapshot *s, _Atomic size_t *steps)
{
        struct catalog *catalog;
        struct catalog_load *load;
        struct catalog_load_target target = s->target;

        assert_int_equal(catalog_open(dir, SOURCE, &catalog), 0);
        catalog_get_load(catalog, &target);
        assert_int_equal(catalog_load_begin(catalog, &target, &load), 0);
        for (size_t i = target.offset; i < s->n; i++) {
                put_range(load, s, i, i + 1);
                if (i % 37 == 0)
                        assert_int_equal(catalog_load_save(load, i + 1), 0);
                atomic_fetch_add(steps, 1);
        }
        assert_int_equal(catalog_load_finish(load), 0);
        atomic_store(steps, SIZE_MAX);
        for (;;)
                pause();
}

/* Killed after 0 to 240 steps, while it goes on. */
static void test_killed_anywhere(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = random_snapshot(5, 2500);
        _Atomic size_t *steps =
                mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        bool complete = false;

        assert_true(steps != MAP_FAILED);
        catalog_free(TAKE_PTR(f->catalog));
        for (size_t round = 0; round < 200 && !complete; round++) {
                pid_t pid = fork();
                if (pid == 0)
                        load_until_killed(f->dir, s, steps);
                while (atomic_load(steps) < round * 61 % 241) {
                        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                        usleep(100);
                }
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                atomic_store(steps, 0);
                assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
                complete = version_of(f->catalog).valid && !version_of(f->catalog).loading;
                if (complete)
                        assert_loaded(f->catalog, s);
                catalog_free(TAKE_PTR(f->catalog));
        }
        munmap((void *)steps, sizeof(*steps));
        assert_true(complete);
}

static void test_another_version(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot(), *other = SNAPSHOT(folder("a"), file("a/n", 1));
        struct catalog_load *load = begin_load(f->catalog, s);
        struct catalog_load_target target;
        uint64_t ino;

        put_range(load, s, 0, 9);
        assert_int_equal(catalog_load_save(load, 9), 0);
        ino = ino_of(f->catalog, "a/x");
        catalog_load_free(load);
        load = begin_load(f->catalog, other);
        assert_true(catalog_get_load(f->catalog, &target));
        assert_memory_equal(target.digest, other->target.digest, HASH_BYTES);
        assert_int_equal(target.offset, 0);
        assert_false(version_of(f->catalog).valid);
        put_range(load, other, 0, other->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_loaded(f->catalog, other);
        assert_true(ino_of(f->catalog, "a/n") > ino); /* C2 */
}

/* ---- a folder out of turn ---- */

/* The children of the folder at AT: RET_FIRST and the number of them. */
static size_t children_of(const struct snapshot *s, size_t at, size_t *ret_first)
{
        size_t first = at + 1, n = 0;

        while (first < s->n && !is_child(&s->entries[at], &s->entries[first]))
                first++;
        while (first + n < s->n && is_child(&s->entries[at], &s->entries[first + n]))
                n++;
        *ret_first = first;
        return n;
}

static int load_folder_at(struct catalog *catalog, const struct snapshot *s, size_t at)
{
        const struct entry *e = &s->entries[at];
        struct catalog_entry found;
        size_t first, n = children_of(s, at, &first);

        assert_int_equal(catalog_find_path(catalog, e->path, e->path_len, &found), CATALOG_OK);
        return catalog_load_folder(catalog, found.ino, &s->entries[first], n);
}

static void test_folder_out_of_turn(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        struct catalog_load *load;
        struct entry wrong = file("b/w", 9), root = folder("");
        uint64_t b;

        assert_int_equal(catalog_load_folder(f->catalog, 1, NULL, 0), -EAGAIN);
        load = begin_load(f->catalog, s);
        assert_int_equal(catalog_load_folder(f->catalog, 1, NULL, 0), -ENOENT);
        put_range(load, s, 0, 7); /* in the middle of "a" */
        assert_int_equal(catalog_load_save(load, 7), 0);
        b = ino_of(f->catalog, "b");
        assert_int_equal(catalog_load_folder(f->catalog, b, &wrong, 1), -EBADMSG);
        assert_int_equal(catalog_load_folder(f->catalog, b, &root, 1), -EBADMSG);
        assert_int_equal(catalog_load_folder(f->catalog, b, NULL, 0), -EBADMSG);
        assert_int_equal(catalog_load_folder(f->catalog, ino_of(f->catalog, "f"), NULL, 0), -ENOENT);
        assert_int_equal(catalog_load_folder(f->catalog, ino_of(f->catalog, "empty"), NULL, 0), -ENOENT);
        assert_int_equal(catalog_load_folder(f->catalog, 12345, NULL, 0), -ENOENT);
        assert_pending(f->catalog, "b");
        assert_int_equal(load_folder_at(f->catalog, s, 2), 0); /* b */
        assert_lists(f->catalog, b, 0, "w,");
        assert_int_equal(load_folder_at(f->catalog, s, 2), -ENOENT); /* it is here now */
        assert_int_equal(load_folder_at(f->catalog, s, 1), 0);       /* a, of which one entry came */
        assert_lists(f->catalog, ino_of(f->catalog, "a"), 0, "sub,x,");
        assert_int_equal(load_folder_at(f->catalog, s, 6), 0); /* a/sub, below it */
        put_range(load, s, 7, s->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_loaded(f->catalog, s);
}

/* Folders asked for at random points of a load that ends at random points, by kill or not. */
static void test_random_turns(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = random_snapshot(11, 400);
        uint64_t seed = 3;

        for (int round = 0; round < 60; round++) {
                struct catalog_load_target target = s->target;
                bool done = false;
                while (!done) {
                        struct catalog_load *load;
                        catalog_get_load(f->catalog, &target);
                        if (random_below(&seed, 4) == 0)
                                target.offset = 0;
                        assert_int_equal(catalog_load_begin(f->catalog, &target, &load), 0);
                        for (size_t i = target.offset; i < s->n && !done; i++) {
                                struct catalog_entry e;
                                size_t at = random_below(&seed, s->n);
                                put_range(load, s, i, i + 1);
                                if (random_below(&seed, 10) == 0)
                                        assert_int_equal(catalog_load_save(load, i + 1), 0);
                                if (random_below(&seed, 15) == 0 &&
                                    catalog_find_path(f->catalog, s->entries[at].path,
                                                      s->entries[at].path_len, &e) == CATALOG_OK &&
                                    e.pending)
                                        assert_int_equal(load_folder_at(f->catalog, s, at), 0);
                                done = random_below(&seed, 150) == 0;
                        }
                        if (done) {
                                catalog_load_free(load);
                                if (random_below(&seed, 2))
                                        reopen(f);
                                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
                                done = false;
                        } else {
                                assert_int_equal(catalog_load_finish(load), 0);
                                done = true;
                        }
                }
                assert_loaded(f->catalog, s);
                tear_down(state);
                set_up(state);
                f = *state;
        }
}

struct together {
        struct catalog *catalog;
        const struct snapshot *s;
        atomic_bool stop;
        atomic_ulong folders, lists;
};

static int count_entry(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        ++*(size_t *)arg;
        return 0;
}

/* A folder is shown whole or not at all. */
static void *read_folders(void *arg)
{
        struct together *t = arg;
        uint64_t seed = (uint64_t)(uintptr_t)&seed;

        while (!atomic_load(&t->stop)) {
                size_t at = random_below(&seed, t->s->n), first, shown = 0, n = 0;
                const struct entry *e = &t->s->entries[at];
                struct catalog_entry found;
                if (e->kind != ENTRY_DIRECTORY ||
                    catalog_find_path(t->catalog, e->path, e->path_len, &found) != CATALOG_OK)
                        continue;
                int r = catalog_list(t->catalog, found.ino, 0, count_entry, &shown);
                n = children_of(t->s, at, &first);
                for (size_t i = first; i < first + n; i++)
                        shown += t->s->entries[i].unknown && (t->s->entries[i].kind == ENTRY_UNKNOWN ||
                                                              t->s->entries[i].kind == ENTRY_SYMLINK);
                if (r == CATALOG_OK)
                        assert_int_equal(shown, n);
                else
                        assert_int_equal(r, CATALOG_PENDING);
                atomic_fetch_add(&t->lists, r == CATALOG_OK);
        }
        return NULL;
}

static void *ask_for_folders(void *arg)
{
        struct together *t = arg;
        uint64_t seed = 99;

        while (!atomic_load(&t->stop)) {
                size_t at = random_below(&seed, t->s->n);
                const struct entry *e = &t->s->entries[at];
                struct catalog_entry found;
                if (catalog_find_path(t->catalog, e->path, e->path_len, &found) != CATALOG_OK ||
                    !found.pending)
                        continue;
                int r = load_folder_at(t->catalog, t->s, at);
                assert_true(r == 0 || r == -ENOENT || r == -EAGAIN);
                atomic_fetch_add(&t->folders, r == 0);
        }
        return NULL;
}

static void test_all_at_once(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = random_snapshot(17, 3000);
        struct together t = { .catalog = f->catalog, .s = s };
        struct catalog_load *load = begin_load(f->catalog, s);
        pthread_t threads[4];

        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                assert_int_equal(
                        pthread_create(&threads[i], NULL, i < 2 ? ask_for_folders : read_folders, &t), 0);
        for (size_t i = 0; i < s->n; i++) {
                put_range(load, s, i, i + 1);
                if (i % 50 == 0)
                        assert_int_equal(catalog_load_save(load, i + 1), 0);
                usleep(100);
        }
        assert_int_equal(catalog_load_finish(load), 0);
        atomic_store(&t.stop, true);
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                pthread_join(threads[i], NULL);
        assert_true(atomic_load(&t.folders) > 0);
        assert_true(atomic_load(&t.lists) > 0);
        assert_loaded(f->catalog, s);
}

/* ---- giving up ---- */

/* The master has moved on: a full listing of another version over the beginning of one. */
static void test_full_listing_instead(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();

        for (size_t end = 0; end <= s->n; end++) {
                struct catalog_load *load = begin_load(f->catalog, s);
                struct catalog_changes changes;
                struct catalog_update *update;
                struct catalog_load_target target;
                struct catalog_entry e;
                struct entry root = folder("");
                uint64_t a = 0, sub = 0;
                put_range(load, s, 0, end);
                assert_int_equal(catalog_load_save(load, end), 0);
                catalog_load_free(load);
                if (find(f->catalog, "a", &e) == CATALOG_OK)
                        a = e.ino;
                if (find(f->catalog, "a/sub", &e) == CATALOG_OK)
                        sub = e.ino;
                /* A difference to what never was a version is none, nor is a listing that breaks off. */
                update = begin(f->catalog);
                if (end > 0)
                        put(update, root);
                assert_int_equal(catalog_update_commit(update, NULL, 1, &changes), -EINVAL);
                update = begin(f->catalog);
                put(update, whole(""));
                catalog_update_abort(update);
                assert_true(catalog_get_load(f->catalog, &target));
                assert_int_equal(target.offset, end);
                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);

                VERSION(f->catalog, &changes, folder("a"), folder("a/sub"), file("a/sub/y", 1),
                        file("a/sub/z", 22), unknown(ENTRY_DIRECTORY, "b"), folder("empty"),
                        file("empty/new", 1));
                assert_true(version_of(f->catalog).valid);
                assert_false(version_of(f->catalog).loading);
                assert_false(catalog_get_load(f->catalog, &target));
                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
                assert_lists(f->catalog, 1, 0, "a,b,empty,");
                assert_lists(f->catalog, ino_of(f->catalog, "a/sub"), 0, "y,z,");
                /* What could be seen has its number still; what could not is no news. */
                if (a > 0)
                        assert_int_equal(ino_of(f->catalog, "a"), a);
                if (sub > 0)
                        assert_int_equal(ino_of(f->catalog, "a/sub"), sub);
                if (a > 0 && sub == 0)
                        assert_false(has_change(&changes, CHANGE_LISTING, a));
                if (a > 0)
                        assert_true(has_change(&changes, CHANGE_LISTING, ino_of(f->catalog, "empty")));
                else
                        assert_int_equal(changes.count, 0);
                catalog_changes_release(&changes);
                /* Differences go on from here, and an unknown folder is not pending. */
                assert_int_equal(find(f->catalog, "b/none", &e), CATALOG_NONE);
                DIFFERENCE(f->catalog, NULL, whole("b"), file("b/w", 4));
                assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
                tear_down(state);
                set_up(state);
                f = *state;
        }
}

/* What no load could have written about itself is an error, or a listing in full; never a wrong tree. */
static void test_senseless_state(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        const char *const sql[] = {
                "UPDATE version SET load_rows = 99",
                "UPDATE version SET load_folder = 12345",
                "UPDATE version SET load_folder = 6",
                "UPDATE version SET load_pending = 7",
                "UPDATE version SET load_pending = 0",
                "UPDATE version SET load_open = 1, load_folder = 1",
                "UPDATE version SET loading = 0",
                "UPDATE entry SET flags = 2",
                "UPDATE entry SET flags = 0",
                "DELETE FROM entry WHERE ino = 2",
                "UPDATE entry SET parent = 2 WHERE ino = 2",
                "UPDATE entry SET kind = 1 WHERE ino = 2",
                "DELETE FROM entry",
        };

        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
                struct catalog_load *load = begin_load(f->catalog, s);
                struct catalog_load_target target = s->target;
                int r;
                put_range(load, s, 0, 9);
                assert_int_equal(catalog_load_save(load, 9), 0);
                catalog_load_free(load);
                catalog_free(TAKE_PTR(f->catalog));
                set_pragma(f, sql[i]);
                assert_int_equal(catalog_open(f->dir, SOURCE, &f->catalog), 0);
                catalog_get_load(f->catalog, &target);
                r = catalog_load_begin(f->catalog, &target, &load);
                if (r == 0) {
                        for (size_t j = target.offset; r == 0 && j < s->n; j++)
                                r = catalog_load_put(load, &s->entries[j]);
                        if (r == 0) {
                                r = catalog_load_finish(load);
                        } else {
                                catalog_load_free(load);
                        }
                }
                if (r == 0)
                        assert_int_equal(catalog_check_digest(f->catalog), CATALOG_OK);
                else
                        assert_true(r == -EBADMSG || r == -EIO || r == -EEXIST || r == -ENOENT ||
                                    r == -ENOTDIR);
                tear_down(state);
                set_up(state);
                f = *state;
        }
}

/* C6: only a whole version is worth a copy. */
static void test_not_copied(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct snapshot *s = small_snapshot();
        struct catalog_load *load = begin_load(f->catalog, s);
        struct catalog *second;

        put_range(load, s, 0, 9);
        assert_int_equal(catalog_load_save(load, 9), 0);
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        assert_false(version_of(second).valid);
        assert_false(version_of(second).loading);
        catalog_free(second);
        put_range(load, s, 9, s->n);
        assert_int_equal(catalog_load_finish(load), 0);
        assert_int_equal(catalog_open(f->dir, SOURCE, &second), 0);
        assert_true(is_there(second, "a/x"));
        catalog_free(second);
}

static int load_on_small_disk(struct fixture *f)
{
        _cleanup_free_ struct snapshot *s = NULL;
        struct catalog_load *load;
        struct catalog *catalog;
        int r = 0;

        if (unit_own_mounts() < 0 || mount("none", f->dir, "tmpfs", 0, "size=320k") < 0)
                return SKIPPED;
        s = random_snapshot(8, 3000);
        if (catalog_open(f->dir, SOURCE, &catalog) < 0 || catalog_load_begin(catalog, &s->target, &load) < 0)
                return 1;
        for (size_t i = 0; r == 0 && i < s->n; i++) {
                r = catalog_load_put(load, &s->entries[i]);
                if (r == 0 && i % 100 == 0)
                        r = catalog_load_save(load, i + 1);
        }
        if (r == 0)
                r = catalog_load_finish(load);
        else
                catalog_load_free(load);
        if (r != -ENOSPC || catalog_check_digest(catalog) != CATALOG_OK)
                return 2;
        if (mount("none", f->dir, NULL, MS_REMOUNT, "size=16m") < 0)
                return 3;
        struct catalog_load_target target = s->target;
        catalog_get_load(catalog, &target);
        if (catalog_load_begin(catalog, &target, &load) < 0)
                return 4;
        put_range(load, s, target.offset, s->n);
        if (catalog_load_finish(load) < 0)
                return 5;
        assert_loaded(catalog, s);
        return 0;
}

static void test_full_disk(void **state)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(load_on_small_disk(*state));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
                unit_skip("needs the right to mount a tmpfs");
        assert_int_equal(status, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_plain),
                TEST(test_shown_before_all_is_there),
                TEST(test_nothing_but_a_root),
                TEST(test_busy),
                TEST(test_refused),
                TEST(test_below_unknown),
                TEST(test_error_keeps_what_was_saved),
                TEST(test_go_on_anywhere),
                TEST(test_killed_anywhere),
                TEST(test_another_version),
                TEST(test_folder_out_of_turn),
                TEST(test_random_turns),
                TEST(test_all_at_once),
                TEST(test_full_listing_instead),
                TEST(test_senseless_state),
                TEST(test_not_copied),
                TEST(test_full_disk),
        };

        log_setup("test_catalog_load", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
