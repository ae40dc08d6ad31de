#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "server/versions_private.h"

#define PLACES_MAX 8 /* folders tried for a name whose hash another name has already */

/* The folder that a workspace's tree lies in holds a file of this name, with the workspace's path in it: for people, and against names with the same hash. */
#define LABEL_FILE "spider"

/* Makes folder PLACE with its label file if need be. TREE_NONE: the folder belongs to another name. */
static int take_place(const char *place, const char *label)
{
        _cleanup_buffer_ struct buffer file = { 0 }, text = { 0 };
        _cleanup_close_ int fd = -1;
        int r = buffer_printf(&file, "%s/" LABEL_FILE, place);

        if (r >= 0)
                r = io_mkdir_parents(place, 0700);
        if (r < 0)
                return r;
        fd = open(file.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = io_read_to_end(fd, 2 * (size_t)PATH_BYTES_MAX, &text);
        if (r < 0 && r != -EFBIG)
                return r;
        /* Cut short by a crash while it was written: it was ours to be, or is the longer name's, who will find another place. */
        if (r >= 0 && strncmp(text.data ? text.data : "", label, text.len) == 0 && text.len < strlen(label)) {
                if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
                        return -errno;
                r = io_write_all(fd, label, strlen(label));
                if (r < 0)
                        return r;
        } else if (r < 0 || text.len != strlen(label) || memcmp(text.data, label, text.len) != 0) {
                return TREE_NONE;
        }
        return TREE_OK;
}

/* Whether folder PLACE is LABEL's: TREE_OK, TREE_NONE (another name's, or nobody's), or negative errno. */
static int look_at_place(const char *place, const char *label)
{
        _cleanup_buffer_ struct buffer file = { 0 }, text = { 0 };
        int r = buffer_printf(&file, "%s/" LABEL_FILE, place);

        if (r >= 0)
                r = io_read_file(AT_FDCWD, file.data, 2 * (size_t)PATH_BYTES_MAX, &text);
        if (r < 0)
                return r == -EFBIG || r == -ENOENT ? TREE_NONE : r;
        return text.len == strlen(label) && memcmp(text.data, label, text.len) == 0 ? TREE_OK : TREE_NONE;
}

int versions_place(struct versions *versions, const char *spider, struct buffer *ret)
{
        _cleanup_buffer_ struct buffer label = { 0 };
        int r = buffer_printf(&label, "%s/%s\n", workspace_root_path(versions->options.root), spider);
        uint64_t hash = r >= 0 ? hash_xxh3_64(label.data, label.len) : 0;
        size_t before = ret->len;

        if (r >= 0)
                r = TREE_NONE;
        for (unsigned i = 0; r == TREE_NONE && i < PLACES_MAX; i++) {
                if (before < ret->len)
                        buffer_truncate(ret, before);
                r = buffer_printf(ret, "%s/%016llx", versions->dir, (unsigned long long)hash + i);
                if (r >= 0)
                        r = look_at_place(ret->data + before, label.data);
        }
        return r == TREE_NONE ? -ENOENT : r;
}

static int find_place(struct version *v, const char *label, struct buffer *place)
{
        uint64_t hash = hash_xxh3_64(label, strlen(label));
        int r = TREE_NONE;

        for (unsigned i = 0; r == TREE_NONE && i < PLACES_MAX; i++) {
                buffer_truncate(place, 0);
                r = buffer_printf(place, "%s/%016llx", v->versions->dir, (unsigned long long)hash + i);
                if (r >= 0)
                        r = take_place(place->data, label);
        }
        return r == TREE_NONE ? -EEXIST : r;
}

static int open_tree(struct version *v)
{
        _cleanup_buffer_ struct buffer place = { 0 }, label = { 0 };
        struct versions *versions = v->versions;
        struct tree_options options = { .label = v->spider,
                                        .hash = versions->options.hash,
                                        .journal_max = versions->options.journal_max };
        struct tree *tree;
        int r = buffer_printf(&label, "%s/%s\n", workspace_root_path(versions->options.root), v->spider);

        if (r >= 0)
                r = find_place(v, label.data, &place);
        if (r >= 0) {
                options.dir = place.data;
                r = tree_open(&options, &tree);
        }
        if (r < 0) {
                log_limited(LOG_LEVEL_ERROR, "tree", "%s: cannot open its index in '%s': %s", v->spider,
                            place.data ? place.data : versions->dir, strerror(-r));
                return r;
        }
        mutex_lock(&versions->lock);
        v->tree = tree;
        v->damaged = false;
        mutex_unlock(&versions->lock);
        return 0;
}

void version_close_tree(struct version *v)
{
        struct tree *tree;

        mutex_lock(&v->versions->lock);
        tree = TAKE_PTR(v->tree);
        v->synced = false;
        v->begun_ns = 0;
        mutex_unlock(&v->versions->lock);
        tree_close(tree);
}

int version_open_tree(struct version *v)
{
        struct versions *versions = v->versions;
        bool open, damaged, used;

        mutex_lock(&versions->lock);
        open = v->tree != NULL;
        v->damaged = v->damaged || (open && tree_is_suspect(v->tree));
        damaged = open && v->damaged;
        used = damaged && (v->pins > 0 || tree_has_views(v->tree));
        mutex_unlock(&versions->lock);
        if (open && !damaged)
                return 0;
        if (used)
                return -EBADMSG; /* as soon as the last view is put back */
        if (damaged)
                version_close_tree(v);
        return open_tree(v);
}
