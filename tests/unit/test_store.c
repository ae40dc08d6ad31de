#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "cache/store_private.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/mounts.h"

/* ---- one writer ---- */

static void test_round_trip(void **state)
{
        struct fixture *f = *state;
        struct content_id md5 = id_of(HASH_MD5, "hello", 5), xxh3;
        int fd = -1;

        xxh3 = id_of_text("hello");
        assert_int_equal(store_get(f->store, &xxh3, &fd), STORE_MISS);
        assert_int_equal(fd, -1);
        assert_false(store_has(f->store, &xxh3));
        put_text(f->store, "hello");
        assert_true(store_has(f->store, &xxh3));
        assert_false(store_has(f->store, &md5));
        assert_int_equal(put(f->store, &md5, "hello", 5), STORE_OK);
        assert_int_equal(put(f->store, &md5, "hello", 5), STORE_HAVE);
        assert_holds(f->store, &md5, "hello");
        assert_holds(f->store, &xxh3, "hello");
}

static void test_empty_content(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "");

        assert_holds(f->store, &id, "");
        assert_int_equal(blob_stat(f, &id).st_size, 0);
}

static void test_many_pieces(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ char *data = malloc(1 << 20);
        struct store_writer *writer;
        struct content_id id;

        for (size_t i = 0; i < 1 << 20; i++)
                data[i] = (char)('a' + (i * 7 + i / 911) % 26);
        id = id_of(HASH_XXH3, data, 1 << 20);
        assert_int_equal(store_write_begin(f->store, &id, 1 << 20, &writer), STORE_OK);
        for (size_t at = 0, n; at < 1 << 20; at += n) {
                n = MIN((size_t)7777, ((size_t)1 << 20) - at);
                assert_int_equal(store_write(writer, data + at, n), 0);
        }
        assert_int_equal(store_write_commit(writer), STORE_OK);
        assert_int_equal(blob_stat(f, &id).st_size, 1 << 20);
}

static void test_no_content(void **state)
{
        struct fixture *f = *state;
        struct content_id none = { .algorithm = HASH_NONE }, odd = { .algorithm = 9 };
        struct store_writer *writer;
        int fd;

        assert_int_equal(store_get(f->store, &none, &fd), -EINVAL);
        assert_int_equal(store_get(f->store, &odd, &fd), -EINVAL);
        assert_int_equal(store_write_begin(f->store, &none, 0, &writer), -EINVAL);
        assert_int_equal(store_write_begin(f->store, &odd, 0, &writer), -EINVAL);
        assert_false(store_has(f->store, &none));
        store_write_abort(NULL);
        store_free(NULL);
}

/* S1: what does not match its name never gets it. */
static void test_mismatch(void **state)
{
        struct fixture *f = *state;
        struct content_id id = id_of_text("right");
        struct store_writer *writer;

        assert_int_equal(put(f->store, &id, "wrong", 5), STORE_MISMATCH);
        assert_int_equal(put(f->store, &id, "righ", 4), STORE_MISMATCH);
        assert_int_equal(store_write_begin(f->store, &id, 6, &writer), STORE_OK);
        assert_int_equal(store_write(writer, "right", 5), 0);
        assert_int_equal(store_write_commit(writer), STORE_MISMATCH);
        assert_int_equal(store_write_begin(f->store, &id, 5, &writer), STORE_OK);
        assert_int_equal(store_write(writer, "right", 5), 0);
        assert_int_equal(store_write(writer, "!", 1), -EFBIG);
        assert_int_equal(store_write(writer, "", 0), -EFBIG);
        assert_int_equal(store_write_commit(writer), -EFBIG);
        assert_false(store_has(f->store, &id));
        assert_int_equal(stats_of(f->store).partials, 0);
}

