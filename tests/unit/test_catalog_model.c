/*
 * Random versions against a model: a plain list of entries. After each version everything that the catalog says is compared:
 * the tree, the numbers (C2), the changes, the counts, and the digest, which is computed here by going down the tree.
 */
#include "cache/catalog.h"

#include "tests/unit/catalog_fixture.h"

#define NODES_MAX 400
#define PATH_MAX_ 256
#define STEPS     800

struct node {
        char path[PATH_MAX_];
        enum entry_kind kind;
        uint32_t mode;
        int64_t mtime_ns;
        uint64_t content; /* of files; of symlinks: in the target */
        bool unknown;
        char target[32];
};

struct model {
        struct node nodes[NODES_MAX];
        size_t n;
};

/* What the catalog shows, by walking through it. */
struct shown {
        struct catalog_entry entry;
        char path[2 * PATH_MAX_];
        char target[32];
};

struct view {
        struct shown items[NODES_MAX + 1];
        size_t n;
};

/* ---- the model ---- */

static uint64_t random_below(uint64_t *seed, uint64_t n)
{
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        return (*seed >> 33) % n;
}

static int by_path(const void *a, const void *b)
{
        const struct node *x = a, *y = b;

        return path_compare(x->path, strlen(x->path), y->path, strlen(y->path));
}

static struct node *find_node(struct model *m, const char *path)
{
        for (size_t i = 0; i < m->n; i++)
                if (strcmp(m->nodes[i].path, path) == 0)
                        return &m->nodes[i];
        return NULL;
}

/* Whether PATH is TOP or lies below it. */
static bool is_within(const char *path, const char *top)
{
        size_t n = strlen(top);

        return strncmp(path, top, n) == 0 && (n == 0 || path[n] == '\0' || path[n] == '/');
}

static void remove_within(struct model *m, const char *top)
{
        char copy[PATH_MAX_];
        size_t kept = 0;

        strcpy(copy, top);
        for (size_t i = 0; i < m->n; i++)
                if (!is_within(m->nodes[i].path, copy))
                        m->nodes[kept++] = m->nodes[i];
        m->n = kept;
}

static void fill_node(struct node *node, uint64_t *seed)
{
        node->kind = (enum entry_kind)(ENTRY_FILE + random_below(seed, 3));
        node->mode = (uint32_t)random_below(seed, 010000);
        node->mtime_ns = (int64_t)random_below(seed, 1000) - 500;
        node->content = random_below(seed, 30);
        node->unknown = false;
        snprintf(node->target, sizeof(node->target), "target %d", (int)node->content);
}

static void add_random(struct model *m, uint64_t *seed, const char *frozen)
{
        static const char *const names[] = { "a",   "b",        "a-b",       "ab", "A",
                                             "z z", "\xff\xfe", "new\nline", "c",  "d.txt" };
        struct node *parent = &m->nodes[random_below(seed, m->n)], node = { 0 };
        const char *name = names[random_below(seed, ARRAY_SIZE(names))];

        if (parent->kind != ENTRY_DIRECTORY || m->n == NODES_MAX || strlen(parent->path) + 20 > PATH_MAX_ ||
            (frozen && is_within(parent->path, frozen)))
                return;
        snprintf(node.path, sizeof(node.path), "%s%s%s", parent->path, parent->path[0] ? "/" : "", name);
        if (find_node(m, node.path))
                return;
        fill_node(&node, seed);
        if (random_below(seed, 3) == 0)
                node.kind = ENTRY_DIRECTORY;
        m->nodes[m->n++] = node;
}

/* FROZEN is what the master cannot read this time: it and the way to it stay. */
static void mutate(struct model *m, uint64_t *seed, const char *frozen)
{
        struct node *node = &m->nodes[random_below(seed, m->n)];
        bool fixed = node->path[0] == '\0' ||
                     (frozen && (is_within(frozen, node->path) || is_within(node->path, frozen)));

        switch (random_below(seed, 14)) {
        case 0:
                if (!fixed)
                        remove_within(m, node->path);
                break;
        case 1: /* another kind or content under the same name */
                if (!fixed) {
                        struct node replacement = *node;
                        fill_node(&replacement, seed);
                        remove_within(m, replacement.path);
                        m->nodes[m->n++] = replacement;
                }
                break;
        case 2: /* attributes */
                if (!frozen || !is_within(node->path, frozen)) {
                        node->mode = (uint32_t)random_below(seed, 010000);
                        node->mtime_ns++;
                }
                break;
        default:
                add_random(m, seed, frozen);
        }
}

