/*
 * Random versions against a model: lists of nodes by path. `disk` is what a pass would find, `rows` what the tree must hold then.
 * After each commit all that the tree says is compared, and the differences from older revisions are applied to what a worker had at that time.
 */
#include "server/tree.h"

#include "tests/unit/tree_fixture.h"

#define NODES_MAX   260
#define PATH_MAX_   160
#define HISTORY     12
#define STEPS       500
#define CHANGES_MAX (3 * NODES_MAX)

struct node {
        char path[PATH_MAX_];
        enum entry_kind kind;
        uint32_t mode;
        int64_t mtime_ns, ctime_ns;
        uint64_t content, inode, id;
        bool unknown, racy;
        bool came; /* in a difference being applied */
};

struct model {
        struct node nodes[NODES_MAX];
        size_t n;
};

struct world {
        struct tree_fixture *f;
        struct model disk, rows;
        struct tree_version version;
        struct {
                struct model seen;
                struct tree_version version;
        } history[HISTORY];
        size_t n_history;
        struct tree_change changes[CHANGES_MAX];
        size_t n_changes;
        char targets[CHANGES_MAX][24];
        uint64_t seed, next_inode;
        unsigned same, wholes, gones, too_old;
};

/* ---- lists of nodes ---- */

static uint64_t random_below(struct world *w, uint64_t n)
{
        w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
        return (w->seed >> 33) % n;
}

static int by_path(const void *a, const void *b)
{
        const struct node *x = a, *y = b;

        return path_compare(x->path, strlen(x->path), y->path, strlen(y->path));
}

static struct node *find(struct model *m, const char *path)
{
        for (size_t i = 0; i < m->n; i++)
                if (strcmp(m->nodes[i].path, path) == 0)
                        return &m->nodes[i];
        return NULL;
}

static bool is_below(const char *path, const char *top)
{
        size_t n = strlen(top);

        if (n == 0)
                return path[0] != '\0';
        return strncmp(path, top, n) == 0 && path[n] == '/';
}

static void remove_below(struct model *m, const char *path, bool itself)
{
        char top[PATH_MAX_];
        size_t kept = 0;

        strcpy(top, path);
        for (size_t i = 0; i < m->n; i++)
                if (!is_below(m->nodes[i].path, top) && !(itself && strcmp(m->nodes[i].path, top) == 0))
                        m->nodes[kept++] = m->nodes[i];
        m->n = kept;
}

static struct node *add(struct model *m, const struct node *node)
{
        assert_true(m->n < NODES_MAX);
        m->nodes[m->n] = *node;
        return &m->nodes[m->n++];
}

static const char *base_name(const char *path)
{
        const char *name;

        path_split(path, strlen(path), &name);
        return name;
}

static struct node *parent_of(struct model *m, const char *path)
{
        char parent[PATH_MAX_];
        const char *name;
        size_t len = path_split(path, strlen(path), &name);

        memcpy(parent, path, len);
        parent[len] = '\0';
        return find(m, parent);
}

/* What a worker sees: nothing below what is unknown. */
static void visible(const struct model *m, struct model *ret)
{
        *ret = *m;
        for (size_t i = 0; i < m->n; i++)
                if (m->nodes[i].unknown)
                        remove_below(ret, m->nodes[i].path, false);
        qsort(ret->nodes, ret->n, sizeof(ret->nodes[0]), by_path);
}

static void target_of(const struct node *node, char ret[24])
{
        snprintf(ret, 24, "target %d", (int)node->content);
}

static void content_of(const struct node *node, uint8_t ret[HASH_BYTES])
{
        char target[24];

        hash_take(ret, (const uint8_t[HASH_BYTES]){ 0 }, HASH_BYTES);
        memset(ret, (int)node->content, hash_len(HASH_XXH3));
        target_of(node, target);
        if (node->kind == ENTRY_SYMLINK)
                hash_bytes(HASH_XXH3, target, strlen(target), ret);
}

