#include "server/scan_folder.h"

static int add_link(const char *path, const char *name, bool suspect, void *arg)
{
        struct scan *scan = arg;
        const struct spot *spot = scan->pass.spots ? spots_find(scan->pass.spots, path, name) : NULL;

        if (spot && spot->told && (spot->suspect || !suspect))
                return 0; /* was looked at */
        return spots_add(&scan->links, path, name, suspect);
}

/* There is more to look at than a walk over everything costs: that it is, from the beginning, for views show nothing of this update. */
static int begin_anew(struct scan *scan)
{
        int r;

        tree_update_abort(TAKE_PTR(scan->update));
        scan_free_lanes(scan);
        scan->pass.full = true;
        scan->left_out = scan->unknown = 0;
        r = tree_update_begin(scan->pass.tree, &scan->update);
        return r < 0 ? r : scan_begin_round(scan, take_fd(&scan->top), scan->pass.spots);
}

bool scan_look_again(struct scan *scan)
{
        int r;

        if (scan->pass.full || scan->second || scan_stopped(scan))
                return false;
        r = tree_update_each_link(scan->update, add_link, scan);
        if (r == TREE_OK && !scan->links.root)
                return false;
        if (r == TREE_TOO_MANY || r == -E2BIG) {
                r = begin_anew(scan);
        } else if (r == TREE_OK) {
                scan->second = true;
                r = scan_begin_round(scan, take_fd(&scan->top), &scan->links);
        }
        if (r < 0)
                scan_fail(scan, r);
        return r >= 0;
}
