/* The files that a Fetch call is sending: what proves them, when they are hashed for it, and when they are closed. */
#include "server/fetch_file.h"

#include "base/pieces.h"
#include "server/content.h"
#include "server/turns.h"
#include "server/tree_db.h"
#include "tests/unit/scan_fixture.h"

#define SIZE      ((size_t)3 * PIECE_BYTES + 1000)
#define FILES_MAX FETCH_FILES_MAX    /* of one peer */
#define LISTS_MAX ((size_t)16 << 30) /* those of some endless files */
#define ENDLESS   ((off_t)4 << 40)   /* bytes of a hole: reading it would take many minutes */

/* Of the pool's four threads. */
#define HASHINGS_MAX ((size_t)2) /* of one peer */
#define HASHINGS_ALL ((size_t)3)

#define DEADLINE_MS 60000

struct files_fixture {
        struct fixture base;
        struct master master;
        struct turns *hashings;
        struct fetch_files files;
        struct rpc_peers *peers;
        struct rpc_peer *peer, *other_peer;
        struct fetch_files second, others; /* further calls: of `peer`, and of `other_peer` */
        struct mutex lock;
        struct condition ended;
        unsigned jobs TSA_GUARDED(lock);
};

static struct files_fixture *present;

static void hold(struct fetch_files *files)
{
        struct files_fixture *f = present;

        mutex_lock(&f->lock);
        f->jobs++;
        mutex_unlock(&f->lock);
}

static void let_go(struct fetch_files *files)
{
        struct files_fixture *f = present;

        mutex_lock(&f->lock);
        f->jobs--;
        condition_broadcast(&f->ended);
        mutex_unlock(&f->lock);
}

static void wait_for_jobs(struct files_fixture *f)
{
        mutex_lock(&f->lock);
        while (f->jobs > 0)
                condition_wait(&f->ended, &f->lock);
        mutex_unlock(&f->lock);
}

static struct fetch_files call_of(struct files_fixture *f, struct rpc_peer *peer)
{
        return (struct fetch_files){
                .master = &f->master, .spider = "sp", .peer = peer, .hold = hold, .let_go = let_go
        };
}

static int set_up(void **state)
{
        struct files_fixture *f = calloc(1, sizeof(*f));
        char dir[96];

        assert_non_null(f);
        present = f;
        fixture_folder(&f->base, "test_fetch_file");
        snprintf(dir, sizeof(dir), "%s/index", f->base.dir);
        assert_int_equal(versions_new(&(struct versions_options){ .root = f->base.root,
                                                                  .pool = f->base.pool,
                                                                  .dir = dir,
                                                                  .watch = WATCHER_OFF,
                                                                  .stat_pass_ms = 600000 },
                                      &f->base.versions),
                         0);
        mutex_init(&f->lock);
        condition_init(&f->ended);
        assert_int_equal(turns_new(f->base.pool, RPC_HASHINGS, &f->hashings), 0);
        f->master = (struct master){ .root = f->base.root,
                                     .pool = f->base.pool,
                                     .hashings = f->hashings,
                                     .versions = f->base.versions };
        f->peers = rpc_peers_new((const struct rpc_share[RPC_SCARCE_N]){
                [RPC_FILES] = { .peer = FILES_MAX, .all = 100 },
                [RPC_LISTS] = { .peer = LISTS_MAX, .all = 100 * LISTS_MAX },
                [RPC_SPARE_LISTS] = { .peer = LISTS_MAX, .all = 100 * LISTS_MAX },
                [RPC_HASHINGS] = { .peer = HASHINGS_MAX, .all = HASHINGS_ALL },
        });
        assert_non_null(f->peers);
        f->peer = rpc_peer_get(f->peers, "ipv4:192.0.2.1:1");
        assert_non_null(f->peer);
        f->other_peer = rpc_peer_get(f->peers, "ipv4:192.0.2.2:1");
        assert_non_null(f->other_peer);
        f->files = call_of(f, f->peer);
        f->second = call_of(f, f->peer);
        f->others = call_of(f, f->other_peer);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct files_fixture *f = *state;
        struct fetch_files *calls[] = { &f->files, &f->second, &f->others };

        for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
                atomic_store(&calls[i]->closed, true);
                fetch_files_withdraw(calls[i]);
        }
        wait_for_jobs(f);
        for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
                fetch_files_release(calls[i]);
        for (enum rpc_scarce what = 0; what < RPC_SCARCE_N; what++) {
                assert_int_equal(rpc_peer_charged(f->peer, what), 0);
                assert_int_equal(rpc_peer_charged(f->other_peer, what), 0);
        }
        rpc_peer_unref(f->peer);
        rpc_peer_unref(f->other_peer);
        rpc_peers_free(f->peers);
        versions_stop(f->base.versions);
        pool_free(f->base.pool);
        turns_free(f->hashings);
        versions_free(f->base.versions);
        condition_release(&f->ended);
        mutex_release(&f->lock);
        fixture_remove(&f->base);
        return 0;
}