static uint64_t size_of(const struct node *node)
{
        char target[24];

        target_of(node, target);
        return node->kind == ENTRY_DIRECTORY ? 0
               : node->kind == ENTRY_SYMLINK ? strlen(target)
                                             : node->content;
}

/* The digest of folder PATH, from the top down. */
static void digest_of(struct model *m, const char *path, uint8_t ret[HASH_BYTES])
{
        struct hasher *hasher;
        struct content_id id;

        assert_int_equal(hasher_new(HASH_XXH3, &hasher), 0);
        qsort(m->nodes, m->n, sizeof(m->nodes[0]), by_path);
        for (size_t i = 0; i < m->n; i++) {
                const struct node *node = &m->nodes[i];
                uint8_t digest[HASH_BYTES];
                if (!is_below(node->path, path) || strcmp(parent_of(m, node->path)->path, path) != 0)
                        continue;
                if (node->kind == ENTRY_DIRECTORY)
                        digest_of(m, node->path, digest);
                else
                        content_of(node, digest);
                entry_digest_add(hasher,
                                 &(struct entry_digest_input){ .name = base_name(node->path),
                                                               .name_len = strlen(base_name(node->path)),
                                                               .kind = node->kind,
                                                               .mode = node->mode,
                                                               .mtime_ns = node->mtime_ns,
                                                               .size = size_of(node),
                                                               .unknown = node->unknown,
                                                               .algorithm = HASH_XXH3,
                                                               .digest = digest });
        }
        hasher_final(hasher, &id);
        hasher_free(hasher);
        memcpy(ret, id.bytes, HASH_BYTES);
}

static void root_digest(struct model *m, uint8_t ret[HASH_BYTES])
{
        uint8_t digest[HASH_BYTES];
        const struct node *root;

        digest_of(m, "", digest);
        root = find(m, "");
        entry_root_digest(HASH_XXH3, root->mode, root->mtime_ns, digest, ret);
}

/* ---- what happens on the disk ---- */

static void fill(struct world *w, struct node *node)
{
        node->kind = (enum entry_kind)(ENTRY_FILE + random_below(w, 3));
        node->mode = (uint32_t)random_below(w, 010000);
        node->mtime_ns = (int64_t)random_below(w, 1000) - 500;
        node->ctime_ns = (int64_t)random_below(w, 1000000);
        node->content = random_below(w, 30);
        node->inode = w->next_inode++;
        node->racy = node->kind == ENTRY_FILE && random_below(w, 8) == 0;
        node->unknown = false;
}

static void create(struct world *w)
{
        static const char *const names[] = { "a",   "b",        "a-b",       "ab", "A",
                                             "z z", "\xff\xfe", "new\nline", "c",  "d.txt" };
        struct model *m = &w->disk;
        const struct node *parent = &m->nodes[random_below(w, m->n)];
        const char *name = names[random_below(w, ARRAY_SIZE(names))];
        struct node node = { 0 };

        if (parent->kind != ENTRY_DIRECTORY || m->n > NODES_MAX / 2 || strlen(parent->path) + 20 > PATH_MAX_)
                return;
        snprintf(node.path, sizeof(node.path), "%.100s%s%s", parent->path, parent->path[0] ? "/" : "", name);
        if (find(m, node.path))
                return;
        fill(w, &node);
        if (random_below(w, 3) == 0)
                node.kind = ENTRY_DIRECTORY;
        node.racy &= node.kind == ENTRY_FILE;
        add(m, &node);
}

static void mutate(struct world *w)
{
        struct model *m = &w->disk;
        struct node *node = &m->nodes[random_below(w, m->n)];
        bool is_root = node->path[0] == '\0';

        switch (random_below(w, 16)) {
        case 0:
                if (!is_root)
                        remove_below(m, node->path, true);
                break;
        case 1: /* another kind under the same name */
                if (!is_root) {
                        remove_below(m, node->path, false);
                        fill(w, find(m, node->path) ? find(m, node->path) : node);
                }
                break;
        case 2: /* another folder with the same in it */
                if (!is_root)
                        node->inode = w->next_inode++;
                break;
        case 3:
                node->mode = (uint32_t)random_below(w, 010000);
                break;
        case 4:
                node->content = random_below(w, 30);
                node->mtime_ns++;
                break;
        case 5: /* nothing that a worker sees */
                node->ctime_ns++;
                node->racy = node->kind == ENTRY_FILE && random_below(w, 2) == 0;
                break;
        case 6:
        case 7:
                if (!is_root)
                        node->unknown = !node->unknown;
                break;
        default:
                create(w);
        }
}

