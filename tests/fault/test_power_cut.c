/*
 * A power cut at every moment of a store's and a catalog's work: what they did is recorded, and what a disk may hold afterwards is made again, and opened.
 * First all that came before each call and nothing after it, then samples of what a file system may have done with what was not synced (tests/fault/crash.h).
 *
 * Promised (promise 4): both open; no wrong byte is served; the catalog holds a version that was committed, whole, and none older than
 * the last that a checkpoint has synced; nothing temporary stays. Contents need not be there: none is synced.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "tests/unit/unit.h"

#include "base/io.h"
#include "base/log.h"
#include "base/pieces.h"
#include "cache/catalog_private.h"
#include "cache/catalogs.h"
#include "cache/pieces.h"
#include "cache/store_private.h"
#include "tests/fault/crash.h"
#include "tests/tempdir.h"

#define SOURCE       "master:/spider"
#define FOLDER       "/dev/shm/power_cut.XXXXXX"
#define LARGE        (PIECE_BYTES + 5000)
#define VERSIONS_MAX 16
#define SAMPLES      500 /* and FULL with FSYNCFS_TEST_FULL=1 */
#define FULL         10000

static const char *const texts[] = { "alpha", "beta", "gamma" };

#define XXH3_LEN 16u /* of a hash in a list */

struct large {
        struct content_id id;
        uint8_t list[2 * XXH3_LEN];
        uint8_t data[LARGE];
};

struct committed {
        uint8_t digest[HASH_BYTES];
        uint64_t revision;
        size_t at; /* so many records had come */
};

struct world {
        char dir[64], boot[80];
        struct store *store;
        struct catalog *catalog;
        struct content_id ids[ARRAY_SIZE(texts)];
        struct large large[2];
        struct committed committed[VERSIONS_MAX], synced[VERSIONS_MAX]; /* the latter: the newest then */
        size_t n_committed, n_synced;
        uint64_t boots;
        uint64_t seed;
        struct crash_plan plan;
        uint64_t cuts, kept[VERSIONS_MAX + 1];
        bool cutting;
};

/* ---- what there is to write ---- */

static void make_large(struct large *large, uint8_t first)
{
        for (size_t i = 0; i < LARGE; i++)
                large->data[i] = (uint8_t)(first + i / 256 + i);
        for (size_t i = 0; i < 2; i++) {
                uint8_t hash[HASH_BYTES];
                hash_bytes(HASH_XXH3, large->data + i * PIECE_BYTES, piece_len(LARGE, i), hash);
                memcpy(large->list + i * XXH3_LEN, hash, XXH3_LEN);
        }
        pieces_name(HASH_XXH3_PIECES, LARGE, large->list, sizeof(large->list), &large->id);
}

static struct content_id id_of_text(const char *text)
{
        struct content_id id = { .algorithm = HASH_XXH3 };

        hash_bytes(HASH_XXH3, text, strlen(text), id.bytes);
        return id;
}

static void put_text(struct world *w, size_t i)
{
        struct store_writer *writer;
        int r = store_write_begin(w->store, &w->ids[i], strlen(texts[i]), &writer);

        if (r == STORE_HAVE)
                return;
        assert_int_equal(r, STORE_OK);
        assert_int_equal(store_write(writer, texts[i], strlen(texts[i])), 0);
        assert_int_equal(store_write_commit(writer), STORE_OK);
}

static struct store_pieces *open_large(struct world *w, size_t i)
{
        struct store_pieces *pieces = NULL;
        int r = store_pieces_open(w->store, &w->large[i].id, LARGE, true, &pieces);

        assert_true(r == STORE_OK || r == STORE_HAVE);
        if (r == STORE_OK)
                assert_int_equal(store_pieces_set_list(pieces, w->large[i].list, sizeof(w->large[i].list)),
                                 STORE_OK);
        return pieces;
}

static void bring(struct world *w, size_t i, unsigned count)
{
        struct store_pieces *pieces = open_large(w, i);

        for (uint64_t p = 0; pieces && p < count; p++) {
                int r = store_pieces_claim(pieces, p, true);
                if (r == STORE_OK)
                        r = store_pieces_put(pieces, p, w->large[i].data + p * PIECE_BYTES,
                                             piece_len(LARGE, p));
                assert_true(r == STORE_OK || r == STORE_HAVE);
        }
        store_pieces_unref(pieces);
}

static struct entry entry_of(const char *path, enum entry_kind kind, uint64_t number)
{
        struct entry entry = { .path = path,
                               .path_len = strlen(path),
                               .kind = kind,
                               .mode = 0644,
                               .mtime_ns = 1000,
                               .size = kind == ENTRY_FILE ? number : 0 };