/* ---- files ---- */

/* Writes SIZE bytes that SEED tells from others, and names them. */
static struct content_id write_large(struct files_fixture *f, const char *path, uint8_t seed)
{
        int fd = openat(f->base.top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        uint8_t *bytes = malloc(SIZE);
        struct content_id id;
        struct hasher *hasher;

        assert_true(fd >= 0 && bytes);
        for (size_t i = 0; i < SIZE; i++)
                bytes[i] = (uint8_t)(seed + i / 1000);
        assert_int_equal(write(fd, bytes, SIZE), SIZE);
        close(fd);
        assert_int_equal(hasher_new(HASH_XXH3_PIECES, &hasher), 0);
        hasher_update(hasher, bytes, SIZE);
        hasher_final(hasher, &id);
        hasher_free(hasher);
        free(bytes);
        return id;
}

static void write_endless(struct files_fixture *f, const char *path)
{
        int fd = openat(f->base.top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        if (ftruncate(fd, ENDLESS) < 0) {
                close(fd);
                unit_skip("the file system has no room for a hole of 4 TiB");
        }
        close(fd);
}

static void pass(struct files_fixture *f)
{
        struct answer a;

        answer_init(&a);
        assert_int_equal(versions_get(f->base.versions, "sp", VERSIONS_STAT_PASS, 0, &a.request), 0);
        assert_int_equal(answer_wait(&a), 0);
}

static uint64_t hashed(void)
{
        return metrics_get(METRIC_FILES_HASHED);
}

/* What takes the place of a detail that was lost. */
static void damage_list(struct files_fixture *f, const struct content_id *id)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        const uint8_t wrong[4 * 16] = { 1 };
        struct tree_db *db;

        assert_int_equal(versions_place(f->base.versions, "sp", &path), 0);
        assert_int_equal(buffer_printf(&path, "/tree.db"), 0);
        assert_int_equal(tree_db_open_writer(path.data, HASH_XXH3, &db), 0);
        assert_int_equal(tree_db_replace_detail(db, id->bytes, wrong, sizeof(wrong)), 0);
        tree_db_close(db);
}

/* ---- wants ---- */

static struct fetch_item *want(const char *path, const struct content_id *id, uint64_t size)
{
        struct fetch_item *item = calloc(1, sizeof(*item) + strlen(path) + 1);

