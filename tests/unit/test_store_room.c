#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "base/clock.h"
#include "cache/store_private.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/mounts.h"

#define BLOB ((size_t)16 << 10) /* a test's usual content */

/* ---- contents by number ---- */

static void fill(char *data, size_t len, unsigned number)
{
        for (size_t i = 0; i < len; i++)
                data[i] = (char)((i * 31 + number * 7919 + i / 253) & 0xff);
        memcpy(data, &number, MIN(len, sizeof(number)));
}

static struct content_id id_of_number(unsigned number, size_t len)
{
        _cleanup_free_ char *data = malloc(len);

        fill(data, len, number);
        return id_of(HASH_XXH3, data, len);
}

static int put_number(struct store *store, unsigned number, size_t len)
{
        _cleanup_free_ char *data = malloc(len);
        struct store_writer *writer;
        struct content_id id;
        int r;

        fill(data, len, number);
        id = id_of(HASH_XXH3, data, len);
        r = store_write_begin(store, &id, len, &writer);
        if (r != STORE_OK)
                return r;
        (void)store_write(writer, data, len); /* commit says it */
        return store_write_commit(writer);
}

static bool has(struct store *store, unsigned number)
{
        struct content_id id = id_of_number(number, BLOB);

        return store_has(store, &id);
}

