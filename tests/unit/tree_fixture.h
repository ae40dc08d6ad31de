/*
 * A tree in a folder of its own, and rows to put into it.
 */
#pragma once

#include <assert.h>
#include <string.h>

#include "server/tree.h"
#include "tests/tempdir.h"
#include "tests/unit/unit.h"

struct tree_fixture {
        char dir[64];
        struct tree_options options;
        struct tree *tree;
        struct tree_update *update;
};

static inline void fixture_reopen(struct tree_fixture *f)
{
        tree_close(f->tree);
        f->tree = NULL;
        assert_int_equal(tree_open(&f->options, &f->tree), 0);
}

static inline int fixture_set_up(void **state)
{
        struct tree_fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        strcpy(f->dir, "/tmp/test_tree.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->options = (struct tree_options){ .dir = f->dir, .label = "test" };
        fixture_reopen(f);
        *state = f;
        return 0;
}

static inline int fixture_tear_down(void **state)
{
        struct tree_fixture *f = *state;

        tree_update_abort(f->update);
        tree_close(f->tree);
        assert_int_equal(tempdir_remove(f->dir), 0);
        free(f);
        return 0;
}

static inline struct tree_row make_row(uint64_t parent, const char *name, enum entry_kind kind, uint64_t id)
{
        struct tree_row row = {
                .parent = parent, .id = id, .kind = kind, .mode = 0644, .name_len = strlen(name)
        };

        strcpy(row.name, name);
        row.stamp = (struct tree_stamp){ .device = 7, .inode = 100 + id, .mtime_ns = 1000, .ctime_ns = 2000 };
        return row;
}

static inline struct tree_row make_file(uint64_t parent, const char *name, uint8_t content)
{
        struct tree_row row = make_row(parent, name, ENTRY_FILE, 0);

        memset(row.digest, content, hash_len(HASH_XXH3));
        row.stamp.size = content;
        return row;
}

static inline struct tree_row make_symlink(uint64_t parent, const char *name, const char *target)
{
        struct tree_row row = make_row(parent, name, ENTRY_SYMLINK, 0);

        row.target = target;
        row.target_len = row.stamp.size = strlen(target);
        hash_bytes(HASH_XXH3, target, row.target_len, row.digest);
        return row;
}

static inline void apply(struct tree_fixture *f, enum tree_op op, struct tree_row row)
{
        const struct tree_change change = { .op = op, .row = row };

        if (!f->update)
                assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        assert_int_equal(tree_update_apply(f->update, &change, 1), 0);
}

/* PUTs a new folder and returns its id. */
static inline uint64_t put_folder(struct tree_fixture *f, uint64_t parent, const char *name)
{
        uint64_t id;

        if (!f->update)
                assert_int_equal(tree_update_begin(f->tree, &f->update), 0);
        id = parent == 0 ? TREE_ROOT_ID : tree_update_new_id(f->update);
        apply(f, TREE_PUT, make_row(parent, name, ENTRY_DIRECTORY, id));
        return id;
}

static inline struct tree_version commit(struct tree_fixture *f)
{
        struct tree_version version;

        assert_int_equal(tree_update_commit(TAKE_PTR(f->update), &version), 0);
        return version;
}
