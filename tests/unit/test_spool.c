/* Spools: what they hold, in which form; that all who ask share one; and that a transfer can go on where it was. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/lock.h"
#include "proto/pack.h"
#include "proto/sync_service.pb-c.h"
#include "server/spool.h"

#define FILES_MANY 40000 /* several packs */

struct fixture {
        char dir[32], tree_dir[64];
        struct tree *tree;
        struct pool *pool;
        struct rpc_peers *peers;
        struct rpc_peer *peer, *other;
        struct turns *gatherings; /* one of a peer's at a time */
        struct spools *spools;
        uint64_t folder; /* id of "many" */
};

/* ---- the tree: folder "few" with three files, folder "many" with as many as asked for ---- */

static struct tree_change put_file(uint64_t parent, unsigned i, uint64_t size)
{
        struct tree_change c = { .op = TREE_PUT,
                                 .row = { .parent = parent, .kind = ENTRY_FILE, .mode = 0644 } };

        c.row.stamp = (struct tree_stamp){ .device = 1, .inode = 1000 + i, .size = size, .mtime_ns = i };
        c.row.name_len = (size_t)snprintf(c.row.name, sizeof(c.row.name), "file%06u", i);
        hash_bytes(HASH_XXH3, &i, sizeof(i), c.row.digest);
        return c;
}

static struct tree_change put_folder(uint64_t parent, uint64_t id, const char *name)
{
        struct tree_change c = {
                .op = TREE_PUT, .row = { .parent = parent, .id = id, .kind = ENTRY_DIRECTORY, .mode = 0755 }
        };

        c.row.stamp = (struct tree_stamp){ .device = 1, .inode = id };
        c.row.name_len = (size_t)snprintf(c.row.name, sizeof(c.row.name), "%s", name);
        return c;
}

static void put_files(struct tree_update *update, uint64_t folder, unsigned count, uint64_t size)
{
        for (unsigned i = 0; i < count; i++) {
                struct tree_change change = put_file(folder, i, size);
                assert_int_equal(tree_update_apply(update, &change, 1), 0);
        }
}

static uint64_t commit(struct tree_update *update, struct tree_version *ret)
{
        assert_int_equal(tree_update_commit(update, ret), 0);
        return ret->revision;
}

static void make_tree(struct fixture *f, unsigned many)
{
        struct tree_update *update;
        struct tree_version version;
        struct tree_change root[3];
        uint64_t few;

        assert_int_equal(tree_update_begin(f->tree, &update), 0);
        few = tree_update_new_id(update);
        f->folder = tree_update_new_id(update);
        root[0] = put_folder(0, TREE_ROOT_ID, "");
        assert_int_equal(tree_update_apply(update, root, 1), 0);
        root[0] = put_folder(TREE_ROOT_ID, few, "few");
        root[1] = put_folder(TREE_ROOT_ID, f->folder, "many");
        root[2] = put_file(TREE_ROOT_ID, 7, 7);
        assert_int_equal(tree_update_apply(update, root, 3), 0);
        put_files(update, few, 3, 1);
        put_files(update, f->folder, many, 1);
        commit(update, &version);
}

/* The first COUNT files of "many" change; from which version to which. */
static void change_files(struct fixture *f, unsigned count, struct tree_version *ret_before,
                         struct tree_version *ret_after)
{
        static uint64_t size = 1000;
        struct tree_update *update;

        tree_get_version(f->tree, ret_before);
        assert_int_equal(tree_update_begin(f->tree, &update), 0);
        put_files(update, f->folder, count, ++size);
        assert_true(commit(update, ret_after) > ret_before->revision);
}

static void new_spools(struct fixture *f, uint64_t bytes_max, const char *dir)
{
        struct spools_options options = { .pool = f->pool,
                                          .gatherings = f->gatherings,
                                          .dir = dir,
                                          .bytes_max = bytes_max,
                                          .idle_ms = 60000 };

        assert_int_equal(spools_new(&options, &f->spools), 0);
}

