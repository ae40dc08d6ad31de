/*
 * The fetch queue when the n-th call of its process fails (tests/fault/countdown.h): of the disk, for memory, of a stream to the master; or when the n-th
 * message that comes has a byte changed. Every want is answered once, with the right bytes or an error; nothing is left behind; the next attempt goes well.
 *
 * The master is the real one, in a process of its own that no fault meets.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/pieces.h"
#include "sync/fetch.h"
#include "tests/fault/countdown.h"
#include "tests/fault/faults.h"
#include "tests/tempdir.h"

#define SMALLS      3
#define SMALL_BYTES 5000u
#define LARGE_BYTES (2 * PIECE_BYTES + 7000)
#define PIECES      3
#define PATIENCE_NS (60 * NSEC_PER_SEC)
#define TIMEOUT_MS  60000
#define CLASSES                                                                                              \
        (FAULT_OWN_MEMORY | FAULT_READ | FAULT_WRITE | FAULT_NAMES | FAULT_MAKE | FAULT_LENGTH | FAULT_RPC | \
         FAULT_WIRE)

static struct countdown_result total;

struct file {
        char path[16];
        struct content_id id;
        uint8_t data[LARGE_BYTES];
        size_t len;
};

struct want {
        struct fetch_waiter waiter;
        struct world *world;
        const struct file *file;
        uint64_t offset, len; /* of what is wanted */
        int accepted;         /* what fetch_want said */
        int error;
        unsigned answers;
        bool wrong;
        bool stored; /* it is said to be in the store */
};

struct world {
        char dir[64], place[80]; /* the cache; the master's */
        pid_t server;
        pthread_t drain;
        int log_fd;
        struct source source;
        struct file files[SMALLS + 1]; /* the last is large */
        struct session *session;
        struct catalog *catalog;
        struct store *store;
        struct fetch *fetch;
        struct mutex lock;
        struct condition answered;
        struct want wants[SMALLS + PIECES + 2];
        size_t n_wants, n_answered;
};

/* ---- the streams, as sync/ calls them ---- */

int __real_rpc_stream_open(struct rpc_channel *channel, const char *method,
                           const struct rpc_stream_options *options, struct rpc_stream **ret);
int __wrap_rpc_stream_open(struct rpc_channel *channel, const char *method,
                           const struct rpc_stream_options *options, struct rpc_stream **ret);
int __real_rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len);
int __wrap_rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len);
int __real_rpc_stream_receive(struct rpc_stream *stream, const uint8_t **ret_data, size_t *ret_len);
int __wrap_rpc_stream_receive(struct rpc_stream *stream, const uint8_t **ret_data, size_t *ret_len);

int __wrap_rpc_stream_open(struct rpc_channel *channel, const char *method,
                           const struct rpc_stream_options *options, struct rpc_stream **ret)
{
        return faults_strike(FAULT_RPC) ? -ENOMEM : __real_rpc_stream_open(channel, method, options, ret);
}

/* As if the connection were lost in this moment. */
int __wrap_rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len)
{
        if (faults_strike(FAULT_RPC))
                rpc_stream_lose(stream);
        return __real_rpc_stream_send(stream, data, len);
}

int __wrap_rpc_stream_receive(struct rpc_stream *stream, const uint8_t **ret_data, size_t *ret_len)
{
        int r;

        if (faults_strike(FAULT_RPC))
                rpc_stream_lose(stream);
        r = __real_rpc_stream_receive(stream, ret_data, ret_len);
        if (r == RPC_MESSAGE && *ret_len > 0 && faults_strike(FAULT_WIRE))
                ((uint8_t *)*ret_data)[*ret_len - 1] ^= 1;
        return r;
}

/* ---- the master ---- */

static void *drain_main(void *arg)
{
        struct world *w = arg;
        char bytes[512];

        while (read(w->log_fd, bytes, sizeof(bytes)) > 0)
                ;
        return NULL;
}

static void run_server(struct world *w, int log_fd)
{
        const char *program = getenv("FSYNCFS_SERVER");
        char root[96], listen[112], index[96];

        snprintf(root, sizeof(root), "%s/ws", w->place);
        snprintf(listen, sizeof(listen), "unix:%s/socket", w->place);
        snprintf(index, sizeof(index), "%s/index", w->place);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
        if (program)
                execl(program, program, "--workspace", root, "--listen", listen, "--index", index,
                      (char *)NULL);
        _exit(127);
}