        assert_non_null(item);
        strcpy(item->path, path);
        item->content = *id;
        item->size = item->end = size;
        return item;
}

static int attach_to(struct fetch_files *files, struct fetch_item *item)
{
        const char *why;

        return fetch_files_attach(files, present->base.top, item, &why);
}

static int attach(struct files_fixture *f, struct fetch_item *item)
{
        return attach_to(&f->files, item);
}

/* As attach, once a job has hashed the file. It may have done so before we look. */
static int attach_hashed(struct files_fixture *f, struct fetch_item *item)
{
        int r = attach(f, item);

        if (r != FETCH_FILES_WAIT)
                return r;
        wait_for_jobs(f);
        return attach(f, item);
}

static void done(struct files_fixture *f, struct fetch_item *item)
{
        fetch_files_detach(&f->files, item);
        free(item);
}

/* ITEM has its file, and the list of what it wants. */
static void check_served(const struct fetch_item *item)
{
        const struct fetch_file *file = item->file;

        assert_non_null(file);
        assert_true(file->fd >= 0);
        assert_true(
                pieces_prove(&item->content, item->size, (const uint8_t *)file->list.data, file->list.len));
}

static int read_piece(const struct fetch_item *item, uint64_t offset)
{
        static uint8_t bytes[PIECE_BYTES];
        const struct content_piece piece = content_piece_at(item->size, offset);

        return content_read_piece(item->file->fd, &item->content, &item->file->list, &piece, bytes);
}

/* True if a descriptor of ours has the file that PATH is. */
static bool is_open(const struct files_fixture *f, const char *path)
{
        struct stat wanted, st;

        assert_int_equal(fstatat(f->base.top, path, &wanted, 0), 0);
        for (int fd = 0; fd < 1000; fd++)
                if (fstat(fd, &st) == 0 && st.st_dev == wanted.st_dev && st.st_ino == wanted.st_ino)
                        return true;
        return false;
}

/* ---- tests ---- */

static void test_list_of_the_tree(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *first = want("a", &id, SIZE), *second = want("a", &id, SIZE);
        uint64_t before;

        pass(f);
        before = hashed();
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        check_served(first);
        assert_int_equal(attach(f, second), FETCH_FILES_OK);
        assert_ptr_equal(first->file, second->file);
        for (uint64_t at = 0; at < SIZE; at += 1000)
                assert_int_equal(read_piece(first, at), 0);
        done(f, first);
        assert_true(is_open(f, "a"));
        done(f, second);
        assert_false(is_open(f, "a"));
        first = want("a", &id, SIZE);
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        check_served(first);
        done(f, first);
        assert_int_equal(hashed(), before);
}

/* Nobody has looked at the workspace yet: who asks has the file hashed, once. */
static void test_without_a_tree(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *first = want("a", &id, SIZE), *second = want("a", &id, SIZE);
        uint64_t before = hashed();

        assert_int_equal(attach_hashed(f, first), FETCH_FILES_OK);
        check_served(first);
        assert_int_equal(attach(f, second), FETCH_FILES_OK);
        done(f, first);
        done(f, second);
        first = want("a", &id, SIZE);
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        check_served(first);
        done(f, first);
        assert_int_equal(hashed(), before + 1);
}

static void test_list_made_anew(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *item = want("a", &id, SIZE);
        _cleanup_buffer_ struct buffer list = { 0 };

        let_age();
        pass(f);
        damage_list(f, &id);
        assert_int_equal(versions_find_list(f->base.versions, "sp", &id, SIZE, &list), TREE_NONE);
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_OK);
        check_served(item);
        done(f, item);
        assert_int_equal(versions_find_list(f->base.versions, "sp", &id, SIZE, &list), TREE_OK);
        assert_true(pieces_prove(&id, SIZE, (const uint8_t *)list.data, list.len));
}

/* A write that no pass has seen: what it left alone is served, the rest is not what is wanted. */
static void test_stale_piece(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *item = want("a", &id, SIZE);
        int fd;

        pass(f);
        fd = openat(f->base.top, "a", O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "x", 1, (off_t)PIECE_BYTES + 7), 1);
        close(fd);
        assert_int_equal(attach(f, item), FETCH_FILES_OK);
        assert_int_equal(read_piece(item, 0), 0);
        assert_int_equal(read_piece(item, PIECE_BYTES), -ESTALE);
        assert_int_equal(read_piece(item, 2 * PIECE_BYTES), 0);
        assert_int_equal(read_piece(item, SIZE), 0);
        done(f, item);
}