/* ---- what a pass makes of it ---- */

static struct tree_row row_of(const struct node *node, uint64_t parent, char target[24])
{
        struct tree_row row = make_row(parent, base_name(node->path), node->kind, node->id);

        row.unknown = node->unknown;
        row.racy = node->racy;
        row.mode = node->mode;
        row.stamp = (struct tree_stamp){ .device = 3,
                                         .inode = node->inode,
                                         .size = size_of(node),
                                         .mtime_ns = node->mtime_ns,
                                         .ctime_ns = node->ctime_ns };
        content_of(node, row.digest);
        target_of(node, target);
        if (node->kind == ENTRY_SYMLINK) {
                row.target = target;
                row.target_len = strlen(target);
        }
        return row;
}

static void tell(struct world *w, enum tree_op op, const struct node *node, uint64_t parent)
{
        assert_true(w->n_changes < CHANGES_MAX);
        w->changes[w->n_changes].op = op;
        w->changes[w->n_changes].row = row_of(node, parent, w->targets[w->n_changes]);
        w->n_changes++;
}

static bool same_node(const struct node *a, const struct node *b)
{
        return a->kind == b->kind && a->mode == b->mode && a->mtime_ns == b->mtime_ns &&
               a->ctime_ns == b->ctime_ns && a->content == b->content && a->inode == b->inode &&
               a->id == b->id && a->unknown == b->unknown && a->racy == b->racy;
}

/* NODE cannot be read: what is known of it stays (T5). */
static void pass_unknown(struct world *w, const struct node *node, const struct node *old, struct model *ret)
{
        uint64_t parent = parent_of(ret, node->path)->id;
        struct node row = old ? *old : *node;

        row.unknown = true;
        if (!old && node->kind == ENTRY_DIRECTORY)
                row.id = tree_update_new_id(w->f->update);
        if (random_below(w, 2) == 0) { /* nothing at all could be said of it */
                struct node blind = { .kind = ENTRY_UNKNOWN, .unknown = true };
                strcpy(blind.path, node->path);
                tell(w, TREE_PUT, &blind, parent);
                if (!old)
                        row = blind;
        } else {
                tell(w, TREE_PUT, &row, parent);
        }
        add(ret, &row);
        for (size_t i = 0; old && i < w->rows.n; i++)
                if (is_below(w->rows.nodes[i].path, node->path))
                        add(ret, &w->rows.nodes[i]);
}

static bool is_below_unknown(const struct model *m, const char *path)
{
        for (size_t i = 0; i < m->n; i++)
                if (m->nodes[i].unknown && is_below(path, m->nodes[i].path))
                        return true;
        return false;
}

static void pass_node(struct world *w, const struct node *node, struct model *ret)
{
        struct node row = *node, *old = find(&w->rows, node->path), *parent = NULL, *old_parent;

        if (node->path[0] != '\0') {
                parent = parent_of(ret, node->path);
                old_parent = parent_of(&w->rows, node->path);
                if (!parent || is_below_unknown(ret, node->path))
                        return;
                if (!old_parent || old_parent->id != parent->id)
                        old = NULL; /* its folder is another one */
        }
        if (node->unknown) {
                pass_unknown(w, node, old, ret);
                return;
        }
        if (node->kind == ENTRY_DIRECTORY)
                row.id = !parent ? TREE_ROOT_ID
                         : old && old->kind == ENTRY_DIRECTORY && old->inode == node->inode
                                 ? old->id
                                 : tree_update_new_id(w->f->update);
        add(ret, &row);
        if (!old || !same_node(old, &row))
                tell(w, old && old->kind == row.kind && random_below(w, 4) == 0 ? TREE_RESTAMP : TREE_PUT,
                     &row, parent ? parent->id : 0);
}

