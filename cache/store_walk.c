#include "cache/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "cache/part.h"
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

/* The rest of the id from the name, and whether it is a part's; -EINVAL: not ours. */
static int parse_name(struct store_found *found)
{
        found->part = hash_by_pieces(found->id.algorithm) && part_parse_name(found->name, &found->id) == 0;
        if (found->part)
                return 0;
        return hex_decode(found->name, strlen(found->name), found->id.bytes + 1,
                          hash_len(found->id.algorithm) - 1);
}

int store_walk_folder(struct store *store, enum hash_algorithm algorithm, uint8_t first, store_found_fn each,
                      void *arg)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct store_found found = { .id = { .algorithm = algorithm, .bytes = { first } } };
        char folder[3];
        int r;

        hex_encode(&first, 1, folder);
        r = open_dir(store->blob_fds[algorithm], folder, &dir);
        if (r < 0)
                return r == -ENOTDIR || r == -ENOENT ? 0 : r;
        found.dirfd = dirfd(dir);
        while ((found.name = next_name(dir, &r))) {
                if (parse_name(&found) < 0)
                        continue;
                r = each(&found, arg);
                if (r != 0)
                        break;
        }
        return r;
}

int store_walk_all(struct store *store, store_found_fn each, void *arg)
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

static int list_blob(const struct store_found *found, void *arg)
{
        struct list_state *state = arg;
        struct stat st;

        if (found->part)
                return 0;
        if (fstatat(found->dirfd, found->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISREG(st.st_mode))
                return 0;
        return state->each(&found->id, (uint64_t)st.st_size, state->arg);
}

int store_list(struct store *store, int (*each)(const struct content_id *id, uint64_t size, void *arg),
               void *arg)
{
        struct list_state state = { .each = each, .arg = arg };

        return store_walk_all(store, list_blob, &state);
}

struct parts_state {
        int (*each)(const struct content_id *id, void *arg);
        void *arg;
};

static int list_part(const struct store_found *found, void *arg)
{
        struct parts_state *state = arg;

        return found->part ? state->each(&found->id, state->arg) : 0;
}

int store_list_parts(struct store *store, int (*each)(const struct content_id *id, void *arg), void *arg)
{
        struct parts_state state = { .each = each, .arg = arg };

        return store_walk_all(store, list_part, &state);
}

struct stat_state {
        struct store *store;
        struct store_stats stats;
        struct pins pins;
};

static void stat_found(const struct store_found *found, const struct stat *st, uint64_t bytes, void *arg)
{
        struct stat_state *state = arg;

        if (found->part) {
                state->stats.partials++;
                state->stats.partial_bytes += bytes;
                return;
        }
        state->stats.blobs++;
        state->stats.blob_bytes += (uint64_t)st->st_size;
        if (pins_find(&state->pins, &found->id)) {
                state->stats.pinned++;
                state->stats.pinned_bytes += (uint64_t)st->st_size;
        }
}

static int stat_partial(const char *name, void *arg)
{
        struct stat_state *state = arg;
        struct stat st;

        state->stats.partials++;
        if (fstatat(state->store->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                state->stats.partial_bytes += usage_charge((uint64_t)st.st_size);
        return 0;
}

static int count_name(const char *name, void *arg)
{
        (*(uint64_t *)arg)++;
        return 0;
}

int store_stat(struct store *store, struct store_stats *ret)
{
        struct stat_state state = { .store = store };
        int r = pins_load(store, &state.pins);

        for (unsigned i = 0; r == 0 && i < USAGE_SHARDS; i++)
                r = usage_look(store, i, stat_found, &state);
        pins_release(&state.pins);
        if (r == 0)
                r = store_walk_names(store->partial_fd, stat_partial, &state);
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

static void note_damaged(struct verify_state *state, const struct content_id *id)
{
        char text[HASH_TEXT_MAX];

        state->damaged++;
        if (state->on_damaged)
                state->on_damaged(content_id_format(id, text), state->arg);
}

static int verify_blob(const struct store_found *found, struct verify_state *state)
{
        _cleanup_close_ int fd = store_open_blob(found->dirfd, found->name, true);
        int r;

        if (fd == -ENOENT || fd == -ELOOP)
                return 0;
        r = store_check_blob(state->store, &found->id, fd);
        if (r < 0)
                return r;
        if (r == STORE_OK)
                state->verified++;
        else
                note_damaged(state, &found->id);
        return 0;
}

static int verify_found(const struct store_found *found, void *arg)
{
        struct verify_state *state = arg;
        uint64_t wrong = 0;
        int r;

        if (!found->part)
                return verify_blob(found, state);
        r = pieces_verify_part(state->store, found, &wrong);
        if (wrong > 0)
                note_damaged(state, &found->id);
        return r;
}

int store_verify(struct store *store, void (*on_damaged)(const char *name, void *arg), void *arg,
                 struct store_stats *ret)
{
        struct verify_state state = { .store = store, .on_damaged = on_damaged, .arg = arg };
        struct store_stats stats;
        int r = store_walk_all(store, verify_found, &state);

        if (r == 0)
                r = store_stat(store, &stats);
        if (r < 0)
                return r;
        stats.verified = state.verified;
        stats.damaged = state.damaged;
        *ret = stats;
        return 0;
}