static void test_truncated(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *item = want("a", &id, SIZE), *late = want("a", &id, SIZE);
        int fd;

        pass(f);
        assert_int_equal(attach(f, item), FETCH_FILES_OK);
        fd = openat(f->base.top, "a", O_WRONLY | O_CLOEXEC);
        assert_int_equal(ftruncate(fd, (off_t)SIZE - 1), 0);
        close(fd);
        assert_int_equal(read_piece(item, 0), 0);
        assert_int_equal(read_piece(item, SIZE), -ESTALE);
        done(f, item);
        assert_int_equal(attach(f, late), FETCH_FILES_STALE); /* another size */
        done(f, late);
        late = want("b", &id, SIZE);
        assert_int_equal(attach(f, late), -ENOENT);
        done(f, late);
}

/* What a pass, or a job, found under a stamp counts as long as the file has that. */
static void test_trusted(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1), other = write_large(f, "b", 2);
        struct fetch_item *item = want("a", &id, SIZE);

        let_age();
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_OK); /* by a job */
        assert_true(item->file->trusted);
        done(f, item);
        pass(f);
        item = want("b", &other, SIZE);
        assert_int_equal(attach(f, item), FETCH_FILES_OK);
        assert_true(item->file->trusted);
        done(f, item);
        write_large(f, "b", 3);
        item = want("b", &other, SIZE); /* the tree has its list */
        assert_int_equal(attach(f, item), FETCH_FILES_OK);
        assert_false(item->file->trusted);
        done(f, item);
        item = want("a", &other, SIZE); /* whose list it has, but of another file */
        assert_int_equal(attach(f, item), FETCH_FILES_OK);
        assert_false(item->file->trusted);
        done(f, item);
}

/* Whoever asks for what the file does not hold costs the master one reading of it, not one for each time that he asks. */
static void test_other_content_than_was_sent(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1), other = { .algorithm = HASH_XXH3_PIECES };
        uint64_t before = hashed();

        let_age();
        for (int i = 0; i < 2; i++) {
                struct fetch_item *item = want("a", &id, SIZE);

                assert_int_equal(attach_hashed(f, item), FETCH_FILES_OK);
                done(f, item);
        }
        for (int i = 0; i < 2; i++) {
                struct fetch_item *item = want("a", &other, SIZE);

                assert_int_equal(attach_hashed(f, item), FETCH_FILES_STALE);
                done(f, item);
        }
        assert_int_equal(hashed(), before + 1);
}

static void test_other_content(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1), other = { .algorithm = HASH_XXH3_PIECES };
        struct fetch_item *item = want("a", &other, SIZE);
        uint64_t before = hashed();

        let_age();
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_STALE);
        assert_null(item->file);
        assert_int_equal(attach(f, item), FETCH_FILES_STALE);
        assert_int_equal(hashed(), before + 1);
        done(f, item);
        id = write_large(f, "a", 2); /* now it is read again */
        item = want("a", &id, SIZE);
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_OK);
        check_served(item);
        done(f, item);
}

/* Of a file that a pass has read under the stamp that it has, it is known without reading it what it does not hold. */
static void test_other_content_than_is_known(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1), other = { .algorithm = HASH_XXH3_PIECES },
                          other_base = { .algorithm = HASH_SHA256_PIECES };
        struct fetch_item *item = want("a", &other, SIZE);
        uint64_t before;

        let_age();
        pass(f);
        before = hashed();
        for (int i = 0; i < 2; i++)
                assert_int_equal(attach(f, item), FETCH_FILES_STALE);
        assert_int_equal(hashed(), before);
        done(f, item);
        item = want("a", &other_base, SIZE); /* the pass does not know what it holds by that */
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_STALE);
        assert_int_equal(hashed(), before + 1);
        done(f, item);
        damage_list(f, &id); /* it does hold what is wanted */
        item = want("a", &id, SIZE);
        assert_int_equal(attach_hashed(f, item), FETCH_FILES_OK);
        check_served(item);
        done(f, item);
}

/* Two wants of one path for different contents: each has what it is about. */
static void test_replaced_while_sent(void **state)
{
        struct files_fixture *f = *state;
        struct content_id old = write_large(f, "a", 1), new;
        struct fetch_item *first = want("a", &old, SIZE), *second;

        pass(f);
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        assert_int_equal(renameat(f->base.top, "a", f->base.top, "gone"), 0);
        new = write_large(f, "a", 2);
        pass(f);
        second = want("a", &new, SIZE);
        assert_int_equal(attach(f, second), FETCH_FILES_OK);
        check_served(second);
        assert_int_equal(read_piece(second, 0), 0);
        check_served(first);
        assert_int_equal(read_piece(first, 0), 0);
        done(f, first);
        assert_false(is_open(f, "gone"));
        done(f, second);
        assert_false(is_open(f, "a"));
}