static struct entry entry_of(const struct node *node)
{
        struct entry e = { .path = node->path,
                           .path_len = strlen(node->path),
                           .kind = node->kind,
                           .mode = node->mode,
                           .mtime_ns = node->mtime_ns,
                           .unknown = node->unknown };

        if (node->kind == ENTRY_FILE) {
                e.size = node->content * 100;
                e.content.algorithm = node->content % 2 ? HASH_XXH3 : HASH_MD5;
                hash_bytes(HASH_XXH3, &node->content, sizeof(node->content), e.content.bytes);
        } else if (node->kind == ENTRY_SYMLINK) {
                e.target = node->target;
                e.target_len = e.size = strlen(node->target);
        }
        return e;
}

/* M is sorted; *AT stands behind the folder's own node and ends behind its last descendant. */
static void digest_folder(const struct model *m, const char *path, size_t *at, uint8_t ret[HASH_BYTES])
{
        _cleanup_hasher_ struct hasher *h = NULL;
        struct content_id digest;

        assert_int_equal(hasher_new(HASH_XXH3, &h), 0);
        while (*at < m->n && is_within(m->nodes[*at].path, path)) {
                const struct node *node = &m->nodes[(*at)++];
                struct entry e = entry_of(node);
                struct entry_digest_input input = { .kind = e.kind,
                                                    .mode = e.mode,
                                                    .mtime_ns = e.mtime_ns,
                                                    .size = e.size,
                                                    .unknown = e.unknown,
                                                    .algorithm = HASH_XXH3 };
                uint8_t bytes[HASH_BYTES];
                if (e.kind == ENTRY_DIRECTORY) {
                        digest_folder(m, node->path, at, bytes);
                } else if (e.kind == ENTRY_SYMLINK) {
                        hash_bytes(HASH_XXH3, e.target, e.target_len, bytes);
                } else {
                        memcpy(bytes, e.content.bytes, HASH_BYTES);
                        input.algorithm = e.content.algorithm;
                }
                path_split(e.path, e.path_len, &input.name);
                input.name_len = strlen(input.name);
                input.digest = bytes;
                entry_digest_add(h, &input);
        }
        hasher_final(h, &digest);
        memcpy(ret, digest.bytes, HASH_BYTES);
}

static void model_digest(const struct model *m, uint8_t ret[HASH_BYTES])
{
        uint8_t root[HASH_BYTES];
        size_t at = 1;

        digest_folder(m, "", &at, root);
        assert_int_equal(at, m->n);
        entry_root_digest(HASH_XXH3, m->nodes[0].mode, m->nodes[0].mtime_ns, root, ret);
}

/* ---- from the model to the catalog and back ---- */

static size_t depth_of(const struct node *node)
{
        size_t depth = node->path[0] != '\0';

        for (const char *p = node->path; *p; p++)
                depth += *p == '/';
        return depth;
}

static int by_depth(const void *a, const void *b)
{
        size_t x = depth_of(a), y = depth_of(b);

        return (x > y) - (x < y);
}

static void put_all(struct catalog_update *update, const struct model *m, uint64_t *seed, const char *frozen)
{
        struct model *order = malloc(sizeof(*order));

        *order = *m;
        if (random_below(seed, 2)) { /* any order, but parents first */
                for (size_t i = order->n - 1; i > 0; i--) {
                        size_t j = random_below(seed, i + 1);
                        struct node node = order->nodes[i];
                        order->nodes[i] = order->nodes[j];
                        order->nodes[j] = node;
                }
                qsort(order->nodes, order->n, sizeof(order->nodes[0]), by_depth);
        }
        for (size_t i = 0; i < order->n; i++) {
                struct entry e = entry_of(&order->nodes[i]);
                if (frozen && is_within(e.path, frozen)) {
                        if (strcmp(e.path, frozen) != 0)
                                continue;
                        e = (struct entry){ .path = frozen,
                                            .path_len = strlen(frozen),
                                            .unknown = true,
                                            .kind = (enum entry_kind)random_below(seed, 4) };
                }
                e.whole = e.path_len == 0;
                assert_int_equal(catalog_update_put(update, &e), 0);
        }
        free(order);
}