/* As if it had been used so long ago: evictions need not wait for what is young. */
static void set_used(const struct fixture *f, unsigned number, int64_t sec)
{
        const struct timespec times[2] = { { .tv_sec = sec }, { .tv_nsec = UTIME_OMIT } };
        struct content_id id = id_of_number(number, BLOB);
        char path[256];

        blob_path(f, &id, path);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void limit(struct store *store, uint64_t quota, uint64_t floor)
{
        struct store_limits limits = { .quota = { .bytes = quota }, .floor = { .bytes = floor } };

        assert_int_equal(store_limit(store, &limits), 0);
}

static struct store_usage usage_of(struct store *store)
{
        struct store_usage usage;

        store_get_usage(store, &usage);
        return usage;
}

/* Opens the store anew: nobody evicts any more, and nothing has changed. */
static void end_evictions(struct fixture *f)
{
        store_free(TAKE_PTR(f->store));
        assert_int_equal(store_open(f->dir, &f->store), 0);
}

/* What the accounting says is what is there. Ends the limits of the store. */
static void assert_accounted(struct fixture *f)
{
        struct store_usage usage, found;
        char path[128];

        assert_int_equal(usage_of(f->store).reserved, 0);
        end_evictions(f);
        usage = usage_of(f->store);
        snprintf(path, sizeof(path), "%s/usage", f->dir);
        assert_int_equal(unlink(path), 0);
        end_evictions(f);
        assert_int_equal(usage_of(f->store).bytes, 0);
        assert_false(usage_of(f->store).counted);
        (void)stats_of(f->store); /* counts */
        found = usage_of(f->store);
        assert_true(found.counted);
        assert_int_equal(usage.bytes, found.bytes);
        assert_int_equal(usage.blobs, found.blobs);
}

static void await_usage(struct store *store, uint64_t at_most)
{
        struct store_usage usage = usage_of(store);

        for (int i = 0; i < 60000 && (usage.bytes > at_most || !usage.counted); i++) {
                usleep(1000);
                usage = usage_of(store);
        }
        assert_true(usage.bytes <= at_most);
        assert_true(usage.counted);
}

static void pass_youth(void)
{
        usleep(150000);
}

/* ---- accounting ---- */

static void test_usage(void **state)
{
        struct fixture *f = *state;
        struct store_writer *writer;
        struct content_id id = id_of_number(1, 5000);

        (void)stats_of(f->store);
        assert_int_equal(put_number(f->store, 0, 1), STORE_OK);
        assert_int_equal(usage_of(f->store).bytes, 4096);
        assert_int_equal(store_write_begin(f->store, &id, 5000, &writer), STORE_OK);
        assert_int_equal(usage_of(f->store).reserved, 8192);
        store_write_abort(writer);
        assert_int_equal(usage_of(f->store).reserved, 0);
        assert_int_equal(put_number(f->store, 1, 5000), STORE_OK);
        assert_int_equal(put_number(f->store, 2, 4096), STORE_OK);
        assert_int_equal(usage_of(f->store).bytes, 4096 + 8192 + 4096);
        assert_int_equal(usage_of(f->store).blobs, 3);
        assert_int_equal(usage_of(f->store).quota, 0);
        assert_accounted(f);
}

/* A mark of another boot, or a damaged file, is no count. */
static void test_usage_of_another_boot(void **state)
{
        struct fixture *f = *state;
        uint64_t words[4] = { 0 };
        char path[128];
        int fd;

        assert_int_equal(put_number(f->store, 0, BLOB), STORE_OK);
        (void)stats_of(f->store);
        assert_true(usage_of(f->store).counted);
        snprintf(path, sizeof(path), "%s/usage", f->dir);
        fd = open(path, O_RDWR | O_CLOEXEC);
        words[0] = 4711;
        words[1] = UINT64_MAX / 2;
        assert_int_equal(pwrite(fd, words, sizeof(words), 8), sizeof(words));
        assert_false(usage_of(f->store).counted);
        (void)stats_of(f->store);
        assert_int_equal(usage_of(f->store).bytes, BLOB);
        /* Another magic: another file. */
        assert_int_equal(pwrite(fd, words, 8, 0), 8);
        close(fd);
        store_free(TAKE_PTR(f->store));
        assert_int_equal(store_open(f->dir, &f->store), 0);
        assert_false(usage_of(f->store).counted);
        store_free(TAKE_PTR(f->store));
        assert_int_equal(truncate(path, 3), 0);
        assert_int_equal(store_open(f->dir, &f->store), 0);
        limit(f->store, 0, 0);
        await_usage(f->store, BLOB);
        assert_int_equal(usage_of(f->store).bytes, BLOB);
}

/* Truncated while it is mapped: no signal, and counted anew; who opens the store next makes a new one. */
static void test_truncated_usage(void **state)
{
        struct fixture *f = *state;
        struct store *second;
        char path[128];

        snprintf(path, sizeof(path), "%s/usage", f->dir);
        store_free(TAKE_PTR(f->store)); /* cmocka has a handler of its own, for each test */
        assert_int_equal(store_open(f->dir, &f->store), 0);
        limit(f->store, 0, 0);
        assert_int_equal(put_number(f->store, 0, BLOB), STORE_OK);
        await_usage(f->store, BLOB);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(truncate(path, i * 5000), 0);
                assert_int_equal(put_number(f->store, 1 + (unsigned)i, BLOB), STORE_OK);
                await_usage(f->store, (2 + (unsigned)i) * BLOB);
                assert_int_equal(usage_of(f->store).bytes, (2 + (unsigned)i) * BLOB);
        }
        assert_int_equal(store_open(f->dir, &second), 0);
        limit(second, 0, 0);
        await_usage(second, 3 * BLOB);
        assert_int_equal(usage_of(second).bytes, 3 * BLOB);
        store_free(second);
}

/* Ends with SIGBUS: a page of a file that has none, which is nobody's map. */
static void touch_beyond_end(void)
{
        char dir[] = "/tmp/test_store.XXXXXX", path[64];
        struct store *store;
        char *map;
        int fd;

        signal(SIGBUS, SIG_DFL); /* a sanitizer has one of its own */
        if (!mkdtemp(dir) || store_open(dir, &store) < 0)
                _exit(1);
        snprintf(path, sizeof(path), "%s/usage", dir);
        fd = open(path, O_RDWR | O_CLOEXEC);
        tempdir_remove(dir);
        map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED || ftruncate(fd, 0) < 0)
                _exit(2);
        _exit(map[0] == 0 ? 3 : 4);
}

static int other_bus_error; /* how that ended: found out before cmocka has handlers of its own */

static void find_out_other_bus_error(void)
{
        pid_t pid = fork();

        if (pid == 0)
                touch_beyond_end();
        waitpid(pid, &other_bus_error, 0);
}

