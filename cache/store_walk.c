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

static int count_names(int dirfd, uint64_t *ret)
{
        _cleanup_closedir_ DIR *dir = NULL;
        int r = open_dir(dirfd, ".", &dir);

        if (r < 0)
                return r;
        *ret = 0;
        while (next_name(dir, &r))
                (*ret)++;
        return r;
}

typedef int (*blob_fn)(const struct content_id *id, int dirfd, const char *name, void *arg);

static int walk_folder(int algorithm_fd, enum hash_algorithm algorithm, const char *folder, blob_fn each,
                       void *arg)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct content_id id = { .algorithm = algorithm };
        const char *name;
        int r;

        if (hex_decode(folder, strlen(folder), id.bytes, 1) < 0)
                return 0; /* not ours */
        r = open_dir(algorithm_fd, folder, &dir);
        if (r < 0)
                return r == -ENOTDIR || r == -ENOENT ? 0 : r;
        while ((name = next_name(dir, &r))) {
                if (hex_decode(name, strlen(name), id.bytes + 1, HASH_BYTES - 1) < 0)
                        continue;
                r = each(&id, dirfd(dir), name, arg);
                if (r != 0)
                        break;
        }
        return r;
}

static int walk_blobs(struct store *store, blob_fn each, void *arg)
{
        int r = 0;

        for (enum hash_algorithm a = HASH_XXH3; r == 0 && a < STORE_ALGORITHMS; a++) {
                _cleanup_closedir_ DIR *dir = NULL;
                const char *name;
                r = open_dir(store->blob_fds[a], ".", &dir);
                if (r < 0)
                        return r;
                while ((name = next_name(dir, &r))) {
                        r = walk_folder(store->blob_fds[a], a, name, each, arg);
                        if (r != 0)
                                break;
                }
        }
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

static int count_blob(const struct content_id *id, uint64_t size, void *arg)
{
        struct store_stats *stats = arg;

        stats->blobs++;
        stats->blob_bytes += size;
        return 0;
}

int store_stat(struct store *store, struct store_stats *ret)
{
        struct store_stats stats = { 0 };
        int r = store_list(store, count_blob, &stats);

        if (r == 0)
                r = count_names(store->partial_fd, &stats.partials);
        if (r == 0)
                r = count_names(store->quarantine_fd, &stats.quarantined);
        if (r == 0)
                *ret = stats;
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
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct verify_state *state = arg;
        char text[HASH_TEXT_MAX];
        int r;

        if (fd < 0)
                return errno == ENOENT || errno == ELOOP ? 0 : -errno;
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