/* ---- differences ---- */

static bool same_node(const struct node *a, const struct node *b)
{
        return a->kind == b->kind && a->mode == b->mode && a->mtime_ns == b->mtime_ns &&
               a->unknown == b->unknown && (a->kind == ENTRY_DIRECTORY || a->content == b->content);
}

struct sending {
        struct catalog_update *update;
        struct model *old, *now;
        uint64_t *seed;
        const char *frozen; /* or NULL */
        const char *whole;  /* a folder that is sent with all below it, or NULL */
};

/* Some of what is gone is named, all of it if nothing above says so already. */
static void put_gone(struct sending *s)
{
        for (size_t i = s->old->n; i-- > 0;) {
                const char *path = s->old->nodes[i].path, *name;
                char parent[PATH_MAX_];
                struct entry e = gone(path);
                bool implied;
                if (find_node(s->now, path))
                        continue;
                snprintf(parent, sizeof(parent), "%.*s", (int)path_split(path, strlen(path), &name), path);
                implied = !find_node(s->now, parent) || find_node(s->now, parent)->kind != ENTRY_DIRECTORY ||
                          (s->whole && is_within(parent, s->whole));
                if (!implied || random_below(s->seed, 3) == 0)
                        assert_int_equal(catalog_update_put(s->update, &e), 0);
        }
}

static void put_changed(struct sending *s)
{
        for (size_t i = 0; i < s->now->n; i++) {
                const struct node *node = &s->now->nodes[i], *before = find_node(s->old, node->path);
                struct entry e = entry_of(node);
                if (s->frozen && is_within(e.path, s->frozen) && strcmp(e.path, s->frozen) != 0)
                        continue;
                e.whole = s->whole && strcmp(e.path, s->whole) == 0;
                if (before && same_node(before, node) && !(s->whole && is_within(e.path, s->whole)) &&
                    random_below(s->seed, 20) > 0)
                        continue;
                assert_int_equal(catalog_update_put(s->update, &e), 0);
        }
}

/* NOW is in order of its paths. */
static void put_difference(struct catalog_update *update, struct model *old, struct model *now,
                           uint64_t *seed, const char *frozen)
{
        struct sending s = { .update = update, .old = old, .now = now, .seed = seed, .frozen = frozen };
        const struct node *whole = &now->nodes[random_below(seed, now->n)];
        bool gone_first = random_below(seed, 2);

        if (whole->kind == ENTRY_DIRECTORY && random_below(seed, 2) &&
            !(frozen && is_within(whole->path, frozen)))
                s.whole = whole->path;
        if (gone_first)
                put_gone(&s);
        put_changed(&s);
        if (!gone_first)
                put_gone(&s);
}

struct walk {
        struct catalog *catalog;
        struct view *view;
        const char *path;
};

static int add_shown(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct walk *walk = arg;
        struct shown *item = &walk->view->items[walk->view->n++];
        struct buffer target = { 0 };
        struct walk below = *walk;

        assert_true(walk->view->n <= NODES_MAX);
        assert_true(current);
        item->entry = *entry;
        snprintf(item->path, sizeof(item->path), "%s%s%s", walk->path, walk->path[0] ? "/" : "", entry->name);
        item->target[0] = '\0';
        if (entry->kind == ENTRY_SYMLINK) {
                assert_int_equal(catalog_readlink(walk->catalog, entry->ino, &target), CATALOG_OK);
                strcpy(item->target, target.data);
                buffer_release(&target);
        }
        below.path = item->path;
        if (entry->kind == ENTRY_DIRECTORY)
                assert_int_equal(catalog_list(walk->catalog, entry->ino, 0, add_shown, &below), 0);
        return 0;
}

static void look(struct catalog *catalog, struct view *view)
{
        struct walk walk = { .catalog = catalog, .view = view, .path = "" };

        *view = (struct view){ .n = 1 };
        assert_int_equal(catalog_get(catalog, CATALOG_ROOT_INO, &view->items[0].entry), CATALOG_OK);
        assert_int_equal(catalog_list(catalog, CATALOG_ROOT_INO, 0, add_shown, &walk), 0);
}