        entry.whole = entry.path_len == 0;
        if (kind == ENTRY_FILE) {
                entry.content.algorithm = HASH_XXH3;
                hash_bytes(HASH_XXH3, &number, sizeof(number), entry.content.bytes);
        }
        return entry;
}

static void take_version(struct world *w, uint64_t revision)
{
        struct catalog_changes changes;
        struct catalog_update *update;
        struct entry entry = entry_of("", ENTRY_DIRECTORY, 0);

        assert_int_equal(catalog_update_begin(w->catalog, &update), 0);
        assert_int_equal(catalog_update_put(update, &entry), 0);
        for (uint64_t i = 0; i < 60; i++) {
                char path[48];
                snprintf(path, sizeof(path), "a file with a name of its own, %03u", (unsigned)i);
                entry = entry_of(path, ENTRY_FILE, i % 3 == 0 ? i : i + revision * 1000);
                assert_int_equal(catalog_update_put(update, &entry), 0);
        }
        assert_int_equal(catalog_update_commit(update, NULL, revision, &changes), CATALOG_OK);
        catalog_changes_release(&changes);
}

/* ---- the work that is cut ---- */

static size_t records(void)
{
        size_t n;

        (void)recorder_get(&n);
        return n;
}

static size_t syncs(void)
{
        size_t n, found = 0;
        const struct record *all = recorder_get(&n);

        for (size_t i = 0; i < n; i++)
                found += all[i].kind == RECORD_SYNC;
        return found;
}

static void note(struct world *w, struct committed *all, size_t *n)
{
        struct catalog_version version;

        assert_true(*n < VERSIONS_MAX);
        catalog_get_version(w->catalog, &version);
        all[*n] = (struct committed){ .revision = version.revision, .at = records() };
        memcpy(all[(*n)++].digest, version.digest, HASH_BYTES);
}

static void commit(struct world *w, uint64_t revision)
{
        /* It counts as committed from its first byte on: where in its midst is SQLite's affair. */
        struct committed begun = { .at = records() };

        take_version(w, revision);
        note(w, w->committed, &w->n_committed);
        w->committed[w->n_committed - 1].at = begun.at;
}

static void checkpoint(struct world *w)
{
        catalog_checkpoint(w->catalog, 0);
        note(w, w->synced, &w->n_synced);
}

static void reopen_catalog(struct world *w)
{
        struct catalog_verified verified;

        catalog_free(TAKE_PTR(w->catalog));
        assert_int_equal(catalog_verify_all(w->dir, true, NULL, NULL, &verified), 0);
        assert_int_equal(verified.damaged, 0);
        assert_int_equal(catalog_open(w->dir, SOURCE, &w->catalog), 0);
}