static int setup(void **state)
{
        const struct rpc_share shares[RPC_SCARCE_N] = { [RPC_GATHERINGS] = { .peer = 1, .all = 2 } };
        struct fixture *f = calloc(1, sizeof(*f));
        struct tree_options options = { .dir = f->tree_dir, .label = "test" };

        strcpy(f->dir, "/tmp/fsyncfs-spool-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->tree_dir, sizeof(f->tree_dir), "%s/tree", f->dir);
        assert_int_equal(tree_open(&options, &f->tree), 0);
        assert_int_equal(pool_new(2, &f->pool), 0);
        assert_int_equal(turns_new(f->pool, RPC_GATHERINGS, &f->gatherings), 0);
        f->peers = rpc_peers_new(shares);
        f->peer = rpc_peer_get(f->peers, "ipv4:192.0.2.1:1");
        f->other = rpc_peer_get(f->peers, "ipv4:192.0.2.2:1");
        new_spools(f, 1 << 30, f->dir);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char command[64];

        pool_free(f->pool);
        spools_free(f->spools);
        turns_free(f->gatherings);
        rpc_peer_unref(f->peer);
        rpc_peer_unref(f->other);
        rpc_peers_free(f->peers);
        tree_close(f->tree);
        snprintf(command, sizeof(command), "rm -r %s", f->dir);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

/* ---- reading ---- */

struct reader {
        struct spool_waiter waiter;
        struct mutex lock;
        struct condition woken;
        unsigned wakes TSA_GUARDED(lock);
};

static void wake(struct spool_waiter *waiter)
{
        struct reader *r = (struct reader *)((char *)waiter - offsetof(struct reader, waiter));

        mutex_lock(&r->lock);
        r->wakes++;
        condition_signal(&r->woken);
        mutex_unlock(&r->lock);
}

static void reader_init(struct reader *r)
{
        *r = (struct reader){ .waiter.wake = wake };
        mutex_init(&r->lock);
        condition_init(&r->woken);
}

static void reader_release(struct reader *r, struct spool *spool)
{
        spool_forget(spool, &r->waiter);
        mutex_release(&r->lock);
        condition_release(&r->woken);
}

static void reader_wait(struct reader *r)
{
        int64_t deadline = clock_monotonic_ns() + 20 * NSEC_PER_SEC;

        mutex_lock(&r->lock);
        while (r->wakes == 0)
                assert_int_equal(condition_wait_until(&r->woken, &r->lock, deadline), 0);
        r->wakes--;
        mutex_unlock(&r->lock);
}

/* All frames from OFFSET on, in RET; how it ended: -ENODATA or the error. */
static int read_all(struct spool *spool, uint64_t offset, struct buffer *ret, size_t *ret_entries,
                    size_t *ret_frames)
{
        struct reader r;
        struct spool_piece piece;
        size_t entries = 0, frames = 0;
        int status;

        reader_init(&r);
        while ((status = spool_read(spool, offset, &r.waiter, &piece)) >= 0) {
                if (status == 1) {
                        reader_wait(&r);
                        continue;
                }
                assert_true(piece.next == offset + piece.len);
                assert_int_equal(buffer_append(ret, piece.data, piece.len), 0);
                free(piece.data);
                offset = piece.next;
                entries += piece.entries;
                frames++;
        }
        reader_release(&r, spool);
        if (ret_entries)
                *ret_entries = entries;
        if (ret_frames)
                *ret_frames = frames;
        return status;
}

static struct spool *get(struct fixture *f, struct spool_key *key)
{
        struct tree_view *view;
        struct spool *spool;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        key->spider = "spider";
        key->path = key->path ?: "";
        key->peer = key->peer ?: f->peer;
        key->revision = tree_view_version(view)->revision;
        assert_int_equal(spools_get(f->spools, key, view, &spool), 0);
        return spool;
}

static int try_get(struct fixture *f, const char *path, struct rpc_peer *peer, struct spool **ret)
{
        struct spool_key key = { .spider = "spider", .path = path, .peer = peer };
        struct tree_view *view;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        key.revision = tree_view_version(view)->revision;
        return spools_get(f->spools, &key, view, ret);
}

/* ---- plain ---- */

static Grpc__FileScanChunk *parse(const struct buffer *frame)
{
        Grpc__FileScanChunk *chunk = grpc__file_scan_chunk__unpack(NULL, frame->len, (uint8_t *)frame->data);

        assert_non_null(chunk);
        return chunk;
}

static void test_small_tree_is_plain(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        _cleanup_buffer_ struct buffer frame = { 0 };
        struct tree_version version;
        struct spool_state s;
        struct spool *spool;
        Grpc__FileScanChunk *chunk;
        size_t entries, frames;

        make_tree(f, 10);
        tree_get_version(f->tree, &version);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &frame, &entries, &frames), -ENODATA);
        assert_int_equal(frames, 1);
        assert_int_equal(entries, version.entries);
        spool_get_state(spool, &s);
        assert_true(s.decided && s.plain && s.complete && s.error == 0);
        assert_memory_equal(s.root_digest, version.digest, HASH_BYTES);
        assert_int_equal(s.entries, entries);
        chunk = parse(&frame);
        assert_int_equal(chunk->n_files, entries);
        assert_string_equal(chunk->files[0]->path, "");
        assert_true(chunk->files[0]->whole && chunk->files[0]->kind == ENTRY_DIRECTORY);
        assert_string_equal(chunk->files[1]->path, "few");
        assert_string_equal(chunk->files[2]->path, "file000007");
        assert_string_equal(chunk->files[4]->path, "few/file000000");
        assert_int_equal(chunk->files[4]->digest.len, hash_len(HASH_XXH3));
        assert_false(chunk->files[1]->whole);
        grpc__file_scan_chunk__free_unpacked(chunk, NULL);
        spool_put(spool);
}

