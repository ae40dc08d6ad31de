#include <string.h>

#include "base/log.h"
#include "base/pieces.h"
#include "server/versions_private.h"

/* ---- pinning ---- */

bool version_is_usable_locked(const struct version *v)
{
        return v->tree && !v->damaged && !tree_is_suspect(v->tree);
}

/* Pins SPIDER's tree if there is one; NULL otherwise. */
static struct version *pin(struct versions *versions, const char *spider)
{
        struct version *v;

        mutex_lock(&versions->lock);
        v = version_find_locked(versions, spider);
        if (v && !version_is_usable_locked(v))
                v = NULL;
        if (v) {
                v->pins++;
                v->used_ns = clock_monotonic_ns();
        }
        mutex_unlock(&versions->lock);
        return v;
}

/* ERROR: what the use of the tree came to. */
static void unpin(struct version *v, int error)
{
        struct versions *versions = v->versions;

        mutex_lock(&versions->lock);
        v->pins--;
        v->damaged = v->damaged || error == -EBADMSG;
        mutex_unlock(&versions->lock);
}

int versions_view(struct versions *versions, const char *spider, struct tree_view **ret)
{
        struct version *v = pin(versions, spider);
        int r;

        if (!v)
                return TREE_NONE;
        r = tree_view_take(v->tree, ret);
        unpin(v, r);
        return r;
}

/* ---- what a file holds ---- */

/* One look at the present version. */
struct look {
        struct version *version; /* pinned; NULL: nothing was ever scanned */
        struct tree_view *view;
};

/* 0, TREE_NONE or negative errno; in any case look_end follows. */
static int look_begin(struct versions *versions, const char *spider, struct look *ret)
{
        *ret = (struct look){ .version = pin(versions, spider) };
        return ret->version ? tree_view_take(ret->version->tree, &ret->view) : TREE_NONE;
}

/* RESULT is what came of it, and is returned. */
static int look_end(struct look *look, int result)
{
        tree_view_put(look->view);
        if (look->version)
                unpin(look->version, result);
        return result;
}

int versions_find(struct versions *versions, const char *spider, const char *path, struct tree_row *ret)
{
        struct look look;
        int r = look_begin(versions, spider, &look);

        if (r == 0)
                r = tree_view_find(look.view, path, strlen(path), ret);
        if (r == TREE_OK) {
                ret->target = NULL;
                ret->target_len = 0;
        }
        return look_end(&look, r);
}

int versions_find_root(struct versions *versions, const char *spider, const char *path,
                       uint8_t ret[HASH_BYTES])
{
        struct tree_row row;
        int r = versions_find(versions, spider, path, &row);

        if (r == TREE_OK && row.kind != ENTRY_DIRECTORY)
                r = TREE_NONE;
        if (r == TREE_OK)
                tree_row_root_digest(&row, ret);
        return r;
}

int versions_find_list(struct versions *versions, const char *spider, const struct content_id *id,
                       uint64_t size, struct buffer *ret)
{
        struct look look;
        int r = look_begin(versions, spider, &look);

        if (r == 0)
                r = tree_view_detail(look.view, id, size, ret);
        return look_end(&look, r);
}

int versions_store_list(struct versions *versions, const char *spider, const struct content_id *id,
                        const uint8_t *list, size_t len)
{
        struct version *v = pin(versions, spider);
        int r;

        if (!v)
                return TREE_NONE;
        r = tree_store_detail(v->tree, id, list, len);
        unpin(v, r);
        return r;
}

void versions_suspect(struct versions *versions, const char *spider, const char *path)
{
        const char *name;
        _cleanup_free_ char *folder = strndup(path, path_split(path, strlen(path), &name));
        struct version *v;

        mutex_lock(&versions->lock);
        v = folder ? version_find_or_make_locked(versions, spider) : NULL;
        if (v && spots_add(&v->spots, folder, name, true) >= 0) {
                v->has_suspects = true;
                version_told_locked(v);
        } else {
                log_limited(LOG_LEVEL_WARNING, "suspect",
                            "%s: '%s' holds something else than its stamp says, and it cannot be noted",
                            spider, path);
        }
        mutex_unlock(&versions->lock);
}

/* ---- MD5s ---- */

/* Of the ITEMS that the tree has a row for: where. */
static int resolve(struct tree *tree, const struct versions_md5 *items, size_t n, struct tree_row *rows,
                   struct tree_md5 *ret, size_t *ret_n)
{
        struct tree_view *view = NULL;
        int r = tree_view_take(tree, &view);

        *ret_n = 0;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                struct tree_row *row = &rows[*ret_n];

                r = tree_view_find(view, items[i].path, strlen(items[i].path), row);
                if (r != TREE_OK || row->kind != ENTRY_FILE || row->racy)
                        continue;
                ret[*ret_n] = (struct tree_md5){ .parent = row->parent,
                                                 .name = row->name,
                                                 .name_len = row->name_len,
                                                 .stamp = items[i].stamp };
                memcpy(ret[*ret_n].md5, items[i].md5, HASH_MD5_BYTES);
                (*ret_n)++;
        }
        tree_view_put(view);
        return r < 0 ? r : 0;
}

int versions_store_md5s(struct versions *versions, const char *spider, const struct versions_md5 *items,
                        size_t n, size_t *ret_stored)
{
        _cleanup_free_ struct tree_row *rows = reallocarray(NULL, n, sizeof(*rows));
        _cleanup_free_ struct tree_md5 *found = reallocarray(NULL, n, sizeof(*found));
        struct version *v = rows && found ? pin(versions, spider) : NULL;
        size_t n_found;
        int r;

        if (!rows || !found)
                return -ENOMEM;
        if (ret_stored)
                *ret_stored = 0;
        if (!v)
                return 0;
        r = resolve(v->tree, items, n, rows, found, &n_found);
        if (r == 0 && n_found > 0)
                r = tree_store_md5s(v->tree, found, n_found, ret_stored);
        unpin(v, r);
        return r;
}
