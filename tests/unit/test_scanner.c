#include "server/scanner.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/log.h"
#include "server/metrics.h"
#include "server/versions.h"
#include "tests/unit/unit.h"

struct fixture {
        char dir[64];
        int top; /* the folder that is scanned: dir/root/sp */
        struct workspace_root *root;
        struct index *index;
        struct pool *pool;
        struct versions *versions;
};

/* A place to wait for one answer. */
struct answer {
        struct versions_request request;
        struct mutex lock;
        struct condition come;
        bool done;
        int error;
        struct listing *listing;
};

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        char path[96];

        log_setup("test_scanner", LOG_LEVEL_ERROR);
        strcpy(f->dir, "/tmp/test_scanner.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(chmod(f->dir, 0755), 0);
        snprintf(path, sizeof(path), "%s/root", f->dir);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(workspace_root_open(path, &f->root), 0);
        strcat(path, "/sp");
        assert_int_equal(mkdir(path, 0755), 0);
        f->top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->top >= 0);
        snprintf(path, sizeof(path), "%s/index.db", f->dir);
        assert_int_equal(index_open(path, &f->index), 0);
        assert_int_equal(pool_new(4, &f->pool), 0);
        assert_int_equal(versions_new(&(struct versions_options){ f->root, f->pool, f->index }, &f->versions),
                         0);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;
        char command[128];

        pool_free(f->pool);
        versions_free(f->versions);
        index_close(f->index);
        workspace_root_free(f->root);
        close(f->top);
        snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

static void answer_set(struct answer *a, int error, struct listing *listing)
{
        mutex_lock(&a->lock);
        a->error = error;
        a->listing = listing;
        a->done = true;
        condition_signal(&a->come);
        mutex_unlock(&a->lock);
}

static void scan_done(void *arg, int error, struct listing *listing)
{
        answer_set(arg, error, listing);
}

static void version_done(struct versions_request *request, int error, struct listing *listing)
{
        answer_set((struct answer *)((char *)request - offsetof(struct answer, request)), error, listing);
}

static void answer_init(struct answer *a)
{
        *a = (struct answer){ .request.done = version_done };
        mutex_init(&a->lock);
        condition_init(&a->come);
}

static int answer_wait(struct answer *a, struct listing **ret)
{
        mutex_lock(&a->lock);
        while (!a->done)
                condition_wait(&a->come, &a->lock);
        mutex_unlock(&a->lock);
        mutex_release(&a->lock);
        condition_release(&a->come);
        *ret = a->listing;
        return a->error;
}

static struct listing *scan(struct fixture *f)
{
        const struct scanner scanner = { .pool = f->pool, .index = f->index };
        int fd = openat(f->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct listing *listing = NULL;
        struct answer a;

        answer_init(&a);
        assert_true(fd >= 0);
        assert_int_equal(scanner_start(&scanner, fd, "sp", scan_done, &a), 0);
        assert_int_equal(answer_wait(&a, &listing), 0);
        assert_non_null(listing);
        assert_int_equal(index_flush(f->index), 0);
        return listing;
}

static int get(struct fixture *f, const char *spider, const char *path, int64_t max_age_ms,
               struct listing **ret)
{
        struct answer a;