static void test_small_difference(void **state)
{
        struct fixture *f = *state;
        struct tree_version before, after;
        struct spool_key key = { .base_digest = before.digest };
        _cleanup_buffer_ struct buffer frame = { 0 };
        Grpc__FileScanChunk *chunk;
        struct spool *spool;
        size_t changed = 0;

        make_tree(f, 5000);
        change_files(f, 20, &before, &after);
        key.base = before.revision;
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &frame, NULL, NULL), -ENODATA);
        chunk = parse(&frame);
        for (size_t i = 0; i < chunk->n_files; i++)
                changed += strncmp(chunk->files[i]->path, "many/file0000", 13) == 0 &&
                           chunk->files[i]->file_size > 1;
        assert_int_equal(changed, 20);
        assert_in_range(chunk->n_files, 20, 22); /* folders, as far as they differ */
        grpc__file_scan_chunk__free_unpacked(chunk, NULL);
        spool_put(spool);
}

static void test_plain_by_force(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { .form = SPOOL_PLAIN };
        _cleanup_buffer_ struct buffer frames = { 0 };
        struct spool *spool;
        Grpc__FileScanChunk *chunk;
        size_t entries, n;

        make_tree(f, 4500);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &frames, &entries, &n), -ENODATA);
        assert_int_equal(n, 5);
        chunk = parse(&frames);
        assert_int_equal(chunk->n_files, entries);
        assert_int_equal(entries, 4500 + 3 + 1 + 2 + 1);
        grpc__file_scan_chunk__free_unpacked(chunk, NULL);
        spool_put(spool);
}

/* ---- packs ---- */

struct unpacked {
        size_t count, wholes;
        char last[64];
};

static int count_entry(const struct entry *entry, void *arg)
{
        struct unpacked *u = arg;

        assert_true(u->count > 0 || entry->path_len == 0);
        assert_int_equal(entry->whole, u->count == 0);
        u->count++;
        snprintf(u->last, sizeof(u->last), "%s", entry->path);
        return 0;
}

/* ---- tiny files: their bytes come with their entries ---- */

static void put_tiny(struct fixture *f)
{
        struct tree_change change = put_file(TREE_ROOT_ID, 1, 4);
        struct tree_version version;
        struct tree_update *update;

        change.detail = (const uint8_t *)"tiny";
        hash_bytes(HASH_XXH3, "tiny", 4, change.row.digest);
        assert_int_equal(tree_update_begin(f->tree, &update), 0);
        assert_int_equal(tree_update_apply(update, &change, 1), 0);
        commit(update, &version);
}

static void test_tiny_in_plain(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        _cleanup_buffer_ struct buffer frame = { 0 };
        Grpc__FileScanChunk *chunk;
        struct spool *spool;

        make_tree(f, 3);
        put_tiny(f);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &frame, NULL, NULL), -ENODATA);
        chunk = parse(&frame);
        assert_string_equal(chunk->files[2]->path, "file000001");
        assert_int_equal(chunk->files[2]->content.len, 4);
        assert_memory_equal(chunk->files[2]->content.data, "tiny", 4);
        assert_string_equal(chunk->files[3]->path, "file000007");
        assert_int_equal(chunk->files[3]->content.len, 0);
        grpc__file_scan_chunk__free_unpacked(chunk, NULL);
        spool_put(spool);
}