/* ---- hashing in vain ---- */

static void wait_until_read(uint64_t before)
{
        while (hashed() == before) /* until the job has begun */
                usleep(1000);
}

static void wait_until_hashed(uint64_t number)
{
        for (int i = 0; hashed() < number && i < DEADLINE_MS; i++)
                usleep(1000);
        assert_int_equal(hashed(), number);
}

/* What a job of FILES' is to bring for ITEM: it, or what is wrong with it. */
static int attach_in_time(struct fetch_files *files, struct fetch_item *item)
{
        int r = FETCH_FILES_WAIT;

        for (int i = 0; (r = attach_to(files, item)) == FETCH_FILES_WAIT && i < DEADLINE_MS; i++)
                usleep(1000);
        return r;
}

static void test_cancelled(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = { .algorithm = HASH_XXH3_PIECES };
        struct fetch_item *item = want("a", &id, (uint64_t)ENDLESS),
                          *other = want("a", &id, (uint64_t)ENDLESS);
        uint64_t before = hashed();

        write_endless(f, "a");
        assert_int_equal(attach(f, item), FETCH_FILES_WAIT);
        wait_until_read(before);
        assert_int_equal(attach(f, other), FETCH_FILES_WAIT);
        assert_null(other->file); /* it waits for the outcome, and may find another file then */
        done(f, item);
        wait_for_jobs(f);
        assert_false(is_open(f, "a"));

        assert_int_equal(attach(f, other), FETCH_FILES_WAIT); /* and has it hashed for itself */
        assert_non_null(other->file);
        done(f, other);
        wait_for_jobs(f);
        assert_false(is_open(f, "a"));
}

static void test_call_closed(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = { .algorithm = HASH_XXH3_PIECES };
        struct fetch_item *item = want("a", &id, (uint64_t)ENDLESS);
        uint64_t before = hashed();

        write_endless(f, "a");
        assert_int_equal(attach(f, item), FETCH_FILES_WAIT);
        wait_until_read(before);
        atomic_store(&f->files.closed, true);
        wait_for_jobs(f);
        assert_int_equal(attach(f, item), -ECANCELED);
        done(f, item);
}

/* Wants of one peer's calls that need more hashing than it may have: what is beyond that waits, other peers' wants do not. */
static void test_share_of_hashing(void **state)
{
        struct files_fixture *f = *state;
        struct content_id none = { .algorithm = HASH_XXH3_PIECES }, id;
        struct fetch_item *endless[5], *theirs, *own;
        const uint64_t before = hashed();
        char name[8];

        id = write_large(f, "a", 1);
        for (size_t i = 0; i < ARRAY_SIZE(endless); i++) {
                snprintf(name, sizeof(name), "%zu", i);
                write_endless(f, name);
                endless[i] = want(name, &none, (uint64_t)ENDLESS);
                assert_int_equal(attach_to(i % 2 == 0 ? &f->files : &f->second, endless[i]),
                                 FETCH_FILES_WAIT);
                assert_non_null(endless[i]->file);
        }
        own = want("a", &id, SIZE);
        assert_int_equal(attach_to(&f->second, own), FETCH_FILES_WAIT);
        assert_int_equal(rpc_peer_charged(f->peer, RPC_HASHINGS), HASHINGS_MAX);
        wait_until_hashed(before + HASHINGS_MAX);

        theirs = want("a", &id, SIZE);
        assert_int_equal(attach_in_time(&f->others, theirs), FETCH_FILES_OK);
        check_served(theirs);
        fetch_files_detach(&f->others, theirs);
        free(theirs);
        assert_int_equal(hashed(), before + HASHINGS_MAX + 1);
        assert_int_equal(attach_to(&f->second, own), FETCH_FILES_WAIT);

        for (size_t i = 0; i < ARRAY_SIZE(endless); i++) {
                if (i + HASHINGS_MAX <= ARRAY_SIZE(endless)) /* the next ones have begun */
                        wait_until_hashed(before + HASHINGS_MAX + 1 + i);
                assert_true(rpc_peer_charged(f->peer, RPC_HASHINGS) <= HASHINGS_MAX);
                fetch_files_detach(i % 2 == 0 ? &f->files : &f->second, endless[i]);
                free(endless[i]);
        }
        assert_int_equal(attach_in_time(&f->second, own), FETCH_FILES_OK);
        check_served(own);
        fetch_files_detach(&f->second, own);
        free(own);
}