static void test_abort(void **state)
{
        struct fixture *f = *state;
        struct content_id id = id_of_text("never");
        struct store_writer *writer;

        assert_int_equal(store_write_begin(f->store, &id, 5, &writer), STORE_OK);
        assert_int_equal(store_write(writer, "nev", 3), 0);
        assert_int_equal(stats_of(f->store).partials, 1);
        store_write_abort(writer);
        assert_int_equal(stats_of(f->store).partials, 0);
        assert_false(store_has(f->store, &id));
}

/* S2, S3: read-only, and with the same stamp as every other. */
static void test_published_form(void **state)
{
        struct fixture *f = *state;
        struct content_id a = put_text(f->store, "a"), b = put_text(f->store, "b");
        struct stat x = blob_stat(f, &a), y = blob_stat(f, &b);

        assert_int_equal(x.st_mode & 07777, 0400);
        assert_int_equal(x.st_mtim.tv_sec, y.st_mtim.tv_sec);
        assert_int_equal(x.st_mtim.tv_nsec, y.st_mtim.tv_nsec);
}

/* ---- damage ---- */

static void set_mtime(const struct fixture *f, const struct content_id *id, time_t sec)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = sec } };
        char path[256];

        blob_path(f, id, path);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Writes as somebody would who knows nothing of the store: the mtime moves. */
static void overwrite(const struct fixture *f, const struct content_id *id, off_t at, const char *text)
{
        char path[256];
        _cleanup_close_ int fd = -1;

        blob_path(f, id, path);
        assert_int_equal(chmod(path, 0600), 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
}

/* S3: another boot's stamp means reading it once; afterwards it has this boot's. */
static void test_other_stamp_is_verified(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "old but right");
        struct timespec stamp = blob_stat(f, &id).st_mtim;

        set_mtime(f, &id, 12345);
        assert_holds(f->store, &id, "old but right");
        assert_int_equal(blob_stat(f, &id).st_mtim.tv_sec, stamp.tv_sec);
        assert_int_equal(blob_stat(f, &id).st_mtim.tv_nsec, stamp.tv_nsec);
}

/* S5 */
static void test_flipped_byte(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "precious");
        int fd = -1;

        overwrite(f, &id, 3, "X");
        assert_int_equal(store_get(f->store, &id, &fd), STORE_MISS);
        assert_int_equal(fd, -1);
        assert_false(store_has(f->store, &id));
        assert_int_equal(stats_of(f->store).quarantined, 1);
        put_text(f->store, "precious");
        assert_holds(f->store, &id, "precious");
}

/* S5, as after a power cut: the name is there, the bytes are not. */
static void test_short_blob(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "precious");
        char path[256];
        int fd;

        blob_path(f, &id, path);
        assert_int_equal(truncate(path, 4), 0);
        assert_int_equal(store_get(f->store, &id, &fd), STORE_MISS);
        put_text(f->store, "precious");
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(store_get(f->store, &id, &fd), STORE_MISS);
        assert_int_equal(stats_of(f->store).quarantined, 1);
}

/* S5: a blob that was found to be wrong, while another took its place. */
static void test_wrong_one_is_gone(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "precious");
        _cleanup_close_ int fd = -1;
        char path[256];

        overwrite(f, &id, 3, "X");
        blob_path(f, &id, path);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(unlink(path), 0);
        put_text(f->store, "precious");
        assert_int_equal(store_check_blob(f->store, &id, fd), STORE_MISS);
        assert_holds(f->store, &id, "precious");
        assert_int_equal(stats_of(f->store).quarantined, 0);
}

static void count_damaged(const char *name, void *arg)
{
        struct content_id id;

        assert_int_equal(content_id_parse(name, &id), 0);
        (*(unsigned *)arg)++;
}