static int count_data(const struct entry *entry, void *arg)
{
        unsigned *found = arg;

        if (!entry->data)
                return 0;
        assert_string_equal(entry->path, "file000001");
        assert_memory_equal(entry->data, "tiny", 4);
        (*found)++;
        return 0;
}

static void test_tiny_in_packs(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { .form = SPOOL_PACKS };
        _cleanup_buffer_ struct buffer pack = { 0 };
        struct pack_reader *reader;
        struct spool *spool;
        unsigned found = 0;

        make_tree(f, 3);
        put_tiny(f);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &pack, NULL, NULL), -ENODATA);
        assert_int_equal(pack_reader_new(&reader), 0);
        assert_int_equal(pack_read(reader, (const uint8_t *)pack.data, pack.len, count_data, &found), 0);
        assert_int_equal(found, 1);
        pack_reader_free(reader);
        spool_put(spool);
}

static void test_large_tree_is_packed(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        struct unpacked u = { 0 };
        struct pack_reader *packs;
        struct spool_piece piece;
        struct spool_state s;
        struct spool *spool;
        struct reader r;
        uint64_t offset = 0;
        int status;

        make_tree(f, FILES_MANY);
        assert_int_equal(pack_reader_new(&packs), 0);
        reader_init(&r);
        spool = get(f, &key);
        while ((status = spool_read(spool, offset, &r.waiter, &piece)) != -ENODATA) {
                if (status == 1) {
                        reader_wait(&r);
                        continue;
                }
                assert_int_equal(status, 0);
                assert_int_equal(pack_read(packs, piece.data, piece.len, count_entry, &u), 0);
                free(piece.data);
                offset = piece.next;
        }
        spool_get_state(spool, &s);
        assert_true(!s.plain && s.complete && s.bytes == offset);
        assert_int_equal(u.count, FILES_MANY + 7);
        assert_int_equal(s.entries, u.count);
        assert_string_equal(u.last, "many/file039999");
        reader_release(&r, spool);
        pack_reader_free(packs);
        spool_put(spool);
}

static void test_offsets(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        _cleanup_buffer_ struct buffer all = { 0 }, rest = { 0 }, again = { 0 };
        struct spool_piece piece;
        struct spool *spool;
        struct reader r;
        size_t first;

        make_tree(f, FILES_MANY);
        reader_init(&r);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &all, NULL, NULL), -ENODATA);
        assert_int_equal(spool_read(spool, 0, &r.waiter, &piece), 0);
        first = piece.len;
        free(piece.data);
        assert_int_equal(read_all(spool, first, &rest, NULL, NULL), -ENODATA);
        assert_int_equal(rest.len, all.len - first);
        assert_memory_equal(rest.data, all.data + first, rest.len);
        assert_int_equal(spool_read(spool, 1, &r.waiter, &piece), -EINVAL);
        assert_int_equal(spool_read(spool, first - 1, &r.waiter, &piece), -EINVAL);
        assert_int_equal(spool_read(spool, all.len, &r.waiter, &piece), -ENODATA);
        assert_int_equal(spool_read(spool, all.len + 1, &r.waiter, &piece), -EINVAL);
        assert_int_equal(spool_read(spool, UINT64_MAX, &r.waiter, &piece), -EINVAL);
        reader_release(&r, spool);
        spool_put(spool);

        /* Built anew, also where packs are asked for, the same bytes. */
        key.form = SPOOL_PACKS;
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &again, NULL, NULL), -ENODATA);
        assert_int_equal(again.len, all.len);
        assert_memory_equal(again.data, all.data, all.len);
        spool_put(spool);
}

static void test_children(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { .form = SPOOL_CHILDREN };
        struct spool *spool;
        _cleanup_buffer_ struct buffer all = { 0 };
        struct spool_state s;
        size_t entries;

        make_tree(f, 100);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &all, &entries, NULL), -ENODATA);
        assert_int_equal(entries, 3); /* of the root, and nothing below */
        spool_get_state(spool, &s);
        assert_false(s.plain);
        spool_put(spool);
        key.path = "many";
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &all, &entries, NULL), -ENODATA);
        assert_int_equal(entries, 100);
        spool_put(spool);
}

/* ---- failures ---- */

static void expect_failure(struct fixture *f, struct spool_key *key, int error)
{
        _cleanup_buffer_ struct buffer all = { 0 };
        struct spool *spool = get(f, key);
        struct spool_state s;

        assert_int_equal(read_all(spool, 0, &all, NULL, NULL), error);
        spool_get_state(spool, &s);
        assert_int_equal(s.error, error);
        assert_true(s.complete);
        spool_put(spool);
        /* Not kept: whoever asks next may have more luck. */
        assert_int_equal(spools_get(f->spools, key, NULL, &spool), -ENOENT);
}