/* Wants of N files without end: as many are being hashed then as may be. */
static void want_endless(struct files_fixture *f, struct fetch_item **items, size_t n)
{
        const struct content_id none = { .algorithm = HASH_XXH3_PIECES };
        const uint64_t before = hashed();
        char name[8];

        for (size_t i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "%zu", i);
                write_endless(f, name);
                items[i] = want(name, &none, (uint64_t)ENDLESS);
                assert_int_equal(attach(f, items[i]), FETCH_FILES_WAIT);
        }
        wait_until_hashed(before + HASHINGS_MAX);
}

/* Nobody waits any more for what waits to be hashed: it is let go at once, whatever is being hashed meanwhile. */
static void test_cancelled_in_line(void **state)
{
        struct files_fixture *f = *state;
        struct content_id none = { .algorithm = HASH_XXH3_PIECES };
        struct fetch_item *items[HASHINGS_MAX], *last, *other;
        const uint64_t before = hashed();

        want_endless(f, items, ARRAY_SIZE(items));
        write_endless(f, "last");
        last = want("last", &none, (uint64_t)ENDLESS);
        other = want("last", &none, (uint64_t)ENDLESS);
        assert_int_equal(attach(f, last), FETCH_FILES_WAIT);
        assert_int_equal(attach(f, other), FETCH_FILES_WAIT);
        assert_null(other->file);
        assert_true(is_open(f, "last"));
        done(f, last);
        assert_false(is_open(f, "last"));
        assert_int_equal(attach(f, other), FETCH_FILES_WAIT);
        assert_non_null(other->file);
        done(f, other);
        assert_int_equal(rpc_peer_charged(f->peer, RPC_FILES), HASHINGS_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(items); i++)
                done(f, items[i]);
        wait_for_jobs(f);
        assert_int_equal(hashed(), before + HASHINGS_MAX);
}

static void test_call_closed_in_line(void **state)
{
        struct files_fixture *f = *state;
        struct fetch_item *items[HASHINGS_MAX + 2];
        const uint64_t before = hashed();

        want_endless(f, items, ARRAY_SIZE(items));
        atomic_store(&f->files.closed, true);
        fetch_files_withdraw(&f->files);
        wait_for_jobs(f);
        assert_int_equal(rpc_peer_charged(f->peer, RPC_HASHINGS), 0);
        assert_int_equal(hashed(), before + HASHINGS_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
                assert_int_equal(attach(f, items[i]), -ECANCELED);
                done(f, items[i]);
        }
}

static void test_many(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "0", 1);
        struct fetch_item *items[FETCH_FILES_MAX + 1];
        char name[8];

        for (int i = 1; i <= FETCH_FILES_MAX; i++) {
                snprintf(name, sizeof(name), "%d", i);
                assert_int_equal(linkat(f->base.top, "0", f->base.top, name, 0), 0);
        }
        pass(f);
        for (int i = 0; i <= FETCH_FILES_MAX; i++) {
                snprintf(name, sizeof(name), "%d", i);
                items[i] = want(name, &id, SIZE);
                assert_int_equal(attach(f, items[i]),
                                 i < FETCH_FILES_MAX ? FETCH_FILES_OK : FETCH_FILES_WAIT);
        }
        done(f, items[3]);
        assert_int_equal(attach(f, items[FETCH_FILES_MAX]), FETCH_FILES_OK);
        check_served(items[FETCH_FILES_MAX]);
        for (int i = 0; i <= FETCH_FILES_MAX; i++)
                if (i != 3)
                        done(f, items[i]);
}

