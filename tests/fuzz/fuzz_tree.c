/*
 * A workspace's tree on the master as hostile input: opened, walked, compared, given a new version. Inputs as those of fuzz_catalog.c.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <sqlite3.h>

#include "base/log.h"
#include "server/tree.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/folder.h"
#include "tests/tempdir.h"

#define WALKED 500 /* entries */

static char good[128], dir[128];

static void put(struct tree_update *update, uint64_t parent, uint64_t id, const char *name, uint8_t content)
{
        struct tree_change change = {
                .op = TREE_PUT, .row = { .parent = parent, .id = id, .mode = 0755, .name_len = strlen(name) }
        };

        change.row.kind = id ? ENTRY_DIRECTORY : ENTRY_FILE;
        change.row.stamp =
                (struct tree_stamp){ .device = 7, .inode = 100 + content, .size = id ? 0 : 1000u * content };
        change.row.racy = content == 3;
        memset(change.row.digest, content, hash_len(HASH_XXH3));
        strcpy(change.row.name, name);
        (void)tree_update_apply(update, &change, 1);
}

static void commit(struct tree *tree, uint8_t content)
{
        struct tree_update *update;
        uint64_t a;

        if (tree_update_begin(tree, &update) < 0)
                return;
        a = tree_update_new_id(update);
        put(update, 0, TREE_ROOT_ID, "", 1);
        put(update, TREE_ROOT_ID, a, "a", 2);
        put(update, a, 0, "file", 3);
        put(update, TREE_ROOT_ID, 0, "other", content);
        (void)tree_update_commit(update, NULL);
}

static void make_good(void)
{
        const char *folder = folder_new();
        struct tree_options options = { .dir = dir, .label = "fuzz" };
        struct tree *tree;
        char path[256];

        log_setup("fuzz", LOG_LEVEL_ERROR);
        snprintf(dir, sizeof(dir), "%s/tree", folder);
        snprintf(good, sizeof(good), "%s/good.db", folder);
        assert(tree_open(&options, &tree) == 0);
        commit(tree, 4);
        commit(tree, 5);
        tree_close(tree);
        snprintf(path, sizeof(path), "%s/tree.db", dir);
        assert(rename(path, good) == 0);
}

static void run_sql(const char *path, const uint8_t *data, size_t len)
{
        char *text = strndup((const char *)data, len);
        sqlite3 *db = NULL;

        assert(text && sqlite3_open(path, &db) == SQLITE_OK);
        sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA ignore_check_constraints=1", NULL, NULL, NULL);
        sqlite3_exec(db, text, NULL, NULL, NULL);
        sqlite3_close(db);
        free(text);
}

static int hear(const struct entry *entry, void *arg)
{
        assert(path_check(entry->path, entry->path_len) == 0);
        return ++*(unsigned *)arg >= WALKED;
}

static void walk(struct tree_view *view, const struct tree_row *root)
{
        struct tree_cursor *cursor;
        const struct entry *entry = NULL;
        unsigned walked = 0;

        if (tree_cursor_new(view, root, &cursor) < 0)
                return;
        while (walked++ < WALKED && tree_cursor_next(cursor, &entry, NULL) == 0 && entry) {
                assert(path_check(entry->path, entry->path_len) == 0);
                assert(entry->mode <= 07777 && (!entry->data || entry->size <= ENTRY_TINY_MAX));
        }
        tree_cursor_free(cursor);
}

static void see_detail(struct tree_view *view, const struct tree_row *row, struct buffer *detail)
{
        const struct content_id id = tree_row_content(row);

        (void)tree_view_detail(view, &id, row->stamp.size, detail);
}

static int racy(uint64_t parent, const char *name, size_t name_len, void *arg)
{
        (void)parent;
        assert(name_len == 0 || path_check_name(name, name_len) == 0); /* the root's is empty */
        return ++*(unsigned *)arg >= WALKED;
}

static void look_around(struct tree *tree)
{
        _cleanup_buffer_ struct buffer path = { 0 };
        struct tree_view *view;
        struct tree_row row;
        unsigned heard = 0;
        uint64_t id;

        if (tree_view_take(tree, &view) < 0)
                return;
        if (tree_view_find(view, "", 0, &row) == TREE_OK) {
                walk(view, &row);
                for (uint64_t since = 0; since < 4; since++)
                        (void)tree_view_changes(view, &row, tree_view_version(view)->revision - since, NULL,
                                                WALKED, hear, &heard);
        }
        if (tree_view_find(view, "a/file", 6, &row) == TREE_OK)
                see_detail(view, &row, &path);
        (void)tree_view_find_folder(view, 7, 102, &id);
        for (id = 0; id < 5; id++)
                (void)tree_view_path(view, id, &path);
        heard = 0;
        (void)tree_view_racy(view, racy, &heard);
        tree_view_put(view);
}

void fuzz_one(const uint8_t *data, size_t len)
{
        struct tree_options options = { .dir = dir, .label = "fuzz" };
        struct tree *tree;
        char path[256];

        if (!good[0])
                make_good();
        if (len == 0)
                return;
        tempdir_remove(dir);
        (void)mkdir(dir, 0700);
        snprintf(path, sizeof(path), "%s/tree.db", dir);
        folder_copy_damaged(good, path, data + 1, data[0] == 'S' ? 0 : len - 1);
        if (data[0] == 'S')
                run_sql(path, data + 1, len - 1);
        if (tree_open(&options, &tree) < 0)
                return;
        look_around(tree);
        commit(tree, 6);
        look_around(tree);
        tree_close(tree);
}