        answer_init(&a);
        assert_int_equal(versions_get(f->versions, spider, path, max_age_ms, &a.request), 0);
        return answer_wait(&a, ret);
}

static void write_file(struct fixture *f, const char *path, const char *text)
{
        int fd = openat(f->top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

/* Long enough for the files' times to be certain (invariant 1 of the index). */
static void let_age(void)
{
        usleep(60 * 1000);
}

static const struct listing_node *find(const struct listing *listing, const char *name)
{
        const struct listing_folder *folder = listing->root.folder;

        for (uint32_t i = 0; folder && i < folder->count; i++)
                if (strcmp(folder->nodes[i].name, name) == 0)
                        return &folder->nodes[i];
        return NULL;
}

static void test_empty(void **state)
{
        struct fixture *f = *state;
        struct listing *listing = scan(f);
        uint8_t digest[HASH_BYTES], folder[HASH_BYTES];
        struct stat st;

        assert_int_equal(fstat(f->top, &st), 0);
        hash_xxh3("", 0, folder);
        entry_root_digest(st.st_mode & 07777, st.st_mtim.tv_sec * NSEC_PER_SEC + st.st_mtim.tv_nsec, folder,
                          digest);
        assert_memory_equal(listing->root_digest, digest, HASH_BYTES);
        assert_int_equal(listing->entries, 1);
        listing_unref(listing);
}

static void test_kinds(void **state)
{
        struct fixture *f = *state;
        struct listing *listing;
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
        assert_int_equal(mkdirat(f->top, "dir", 01777), 0);
        write_file(f, "dir/inner", "hello");
        listing = scan(f);
        assert_int_equal(listing->entries, 8);
        assert_int_equal(listing->files, 5);
        assert_int_equal(listing->folders, 1);
        assert_int_equal(listing->symlinks, 1);
        assert_int_equal(listing->specials, 1);
        assert_int_equal(listing->unknown, 0);
        assert_int_equal(listing->bytes, 16);
        hash_xxh3("hello", 5, hash);
        assert_memory_equal(find(listing, "b")->digest, hash, HASH_BYTES);
        assert_memory_equal(find(listing, "hard")->digest, hash, HASH_BYTES);
        assert_int_equal(find(listing, "b")->mode, 04751);
        assert_int_equal(find(listing, "b")->mtime_ns, -1500000000);
        assert_string_equal(find(listing, "link")->target, "b");
        assert_int_equal(find(listing, "link")->size, 1);
        assert_non_null(find(listing, "\xff\xfe"));
        assert_null(find(listing, "fifo"));
        assert_int_equal(find(listing, "dir")->folder->count, 1);
        listing_unref(listing);
}

/* Every change that a worker could see is another version; a file's times alone not being one of them is a bug. */
static void test_changes(void **state)
{
        struct fixture *f = *state;
        struct timespec times[2] = { { .tv_sec = 5 }, { .tv_sec = 5 } };
        struct listing *before, *after;

        assert_int_equal(mkdirat(f->top, "d", 0755), 0);
        write_file(f, "d/file", "one");
        before = scan(f);
        for (int i = 0; i < 6; i++) {
                if (i == 1)
                        assert_int_equal(fchmodat(f->top, "d/file", 0600, 0), 0);
                if (i == 2)
                        assert_int_equal(utimensat(f->top, "d/file", times, 0), 0);
                if (i == 3)
                        assert_int_equal(renameat(f->top, "d/file", f->top, "d/name"), 0);
                if (i == 4)
                        assert_int_equal(fchmodat(f->top, "d", 0700, 0), 0);
                if (i == 5)
                        assert_int_equal(fchmod(f->top, 0711), 0);
                after = scan(f);
                assert_int_equal(memcmp(before->root_digest, after->root_digest, HASH_BYTES) == 0, i == 0);
                listing_unref(before);
                before = after;
        }
        listing_unref(before);
}

static void test_hashed_once(void **state)
{
        struct fixture *f = *state;
        uint64_t hashed;

        write_file(f, "a", "1");
        write_file(f, "b", "2");
        let_age();
        hashed = metrics_get(METRIC_FILES_HASHED);
        listing_unref(scan(f));
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed + 2);
        listing_unref(scan(f));
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed + 2);
        assert_int_equal(fchmodat(f->top, "a", 0600, 0), 0); /* a new ctime: looked at again */
        let_age();
        listing_unref(scan(f));
        assert_int_equal(metrics_get(METRIC_FILES_HASHED), hashed + 3);
}

/* A write of the same size, in the same tick, with the mtime put back: only distrust of young times can show it. */
static void test_racy_write(void **state)
{
        struct fixture *f = *state;
        struct timespec times[2] = { { .tv_sec = 7, .tv_nsec = 7 }, { .tv_sec = 7, .tv_nsec = 7 } };
        char text[] = "a";

        for (unsigned i = 0; i < 100; i++) {
                struct listing *listing;
                uint8_t hash[HASH_BYTES];

                text[0] = (char)('a' + i % 26);
                write_file(f, "file", text);
                assert_int_equal(utimensat(f->top, "file", times, 0), 0);
                listing = scan(f);
                hash_xxh3(text, 1, hash);
                assert_memory_equal(find(listing, "file")->digest, hash, HASH_BYTES);
                listing_unref(listing);
        }
}

/* A hash taken of a file that young is used, but not trusted the next time. */
static void test_young_is_hashed_again(void **state)
{
        struct fixture *f = *state;
        bool again = false;

        for (unsigned i = 0; !again && i < 100;
             i++) { /* on a busy machine a file can be old before it is read */
                uint64_t hashed;
                write_file(f, "file", i % 2 ? "a" : "b");
                listing_unref(scan(f));
                hashed = metrics_get(METRIC_FILES_HASHED);
                listing_unref(scan(f));
                again = metrics_get(METRIC_FILES_HASHED) > hashed;
        }
        assert_true(again);
}

static void test_order(void **state)
{
        struct fixture *f = *state;
        struct listing_cursor cursor;
        const struct listing_node *node;
        char last[PATH_BYTES_MAX + 1] = "", name[32];
        struct listing *listing;
        uint64_t n = 0;

        assert_int_equal(mkdirat(f->top, "a", 0755), 0);
        assert_int_equal(mkdirat(f->top, "a/a", 0755), 0);
        write_file(f, "a-b", "");
        write_file(f, "a/x", "");
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "a/a/f%u", i * 7919 % 1000);
                write_file(f, name, name);
        }
        listing = scan(f);
        listing_cursor_init(&cursor, listing);
        for (;;) {
                assert_int_equal(listing_cursor_next(&cursor, &node), 0);
                if (!node)
                        break;
                if (n++ > 0)
                        assert_true(path_compare(last, strlen(last), cursor.path, cursor.path_len) < 0);
                strcpy(last, cursor.path);
        }
        assert_int_equal(n, listing->entries);
        assert_int_equal(n, 1005);
        listing_cursor_release(&cursor);
        listing_unref(listing);
}