/* What other calls of the same peer have leaves room for one file, or none; what they have of lists likewise. */
static void test_share(void **state)
{
        struct files_fixture *f = *state;
        struct content_id id = write_large(f, "a", 1);
        struct fetch_item *first = want("a", &id, SIZE), *second = want("b", &id, SIZE);
        const size_t list_bytes = pieces_count(SIZE) * HASH_BYTES;
        size_t spare;

        assert_int_equal(linkat(f->base.top, "a", f->base.top, "b", 0), 0);
        pass(f);
        assert_true(rpc_peer_charge(f->peer, RPC_FILES, FILES_MAX - 1));
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        assert_false(f->files.short_of);
        assert_int_equal(attach(f, second), FETCH_FILES_WAIT);
        assert_true(f->files.short_of);
        done(f, first);
        assert_int_equal(attach(f, second), FETCH_FILES_OK);
        done(f, second);
        rpc_peer_discharge(f->peer, RPC_FILES, FILES_MAX - 1);

        first = want("a", &id, SIZE);
        assert_true(rpc_peer_charge(f->peer, RPC_LISTS, LISTS_MAX - list_bytes + 1));
        assert_int_equal(attach(f, first), FETCH_FILES_WAIT);
        assert_false(is_open(f, "a"));
        rpc_peer_discharge(f->peer, RPC_LISTS, 1);
        assert_int_equal(attach(f, first), FETCH_FILES_OK);
        check_served(first);
        spare = LISTS_MAX - rpc_peer_charged(f->peer, RPC_SPARE_LISTS);
        assert_true(rpc_peer_charge(f->peer, RPC_SPARE_LISTS, spare));
        done(f, first); /* its list is not kept */
        assert_int_equal(rpc_peer_charged(f->peer, RPC_SPARE_LISTS), LISTS_MAX);
        rpc_peer_discharge(f->peer, RPC_LISTS, LISTS_MAX - list_bytes);
        rpc_peer_discharge(f->peer, RPC_SPARE_LISTS, spare);
}

static void test_piece_at(void **state)
{
        static const struct {
                uint64_t size, offset, begin;
                size_t len;
        } cases[] = {
                { 0, 0, 0, 0 },
                { 100, 0, 0, 100 },
                { 100, 100, 0, 100 },
                { PIECE_BYTES, PIECE_BYTES - 1, 0, PIECE_BYTES },
                { PIECE_BYTES, PIECE_BYTES, 0, PIECE_BYTES },
                { PIECE_BYTES + 1, PIECE_BYTES, PIECE_BYTES, 1 },
                { PIECE_BYTES + 1, PIECE_BYTES + 1, PIECE_BYTES, 1 },
                { 3 * PIECE_BYTES, 2 * PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES },
                { 3 * PIECE_BYTES, 3 * PIECE_BYTES, 2 * PIECE_BYTES, PIECE_BYTES },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct content_piece piece = content_piece_at(cases[i].size, cases[i].offset);

                assert_int_equal(piece.begin, cases[i].begin);
                assert_int_equal(piece.len, cases[i].len);
        }
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

static const struct CMUnitTest tests[] = {
        TEST(test_list_of_the_tree),
        TEST(test_without_a_tree),
        TEST(test_list_made_anew),
        TEST(test_stale_piece),
        TEST(test_truncated),
        TEST(test_trusted),
        TEST(test_other_content),
        TEST(test_other_content_than_is_known),
        TEST(test_other_content_than_was_sent),
        TEST(test_replaced_while_sent),
        TEST(test_cancelled),
        TEST(test_call_closed),
        TEST(test_share_of_hashing),
        TEST(test_cancelled_in_line),
        TEST(test_call_closed_in_line),
        TEST(test_many),
        TEST(test_share),
        cmocka_unit_test(test_piece_at),
};

UNIT_MAIN(tests)