static void pass_removed(struct world *w, struct model *next)
{
        for (size_t i = 0; i < w->rows.n; i++) {
                const struct node *old = &w->rows.nodes[i], *parent, *old_parent;
                if (old->path[0] == '\0' || find(next, old->path))
                        continue;
                parent = parent_of(next, old->path);
                old_parent = parent_of(&w->rows, old->path);
                if (parent && parent->id == old_parent->id && parent->id != 0)
                        tell(w, TREE_REMOVE, old, parent->id);
        }
}

/* Rows of folders of which the pass never told: they must leave nothing behind. */
static void pass_orphans(struct world *w)
{
        struct node node = { .kind = ENTRY_DIRECTORY, .path = "d", .id = tree_update_new_id(w->f->update) };
        uint64_t lost = tree_update_new_id(w->f->update);

        tell(w, TREE_PUT, &node, lost);
        node.kind = ENTRY_FILE;
        lost = node.id;
        node.id = 0;
        tell(w, TREE_PUT, &node, lost);
}

static void run_pass(struct world *w, struct model *ret)
{
        ret->n = 0;
        w->n_changes = 0;
        qsort(w->disk.nodes, w->disk.n, sizeof(w->disk.nodes[0]), by_path);
        for (size_t i = 0; i < w->disk.n; i++)
                pass_node(w, &w->disk.nodes[i], ret);
        pass_removed(w, ret);
        if (random_below(w, 10) == 0)
                pass_orphans(w);
        for (size_t i = w->n_changes; i > 1; i--) { /* in any order */
                size_t other = random_below(w, i);
                struct tree_change swap = w->changes[i - 1];
                w->changes[i - 1] = w->changes[other];
                w->changes[other] = swap;
        }
        assert_int_equal(tree_update_apply(w->f->update, w->changes, w->n_changes), 0);
}

/* ---- what the tree says ---- */

struct walk {
        struct world *w;
        struct tree_view *view;
        struct model *rows;
        const char *path;
        size_t seen;
        char last[PATH_NAME_MAX + 1];
};

static void check_row(const struct node *node, const struct tree_row *row)
{
        uint8_t content[HASH_BYTES];

        assert_int_equal(row->kind, node->kind);
        assert_int_equal(row->id, node->id);
        assert_int_equal(row->unknown, node->unknown);
        assert_int_equal(row->racy, node->racy);
        assert_int_equal(row->mode, node->mode);
        assert_int_equal(row->stamp.mtime_ns, node->mtime_ns);
        assert_int_equal(row->stamp.ctime_ns, node->ctime_ns);
        assert_int_equal(row->stamp.inode, node->inode);
        assert_int_equal(row->stamp.size, size_of(node));
        content_of(node, content);
        if (node->kind != ENTRY_DIRECTORY)
                assert_memory_equal(row->digest, content, HASH_BYTES);
}

static int check_listed(const struct tree_row *row, void *arg)
{
        struct walk *walk = arg;
        char path[PATH_MAX_ + PATH_NAME_MAX];
        struct tree_row again;
        struct node *node;

        assert_true(walk->last[0] == '\0' || strcmp(walk->last, row->name) < 0);
        strcpy(walk->last, row->name);
        snprintf(path, sizeof(path), "%s%s%s", walk->path, walk->path[0] ? "/" : "", row->name);
        node = find(walk->rows, path);
        assert_non_null(node);
        check_row(node, row);
        assert_int_equal(tree_view_find(walk->view, path, strlen(path), &again), TREE_OK);
        check_row(node, &again);
        walk->seen++;
        return 0;
}

static void check_folder_of(struct walk *walk, const struct node *node)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        uint64_t id;

        walk->path = node->path;
        walk->last[0] = '\0';
        assert_int_equal(tree_view_list(walk->view, node->id, check_listed, walk), 0);
        assert_int_equal(tree_view_path(walk->view, node->id, &path), TREE_OK);
        assert_string_equal(path.data ? path.data : "", node->path);
        assert_int_equal(tree_view_find_folder(walk->view, 3, node->inode, &id), TREE_OK);
        assert_int_equal(id, node->id);
}