static void test_too_old(void **state)
{
        struct fixture *f = *state;
        struct tree_version before, after;
        struct spool_key key = { .base_digest = after.digest };

        make_tree(f, 100);
        change_files(f, 5, &before, &after);
        key.base = before.revision - 1;
        expect_failure(f, &key, -ESTALE);
        key.base = before.revision; /* but not with this digest */
        expect_failure(f, &key, -ESTALE);
}

static void test_no_such_folder(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { .path = "nosuch" };

        make_tree(f, 1);
        expect_failure(f, &key, -ENOENT);
        key.path = "many/file000000";
        expect_failure(f, &key, -ENOENT);
}

static void test_no_room(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        char dir[64];

        make_tree(f, 1);
        spools_free(f->spools);
        snprintf(dir, sizeof(dir), "%s/nosuch", f->dir);
        new_spools(f, 0, dir);
        expect_failure(f, &key, -ENOENT);
}

/* The disk is full when the first pack has been read already. */
static void test_full_disk(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { .form = SPOOL_PACKS };
        struct rlimit before, little;

        make_tree(f, FILES_MANY);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        little = (struct rlimit){ .rlim_cur = 400000, .rlim_max = before.rlim_max };
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
        expect_failure(f, &key, -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void test_cancelled(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };

        make_tree(f, 10);
        pool_cancel(f->pool);
        expect_failure(f, &key, -ECANCELED);
}

/* ---- sharing ---- */

static void test_shared_and_kept(void **state)
{
        struct fixture *f = *state;
        struct tree_version before, after;
        struct spool_key key = { 0 }, other = { 0 };
        _cleanup_buffer_ struct buffer all = { 0 };
        struct spool *a, *b;

        make_tree(f, 3000);
        a = get(f, &key);
        b = get(f, &key);
        assert_ptr_equal(a, b);
        spool_put(b);
        assert_int_equal(read_all(a, 0, &all, NULL, NULL), -ENODATA);
        spool_put(a);
        assert_int_equal(spools_get(f->spools, &key, NULL, &a), 0); /* kept, although nobody used it */
        change_files(f, 2, &before, &after);
        b = get(f, &other);
        assert_ptr_not_equal(a, b);
        spool_put(a);
        spool_put(b);
}

static void test_dropped(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        struct spools_options options = { .pool = f->pool,
                                          .gatherings = f->gatherings,
                                          .dir = f->dir,
                                          .bytes_max = 1 << 30,
                                          .idle_ms = 0 };
        _cleanup_buffer_ struct buffer all = { 0 };
        struct spool *spool;

        make_tree(f, 3000);
        spools_free(f->spools);
        new_spools(f, 1000, f->dir); /* less than it takes */
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &all, NULL, NULL), -ENODATA);
        spool_put(spool);
        /* The job may have its reference a moment longer. */
        for (int i = 0; i < 1000 && spools_get(f->spools, &key, NULL, &spool) == 0; i++) {
                spool_put(spool);
                usleep(1000);
        }
        assert_int_equal(spools_get(f->spools, &key, NULL, &spool), -ENOENT);

        spools_free(f->spools);
        assert_int_equal(spools_new(&options, &f->spools), 0);
        spool = get(f, &key);
        assert_int_equal(read_all(spool, 0, &all, NULL, NULL), -ENODATA);
        spools_expire(f->spools); /* in use */
        spool_put(spool);
        for (int i = 0; i < 1000 && spools_get(f->spools, &key, NULL, &spool) == 0; i++) {
                spool_put(spool);
                usleep(1000);
                spools_expire(f->spools);
        }
        assert_int_equal(spools_get(f->spools, &key, NULL, &spool), -ENOENT);
}

static void test_settled(void **state)
{
        struct fixture *f = *state;
        struct spool_key key = { 0 };
        struct spool_state s;
        struct spool *spool;
        struct reader r;

        make_tree(f, 10);
        reader_init(&r);
        spool = get(f, &key);
        while (spool_wait_settled(spool, &r.waiter) == 1)
                reader_wait(&r);
        spool_get_state(spool, &s);
        assert_true(s.plain && s.complete && s.bytes > 0);
        reader_release(&r, spool);
        spool_put(spool);
}