/* Until it says that it is ready. */
static void start_server(struct world *w)
{
        _cleanup_buffer_ struct buffer log = { 0 };
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        w->server = fork();
        assert_true(w->server >= 0);
        if (w->server == 0)
                run_server(w, ends[1]); /* which FSYNCFS_SERVER names */
        close(ends[1]);
        w->log_fd = ends[0];
        while (!log.data || !strstr(log.data, "ready")) {
                char bytes[512];
                ssize_t n = read(w->log_fd, bytes, sizeof(bytes));
                if (n <= 0)
                        fail_msg("the master did not start: %s", log.data ? log.data : "");
                assert_int_equal(buffer_append(&log, bytes, (size_t)n), 0);
        }
        assert_int_equal(pthread_create(&w->drain, NULL, drain_main, w), 0);
}

static void make_file(struct world *w, size_t i, size_t len)
{
        struct file *file = &w->files[i];
        _cleanup_hasher_ struct hasher *hasher = NULL;
        char path[128];
        int fd;

        file->len = len;
        snprintf(file->path, sizeof(file->path), "file%zu", i);
        for (size_t at = 0; at < len; at++)
                file->data[at] = (uint8_t)(at / 251 + at * (i + 3));
        assert_int_equal(hasher_new(len > PIECE_BYTES ? HASH_XXH3_PIECES : HASH_XXH3, &hasher), 0);
        hasher_update(hasher, file->data, len);
        hasher_final(hasher, &file->id);
        snprintf(path, sizeof(path), "%s/ws/sp/%s", w->place, file->path);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(io_write_all(fd, file->data, len), 0);
        close(fd);
}

/* ---- the worker ---- */

static void take_version(struct world *w)
{
        struct catalog_changes changes;
        struct catalog_update *update;
        struct entry entry = { .path = "", .kind = ENTRY_DIRECTORY, .mode = 0755, .whole = true };

        assert_int_equal(catalog_update_begin(w->catalog, &update), 0);
        assert_int_equal(catalog_update_put(update, &entry), 0);
        for (size_t i = 0; i < ARRAY_SIZE(w->files); i++) {
                entry = (struct entry){ .path = w->files[i].path,
                                        .path_len = strlen(w->files[i].path),
                                        .kind = ENTRY_FILE,
                                        .mode = 0644,
                                        .size = w->files[i].len,
                                        .content = w->files[i].id };
                assert_int_equal(catalog_update_put(update, &entry), 0);
        }
        assert_int_equal(catalog_update_commit(update, NULL, 1, &changes), CATALOG_OK);
        catalog_changes_release(&changes);
}

static int start_fetch(struct world *w)
{
        const struct fetch_options options = { .session = w->session,
                                               .catalog = w->catalog,
                                               .store = w->store,
                                               .timeout_ms = TIMEOUT_MS,
                                               .threads = 2 };

        return fetch_new(&options, &w->fetch);
}

static void prepare_stopped(void *arg)
{
        struct world *w = arg;
        struct session_options options = { .source = &w->source, .timeout_ms = TIMEOUT_MS };
        struct failure failure;

        assert_int_equal(tempdir_empty(w->dir), 0);
        assert_int_equal(store_open(w->dir, &w->store), 0);
        assert_int_equal(catalog_open(w->dir, w->source.text, &w->catalog), 0);
        take_version(w);
        assert_int_equal(session_new(&options, &w->session, &failure), 0);
        w->n_wants = w->n_answered = 0;
}

static void prepare(void *arg)
{
        struct world *w = arg;

        prepare_stopped(w);
        assert_int_equal(start_fetch(w), 0);
}

static void stop(struct world *w)
{
        struct store_usage usage;
        char partial[80];
        struct dirent *de;
        DIR *dir;

        fetch_free(TAKE_PTR(w->fetch));
        session_free(TAKE_PTR(w->session));
        catalog_free(TAKE_PTR(w->catalog));
        store_get_usage(w->store, &usage);
        assert_int_equal(usage.reserved, 0);
        store_free(TAKE_PTR(w->store));
        snprintf(partial, sizeof(partial), "%s/partial", w->dir);
        assert_int_equal(store_open(w->dir, &w->store), 0); /* what could not be removed is now */
        store_free(TAKE_PTR(w->store));
        dir = opendir(partial);
        while ((de = readdir(dir)))
                assert_true(de->d_name[0] == '.');
        closedir(dir);
}

/* ---- wants ---- */