static int count_racy(uint64_t parent, const char *name, size_t name_len, void *arg)
{
        struct walk *walk = arg;
        struct tree_row row;

        assert_int_equal(tree_view_lookup(walk->view, parent, name, name_len, &row), TREE_OK);
        assert_true(row.racy);
        walk->seen++;
        return 0;
}

/* Every row, by every way of reading. */
static void check_rows(struct world *w, struct tree_view *view, struct model *rows)
{
        struct walk walk = { .w = w, .view = view, .rows = rows, .seen = 1 };
        size_t racy = 0;

        for (size_t i = 0; i < rows->n; i++) {
                racy += rows->nodes[i].racy;
                if (rows->nodes[i].kind == ENTRY_DIRECTORY)
                        check_folder_of(&walk, &rows->nodes[i]);
        }
        assert_int_equal(walk.seen, rows->n);
        walk.seen = 0;
        assert_int_equal(tree_view_racy(view, count_racy, &walk), 0);
        assert_int_equal(walk.seen, racy);
}

static void check_counts(struct model *rows, const struct tree_version *version)
{
        struct tree_version expected = { .valid = true, .entries = rows->n };

        for (size_t i = 0; i < rows->n; i++) {
                const struct node *node = &rows->nodes[i];
                expected.files += node->kind == ENTRY_FILE;
                expected.folders += node->kind == ENTRY_DIRECTORY;
                expected.symlinks += node->kind == ENTRY_SYMLINK;
                expected.unknown += node->unknown;
                expected.bytes += node->kind == ENTRY_FILE ? size_of(node) : 0;
        }
        root_digest(rows, expected.digest);
        assert_memory_equal(version->digest, expected.digest, HASH_BYTES);
        assert_int_equal(version->entries, expected.entries);
        assert_int_equal(version->files, expected.files);
        assert_int_equal(version->folders, expected.folders);
        assert_int_equal(version->symlinks, expected.symlinks);
        assert_int_equal(version->unknown, expected.unknown);
        assert_int_equal(version->bytes, expected.bytes);
}

static void check_entry(struct model *m, const struct node *node, const struct entry *entry)
{
        uint8_t content[HASH_BYTES];

        assert_int_equal(entry->unknown, node->unknown);
        if (node->unknown)
                return;
        assert_int_equal(entry->kind, node->kind);
        assert_int_equal(entry->mode, node->mode);
        assert_int_equal(entry->mtime_ns, node->mtime_ns);
        assert_int_equal(entry->size, size_of(node));
        content_of(node, content);
        if (node->kind == ENTRY_DIRECTORY)
                digest_of(m, node->path, content);
        if (node->kind == ENTRY_SYMLINK)
                assert_int_equal(entry->target_len, size_of(node));
        else
                assert_memory_equal(entry->content.bytes, content, HASH_BYTES);
}

static void check_cursor(struct tree_view *view, struct model *rows)
{
        static struct model seen;
        struct tree_cursor *cursor;
        struct tree_row root;
        const struct entry *entry;
        size_t n = 0;

        visible(rows, &seen);
        assert_int_equal(tree_view_find(view, "", 0, &root), TREE_OK);
        assert_int_equal(tree_cursor_new(view, &root, &cursor), 0);
        while (tree_cursor_next(cursor, &entry, NULL) == 0 && entry) {
                struct node *node = find(&seen, entry->path), *parent;
                assert_non_null(node);
                assert_false(node->came);
                parent = n > 0 ? parent_of(&seen, entry->path) : NULL;
                assert_true(n == 0 || parent->came); /* folders before what is in them */
                node->came = true;
                check_entry(rows, find(rows, entry->path), entry);
                n++;
        }
        tree_cursor_free(cursor);
        assert_int_equal(n, seen.n);
}

/* ---- differences ---- */