/* store_verify reads all, whatever the stamp says. */
static void test_verify(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "one");
        struct timespec stamp = blob_stat(f, &id).st_mtim;
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, stamp };
        struct store_stats stats;
        unsigned damaged = 0;
        char path[256];

        put_text(f->store, "two");
        put_text(f->store, "three");
        overwrite(f, &id, 0, "X");
        blob_path(f, &id, path);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        assert_int_equal(store_verify(f->store, count_damaged, &damaged, &stats), 0);
        assert_int_equal(damaged, 1);
        assert_int_equal(stats.damaged, 1);
        assert_int_equal(stats.verified, 2);
        assert_int_equal(stats.blobs, 2);
        assert_int_equal(stats.blob_bytes, 8);
        assert_int_equal(stats.quarantined, 1);
        assert_int_equal(store_verify(f->store, NULL, NULL, &stats), 0);
        assert_int_equal(stats.damaged, 0);
}

static int stop_at_second(const struct content_id *id, uint64_t size, void *arg)
{
        return ++*(int *)arg == 2 ? 42 : 0;
}

static void test_list(void **state)
{
        struct fixture *f = *state;
        char path[128];
        int seen = 0;

        assert_int_equal(store_list(f->store, stop_at_second, &seen), 0);
        put_text(f->store, "one");
        put_text(f->store, "two");
        put_text(f->store, "three");
        /* What is not ours is passed over. */
        snprintf(path, sizeof(path), "%s/blobs/xxh3/lost+found", f->dir);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof(path), "%s/blobs/xxh3/ff", f->dir);
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        snprintf(path, sizeof(path), "%s/blobs/xxh3/ff/readme", f->dir);
        assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
        assert_int_equal(stats_of(f->store).blobs, 3);
        assert_int_equal(store_list(f->store, stop_at_second, &seen), 42);
        assert_int_equal(seen, 2);
}

/* ---- opening ---- */

static void write_format(const struct fixture *f, const char *text)
{
        char path[128];
        _cleanup_fclose_ FILE *file = NULL;

        snprintf(path, sizeof(path), "%s/format", f->dir);
        file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
}

static void test_format(void **state)
{
        struct fixture *f = *state;
        struct content_id id = put_text(f->store, "kept");
        char path[128];

        store_free(TAKE_PTR(f->store));
        assert_int_equal(store_open(f->dir, &f->store), 0);
        assert_holds(f->store, &id, "kept");
        store_free(TAKE_PTR(f->store));
        write_format(f, "fsyncfs-store 2\n");
        assert_int_equal(store_open(f->dir, &f->store), -EPROTONOSUPPORT);
        write_format(f, "");
        assert_int_equal(store_open(f->dir, &f->store), 0);
        snprintf(path, sizeof(path), "%s/format/below-a-file", f->dir);
        struct store *other = NULL;
        assert_int_equal(store_open(path, &other), -ENOTDIR);
        assert_null(other);
        assert_true(store_open("/proc/fsyncfs-test", &other) < 0);
}

static void test_concurrent_first_open(void **state)
{
        struct fixture *f = *state;
        char dir[128];
        pid_t pids[8];

        snprintf(dir, sizeof(dir), "%s/deep/new", f->dir);
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        struct store *store;
                        _exit(store_open(dir, &store) == 0 &&
                                              put(store, &(struct content_id){ .algorithm = HASH_XXH3 }, "x",
                                                  1) == STORE_MISMATCH
                                      ? 0
                                      : 1);
                }
        }
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
                int status;
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
}

static int fill_small_disk(struct fixture *f)
{
        struct store_writer *writer;
        struct store *store;
        static char data[1 << 20];
        struct content_id id = id_of(HASH_XXH3, data, sizeof(data));
        int r;

        if (unit_own_mounts() < 0 || mount("none", f->dir, "tmpfs", 0, "size=256k") < 0)
                return SKIPPED;
        if (store_open(f->dir, &store) < 0 ||
            store_write_begin(store, &id, sizeof(data), &writer) != STORE_OK)
                return 1;
        r = store_write(writer, data, sizeof(data));
        if (r != -ENOSPC || store_write(writer, data, 1) != -ENOSPC || store_write_commit(writer) != -ENOSPC)
                return 2;
        return stats_of(store).partials == 0 && put(store, &(struct content_id){ .algorithm = HASH_XXH3 },
                                                    "x", 1) == STORE_MISMATCH
                       ? 0
                       : 3;
}