static void done(struct fetch_waiter *waiter, int error)
{
        struct want *want = (struct want *)((char *)waiter - offsetof(struct want, waiter));
        struct world *w = want->world;
        const struct fetch_content *content = error == 0 ? waiter->content : NULL;

        want->wrong = content && (content->len != want->len ||
                                  memcmp(content->data, want->file->data + want->offset, want->len) != 0);
        want->stored = error == 0 && !content && want->len == want->file->len;
        mutex_lock(&w->lock);
        want->error = error;
        want->answers++;
        w->n_answered++;
        condition_signal(&w->answered);
        mutex_unlock(&w->lock);
}

static struct want *new_want(struct world *w, size_t i, enum fetch_class class)
{
        struct want *want = &w->wants[w->n_wants++];

        *want = (struct want){ .waiter = { .done = done, .class = class },
                               .world = w,
                               .file = &w->files[i],
                               .len = w->files[i].len };
        return want;
}

static int look_up(struct world *w, size_t i, struct catalog_entry *ret)
{
        return catalog_lookup(w->catalog, CATALOG_ROOT_INO, w->files[i].path, strlen(w->files[i].path), ret);
}

static void want_whole(struct world *w, size_t i, enum fetch_class class)
{
        struct want *want = new_want(w, i, class);
        struct catalog_entry entry;
        int r = look_up(w, i, &entry);

        want->accepted = r < 0 ? r : fetch_want(w->fetch, &entry, false, &want->waiter);
}

static void want_piece(struct world *w, struct fetch_large *large, uint64_t piece)
{
        struct want *want = new_want(w, SMALLS, FETCH_READ);

        want->offset = piece * PIECE_BYTES;
        want->len = piece_len(LARGE_BYTES, piece);
        want->accepted = fetch_want_piece(w->fetch, large, piece, &want->waiter);
}

/* Until all that were accepted are answered; the first error of any. */
static int await(struct world *w)
{
        int64_t until = clock_monotonic_ns() + PATIENCE_NS;
        size_t accepted = 0;
        int r = 0;

        for (size_t i = 0; i < w->n_wants; i++)
                accepted += w->wants[i].accepted == 0;
        mutex_lock(&w->lock);
        while (w->n_answered < accepted && clock_monotonic_ns() < until)
                condition_wait_until(&w->answered, &w->lock, until);
        mutex_unlock(&w->lock);
        for (size_t i = 0; i < w->n_wants && r == 0; i++)
                r = w->wants[i].accepted < 0 ? w->wants[i].accepted : w->wants[i].error;
        return r;
}

static void check_answers(struct world *w)
{
        for (size_t i = 0; i < w->n_wants; i++) {
                assert_int_equal(w->wants[i].answers, w->wants[i].accepted == 0);
                assert_false(w->wants[i].wrong);
                assert_true(!w->wants[i].stored || store_has(w->store, &w->wants[i].file->id));
        }
        w->n_wants = w->n_answered = 0;
}

static void check_stored(struct world *w, size_t i)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        _cleanup_close_ int fd = -1;
        int r = store_get(w->store, &w->files[i].id, &fd);

        assert_true(r == STORE_OK || r == STORE_MISS);
        if (r == STORE_MISS)
                return;
        assert_int_equal(io_read_to_end(fd, 1 << 24, &got), 0);
        assert_int_equal(got.len, w->files[i].len);
        assert_memory_equal(got.data, w->files[i].data, got.len);
}

/* ---- paths ---- */

/* Two wait for the first of them, and nobody in earnest for the last. */
static int run_small(void *arg)
{
        struct world *w = arg;

        want_whole(w, 0, FETCH_READ);
        want_whole(w, 0, FETCH_AHEAD);
        want_whole(w, 1, FETCH_READ);
        want_whole(w, 2, FETCH_PREFETCH);
        return await(w);
}

static int run_pieces(void *arg)
{
        struct world *w = arg;
        struct fetch_large *large = NULL;
        struct catalog_entry entry;
        int r = look_up(w, SMALLS, &entry);

        if (r == CATALOG_OK)
                r = fetch_large_open(w->fetch, &entry, &large);
        if (r != STORE_OK)
                return r;
        for (uint64_t i = 0; i < PIECES; i++)
                want_piece(w, large, i);
        r = await(w);
        fetch_large_unref(large);
        return r;
}

static int run_whole(void *arg)
{
        struct world *w = arg;

        want_whole(w, SMALLS, FETCH_READ);
        return await(w);
}