struct difference {
        struct world *w;
        struct model *m; /* what the worker has */
        size_t n;
        char whole[PATH_MAX_];
        bool in_whole;
};

static int take(const struct entry *entry, void *arg)
{
        struct difference *d = arg;
        struct node node = { 0 }, *old = find(d->m, entry->path), *parent;

        d->n++;
        assert_true(entry->path_len < PATH_MAX_ && strlen(entry->path) == entry->path_len);
        assert_false(old && old->came); /* each path once */
        if (entry->path_len > 0) {
                parent = parent_of(d->m, entry->path);
                assert_non_null(parent);
                assert_true(parent->kind == ENTRY_DIRECTORY && !parent->unknown);
        }
        if (entry->gone) {
                d->w->gones++;
                remove_below(d->m, entry->path, true);
                return 0;
        }
        if (entry->whole) {
                assert_int_equal(entry->kind, ENTRY_DIRECTORY);
                d->w->wholes++;
        }
        strcpy(node.path, entry->path);
        node.kind = entry->kind;
        node.mode = entry->mode;
        node.mtime_ns = entry->mtime_ns;
        node.unknown = entry->unknown;
        node.came = true;
        node.content = entry->content.bytes[0];
        if (entry->kind == ENTRY_SYMLINK && !entry->unknown)
                node.content = (uint64_t)atoi(entry->target + strlen("target "));
        if (entry->whole || entry->kind != ENTRY_DIRECTORY || entry->unknown)
                remove_below(d->m, entry->path, false);
        old = find(d->m, entry->path);
        if (old && old->unknown && entry->kind == ENTRY_DIRECTORY && !entry->unknown)
                assert_true(entry->whole);
        if (old)
                *old = node;
        else
                add(d->m, &node);
        return 0;
}

/* The part of M at and below TOP, as paths from there. */
static void part_of(const struct model *m, const char *top, struct model *ret)
{
        size_t n = strlen(top);

        ret->n = 0;
        for (size_t i = 0; i < m->n; i++) {
                struct node node = m->nodes[i];
                node.came = false;
                if (strcmp(node.path, top) != 0 && !is_below(node.path, top))
                        continue;
                memmove(node.path, node.path + n + (n > 0 && node.path[n] == '/'),
                        strlen(node.path + n + (n > 0 && node.path[n] == '/')) + 1);
                add(ret, &node);
        }
}

static void check_equal(struct model *got, struct model *expected)
{
        qsort(got->nodes, got->n, sizeof(got->nodes[0]), by_path);
        qsort(expected->nodes, expected->n, sizeof(expected->nodes[0]), by_path);
        assert_int_equal(got->n, expected->n);
        for (size_t i = 0; i < got->n; i++) {
                const struct node *a = &got->nodes[i], *b = &expected->nodes[i];
                assert_string_equal(a->path, b->path);
                assert_int_equal(a->unknown, b->unknown);
                if (a->unknown)
                        continue;
                assert_int_equal(a->kind, b->kind);
                assert_int_equal(a->mode, b->mode);
                assert_int_equal(a->mtime_ns, b->mtime_ns);
                if (a->kind != ENTRY_DIRECTORY)
                        assert_int_equal(a->content, b->content);
        }
}

/* The difference since HISTORY[at], as far as it lies in TOP, makes of what was there then what is there now. */
static void check_difference(struct world *w, struct tree_view *view, size_t at, const char *top)
{
        static struct model now, got, expected;
        struct difference d = { .w = w, .m = &got };
        const struct tree_version *since = &w->history[at].version;
        struct tree_row row;
        size_t n;
        int r;

        visible(&w->rows, &now);
        part_of(&now, top, &expected);
        if (expected.n == 0 || find(&expected, "")->kind != ENTRY_DIRECTORY || find(&expected, "")->unknown)
                return;
        part_of(&w->history[at].seen, top, &got);
        assert_int_equal(tree_view_find(view, top, strlen(top), &row), TREE_OK);
        r = tree_view_changes(view, &row, since->revision, top[0] ? NULL : since->digest, 100000, take, &d);
        if (r == TREE_TOO_OLD && w->f->options.journal_max) {
                w->too_old++;
                return;
        }
        assert_int_equal(r, TREE_OK);
        check_equal(&got, &expected);
        n = d.n;
        if (n == 0)
                return;
        part_of(&w->history[at].seen, top, &got);
        assert_int_equal(tree_view_changes(view, &row, since->revision, NULL, n - 1, take, &d),
                         TREE_TOO_MANY);
        assert_int_equal(d.n, n + n - 1);
}