/* Any other SIGBUS is what it was. */
static void test_other_bus_error(void **state)
{
        assert_int_equal(other_bus_error & ~__WCOREFLAG, SIGBUS);
}

static int die_in_between(struct fixture *f)
{
        struct content_id id = id_of_number(0, BLOB);
        struct store *own;
        char path[256];

        if (store_open(f->dir, &own) < 0 || !usage_begin(own, usage_shard_of(&id)).locked)
                return 1;
        blob_path(f, &id, path);
        if (unlink(path) < 0)
                return 2;
        return usage_of(own).counted ? 3 : 0; /* here, where nobody can have counted since */
}

/* S7: the blob is gone, nobody has said so, and its folder is locked no more. */
static void test_died_in_between(void **state)
{
        struct fixture *f = *state;

        limit(f->store, 64 * BLOB, 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        await_usage(f->store, 3 * BLOB);
        assert_int_equal(in_child(die_in_between, f), 0);
        await_usage(f->store, 2 * BLOB);
        assert_int_equal(usage_of(f->store).bytes, 2 * BLOB);
        assert_int_equal(usage_of(f->store).blobs, 2);
}

/* S7: killed at any instant, with several at it; counted again by who is left. */
static void test_killed_anywhere(void **state)
{
        struct fixture *f = *state;

        limit(f->store, 64 * BLOB, 0);
        for (unsigned round = 0; round < 10; round++) {
                pid_t pids[3];
                for (unsigned p = 0; p < ARRAY_SIZE(pids); p++) {
                        pids[p] = fork();
                        if (pids[p] == 0) {
                                struct store *own;
                                if (store_open(f->dir, &own) < 0)
                                        _exit(1);
                                limit(own, 64 * BLOB, 0);
                                for (unsigned n = 0;; n++)
                                        put_number(own, round * 100000 + p * 1000 + n, BLOB);
                        }
                }
                usleep(10000 + round * 1700);
                for (unsigned p = 0; p < ARRAY_SIZE(pids); p++)
                        kill(pids[p], SIGKILL);
                for (unsigned p = 0; p < ARRAY_SIZE(pids); p++)
                        assert_int_equal(waitpid(pids[p], NULL, 0), pids[p]);
                assert_int_equal(usage_of(f->store).reserved, 0);
                assert_int_equal(usage_of(f->store).quota, 64 * BLOB);
                /* A write notices, and the store's thread counts. */
                put_number(f->store, 9000000 + round, 10);
                /* … and evicts what is too much. */
                await_usage(f->store, 64 * BLOB);
                end_evictions(f);
                struct store_usage usage = usage_of(f->store);
                assert_true(usage.counted);
                (void)stats_of(f->store);
                assert_int_equal(usage.bytes, usage_of(f->store).bytes);
                assert_int_equal(usage.blobs, usage_of(f->store).blobs);
                limit(f->store, 64 * BLOB, 0);
        }
        assert_true(usage_of(f->store).blobs > 0);
}

/* ---- order ---- */

static void test_lru(void **state)
{
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };

        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        for (unsigned i = 0; i < 20; i++)
                set_used(f, i, 1000 + (i * 7) % 20); /* any order but that of their names */
        assert_int_equal(store_evict(f->store, 12 * BLOB, &evicted), 0);
        assert_int_equal(evicted.blobs, 8);
        assert_int_equal(evicted.bytes, 8 * BLOB);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(has(f->store, i), (i * 7) % 20 >= 8);
        assert_int_equal(usage_of(f->store).bytes, 12 * BLOB);
        assert_int_equal(store_evict(f->store, 12 * BLOB, &evicted), 0);
        assert_int_equal(evicted.blobs, 8);
        assert_accounted(f);
}