/* ---- comparing ---- */

static void compare_tree(const struct model *m, const struct view *view,
                         const struct catalog_version *version)
{
        uint64_t files = 0, directories = 0, symlinks = 0, bytes = 0, unknown = 0;

        assert_int_equal(view->n, m->n);
        for (size_t i = 0; i < m->n; i++) {
                const struct shown *s = &view->items[i];
                struct entry e = entry_of(&m->nodes[i]);
                assert_string_equal(s->path, e.path); /* both are in order */
                assert_int_equal(s->entry.kind, e.kind);
                assert_int_equal(s->entry.mode, e.mode);
                assert_int_equal(s->entry.mtime_ns, e.mtime_ns);
                assert_int_equal(s->entry.size, e.size);
                assert_true(content_id_equal(&s->entry.content, &e.content));
                assert_string_equal(s->target, e.kind == ENTRY_SYMLINK ? e.target : "");
                files += e.kind == ENTRY_FILE;
                directories += e.kind == ENTRY_DIRECTORY;
                symlinks += e.kind == ENTRY_SYMLINK;
                bytes += e.kind == ENTRY_FILE ? e.size : 0;
                unknown += e.unknown;
        }
        assert_int_equal(version->files, files);
        assert_int_equal(version->directories, directories);
        assert_int_equal(version->symlinks, symlinks);
        assert_int_equal(version->bytes, bytes);
        assert_int_equal(version->unknown, unknown);
}

static const struct shown *by_ino(const struct view *view, uint64_t ino)
{
        for (size_t i = 0; i < view->n; i++)
                if (view->items[i].entry.ino == ino)
                        return &view->items[i];
        return NULL;
}

static bool changed_once(const struct catalog_changes *changes, enum catalog_change_op op, uint64_t ino)
{
        size_t n = 0;

        for (size_t i = 0; i < changes->count; i++)
                n += changes->items[i].op == op && changes->items[i].ino == ino;
        assert_true(n <= 1);
        return n == 1;
}

static bool same_content(const struct shown *a, const struct shown *b)
{
        return a->entry.kind == b->entry.kind && content_id_equal(&a->entry.content, &b->entry.content) &&
               strcmp(a->target, b->target) == 0;
}

/* C2: a number stays with a path and content, and a new one was never there before. */
static void compare_numbers(const struct view *old, const struct view *new, uint64_t *highest)
{
        uint64_t before = *highest;

        for (size_t i = 0; i < new->n; i++) {
                const struct shown *s = &new->items[i], *same = NULL;
                for (size_t j = 0; j < old->n; j++)
                        if (strcmp(old->items[j].path, s->path) == 0)
                                same = &old->items[j];
                if (same && same_content(same, s))
                        assert_int_equal(s->entry.ino, same->entry.ino);
                else
                        assert_true(s->entry.ino > before);
                *highest = MAX(*highest, s->entry.ino);
        }
}

static bool parent_listed(const struct view *old, const struct view *new,
                          const struct catalog_changes *changes, uint64_t parent)
{
        return !by_ino(old, parent) || !by_ino(new, parent) || changed_once(changes, CHANGE_LISTING, parent);
}

static void compare_changes(const struct view *old, const struct view *new,
                            const struct catalog_changes *changes)
{
        size_t entries = 0, attributes = 0;

        for (size_t i = 0; i < old->n; i++) {
                const struct catalog_entry *e = &old->items[i].entry;
                const struct shown *now = by_ino(new, e->ino);
                bool touched = now && (now->entry.mode != e->mode || now->entry.mtime_ns != e->mtime_ns);
                assert_int_equal(changed_once(changes, CHANGE_ENTRY, e->ino), !now);
                assert_int_equal(changed_once(changes, CHANGE_ATTRIBUTES, e->ino), touched);
                entries += !now;
                attributes += touched;
                if (!now)
                        assert_true(parent_listed(old, new, changes, e->parent));
        }
        for (size_t i = 0; i < new->n; i++) {
                const struct catalog_entry *e = &new->items[i].entry;
                if (by_ino(old, e->ino))
                        continue;
                /* What is in a folder that is new itself is news to nobody. */
                assert_int_equal(changed_once(changes, CHANGE_ENTRY, e->ino), by_ino(old, e->parent) != NULL);
                if (!by_ino(old, e->parent))
                        continue;
                entries++;
                assert_true(parent_listed(old, new, changes, e->parent));
        }
        for (size_t i = 0; i < changes->count; i++) {
                entries -= changes->items[i].op == CHANGE_ENTRY;
                attributes -= changes->items[i].op == CHANGE_ATTRIBUTES;
                if (i > 0)
                        assert_true(changes->items[i - 1].op <= changes->items[i].op);
        }
        assert_int_equal(entries, 0);
        assert_int_equal(attributes, 0);
}