static void check_differences(struct world *w, struct tree_view *view)
{
        for (size_t at = 0; at < w->n_history; at++) {
                char top[PATH_MAX_];
                check_difference(w, view, at, "");
                strcpy(top, w->rows.nodes[random_below(w, w->rows.n)].path);
                check_difference(w, view, at, top);
        }
}

static void remember(struct world *w)
{
        size_t at = w->n_history < HISTORY ? w->n_history++ : random_below(w, HISTORY);

        visible(&w->rows, &w->history[at].seen);
        w->history[at].version = w->version;
}

/* ---- a step ---- */

static void check_revision(struct world *w, const struct tree_version *version)
{
        struct tree_version now;

        if (w->version.valid && memcmp(version->digest, w->version.digest, HASH_BYTES) == 0) {
                assert_int_equal(version->revision, w->version.revision);
                w->same++;
        } else if (w->version.valid) {
                assert_int_equal(version->revision, w->version.revision + 1);
        }
        tree_get_version(w->f->tree, &now);
        assert_memory_equal(&now, version, sizeof(now));
}

static void step(struct world *w)
{
        static struct model next, before;
        struct tree_version version;
        struct tree_view *old = NULL, *view;
        bool keep = random_below(w, 4) == 0;

        for (uint64_t n = random_below(w, 9) + (w->version.valid ? 0 : 100); n > 0; n--)
                mutate(w);
        if (keep)
                assert_int_equal(tree_view_take(w->f->tree, &old), 0);
        before = w->rows;
        assert_int_equal(tree_update_begin(w->f->tree, &w->f->update), 0);
        run_pass(w, &next);
        if (w->version.valid && random_below(w, 10) == 0) {
                tree_update_abort(TAKE_PTR(w->f->update));
                tree_get_version(w->f->tree, &version);
                assert_memory_equal(&version, &w->version, sizeof(version));
        } else {
                version = commit(w->f);
                check_revision(w, &version);
                w->rows = next;
                w->version = version;
        }
        if (keep && tree_view_version(old)->valid)
                check_rows(w, old, &before); /* T1 */
        tree_view_put(old);
        if (random_below(w, 10) == 0)
                fixture_reopen(w->f);
        assert_int_equal(tree_view_take(w->f->tree, &view), 0);
        check_counts(&w->rows, tree_view_version(view));
        check_rows(w, view, &w->rows);
        check_cursor(view, &w->rows);
        check_differences(w, view);
        tree_view_put(view);
        remember(w);
}

static void run_model(void **state, uint64_t seed, uint64_t journal_max)
{
        struct world *w = calloc(1, sizeof(*w));
        struct node root = { .kind = ENTRY_DIRECTORY, .mode = 0755, .inode = 1 };

        assert_non_null(w);
        w->f = *state;
        w->f->options.journal_max = journal_max;
        fixture_reopen(w->f);
        w->seed = seed;
        w->next_inode = 2;
        add(&w->disk, &root);
        for (int i = 0; i < STEPS; i++)
                step(w);
        print_message("# %u passes without a difference, %u whole folders, %u gone, %u too old\n", w->same,
                      w->wholes, w->gones, w->too_old);
        assert_true(w->same > 0 && w->wholes > 0 && w->gones > 0 && (w->too_old > 0) == (journal_max > 0));
        free(w);
}

static void test_model_1(void **state)
{
        run_model(state, 1, 0);
}

static void test_model_2(void **state)
{
        run_model(state, 20260101, 60); /* the journal forgets */
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model_1, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_model_2, fixture_set_up, fixture_tear_down),
};

UNIT_MAIN(tests)