/* Many, of all sizes, against a model: those evicted are the oldest, and one fewer would not have been enough. */
static void test_lru_model(void **state)
{
        enum { N = 600 };
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };
        uint64_t left = 0;
        unsigned seed = 4711, ages[N], sizes[N];
        int64_t youngest_gone = -1, oldest_here = INT64_MAX;

        for (unsigned i = 0; i < N; i++) {
                const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_nsec = UTIME_OMIT } };
                struct timespec own[2] = { times[0], times[1] };
                char path[256];
                sizes[i] = 8 + (unsigned)rand_r(&seed) % 30000;
                ages[i] = (unsigned)rand_r(&seed);
                assert_int_equal(put_number(f->store, i, sizes[i]), STORE_OK);
                struct content_id id = id_of_number(i, sizes[i]);
                blob_path(f, &id, path);
                own[0].tv_sec = ages[i];
                assert_int_equal(utimensat(AT_FDCWD, path, own, 0), 0);
        }
        (void)stats_of(f->store);
        left = usage_of(f->store).bytes / 3;
        assert_int_equal(store_evict(f->store, left, &evicted), 0);
        for (unsigned i = 0; i < N; i++) {
                struct content_id id = id_of_number(i, sizes[i]);
                if (store_has(f->store, &id))
                        oldest_here = MIN(oldest_here, (int64_t)ages[i]);
                else
                        youngest_gone = MAX(youngest_gone, (int64_t)ages[i]);
        }
        assert_true(youngest_gone >= 0 && youngest_gone <= oldest_here);
        assert_true(usage_of(f->store).bytes <= left);
        assert_true(usage_of(f->store).bytes + 32768 > left);
        assert_accounted(f);
}

/* A use counts, and is noted once: no write for those after. */
static void test_use_is_noted(void **state)
{
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };
        struct content_id id = id_of_number(0, BLOB);
        struct stat first, second;
        char data[16];
        int fd = -1;

        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                set_used(f, i, 1000 + i);
        }
        assert_int_equal(store_get(f->store, &id, &fd), STORE_OK);
        first = blob_stat(f, &id);
        assert_true(first.st_atim.tv_sec > 1001);
        assert_int_equal(read(fd, data, sizeof(data)), sizeof(data));
        close(fd);
        usleep(20000);
        assert_int_equal(store_get(f->store, &id, &fd), STORE_OK);
        assert_int_equal(read(fd, data, sizeof(data)), sizeof(data));
        close(fd);
        second = blob_stat(f, &id);
        assert_memory_equal(&first.st_atim, &second.st_atim, sizeof(first.st_atim));
        assert_memory_equal(&first.st_ctim, &second.st_ctim, sizeof(first.st_ctim));
        assert_int_equal(store_evict(f->store, BLOB, &evicted), 0);
        assert_true(has(f->store, 0));
        assert_false(has(f->store, 1));
}

/* ---- what stays ---- */

static int open_number(struct store *store, unsigned number)
{
        struct content_id id = id_of_number(number, BLOB);
        int fd = -1;

        assert_int_equal(store_get(store, &id, &fd), STORE_OK);
        return fd;
}