/* One level deeper than a path can name is left out and counted; everything above is there. */
static void test_deep(void **state)
{
        struct fixture *f = *state;
        struct listing *listing;
        int fd = dup(f->top);

        for (unsigned i = 0; i < 2049; i++) {
                int next;
                assert_int_equal(mkdirat(fd, "d", 0755), 0);
                next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        close(fd);
        listing = scan(f);
        assert_int_equal(listing->folders, 2048);
        assert_int_equal(listing->too_long, 1);
        listing_unref(listing);
}

static struct listing *scan_as_nobody(struct fixture *f)
{
        struct listing *listing;
        uid_t me = geteuid();

        if (me == 0)
                assert_int_equal(seteuid(65534), 0);
        listing = scan(f);
        if (me == 0)
                assert_int_equal(seteuid(me), 0);
        return listing;
}

static void test_unreadable(void **state)
{
        struct fixture *f = *state;
        struct listing *listing, *again;

        write_file(f, "closed", "secret");
        write_file(f, "open", "text");
        assert_int_equal(fchmodat(f->top, "closed", 0, 0), 0);
        assert_int_equal(mkdirat(f->top, "dir", 0), 0);
        listing = scan_as_nobody(f);
        assert_int_equal(listing->unknown, 2);
        assert_true(find(listing, "closed")->unknown);
        assert_true(find(listing, "dir")->unknown);
        assert_int_equal(find(listing, "dir")->kind, ENTRY_DIRECTORY);
        assert_false(find(listing, "open")->unknown);
        /* Of an unknown entry the digest covers the name alone. */
        assert_int_equal(fchmodat(f->top, "closed", 0200, 0), 0);
        again = scan_as_nobody(f);
        assert_memory_equal(again->root_digest, listing->root_digest, HASH_BYTES);
        listing_unref(again);
        assert_int_equal(fchmodat(f->top, "closed", 0644, 0), 0);
        assert_int_equal(fchmodat(f->top, "dir", 0755, 0), 0);
        again = scan_as_nobody(f);
        assert_int_equal(again->unknown, 0);
        assert_memory_not_equal(again->root_digest, listing->root_digest, HASH_BYTES);
        listing_unref(again);
        listing_unref(listing);
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

static void test_churn(void **state)
{
        struct fixture *f = *state;
        pthread_t thread;

        write_file(f, "stays", "here");
        atomic_store(&churning, true);
        assert_int_equal(pthread_create(&thread, NULL, churn, f), 0);
        for (unsigned i = 0; i < 200; i++) {
                struct listing *listing = scan(f);
                assert_non_null(find(listing, "stays"));
                assert_int_equal(listing->unknown, 0);
                listing_unref(listing);
        }
        atomic_store(&churning, false);
        pthread_join(thread, NULL);
}

static void test_one_scan_for_all(void **state)
{
        struct fixture *f = *state;
        uint64_t scans = metrics_get(METRIC_SCANS), passes = metrics_get(METRIC_STAT_PASSES);
        struct listing *first = NULL;
        struct answer answers[50];

        write_file(f, "a", "1");
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                answer_init(&answers[i]);
                assert_int_equal(versions_get(f->versions, "sp", "", 0, &answers[i].request), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct listing *listing = NULL;
                assert_int_equal(answer_wait(&answers[i], &listing), 0);
                if (!first)
                        first = listing_ref(listing);
                assert_ptr_equal(listing, first);
                listing_unref(listing);
        }
        listing_unref(first);
        assert_int_equal(metrics_get(METRIC_SCANS), scans + 1);
        assert_true(metrics_get(METRIC_STAT_PASSES) <= passes + ARRAY_SIZE(answers));
}

/* A job that holds its thread until it is let go. */
struct gate {
        struct pool_job job;
        struct mutex lock;
        struct condition change;
        bool reached, open;
};

static void gate_run(struct pool_job *job)
{
        struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, job));

        mutex_lock(&gate->lock);
        gate->reached = true;
        condition_broadcast(&gate->change);
        while (!gate->open)
                condition_wait(&gate->change, &gate->lock);
        mutex_unlock(&gate->lock);
}