/* Who takes its time takes half of what there may be, and the others have the rest. */
static void test_one_peer_cannot_take_all(void **state)
{
        struct fixture *f = *state;
        struct spool *spools[256], *more;
        char path[8];

        make_tree(f, 10);
        assert_true(rpc_peer_charge(f->peer, RPC_LISTINGS, 15));
        for (size_t i = 0; i < ARRAY_SIZE(spools); i++) {
                struct spool_key key = { .path = path };

                snprintf(path, sizeof(path), "%zu", i);
                if (i == ARRAY_SIZE(spools) / 2) {
                        assert_true(rpc_peer_charge(f->peer, RPC_LISTINGS, 1));
                        assert_int_equal(try_get(f, "half", f->peer, &more), -EMFILE);
                        key.peer = f->other;
                        rpc_peer_discharge(f->peer, RPC_LISTINGS, 1);
                }
                spools[i] = get(f, &key);
        }
        assert_int_equal(try_get(f, "all", f->other, &more), -EMFILE);
        spool_put(spools[0]);
        for (int i = 0; i < 20000 && try_get(f, "again", f->other, &more) == -EMFILE; i++)
                usleep(1000); /* the job may have its reference a moment longer */
        spools[0] = more;
        for (size_t i = 0; i < ARRAY_SIZE(spools); i++)
                spool_put(spools[i]);
        rpc_peer_discharge(f->peer, RPC_LISTINGS, 15);
}

/* ---- turns ---- */

static void wait_complete(struct spool *spool)
{
        _cleanup_buffer_ struct buffer all = { 0 };

        assert_int_equal(read_all(spool, 0, &all, NULL, NULL), -ENODATA);
}

static bool is_complete(struct spool *spool)
{
        struct spool_state s;

        spool_get_state(spool, &s);
        return s.complete;
}

/* Who asks for many has one built at a time, and nobody else waits for them: not even for one of them. */
static void test_peers_take_turns(void **state)
{
        struct fixture *f = *state;
        struct turn taken = { .peer = rpc_peer_ref(f->peer) };
        struct spool_key first = { .path = "many" }, second = { 0 },
                         others = { .path = "few", .peer = f->other };
        struct spool *a, *b, *c, *d;

        make_tree(f, 10);
        assert_true(rpc_peer_charge(f->peer, RPC_GATHERINGS, 1)); /* as if one of his were being built */
        a = get(f, &first);
        b = get(f, &second);
        c = get(f, &others);
        wait_complete(c);
        assert_false(is_complete(a) || is_complete(b));
        others.path = "";
        d = get(f, &others);
        assert_ptr_equal(d, b);
        wait_complete(b);
        assert_false(is_complete(a));
        turns_end(f->gatherings, &taken);
        wait_complete(a);
        spool_put(a);
        spool_put(b);
        spool_put(c);
        spool_put(d);
}

/* What nobody wants any more by then is not built. */
static void test_given_up(void **state)
{
        struct fixture *f = *state;
        struct turn taken = { .peer = rpc_peer_ref(f->peer) };
        struct spool_key key = { 0 };
        struct spool *spool, *same;

        make_tree(f, 10);
        assert_true(rpc_peer_charge(f->peer, RPC_GATHERINGS, 1));
        spool = get(f, &key);
        same = get(f, &key);
        assert_ptr_equal(spool, same);
        spool_put(spool);
        assert_int_equal(spools_get(f->spools, &key, NULL, &spool), 0);
        spool_put(spool);
        spool_put(same);
        assert_int_equal(spools_get(f->spools, &key, NULL, &spool), -ENOENT);
        turns_end(f->gatherings, &taken);
        spool = get(f, &key);
        wait_complete(spool);
        spool_put(spool);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_small_tree_is_plain),
        TEST(test_small_difference),
        TEST(test_plain_by_force),
        TEST(test_tiny_in_plain),
        TEST(test_tiny_in_packs),
        TEST(test_large_tree_is_packed),
        TEST(test_offsets),
        TEST(test_children),
        TEST(test_too_old),
        TEST(test_no_such_folder),
        TEST(test_no_room),
        TEST(test_full_disk),
        TEST(test_cancelled),
        TEST(test_shared_and_kept),
        TEST(test_dropped),
        TEST(test_settled),
        TEST(test_one_peer_cannot_take_all),
        TEST(test_peers_take_turns),
        TEST(test_given_up),
};

UNIT_MAIN(tests)