static void new_boot(struct world *w)
{
        char text[64];
        int fd = open(w->boot, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        snprintf(text, sizeof(text), "boot %llu\n", (unsigned long long)w->boots++);
        assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
        close(fd);
}

/*
 * A reader in the log keeps it from being emptied; as it has moved on by the next version, that begins the log anew in its place. Its head has to be synced then: without that hardly
 * any cut would hit the one moment.
 */
static void work_with_reader(struct world *w)
{
        struct catalog_reader *reader;
        size_t before;

        commit(w, 4);
        assert_int_equal(catalog_reader_take(w->catalog, &reader), 0);
        checkpoint(w);
        assert_int_equal(catalog_reader_renew(w->catalog, reader), 0);
        assert_int_equal(catalog_reader_give(w->catalog, reader, 0), 0);
        before = syncs();
        commit(w, 5);
        assert_true(syncs() > before);
        commit(w, 6);
}

static void work_with_store(struct world *w)
{
        struct store_evicted evicted = { 0 };

        put_text(w, 1);
        bring(w, 1, 1);
        assert_int_equal(store_pin(w->store, &w->ids[0]), 0);
        store_free(TAKE_PTR(w->store));
        assert_int_equal(store_open(w->dir, &w->store), 0);
        assert_int_equal(store_evict(w->store, 0, &evicted), 0);
        put_text(w, 2);
        bring(w, 0, 2);
        bring(w, 1, 1);
        assert_int_equal(store_unpin(w->store, &w->ids[0]), STORE_OK);
}

static void work(struct world *w)
{
        assert_int_equal(store_open(w->dir, &w->store), 0);
        assert_int_equal(catalog_open(w->dir, SOURCE, &w->catalog), 0);
        put_text(w, 0);
        commit(w, 1);
        bring(w, 0, 2);
        commit(w, 2);
        checkpoint(w);
        commit(w, 3);
        work_with_store(w);
        work_with_reader(w);
        reopen_catalog(w);
        note(w, w->synced, &w->n_synced);
        commit(w, 7);
        checkpoint(w);
        commit(w, 8);
        catalog_free(TAKE_PTR(w->catalog));
        store_free(TAKE_PTR(w->store));
}

/* ---- what is left ---- */

static void check_content(struct world *w, const struct content_id *id, const void *data, size_t len)
{
        _cleanup_buffer_ struct buffer got = { 0 };
        _cleanup_close_ int fd = -1;
        int r = store_get(w->store, id, &fd);

        assert_true(r == STORE_OK || r == STORE_MISS);
        if (r == STORE_MISS)
                return;
        assert_int_equal(io_read_to_end(fd, 1 << 24, &got), 0);
        assert_int_equal(got.len, len);
        assert_memory_equal(got.data, data, len);
}

static void check_pieces(struct world *w, size_t i)
{
        static uint8_t got[PIECE_BYTES];
        struct store_pieces *pieces = open_large(w, i);

        for (uint64_t p = 0; pieces && p < 2; p++) {
                if (store_pieces_state(pieces, p) == PIECE_UNCHECKED)
                        assert_true(store_pieces_check(pieces, p) >= 0);
                if (store_pieces_state(pieces, p) != PIECE_HERE)
                        continue;
                assert_int_equal(store_pieces_read(pieces, got, piece_len(LARGE, p), p * PIECE_BYTES),
                                 piece_len(LARGE, p));
                assert_memory_equal(got, w->large[i].data + p * PIECE_BYTES, piece_len(LARGE, p));
        }
        store_pieces_unref(pieces);
}

static void check_contents(struct world *w)
{
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                check_content(w, &w->ids[i], texts[i], strlen(texts[i]));
        for (size_t i = 0; i < ARRAY_SIZE(w->large); i++) {
                check_pieces(w, i);
                check_content(w, &w->large[i].id, w->large[i].data, LARGE);
        }
}

/* S4, and what is written beside a file that it is to replace. */
static void check_left_over(const struct world *w, const char *folder, const char *suffix)
{
        char path[96];
        struct dirent *de;
        DIR *dir;

        snprintf(path, sizeof(path), "%s/%s", w->dir, folder);
        dir = opendir(path);
        assert_non_null(dir);
        while ((de = readdir(dir))) {
                size_t len = strlen(de->d_name);
                assert_false(de->d_name[0] != '.' && len >= strlen(suffix) &&
                             strcmp(de->d_name + len - strlen(suffix), suffix) == 0);
        }
        closedir(dir);
}

/* S7 */
static void check_accounts(struct world *w)
{
        struct store_usage before, after;

        for (int i = 0; i < 2; i++) {
                struct store_usage *usage = i == 0 ? &before : &after;
                for (size_t t = 0; t < ARRAY_SIZE(texts); t++)
                        assert_int_equal(usage_count(w->store, usage_shard_of(&w->ids[t]), NULL, NULL), 0);
                for (size_t l = 0; l < ARRAY_SIZE(w->large); l++)
                        assert_int_equal(usage_count(w->store, usage_shard_of(&w->large[l].id), NULL, NULL),
                                         0);
                store_get_usage(w->store, usage);
                if (i == 0)
                        check_contents(w);
        }
        assert_int_equal(after.reserved, 0);
}

static void check_store(struct world *w)
{
        assert_int_equal(store_open(w->dir, &w->store), 0);
        check_left_over(w, "partial", "");
        check_left_over(w, "", ".new");
        check_accounts(w);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                put_text(w, i);
        bring(w, 0, 2);
        bring(w, 1, 2);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                assert_true(store_has(w->store, &w->ids[i]));
        check_contents(w);
        store_free(TAKE_PTR(w->store));
}

/* The newest that was committed before the cut, or its first byte written. */
static size_t newest(const struct committed *all, size_t n, size_t cut)
{
        size_t i = n;

        while (i > 0 && all[i - 1].at > cut)
                i--;
        return i;
}

/* Which of the versions VERSION is, counted from 1; 0: none yet. */
static size_t which(const struct world *w, const struct catalog_version *version)
{
        if (!version->valid)
                return 0;
        for (size_t i = 0; i < w->n_committed; i++)
                if (w->committed[i].revision == version->revision &&
                    memcmp(w->committed[i].digest, version->digest, HASH_BYTES) == 0)
                        return i + 1;
        fail_msg("a version that nobody has committed");
        return 0;
}

static void check_not_damaged(const struct world *w)
{
        char folder[128];

        snprintf(folder, sizeof(folder), "catalogs/%016llx",
                 (unsigned long long)hash_xxh3_64(SOURCE, strlen(SOURCE)));
        check_left_over(w, folder, ".damaged");
        check_left_over(w, folder, ".suspect");
}

/* C1, C4 */
static void check_catalog(struct world *w)
{
        struct catalog_version version;
        size_t found, synced = newest(w->synced, w->n_synced, w->plan.cut);

        assert_int_equal(catalog_open(w->dir, SOURCE, &w->catalog), 0);
        check_not_damaged(w);
        catalog_get_version(w->catalog, &version);
        found = which(w, &version);
        assert_true(found <= newest(w->committed, w->n_committed, w->plan.cut));
        if (synced > 0)
                assert_true(found > 0 && w->committed[found - 1].revision >= w->synced[synced - 1].revision);
        if (found > 0)
                assert_int_equal(catalog_check_digest(w->catalog), CATALOG_OK);
        w->kept[found]++;
        take_version(w, 100);
        assert_int_equal(catalog_check_digest(w->catalog), CATALOG_OK);
        reopen_catalog(w);
        catalog_get_version(w->catalog, &version);
        assert_int_equal(version.revision, 100);
        catalog_free(TAKE_PTR(w->catalog));
}

static void cut(struct world *w, const struct crash_plan *plan)
{
        size_t n;
        const struct record *all = recorder_get(&n);

        w->plan = *plan;
        w->cutting = true;
        tempdir_empty(w->dir);
        crash_make(all, plan, w->dir);
        new_boot(w);
        check_store(w);
        check_catalog(w);
        w->cuts++;
        w->cutting = false;
}

/* ---- tests ---- */

static void test_every_call(void **state)
{
        struct world *w = *state;

        for (size_t at = 0; at <= records(); at++)
                cut(w, &(struct crash_plan){ .cut = at });
}

static bool is_full(void)
{
        const char *full = getenv("FSYNCFS_TEST_FULL");

        return full && strcmp(full, "1") == 0;
}

/* Of the numbers that follow SEED the first says where, the second what is missing. */
static void sample(struct world *w, enum crash_order order)
{
        const char *only = getenv("FSYNCFS_POWER_CUT_SEED");
        uint64_t seed = only ? strtoull(only, NULL, 0) : w->seed;

        print_message("# FSYNCFS_POWER_CUT_SEED=%llu\n", (unsigned long long)seed);
        for (unsigned i = 0; i < (is_full() ? FULL : SAMPLES) / 2; i++) {
                uint64_t random = hash_xxh3_64(&seed, sizeof(seed)) + i;
                cut(w, &(struct crash_plan){ .order = order,
                                             .cut = hash_xxh3_64(&random, sizeof(random)) % (records() + 1),
                                             .seed = random });
        }
}

static void test_journal(void **state)
{
        sample(*state, CRASH_ORDERED);
}

static void test_no_journal(void **state)
{
        sample(*state, CRASH_LOOSE);
}

static void test_report(void **state)
{
        struct world *w = *state;

        print_message("# RELIABILITY Power cut | after each of %zu recorded calls, and %llu times with what "
                      "was not synced missing, torn or out of"
                      " order | both open as they are, no wrong byte, the last synced version or a newer "
                      "one, no temporary"
                      " file | so it was %llu times; no version yet %llu times\n",
                      records(), (unsigned long long)(w->cuts - records() - 1), (unsigned long long)w->cuts,
                      (unsigned long long)w->kept[0]);
}

static int begin(void **state)
{
        struct world *w = calloc(1, sizeof(*w));

        assert_non_null(w);
        log_setup("power_cut", LOG_LEVEL_ERROR);
        strcpy(w->dir, FOLDER);
        assert_non_null(mkdtemp(w->dir));
        snprintf(w->boot, sizeof(w->boot), "%s.boot", w->dir);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                w->ids[i] = id_of_text(texts[i]);
        make_large(&w->large[0], 1);
        make_large(&w->large[1], 77);
        assert_int_equal(getrandom(&w->seed, sizeof(w->seed), 0), sizeof(w->seed));
        new_boot(w);
        recorder_set_boot(w->boot);
        recorder_begin(w->dir, "usage");
        work(w);
        recorder_end();
        *state = w;
        return 0;
}

/* A test that failed says where, and leaves nothing open for the next. */
static int end_test(void **state)
{
        struct world *w = *state;

        if (w->cutting)
                print_message("# cut after %zu of %zu calls, order %d, seed %llu\n", w->plan.cut, records(),
                              (int)w->plan.order, (unsigned long long)w->plan.seed);
        w->cutting = false;
        catalog_free(TAKE_PTR(w->catalog));
        store_free(TAKE_PTR(w->store));
        return 0;
}

static int end(void **state)
{
        struct world *w = *state;

        tempdir_remove(w->dir);
        unlink(w->boot);
        recorder_clear();
        free(w);
        return 0;
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_call, end_test),
        cmocka_unit_test_teardown(test_journal, end_test),
        cmocka_unit_test_teardown(test_no_journal, end_test),
        cmocka_unit_test(test_report),
};

int main(void)
{
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, begin, end);
}