static void gate_submit(struct gate *gate, struct pool *pool)
{
        *gate = (struct gate){ .job.run = gate_run };
        mutex_init(&gate->lock);
        condition_init(&gate->change);
        pool_submit(pool, &gate->job);
}

static void gate_wait_reached(struct gate *gate)
{
        mutex_lock(&gate->lock);
        while (!gate->reached)
                condition_wait(&gate->change, &gate->lock);
        mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
        mutex_lock(&gate->lock);
        gate->open = true;
        condition_broadcast(&gate->change);
        mutex_unlock(&gate->lock);
}

/* Who asks before a pass begins to read shares it; who asks later gets one of their own, all together. */
static void test_fresh(void **state)
{
        struct fixture *f = *state;
        struct listing *listing;
        struct answer answers[4];
        struct gate before, during;
        uint64_t passes = metrics_get(METRIC_STAT_PASSES);

        pool_free(f->pool);
        versions_free(f->versions);
        assert_int_equal(pool_new(1, &f->pool), 0); /* one thread: the order of its jobs is certain */
        assert_int_equal(versions_new(&(struct versions_options){ f->root, f->pool, f->index }, &f->versions),
                         0);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
                answer_init(&answers[i]);
        gate_submit(&before, f->pool);
        gate_wait_reached(&before);
        assert_int_equal(versions_get(f->versions, "sp", "", 0, &answers[0].request), 0);
        assert_int_equal(versions_get(f->versions, "sp", "", 0, &answers[1].request), 0);
        gate_submit(&during, f->pool); /* runs once the pass has begun, before it walks */
        gate_open(&before);
        gate_wait_reached(&during);
        assert_int_equal(versions_get(f->versions, "sp", "", 0, &answers[2].request), 0);
        assert_int_equal(versions_get(f->versions, "sp", "", 0, &answers[3].request), 0);
        gate_open(&during);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                assert_int_equal(answer_wait(&answers[i], &listing), 0);
                listing_unref(listing);
        }
        assert_int_equal(metrics_get(METRIC_STAT_PASSES), passes + 2);
}

static void test_versions(void **state)
{
        struct fixture *f = *state;
        struct listing *a = NULL, *b = NULL, *c = NULL, *d = NULL;
        uint64_t passes;

        write_file(f, "a", "1");
        assert_int_equal(get(f, "sp", "", 0, &a), 0);
        passes = metrics_get(METRIC_STAT_PASSES);
        write_file(f, "a", "2");
        assert_int_equal(get(f, "sp", "", 60000, &b), 0); /* an old one will do */
        assert_ptr_equal(a, b);
        assert_int_equal(metrics_get(METRIC_STAT_PASSES), passes);
        assert_int_equal(get(f, "sp", "", 0, &c), 0);
        assert_int_equal(c->revision, a->revision + 1);
        versions_expire(f->versions, -1000); /* forgotten by memory, not by the index */
        assert_int_equal(get(f, "sp", "", 0, &d), 0);
        assert_int_equal(d->revision, c->revision);
        listing_unref(a);
        listing_unref(b);
        listing_unref(c);
        listing_unref(d);
}

static void test_no_such_folder(void **state)
{
        struct fixture *f = *state;
        struct listing *listing = NULL;

        assert_int_equal(get(f, "none", "", 0, &listing), -ENOENT);
        assert_int_equal(get(f, "sp", "none", 0, &listing), -ENOENT);
        assert_null(listing);
        write_file(f, "file", "");
        assert_int_equal(get(f, "sp", "file", 0, &listing), -ENOTDIR);
}

static void test_cancel(void **state)
{
        struct fixture *f = *state;
        struct listing *listing = NULL;

        write_file(f, "file", "");
        pool_cancel(f->pool);
        assert_int_equal(get(f, "sp", "", 0, &listing), -ECANCELED);
        assert_null(listing);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_empty),      TEST(test_kinds),
        TEST(test_changes),    TEST(test_hashed_once),
        TEST(test_racy_write), TEST(test_order),
        TEST(test_deep),       TEST(test_unreadable),
        TEST(test_churn),      TEST(test_one_scan_for_all),
        TEST(test_versions),   TEST(test_no_such_folder),
        TEST(test_cancel),     TEST(test_young_is_hashed_again),
        TEST(test_fresh),
};

UNIT_MAIN(tests)