/* What is interrupted may have come first. */
static int run_cancel(void *arg)
{
        struct world *w = arg;
        int r;

        want_whole(w, 0, FETCH_READ);
        want_whole(w, SMALLS, FETCH_READ);
        fetch_interrupt(w->fetch, &w->wants[0].waiter);
        fetch_interrupt(w->fetch, &w->wants[1].waiter);
        r = await(w);
        return r == -EINTR ? 0 : r;
}

static int run_start(void *arg)
{
        struct world *w = arg;
        int r = start_fetch(w);

        return r < 0 ? r : run_small(w);
}

static void check(void *arg, int r)
{
        struct world *w = arg;

        if (!w->fetch)
                assert_int_equal(start_fetch(w), 0);
        check_answers(w);
        fetch_settle(w->fetch);
        for (size_t i = 0; i < ARRAY_SIZE(w->files); i++)
                check_stored(w, i);
        assert_int_equal(run_small(w), 0);
        check_answers(w);
        r = run_pieces(w);
        assert_true(r == 0 || r == STORE_HAVE);
        check_answers(w);
        fetch_settle(w->fetch);
        for (size_t i = 0; i < ARRAY_SIZE(w->files); i++)
                check_stored(w, i);
        stop(w);
}

#define TEST(label, begins, runs)                                                                            \
        static void test_##label(void **state)                                                               \
        {                                                                                                    \
                struct world *w = *state;                                                                    \
                const struct countdown_path path = { .name = #label,                                         \
                                                     .prepare = begins,                                      \
                                                     .run = runs,                                            \
                                                     .check = check,                                         \
                                                     .arg = w,                                               \
                                                     .classes = CLASSES,                                     \
                                                     .shared = true };                                       \
                countdown(&path, w->dir, &total);                                                            \
        }

TEST(start, prepare_stopped, run_start)
TEST(small, prepare, run_small)
TEST(pieces, prepare, run_pieces)
TEST(whole, prepare, run_whole)
TEST(cancel, prepare, run_cancel)

static void test_report(void **state)
{
        countdown_report("Fetch: calls that fail, messages that are damaged",
                         "each want answered once, no wrong byte, nothing left behind", &total);
}

static int begin(void **state)
{
        struct world *w = calloc(1, sizeof(*w));
        struct failure failure;
        char text[128];

        assert_non_null(w);
        *state = w;
        mutex_init(&w->lock);
        condition_init(&w->answered);
        countdown_begin(w->dir);
        strcpy(w->place, "/tmp/countdown.XXXXXX");
        assert_non_null(mkdtemp(w->place));
        snprintf(text, sizeof(text), "%s/ws", w->place);
        assert_int_equal(mkdir(text, 0755), 0);
        strcat(text, "/sp");
        assert_int_equal(mkdir(text, 0755), 0);
        for (size_t i = 0; i < SMALLS; i++)
                make_file(w, i, SMALL_BYTES + i);
        make_file(w, SMALLS, LARGE_BYTES);
        start_server(w);
        snprintf(text, sizeof(text), "unix:%s/socket:/sp", w->place);
        assert_int_equal(source_parse(text, &w->source, &failure), 0);
        rpc_init();
        return 0;
}

static int end(void **state)
{
        struct world *w = *state;

        rpc_shutdown();
        if (w->server > 0) {
                kill(w->server, SIGTERM);
                waitpid(w->server, NULL, 0);
                pthread_join(w->drain, NULL);
                close(w->log_fd);
        }
        tempdir_remove(w->dir);
        tempdir_remove(w->place);
        source_release(&w->source);
        condition_release(&w->answered);
        mutex_release(&w->lock);
        free(w);
        return 0;
}

/* Of a test that failed, so that the next one is not told of what it left. */
static int tell_where(void **state)
{
        struct world *w = *state;

        countdown_where();
        fetch_free(TAKE_PTR(w->fetch));
        session_free(TAKE_PTR(w->session));
        catalog_free(TAKE_PTR(w->catalog));
        store_free(TAKE_PTR(w->store));
        return 0;
}

#define UNIT(label) cmocka_unit_test_teardown(test_##label, tell_where)

static const struct CMUnitTest tests[] = {
        UNIT(start), UNIT(small), UNIT(pieces), UNIT(whole), UNIT(cancel), cmocka_unit_test(test_report),
};

int main(void)
{
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, begin, end);
}
