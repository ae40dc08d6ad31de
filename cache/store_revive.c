/*
 * A cache folder that was removed while it was in use: made anew, in the same place, by the first writer that finds nothing to write in. The store's
 * descriptors keep their numbers, and lead to the new folders from one call to the next: so nobody has to be told. What was in the old
 * ones is gone, but for what is open.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cache/store_private.h"

/* A folder that was removed has no name, hence no link, any more. */
static bool is_gone(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && st.st_nlink == 0;
}

/* As open_folders in store.c: those that writers need. */
static bool is_any_gone(const struct store *store)
{
        bool gone = is_gone(store->dir_fd) || is_gone(store->partial_fd) || is_gone(store->quarantine_fd) ||
                    is_gone(store->pins_fd);

        for (unsigned a = HASH_XXH3; !gone && a < STORE_ALGORITHMS; a++)
                gone = is_gone(store->blob_fds[a]);
        return gone;
}

static int move_fd(int from, int to)
{
        return dup3(from, to, O_CLOEXEC) < 0 ? -errno : 0;
}

static int move_folders(struct store *store, const struct store *fresh)
{
        int r = move_fd(fresh->dir_fd, store->dir_fd);

        if (r == 0)
                r = move_fd(fresh->partial_fd, store->partial_fd);
        if (r == 0)
                r = move_fd(fresh->quarantine_fd, store->quarantine_fd);
        if (r == 0)
                r = move_fd(fresh->pins_fd, store->pins_fd);
        for (unsigned a = HASH_XXH3; r == 0 && a < STORE_ALGORITHMS; a++)
                r = move_fd(fresh->blob_fds[a], store->blob_fds[a]);
        return r;
}

int store_revive(struct store *store)
{
        struct store *fresh = NULL;
        int r = 0;

        mutex_lock(&store->revive_lock);
        if (is_any_gone(store)) { /* or another thread has been here meanwhile */
                r = store_open(store->dir, &fresh);
                if (r == 0)
                        r = move_folders(store, fresh);
                if (r == 0)
                        usage_move(store, fresh);
                store_free(fresh);
                log_limited(r < 0 ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "store",
                            "cache folder '%s' was removed while in use: %s", store->dir,
                            r < 0 ? strerror(-r) : "begun anew");
        }
        mutex_unlock(&store->revive_lock);
        return r;
}
