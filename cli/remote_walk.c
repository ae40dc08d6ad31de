#include "cli/remote.h"

struct walk {
        struct remote *remote;
        int (*visit)(const struct remote_visit *visit, void *arg);
        void *arg;
        struct buffer path; /* owned: of the entry that is visited */
};

static int tell(struct walk *w, const struct catalog_entry *entry, bool leaving)
{
        const struct remote_visit visit = {
                .entry = entry, .path = w->path.data ?: "", .path_len = w->path.len, .leaving = leaving
        };

        return w->visit(&visit, w->arg);
}

/* As deep as a path may be long, half of its bytes being slashes. */
static int walk_below(const struct catalog_entry *entry, void *arg)
{
        struct walk *w = arg;
        const size_t len = w->path.len;
        int r = 0;

        if (entry->ino != CATALOG_ROOT_INO)
                r = buffer_printf(&w->path, "%s%s", len > 0 ? "/" : "", entry->name);
        if (r == 0 && w->path.len > PATH_BYTES_MAX)
                r = -ENAMETOOLONG;
        if (r == 0)
                r = tell(w, entry, false);
        if (r == 0 && entry->kind == ENTRY_DIRECTORY) {
                r = remote_each(w->remote, entry, walk_below, w);
                if (r == 0)
                        r = tell(w, entry, true);
        }
        buffer_truncate(&w->path, len);
        return r;
}

int remote_walk(struct remote *remote, const struct catalog_entry *top,
                int (*visit)(const struct remote_visit *visit, void *arg), void *arg)
{
        struct walk w = { .remote = remote, .visit = visit, .arg = arg };
        int r;

        if (top->kind != ENTRY_DIRECTORY || top->ino == CATALOG_ROOT_INO) {
                r = top->kind == ENTRY_DIRECTORY ? walk_below(top, &w) : tell(&w, top, false);
        } else {
                r = tell(&w, top, false);
                if (r == 0)
                        r = remote_each(remote, top, walk_below, &w);
                if (r == 0)
                        r = tell(&w, top, true);
        }
        buffer_release(&w.path);
        return r;
}
