#include "cache/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "cache/store_private.h"

static void cleanup_closedir(DIR **dir)
{
        if (*dir)
                closedir(*dir);
}
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

static int open_dir(int dirfd, const char *name, DIR **ret)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        *ret = fdopendir(fd);
        if (!*ret) {
                close(fd);
                return -ENOMEM;
        }
        return 0;
}

/* The next name but "." and ".."; NULL at the end with *RET_ERROR 0, or on an error. */
static const char *next_name(DIR *dir, int *ret_error)
{
        struct dirent *de;

        do {
                errno = 0;
                de = readdir(dir);
        } while (de && (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0));
        *ret_error = -errno;
        return de ? de->d_name : NULL;
}

int store_walk_names(int dirfd, int (*each)(const char *name, void *arg), void *arg)
{
        _cleanup_closedir_ DIR *dir = NULL;
        const char *name;
        int r = open_dir(dirfd, ".", &dir);

        if (r < 0)
                return r;
        while ((name = next_name(dir, &r))) {
                r = each(name, arg);
                if (r != 0)
                        break;
        }
        return r;
}

static int count_name(const char *name, void *arg)
{
        (*(uint64_t *)arg)++;
        return 0;
}

int store_walk_folder(struct store *store, enum hash_algorithm algorithm, uint8_t first, store_blob_fn each,
                      void *arg)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct content_id id = { .algorithm = algorithm, .bytes = { first } };
        char folder[3];
        const char *name;
        int r;

        hex_encode(&first, 1, folder);
        r = open_dir(store->blob_fds[algorithm], folder, &dir);
        if (r < 0)
                return r == -ENOTDIR || r == -ENOENT ? 0 : r;
        while ((name = next_name(dir, &r))) {
                if (hex_decode(name, strlen(name), id.bytes + 1, HASH_BYTES - 1) < 0)
                        continue; /* not ours */
                r = each(&id, dirfd(dir), name, arg);
                if (r != 0)
                        break;
        }
        return r;
}

static int walk_blobs(struct store *store, store_blob_fn each, void *arg)
{
        int r = 0;

        for (enum hash_algorithm a = HASH_XXH3; r == 0 && a < STORE_ALGORITHMS; a++)
                for (unsigned first = 0; r == 0 && first < 256; first++)
                        r = store_walk_folder(store, a, (uint8_t)first, each, arg);
        return r;
}

struct list_state {
        int (*each)(const struct content_id *id, uint64_t size, void *arg);
        void *arg;
};

static int list_blob(const struct content_id *id, int dirfd, const char *name, void *arg)
{
        struct list_state *state = arg;
        struct stat st;

        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISREG(st.st_mode))
                return 0;
        return state->each(id, (uint64_t)st.st_size, state->arg);
}

int store_list(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
               void *arg)
{
        struct list_state state = { .each = each, .arg = arg };

        return walk_blobs(store, list_blob, &state);
}

struct stat_state {
        struct store_stats stats;
        struct pins pins;
};

static void stat_blob(const struct content_id *id, int dirfd, const char *name, const struct stat *st,
                      void *arg)
{
        struct stat_state *state = arg;

        state->stats.blobs++;
        state->stats.blob_bytes += (uint64_t)st->st_size;
        if (pins_find(&state->pins, id)) {
                state->stats.pinned++;
                state->stats.pinned_bytes += (uint64_t)st->st_size;
        }
}

int store_stat(struct store *store, struct store_stats *ret)
{
        struct stat_state state = { 0 };
        int r = pins_load(store, &state.pins);

        for (unsigned i = 0; r == 0 && i < USAGE_SHARDS; i++)
                r = usage_count(store, i, stat_blob, &state);
        pins_release(&state.pins);
        if (r == 0)
                r = store_walk_names(store->partial_fd, count_name, &state.stats.partials);
        if (r == 0)
                r = store_walk_names(store->quarantine_fd, count_name, &state.stats.quarantined);
        if (r == 0)
                *ret = state.stats;
        return r;
}

struct verify_state {
        struct store *store;
        void (*on_damaged)(const char *name, void *arg);
        void *arg;
        uint64_t verified, damaged;
};

static int verify_blob(const struct content_id *id, int dirfd, const char *name, void *arg)
{
        _cleanup_close_ int fd = store_open_blob(dirfd, name);
        struct verify_state *state = arg;
        char text[HASH_TEXT_MAX];
        int r;

        if (fd < 0)
                return fd == -ENOENT || fd == -ELOOP ? 0 : fd;
        r = store_check_blob(state->store, id, fd);
        if (r < 0)
                return r;
        if (r == STORE_OK) {
                state->verified++;
                return 0;
        }
        state->damaged++;
        if (state->on_damaged)
                state->on_damaged(content_id_format(id, text), state->arg);
        return 0;
}

int store_verify(struct store *store, void (*on_damaged)(const char *name, void *arg), void *arg,
                 struct store_stats *ret)
{
        struct verify_state state = { .store = store, .on_damaged = on_damaged, .arg = arg };
        struct store_stats stats;
        int r = walk_blobs(store, verify_blob, &state);

        if (r == 0)
                r = store_stat(store, &stats);
        if (r < 0)
                return r;
        stats.verified = state.verified;
        stats.damaged = state.damaged;
        *ret = stats;
        return 0;
}