/* S6: open here, open in another process, or mapped. */
static void test_open_stays(void **state)
{
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };
        int here, ready[2], go[2];
        char byte;
        void *map;
        pid_t pid;

        for (unsigned i = 0; i < 6; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        here = open_number(f->store, 0);
        int mapped = open_number(f->store, 1);
        map = mmap(NULL, BLOB, PROT_READ, MAP_SHARED, mapped, 0);
        assert_true(map != MAP_FAILED);
        close(mapped);
        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(go), 0);
        pid = fork();
        if (pid == 0) {
                close(go[1]);
                int fd = open_number(f->store, 2);
                if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 0)
                        _exit(1);
                _exit(fd >= 0 ? 0 : 2);
        }
        close(go[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_int_equal(evicted.blobs, 3);
        assert_true(has(f->store, 0) && has(f->store, 1) && has(f->store, 2));
        close(go[1]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(here);
        munmap(map, BLOB);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_int_equal(evicted.blobs, 6);
        assert_int_equal(usage_of(f->store).bytes, 0);
        close(ready[0]);
        close(ready[1]);
        assert_accounted(f);
}

/* The oldest are open: younger ones go in their place. */
static void test_open_hides_nothing(void **state)
{
        struct fixture *f = *state;
        int fds[10];

        for (unsigned i = 0; i < 20; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                set_used(f, i, clock_wall_sec() - 500 + i);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
                fds[i] = open_number(f->store, i);
        pass_youth();
        limit(f->store, 14 * BLOB, 0);
        await_usage(f->store, 14 * BLOB);
        for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
                assert_true(has(f->store, i));
                close(fds[i]);
        }
        assert_true(has(f->store, 19));
        assert_accounted(f);
}

static int count_pin(const struct content_id *id, uint64_t size, void *arg)
{
        *(uint64_t *)arg += size + 1;
        return 0;
}

static void test_pins(void **state)
{
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };
        struct content_id kept = id_of_number(0, BLOB), later = id_of_number(9, BLOB),
                          none = { .algorithm = HASH_NONE };
        uint64_t seen = 0;

        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                set_used(f, i, 1000 + i);
        }
        assert_int_equal(store_pin(f->store, &none), -EINVAL);
        assert_int_equal(store_unpin(f->store, &none), -EINVAL);
        assert_int_equal(store_unpin(f->store, &kept), STORE_MISS);
        assert_int_equal(store_pin(f->store, &kept), 0);
        assert_int_equal(store_pin(f->store, &kept), 0);
        assert_int_equal(store_pin(f->store, &later), 0);
        assert_int_equal(store_list_pins(f->store, count_pin, &seen), 0);
        assert_int_equal(seen, 2 + BLOB);
        assert_int_equal(stats_of(f->store).pinned, 1);
        assert_int_equal(stats_of(f->store).pinned_bytes, BLOB);
        assert_int_equal(store_evict(f->store, 2 * BLOB, &evicted), 0);
        assert_true(has(f->store, 0) && !has(f->store, 1) && !has(f->store, 2) && has(f->store, 3));
        assert_int_equal(put_number(f->store, 9, BLOB), STORE_OK);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_true(has(f->store, 0) && has(f->store, 9) && !has(f->store, 3));
        assert_int_equal(store_unpin(f->store, &kept), STORE_OK);
        assert_int_equal(store_evict(f->store, 0, &evicted), 0);
        assert_true(!has(f->store, 0) && has(f->store, 9));
        assert_accounted(f);
}

/* ---- quota ---- */

/* Whatever is written, the store stays within it, and the newest is there. */
static void test_quota(void **state)
{
        struct fixture *f = *state;

        limit(f->store, 32 * BLOB, 0);
        for (unsigned i = 0; i < 60; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                close(open_number(f->store, i));
                assert_true(usage_of(f->store).bytes <= 32 * BLOB);
                usleep(6000); /* slower than what is young */
        }
        assert_true(has(f->store, 59) && has(f->store, 58) && !has(f->store, 0));
        assert_int_equal(usage_of(f->store).quota, 32 * BLOB);
        await_usage(f->store, 32 * BLOB);
        assert_accounted(f);
}