static void test_full_disk(void **state)
{
        int r = in_child(fill_small_disk, *state);

        if (r == SKIPPED)
                unit_skip("needs the right to mount a tmpfs");
        assert_int_equal(r, 0);
}

static int write_over_limit(struct fixture *f)
{
        struct rlimit limit = { .rlim_cur = 4096, .rlim_max = 4096 };
        struct content_id id = id_of_text("whatever");
        struct store_writer *writer;
        char data[8192] = { 0 };

        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0 ||
            store_write_begin(f->store, &id, 8192, &writer) != STORE_OK)
                return 1;
        if (store_write(writer, data, sizeof(data)) >= 0 || store_write(writer, data, 1) >= 0)
                return 2;
        store_write_abort(writer);
        return stats_of(f->store).partials == 0 ? 0 : 3;
}

static void test_failed_write(void **state)
{
        assert_int_equal(in_child(write_over_limit, *state), 0);
}

/* ---- several writers (S4) ---- */

struct child_writer {
        pid_t pid;
        int go; /* closed: the child goes on */
};

/* A process of its own that begins TEXT, tells so, and when let go publishes it. */
static struct child_writer start_child_writer(struct fixture *f, const char *text)
{
        int ready[2], go[2];
        struct child_writer child;
        char byte;

        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(go), 0);
        child.pid = fork();
        if (child.pid == 0) {
                struct content_id id = id_of_text(text);
                struct store_writer *writer;
                struct store *store;
                close(go[1]);
                if (store_open(f->dir, &store) < 0 ||
                    store_write_begin(store, &id, strlen(text), &writer) != STORE_OK ||
                    store_write(writer, text, strlen(text)) < 0)
                        _exit(1);
                if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 0)
                        _exit(2);
                _exit(store_write_commit(writer) == STORE_OK ? 0 : 3);
        }
        close(go[0]);
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        child.go = go[1];
        return child;
}

static void end_child_writer(struct child_writer child, int signal_number, int expected_status)
{
        int status;

        if (signal_number)
                kill(child.pid, signal_number);
        close(child.go);
        assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
        assert_int_equal(status, expected_status);
}

struct begin_thread {
        struct store *store;
        const char *text;
        pthread_t thread;
        int result;
        struct store_writer *writer;
};

static void *begin_in_thread(void *arg)
{
        struct begin_thread *b = arg;
        struct content_id id = id_of_text(b->text);

        b->result = store_write_begin(b->store, &id, strlen(b->text), &b->writer);
        return NULL;
}

static void start_begin(struct begin_thread *b, struct store *store, const char *text)
{
        *b = (struct begin_thread){ .store = store, .text = text, .result = -1 };
        assert_int_equal(pthread_create(&b->thread, NULL, begin_in_thread, b), 0);
}

/* Until some thread of ours sleeps in flock(2), as /proc/locks shows by its arrow. */
static void await_blocked_flock(void)
{
        for (int i = 0; i < 2000; i++) {
                _cleanup_buffer_ struct buffer locks = { 0 };
                char want[64];
                snprintf(want, sizeof(want), "WRITE %d ", getpid());
                assert_int_equal(io_read_file(AT_FDCWD, "/proc/locks", 1 << 20, &locks), 0);
                for (char *line = strtok(locks.data, "\n"); line; line = strtok(NULL, "\n"))
                        if (strstr(line, "-> FLOCK") && strstr(line, want))
                                return;
                usleep(1000);
        }
        fail_msg("nobody waits");
}

