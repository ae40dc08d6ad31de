/*
 * Passes over the workspace of scan_fixture.h into a tree of their own. Included by one test each.
 */
#pragma once

#include "tests/unit/scan_fixture.h"

static inline void open_tree(const struct fixture *f, const char *name, struct tree **ret)
{
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", f->dir, name);
        assert_int_equal(tree_open(&(struct tree_options){ .dir = path, .label = "sp" }, ret), 0);
}

static inline int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        fixture_folder(f, "test_scanner");
        open_tree(f, "tree", &f->tree);
        *state = f;
        return 0;
}

static inline int tear_down(void **state)
{
        struct fixture *f = *state;

        pool_free(f->pool);
        tree_close(f->tree);
        fixture_remove(f);
        return 0;
}

static inline void scan_done(void *arg, int error, const struct scanner_result *result)
{
        answer_set(arg, error, result);
}

/* SPOTS NULL: a full pass. They are empty afterwards. */
static inline int try_scan(const struct fixture *f, struct tree *tree, struct spots *spots,
                           struct scanner_result *ret)
{
        const struct scanner_pass pass = {
                .pool = f->pool,
                .tree = tree,
                .spider = "sp",
                .full = !spots,
                .spots = spots,
        };
        int fd = openat(f->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
        struct answer a;

        answer_init(&a);
        assert_true(fd >= 0);
        assert_int_equal(scanner_start(&pass, fd, scan_done, &a), 0);
        r = answer_wait(&a);
        *ret = a.result;
        if (spots)
                spots_clear(spots);
        return r;
}

static inline struct scanner_result scan(const struct fixture *f)
{
        struct scanner_result result;

        assert_int_equal(try_scan(f, f->tree, NULL, &result), 0);
        return result;
}

static inline struct scanner_result look(const struct fixture *f, struct spots *spots)
{
        struct scanner_result result;

        assert_int_equal(try_scan(f, f->tree, spots, &result), 0);
        return result;
}

static inline int find(const struct fixture *f, const char *path, struct tree_row *ret)
{
        struct tree_view *view;
        int r;

        assert_int_equal(tree_view_take(f->tree, &view), 0);
        r = tree_view_find(view, path, strlen(path), ret);
        tree_view_put(view);
        ret->target = NULL;
        assert_true(r >= 0);
        return r;
}