/* A quota is also kept by who opens a store that is beyond it already. */
static void test_quota_of_second_process(void **state)
{
        struct fixture *f = *state;
        struct store *second;

        limit(f->store, 100 * BLOB, 0);
        for (unsigned i = 0; i < 60; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        for (unsigned i = 0; i < 60; i++)
                close(open_number(f->store, i));
        assert_int_equal(usage_of(f->store).blobs, 60);
        pass_youth();
        assert_int_equal(store_open(f->dir, &second), 0);
        limit(second, 20 * BLOB, 0);
        await_usage(f->store, 20 * BLOB);
        assert_int_equal(usage_of(f->store).quota, 20 * BLOB);
        store_free(second);
        assert_int_equal(usage_of(f->store).quota, 100 * BLOB);
        assert_accounted(f);
}

/* S8: larger than the quota: written, and there as long as it is open. */
static void test_larger_than_quota(void **state)
{
        struct fixture *f = *state;
        struct store_evicted evicted = { 0 };
        struct content_id big = id_of_number(77, 40 * BLOB);
        int fd = -1;

        limit(f->store, 10 * BLOB, 0);
        for (unsigned i = 0; i < 9; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        pass_youth();
        assert_int_equal(put_number(f->store, 77, 40 * BLOB), STORE_OK);
        /* Before anybody has opened it there are other writers. */
        pass_youth();
        for (unsigned i = 100; i < 110; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        assert_int_equal(store_get(f->store, &big, &fd), STORE_OK);
        pass_youth();
        for (unsigned i = 110; i < 120; i++)
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
        assert_true(store_has(f->store, &big));
        close(fd);
        /* Closed, and not the youngest: it goes. */
        set_used(f, 119, clock_wall_sec() + 5);
        assert_int_equal(store_evict(f->store, 30 * BLOB, &evicted), 0);
        assert_false(store_has(f->store, &big));
        assert_accounted(f);
}

/* What would have to wait for room is BUSY for store_write_try; and there is room soon. */
static void test_try(void **state)
{
        struct fixture *f = *state;
        struct store_writer *writer, *second;
        struct content_id id = id_of_number(50, BLOB), other = id_of_number(51, BLOB);
        int r = STORE_BUSY;

        for (unsigned i = 0; i < 10; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                set_used(f, i, 1000 + i);
        }
        assert_int_equal(store_write_try(f->store, &id, BLOB, &writer), STORE_OK);
        assert_int_equal(store_write_try(f->store, &id, BLOB, &second), STORE_BUSY);
        store_write_abort(writer);
        pass_youth();
        limit(f->store, 10 * BLOB, 0);
        assert_int_equal(store_write_begin(f->store, &id, BLOB, &writer), STORE_OK);
        for (int i = 0; i < 60000 && r == STORE_BUSY; i++) {
                r = store_write_try(f->store, &other, BLOB, &second);
                if (r == STORE_BUSY)
                        usleep(1000);
        }
        assert_int_equal(r, STORE_OK);
        assert_true(usage_of(f->store).bytes + 2 * BLOB <= 10 * BLOB);
        assert_int_equal(usage_of(f->store).reserved, 2 * BLOB);
        store_write_abort(writer);
        store_write_abort(second);
        assert_int_equal(stats_of(f->store).partials, 0);
}

static void let_go(void *arg)
{
        int *fds = arg;

        for (unsigned i = 0; i < 10; i++)
                if (fds[i] >= 0)
                        close(take_fd(&fds[i]));
}

/* Nothing is left but what somebody keeps open without need: he is asked. */
static void test_pressure(void **state)
{
        struct fixture *f = *state;
        int fds[10];

        for (unsigned i = 0; i < 10; i++) {
                assert_int_equal(put_number(f->store, i, BLOB), STORE_OK);
                fds[i] = open_number(f->store, i);
        }
        pass_youth();
        store_on_pressure(f->store, let_go, fds);
        limit(f->store, 10 * BLOB, 0);
        assert_int_equal(put_number(f->store, 10, BLOB), STORE_OK);
        assert_true(has(f->store, 10));
        await_usage(f->store, 10 * BLOB);
        store_on_pressure(f->store, NULL, NULL);
        for (unsigned i = 0; i < 10; i++)
                assert_int_equal(fds[i], -1);
}

/* ---- crowds ---- */

struct reader {
        struct store *store;
        unsigned seed;
        _Atomic unsigned reads, misses;
        pthread_t thread;
};

static void check_bytes(int fd, unsigned number)
{
        char want[BLOB], got[BLOB];

        fill(want, BLOB, number);
        assert_int_equal(io_pread_all(fd, got, BLOB, 0), BLOB);
        assert_memory_equal(want, got, BLOB);
}

static void *read_and_write(void *arg)
{
        struct reader *reader = arg;

        for (int i = 0; i < 600; i++) {
                unsigned number = (unsigned)rand_r(&reader->seed) % 100;
                struct content_id id = id_of_number(number, BLOB);
                int fd = -1, r = store_get(reader->store, &id, &fd);
                if (r == STORE_MISS) {
                        reader->misses++;
                        r = put_number(reader->store, number, BLOB);
                        if (r == -EBUSY) /* who writes the same has had no time for seconds */
                                continue;
                        assert_true(r == STORE_OK || r == STORE_HAVE);
                        r = store_get(reader->store, &id, &fd);
                        if (r == STORE_MISS) /* evicted by the other seven: asked for again */
                                continue;
                }
                assert_int_equal(r, STORE_OK);
                check_bytes(fd, number);
                close(fd);
                reader->reads++;
        }
        return NULL;
}

/* Eight readers, two stores, a quota of a fifth of what they read. */
static void test_crowd(void **state)
{
        struct fixture *f = *state;
        struct reader readers[8];
        struct store *second;

        assert_int_equal(store_open(f->dir, &second), 0);
        limit(f->store, 20 * BLOB, 0);
        limit(second, 25 * BLOB, 0);
        for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
                readers[i] = (struct reader){ .store = i % 2 ? second : f->store, .seed = i + 1 };
                assert_int_equal(pthread_create(&readers[i].thread, NULL, read_and_write, &readers[i]), 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
                pthread_join(readers[i].thread, NULL);
                assert_true(readers[i].reads > 500 && readers[i].misses > 0);
        }
        assert_int_equal(stats_of(f->store).partials, 0);
        assert_int_equal(stats_of(f->store).quarantined, 0);
        store_free(second);
        pass_youth();
        assert_int_equal(put_number(f->store, 1000, BLOB), STORE_OK);
        await_usage(f->store, 20 * BLOB);
        assert_accounted(f);
}

/* ---- a full disk (S8) ---- */

static int with_small_disk(struct fixture *f, const char *size, struct store **ret)
{
        char options[32];

        snprintf(options, sizeof(options), "size=%s", size);
        if (unit_own_mounts() < 0 || mount("none", f->dir, "tmpfs", 0, options) < 0)
                return SKIPPED;
        return store_open(f->dir, ret) == 0 ? 0 : 1;
}

/* Without a quota: the floor keeps some of it free, and the newest stay. */
static int keep_floor(struct fixture *f)
{
        struct store *store;
        int r = with_small_disk(f, "4m", &store);

        if (r != 0)
                return r;
        limit(store, 0, 1 << 20);
        for (unsigned i = 0; i < 400; i++) {
                if (put_number(store, i, BLOB) != STORE_OK)
                        return 2;
                usleep(1500);
        }
        if (!has(store, 399) || has(store, 0))
                return 3;
        return usage_of(store).bytes <= (uint64_t)3 << 20 ? 0 : 4;
}

/* No limit at all: the disk itself is one. */
static int fill_disk(struct fixture *f)
{
        struct store *store;
        int r = with_small_disk(f, "2m", &store), fd;

        if (r != 0)
                return r;
        limit(store, 0, 0);
        for (unsigned i = 0; i < 200; i++) {
                if (put_number(store, i, BLOB) != STORE_OK)
                        return 2;
                usleep(1500);
        }
        if (!has(store, 199) || has(store, 0))
                return 3;
        /* What is open stays, so a content that needs all of the disk fails, for that reason. */
        pass_youth();
        fd = open_number(store, 199);
        if (put_number(store, 1000, (size_t)2 << 20) != -ENOSPC || !has(store, 199))
                return 4;
        close(fd);
        pass_youth();
        if (put_number(store, 1001, (size_t)3 << 19) != STORE_OK)
                return 5;
        /* A disk filled by others: the store opens nevertheless, and gives what it has. */
        char path[128];
        _cleanup_close_ int other = -1;
        static const char data[1 << 16];
        snprintf(path, sizeof(path), "%s/others", f->dir);
        other = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        while (write(other, data, sizeof(data)) > 0)
                ;
        store_free(store);
        if (store_open(f->dir, &store) != 0)
                return 6;
        limit(store, 0, 0);
        pass_youth();
        return put_number(store, 1002, BLOB) == STORE_OK ? 0 : 7;
}

static void run_on_small_disk(int (*body)(struct fixture *f), struct fixture *f)
{
        int r;

        store_free(TAKE_PTR(f->store));
        r = in_child(body, f);
        if (r == SKIPPED)
                unit_skip("needs the right to mount a tmpfs");
        assert_int_equal(r, 0);
}

static void test_floor(void **state)
{
        run_on_small_disk(keep_floor, *state);
}

static void test_full_disk(void **state)
{
        run_on_small_disk(fill_disk, *state);
}

/* ---- leftovers ---- */

static void test_collect(void **state)
{
        struct fixture *f = *state;
        struct store_evicted removed = { 0 };
        struct content_id id = id_of_text("damaged"), alive = id_of_text("alive");
        struct store_writer *writer;
        char path[256];
        int fd;

        put_text(f->store, "damaged");
        (void)stats_of(f->store);
        blob_path(f, &id, path);
        assert_int_equal(truncate(path, 3), 0);
        assert_int_equal(store_get(f->store, &id, &fd), STORE_MISS);
        assert_false(usage_of(f->store).counted);
        assert_int_equal(stats_of(f->store).quarantined, 1);
        snprintf(path, sizeof(path), "%s/partial/xxh3-dead", f->dir);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        assert_int_equal(store_write_begin(f->store, &alive, 5, &writer), STORE_OK);
        assert_int_equal(store_collect(f->store, &removed), 0);
        assert_int_equal(removed.blobs, 2);
        assert_int_equal(removed.bytes, 3);
        assert_int_equal(stats_of(f->store).quarantined, 0);
        assert_int_equal(stats_of(f->store).partials, 1);
        assert_int_equal(store_write(writer, "alive", 5), 0);
        assert_int_equal(store_write_commit(writer), STORE_OK);
        assert_accounted(f);
}

static void test_interrupt(void **state)
{
        struct fixture *f = *state;
        struct store_writer *writer;
        struct content_id id = id_of_number(5, 20 * BLOB);

        limit(f->store, 10 * BLOB, 0);
        store_interrupt(f->store);
        assert_int_equal(store_write_begin(f->store, &id, 20 * BLOB, &writer), -EINTR);
        assert_int_equal(put_number(f->store, 1, BLOB), STORE_OK);
        assert_int_equal(usage_of(f->store).reserved, 0);
        assert_int_equal(stats_of(f->store).partials, 0);
}

/* The folder is begun anew, and what goes in is counted with what others put there. */
static void test_removed_while_open(void **state)
{
        struct fixture *f = *state;
        struct store_usage usage;
        struct store *other;
        int fd;

        struct content_id lost = put_text(f->store, "one");
        tempdir_remove(f->dir);
        put_text(f->store, "two");
        assert_int_equal(store_get(f->store, &lost, &fd), STORE_MISS);
        assert_int_equal(store_open(f->dir, &other), 0);
        put_text(other, "three");
        put_text(other, "four");
        assert_int_equal(stats_of(other).blobs, 3);
        store_get_usage(f->store, &usage);
        assert_true(usage.counted);
        assert_int_equal(usage.blobs, 3);
        store_free(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_usage),
                TEST(test_usage_of_another_boot),
                TEST(test_truncated_usage),
                TEST(test_other_bus_error),
                TEST(test_died_in_between),
                TEST(test_killed_anywhere),
                TEST(test_lru),
                TEST(test_lru_model),
                TEST(test_use_is_noted),
                TEST(test_open_stays),
                TEST(test_open_hides_nothing),
                TEST(test_pins),
                TEST(test_quota),
                TEST(test_quota_of_second_process),
                TEST(test_larger_than_quota),
                TEST(test_try),
                TEST(test_pressure),
                TEST(test_crowd),
                TEST(test_floor),
                TEST(test_full_disk),
                TEST(test_collect),
                TEST(test_interrupt),
                TEST(test_removed_while_open),
        };

        log_setup("test_store_room", LOG_LEVEL_ERROR);
        find_out_other_bus_error();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