static void test_two_processes(void **state)
{
        struct fixture *f = *state;
        struct child_writer child = start_child_writer(f, "shared");
        struct begin_thread waiter;
        struct content_id id = id_of_text("shared");

        start_begin(&waiter, f->store, "shared");
        await_blocked_flock();
        end_child_writer(child, 0, 0);
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.result, STORE_HAVE);
        assert_holds(f->store, &id, "shared");
        assert_int_equal(stats_of(f->store).partials, 0);
}

/* One thread waits for what another one publishes. */
static void publish_for_waiter(struct fixture *f)
{
        struct content_id id = id_of_text("shared");
        struct begin_thread waiter;
        struct store_writer *writer;

        assert_int_equal(store_write_begin(f->store, &id, 6, &writer), STORE_OK);
        start_begin(&waiter, f->store, "shared");
        await_blocked_flock();
        assert_int_equal(store_write(writer, "shared", 6), 0);
        assert_int_equal(store_write_commit(writer), STORE_OK);
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.result, STORE_HAVE);
}

static void test_two_threads(void **state)
{
        publish_for_waiter(*state);
}

/* A store with limits keeps open what it has just published: that must not keep anybody waiting. */
static void test_two_threads_and_a_quota(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(store_limit(f->store, &(struct store_limits){ .quota = { .bytes = 1 << 20 } }), 0);
        publish_for_waiter(f);
}

/* The owner gives up: the one who waits starts over from nothing. */
static void test_waiter_after_abort(void **state)
{
        struct fixture *f = *state;
        struct content_id id = id_of_text("shared");
        struct begin_thread waiter;
        struct store_writer *writer;

        assert_int_equal(store_write_begin(f->store, &id, 6, &writer), STORE_OK);
        assert_int_equal(store_write(writer, "sha", 3), 0);
        start_begin(&waiter, f->store, "shared");
        await_blocked_flock();
        store_write_abort(writer);
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.result, STORE_OK);
        assert_int_equal(store_write(waiter.writer, "shared", 6), 0);
        assert_int_equal(store_write_commit(waiter.writer), STORE_OK);
        assert_holds(f->store, &id, "shared");
}

static void test_killed_writer(void **state)
{
        struct fixture *f = *state;
        struct content_id id = id_of_text("shared");
        struct begin_thread waiter;
        struct child_writer child = start_child_writer(f, "shared");

        /* Waiting while the owner dies. */
        start_begin(&waiter, f->store, "shared");
        await_blocked_flock();
        end_child_writer(child, SIGKILL, SIGKILL);
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.result, STORE_OK);
        store_write_abort(waiter.writer);
        /* Coming after it died. */
        end_child_writer(start_child_writer(f, "shared"), SIGKILL, SIGKILL);
        assert_int_equal(stats_of(f->store).partials, 1);
        put_text(f->store, "shared");
        assert_holds(f->store, &id, "shared");
}

static void test_open_removes_dead_partials_only(void **state)
{
        struct fixture *f = *state;
        struct child_writer alive = start_child_writer(f, "alive");
        struct store *second;

        end_child_writer(start_child_writer(f, "dead"), SIGKILL, SIGKILL);
        assert_int_equal(stats_of(f->store).partials, 2);
        assert_int_equal(store_open(f->dir, &second), 0);
        assert_int_equal(stats_of(second).partials, 1);
        store_free(second);
        end_child_writer(alive, 0, 0);
        struct content_id id = id_of_text("alive");
        assert_holds(f->store, &id, "alive");
}

