#include "cache/store_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/io.h"

bool pins_has(struct store *store, const struct content_id *id)
{
        char name[STORE_NAME_MAX];

        store_flat_name(id, name);
        return faccessat(store->pins_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int compare_ids(const void *a, const void *b)
{
        const struct content_id *x = a, *y = b;

        if (x->algorithm != y->algorithm)
                return x->algorithm < y->algorithm ? -1 : 1;
        return memcmp(x->bytes, y->bytes, sizeof(x->bytes));
}

/* "<algorithm>-<hex>" to the content it names. -EINVAL: not one of ours. */
static int parse_flat_name(const char *name, struct content_id *ret)
{
        char text[HASH_TEXT_MAX];
        size_t len = strlen(name);
        char *dash;

        if (len >= sizeof(text))
                return -EINVAL;
        memcpy(text, name, len + 1);
        dash = strchr(text, '-');
        if (!dash)
                return -EINVAL;
        *dash = ':';
        return content_id_parse(text, ret);
}

static int add_pin(const char *name, void *arg)
{
        struct pins *pins = arg;
        struct content_id id;

        if (parse_flat_name(name, &id) < 0 || id.algorithm == HASH_NONE)
                return 0;
        if (pins->count == pins->capacity) {
                size_t capacity = MAX(pins->capacity * 2, (size_t)64);
                struct content_id *ids = reallocarray(pins->ids, capacity, sizeof(*ids));
                if (!ids)
                        return -ENOMEM;
                pins->ids = ids;
                pins->capacity = capacity;
        }
        pins->ids[pins->count++] = id;
        return 0;
}

int pins_load(struct store *store, struct pins *ret)
{
        struct pins pins = { 0 };
        int r = store_walk_names(store->pins_fd, add_pin, &pins);

        if (r < 0) {
                pins_release(&pins);
                return r;
        }
        if (pins.count > 0)
                qsort(pins.ids, pins.count, sizeof(*pins.ids), compare_ids);
        *ret = pins;
        return 0;
}

void pins_release(struct pins *pins)
{
        free(pins->ids);
        *pins = (struct pins){ 0 };
}

bool pins_find(const struct pins *pins, const struct content_id *id)
{
        return pins->count > 0 && bsearch(id, pins->ids, pins->count, sizeof(*pins->ids), compare_ids);
}

int store_pin(struct store *store, const struct content_id *id)
{
        char name[STORE_NAME_MAX];
        unsigned shard;
        struct usage_turn turn;
        int fd;

        if (store_blob_dir(store, id) < 0)
                return -EINVAL;
        store_flat_name(id, name);
        fd = openat(store->pins_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        close(fd);
        /* An eviction under way has either seen the pin, or is over once its lock can be had. */
        shard = usage_shard_of(id);
        turn = usage_begin(store, shard);
        usage_end(store, shard, turn, 0, 0);
        return turn.locked ? 0 : -EBUSY;
}

int store_unpin(struct store *store, const struct content_id *id)
{
        char name[STORE_NAME_MAX];

        if (store_blob_dir(store, id) < 0)
                return -EINVAL;
        store_flat_name(id, name);
        if (unlinkat(store->pins_fd, name, 0) == 0)
                return STORE_OK;
        return errno == ENOENT ? STORE_MISS : -errno;
}

int store_list_pins(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
                    void *arg)
{
        struct pins pins;
        int r = pins_load(store, &pins);

        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < pins.count; i++) {
                char path[STORE_BLOB_PATH_MAX];
                struct stat st;
                store_blob_path(&pins.ids[i], path);
                if (fstatat(store_blob_dir(store, &pins.ids[i]), path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        st.st_size = 0;
                r = each(&pins.ids[i], (uint64_t)st.st_size, arg);
        }
        pins_release(&pins);
        return r;
}

/* ---- what is left over ---- */

struct remove_state {
        int dirfd;
        bool locked_stay;
        struct store_evicted *removed;
};

static int remove_one(const char *name, void *arg)
{
        struct remove_state *state = arg;
        _cleanup_close_ int fd = openat(state->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        if (state->locked_stay &&
            (store_flock(fd, LOCK_EX | LOCK_NB) < 0 || !store_is_current(fd, state->dirfd, name)))
                return 0;
        if (unlinkat(state->dirfd, name, 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        state->removed->blobs++;
        state->removed->bytes += (uint64_t)st.st_size;
        return 0;
}

int store_remove_dead_partials(struct store *store, struct store_evicted *ret)
{
        struct remove_state state = { .dirfd = store->partial_fd, .locked_stay = true, .removed = ret };

        return store_walk_names(store->partial_fd, remove_one, &state);
}

struct collect_state {
        struct store *store;
        struct store_evicted *removed;
};

static int collect_found(const struct store_found *found, void *arg)
{
        struct collect_state *state = arg;

        return found->part ? pieces_collect_part(state->store, found, state->removed) : 0;
}

int store_collect(struct store *store, struct store_evicted *ret)
{
        struct remove_state state = { .dirfd = store->quarantine_fd, .removed = ret };
        struct collect_state parts = { .store = store, .removed = ret };
        int r = store_walk_names(store->quarantine_fd, remove_one, &state);

        if (r == 0)
                r = store_remove_dead_partials(store, ret);
        return r < 0 ? r : store_walk_all(store, collect_found, &parts);
}
