/*
 * Snapshots of trees for the tests of loading: every entry with its digest, folder by folder as a master sends them.
 */
#pragma once

#include "tests/unit/catalog_fixture.h"

#define ENTRIES_MAX 3000
#define TEXT_MAX    128

/* Entries in the order of a transfer, with the digests of folders. */
struct snapshot {
        struct entry entries[ENTRIES_MAX];
        char paths[ENTRIES_MAX][TEXT_MAX];
        size_t n;
        struct catalog_load_target target;
};

static inline int by_path(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;

        return path_compare(x->path, x->path_len, y->path, y->path_len);
}

static inline bool is_child(const struct entry *folder, const struct entry *e)
{
        const char *name;

        return e->path_len > 0 && path_split(e->path, e->path_len, &name) == folder->path_len &&
               memcmp(e->path, folder->path, folder->path_len) == 0;
}

static inline bool is_below(const struct entry *folder, const struct entry *e)
{
        return e->path_len > folder->path_len && memcmp(e->path, folder->path, folder->path_len) == 0 &&
               (folder->path_len == 0 || e->path[folder->path_len] == '/');
}

/* SORTED[at] is a folder; gives it its digest, and all below it. */
static inline void digest_folder(struct entry *sorted, size_t n, size_t at)
{
        _cleanup_hasher_ struct hasher *h = NULL;
        struct entry *folder = &sorted[at];

        assert_int_equal(hasher_new(HASH_XXH3, &h), 0);
        for (size_t i = at + 1; i < n && is_below(folder, &sorted[i]); i++)
                if (sorted[i].kind == ENTRY_DIRECTORY && is_child(folder, &sorted[i]))
                        digest_folder(sorted, n, i);
        for (size_t i = at + 1; i < n && is_below(folder, &sorted[i]); i++) {
                struct entry *e = &sorted[i];
                struct entry_digest_input input = { .kind = e->kind,
                                                    .mode = e->mode,
                                                    .mtime_ns = e->mtime_ns,
                                                    .size = e->size,
                                                    .unknown = e->unknown,
                                                    .algorithm = HASH_XXH3 };
                uint8_t target[HASH_BYTES];
                if (!is_child(folder, e))
                        continue;
                input.name_len = e->path_len - path_split(e->path, e->path_len, &input.name);
                input.name_len -= input.name != e->path; /* the slash */
                input.digest = e->content.bytes;
                if (e->kind == ENTRY_FILE)
                        input.algorithm = e->content.algorithm;
                if (e->kind == ENTRY_SYMLINK && !e->unknown) {
                        hash_bytes(HASH_XXH3, e->target, e->target_len, target);
                        input.digest = target;
                }
                entry_digest_add(h, &input);
        }
        hasher_final(h, &folder->content);
}

static inline void emit_below(struct snapshot *s, const struct entry *sorted, size_t n, size_t at)
{
        for (size_t i = at + 1; i < n && is_below(&sorted[at], &sorted[i]); i++)
                if (is_child(&sorted[at], &sorted[i]))
                        s->entries[s->n++] = sorted[i];
        for (size_t i = at + 1; i < n && is_below(&sorted[at], &sorted[i]); i++)
                if (is_child(&sorted[at], &sorted[i]) && sorted[i].kind == ENTRY_DIRECTORY)
                        emit_below(s, sorted, n, i);
}

/* ENTRIES: the root and all else, in any order. */
static inline struct snapshot *make_snapshot(const struct entry *entries, size_t n)
{
        struct snapshot *s = calloc(1, sizeof(*s));
        _cleanup_free_ struct entry *sorted = calloc(n, sizeof(*sorted));

        assert_true(n <= ENTRIES_MAX);
        for (size_t i = 0; i < n; i++) {
                sorted[i] = entries[i];
                assert_true(snprintf(s->paths[i], TEXT_MAX, "%s", entries[i].path) < TEXT_MAX);
                sorted[i].path = s->paths[i];
        }
        qsort(sorted, n, sizeof(*sorted), by_path);
        digest_folder(sorted, n, 0);
        s->entries[s->n++] = sorted[0];
        emit_below(s, sorted, n, 0);
        assert_int_equal(s->n, n);
        s->target.hash = HASH_XXH3;
        s->target.revision = 42;
        entry_root_digest(HASH_XXH3, sorted[0].mode, sorted[0].mtime_ns, sorted[0].content.bytes,
                          s->target.digest);
        return s;
}

#define SNAPSHOT(...)                                                                                        \
        ({                                                                                                   \
                const struct entry entries_[] = { folder(""), ##__VA_ARGS__ };                               \
                make_snapshot(entries_, ARRAY_SIZE(entries_));                                               \
        })

/*
 * 0 root: a, b, empty, f, l      5
 * 6 a: sub, x                    a/sub: y, z       b: w
 */
static inline struct snapshot *small_snapshot(void)
{
        return SNAPSHOT(folder("a"), folder("a/sub"), file("a/sub/y", 1), file("a/sub/z", 2), file("a/x", 3),
                        folder("b"), file("b/w", 4), folder("empty"), file("f", 5), link_to("l", "f"));
}

static inline uint64_t random_below(uint64_t *seed, uint64_t n)
{
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        return (*seed >> 33) % n;
}

static inline struct snapshot *random_snapshot(uint64_t seed, size_t n)
{
        _cleanup_free_ struct entry *entries = calloc(n, sizeof(*entries));
        char(*paths)[TEXT_MAX] = calloc(n, TEXT_MAX);
        struct snapshot *s;

        entries[0] = folder("");
        for (size_t i = 1; i < n;) {
                const struct entry *parent = &entries[random_below(&seed, i)];
                if (parent->kind != ENTRY_DIRECTORY || parent->unknown || parent->path_len > TEXT_MAX - 20)
                        continue;
                snprintf(paths[i], TEXT_MAX, "%s%sn%d%s", parent->path, parent->path_len ? "/" : "", (int)i,
                         random_below(&seed, 2) ? " \xff" : "");
                switch (random_below(&seed, 8)) {
                case 0:
                case 1:
                        entries[i] = folder(paths[i]);
                        break;
                case 2:
                        entries[i] = link_to(paths[i], "target");
                        break;
                case 3:
                        entries[i] = unknown((enum entry_kind)random_below(&seed, 4), paths[i]);
                        break;
                default:
                        entries[i] = file(paths[i], random_below(&seed, 1000));
                        entries[i].content.algorithm = (enum hash_algorithm)(1 + random_below(&seed, 2));
                }
                entries[i].mode = (uint32_t)random_below(&seed, 010000);
                i++;
        }
        s = make_snapshot(entries, n);
        free(paths);
        return s;
}