/* Killed at any instant: what is there is right, and the next store_open leaves no rest. */
static void test_killed_anywhere(void **state)
{
        struct fixture *f = *state;
        struct store_stats stats = { 0 };

        for (int i = 0; i < 12 || (stats.blobs == 0 && i < 300);
             i++) { /* beneath valgrind all takes longer */
                pid_t pid = fork();
                if (pid == 0) {
                        char text[32];
                        for (unsigned n = 0;; n++) {
                                snprintf(text, sizeof(text), "round %d, content %u", i, n);
                                put_text(f->store, text);
                        }
                }
                usleep((useconds_t)(3000 + i * 700));
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                store_free(TAKE_PTR(f->store));
                assert_int_equal(store_open(f->dir, &f->store), 0);
                assert_int_equal(store_verify(f->store, NULL, NULL, &stats), 0);
                assert_int_equal(stats.damaged, 0);
                assert_int_equal(stats.partials, 0);
                assert_int_equal(stats.verified, stats.blobs);
        }
        assert_true(stats.blobs > 0);
}

static void test_interrupt(void **state)
{
        struct fixture *f = *state;
        struct child_writer child = start_child_writer(f, "shared");
        struct begin_thread waiters[3];
        struct store_writer *writer;
        struct content_id id = id_of_text("shared");

        for (size_t i = 0; i < ARRAY_SIZE(waiters); i++)
                start_begin(&waiters[i], f->store, "shared");
        await_blocked_flock();
        store_interrupt(f->store);
        for (size_t i = 0; i < ARRAY_SIZE(waiters); i++) {
                pthread_join(waiters[i].thread, NULL);
                assert_int_equal(waiters[i].result, -EINTR);
        }
        assert_int_equal(store_write_begin(f->store, &id, 6, &writer), -EINTR);
        put_text(f->store, "needs no waiting");
        end_child_writer(child, 0, 0);
        assert_int_equal(store_write_begin(f->store, &id, 6, &writer), STORE_HAVE);
}

struct worker {
        struct store *store;
        unsigned seed;
        pthread_t thread;
        unsigned wrote;
};

static void *work(void *arg)
{
        struct worker *w = arg;
        char text[32];

        for (int i = 0; i < 400; i++) {
                snprintf(text, sizeof(text), "content %d", rand_r(&w->seed) % 50);
                struct content_id id = id_of_text(text);
                _cleanup_close_ int fd = -1;
                int r = store_get(w->store, &id, &fd);
                assert_true(r == STORE_OK || r == STORE_MISS);
                if (r == STORE_OK)
                        continue;
                r = put(w->store, &id, text, strlen(text));
                assert_true(r == STORE_OK || r == STORE_HAVE);
                w->wrote += r == STORE_OK;
        }
        return NULL;
}

/* However many write: each content is written once. */
static void test_crowd(void **state)
{
        struct fixture *f = *state;
        struct worker workers[8];
        unsigned wrote = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(workers); i++) {
                workers[i] = (struct worker){ .store = f->store, .seed = i + 1 };
                assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(workers); i++) {
                pthread_join(workers[i].thread, NULL);
                wrote += workers[i].wrote;
        }
        assert_int_equal(wrote, stats_of(f->store).blobs);
        assert_int_equal(stats_of(f->store).partials, 0);
        assert_int_equal(stats_of(f->store).quarantined, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_round_trip),
                TEST(test_empty_content),
                TEST(test_many_pieces),
                TEST(test_no_content),
                TEST(test_mismatch),
                TEST(test_abort),
                TEST(test_published_form),
                TEST(test_other_stamp_is_verified),
                TEST(test_flipped_byte),
                TEST(test_short_blob),
                TEST(test_wrong_one_is_gone),
                TEST(test_verify),
                TEST(test_list),
                TEST(test_format),
                TEST(test_concurrent_first_open),
                TEST(test_full_disk),
                TEST(test_failed_write),
                TEST(test_two_processes),
                TEST(test_two_threads),
                TEST(test_two_threads_and_a_quota),
                TEST(test_waiter_after_abort),
                TEST(test_killed_writer),
                TEST(test_open_removes_dead_partials_only),
                TEST(test_killed_anywhere),
                TEST(test_interrupt),
                TEST(test_crowd),
        };

        log_setup("test_store", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