/* ---- the test ---- */

struct run {
        struct catalog *catalog; /* the fixture's */
        struct model model, before;
        struct view old, new;
        uint64_t seed, highest;
};

static void put_version(struct run *run, struct catalog_update *update, bool difference, const char *frozen)
{
        if (difference)
                put_difference(update, &run->before, &run->model, &run->seed, frozen);
        else
                put_all(update, &run->model, &run->seed, frozen);
}

static void step(struct run *run)
{
        struct model *m = &run->model;
        struct catalog_changes changes;
        struct catalog_version version;
        struct catalog_update *update;
        uint8_t expected[HASH_BYTES];
        const char *frozen = NULL;
        char frozen_path[PATH_MAX_];
        bool difference = random_below(&run->seed, 3) > 0;
        int r;

        if (m->n > 1 && random_below(&run->seed, 3) == 0) {
                strcpy(frozen_path, m->nodes[1 + random_below(&run->seed, m->n - 1)].path);
                frozen = frozen_path;
        }
        /* What is kept stays as unknown as it was; all else the master can read again. */
        for (size_t i = 0; i < m->n; i++)
                if (!frozen || !is_within(m->nodes[i].path, frozen))
                        m->nodes[i].unknown = false;
        for (uint64_t i = random_below(&run->seed, 24); i > 0; i--)
                mutate(m, &run->seed, frozen);
        if (frozen)
                find_node(m, frozen)->unknown = true;
        qsort(m->nodes, m->n, sizeof(m->nodes[0]), by_path);
        model_digest(m, expected);

        assert_int_equal(catalog_update_begin(run->catalog, &update), 0);
        put_version(run, update, difference, frozen);
        if (random_below(&run->seed, 8) == 0) { /* C4: as if it had never been */
                catalog_update_abort(update);
                assert_int_equal(catalog_update_begin(run->catalog, &update), 0);
                put_version(run, update, difference, frozen);
        }
        r = catalog_update_commit(update, expected, 1, &changes);
        assert_int_equal(r, CATALOG_OK);
        catalog_get_version(run->catalog, &version);
        assert_memory_equal(version.digest, expected, HASH_BYTES);
        look(run->catalog, &run->new);
        compare_tree(m, &run->new, &version);
        compare_numbers(&run->old, &run->new, &run->highest);
        compare_changes(&run->old, &run->new, &changes);
        catalog_changes_release(&changes);
        assert_int_equal(catalog_check_digest(run->catalog), CATALOG_OK);
        run->old = run->new;
        run->before = *m;
}

static void test_random_versions(void **state)
{
        struct fixture *f = *state;
        _cleanup_free_ struct run *run = calloc(1, sizeof(*run));
        struct catalog_update *update;
        struct catalog_changes changes;

        run->seed = 20;
        run->catalog = f->catalog;
        run->model.n = 1;
        run->model.nodes[0] = (struct node){ .kind = ENTRY_DIRECTORY, .mode = 0755 };
        assert_int_equal(catalog_update_begin(run->catalog, &update), 0);
        put_all(update, &run->model, &run->seed, NULL);
        assert_int_equal(catalog_update_commit(update, NULL, 1, &changes), CATALOG_OK);
        look(run->catalog, &run->old);
        run->before = run->model;
        run->highest = CATALOG_ROOT_INO;

        for (int i = 0; i < STEPS; i++) {
                step(run);
                if (i % 20 == 19) {
                        reopen(f);
                        run->catalog = f->catalog;
                        look(run->catalog, &run->new);
                        compare_changes(&run->old, &run->new, &changes);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_random_versions, set_up, tear_down),
        };

        log_setup("test_catalog_model", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
