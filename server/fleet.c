#include "server/fleet.h"

#include <string.h>
#include <time.h>

#include <utlist.h>

#include "base/lock.h"
#include "base/util.h"

struct fleet_member {
        struct fleet_mount mount;
        struct fleet_member *prev, *next;
};

struct fleet {
        struct mutex lock;
        struct fleet_member *members TSA_GUARDED(lock); /* bounded by the calls that may be under way */
        struct fleet_watcher *watchers TSA_GUARDED(lock);
};

int fleet_new(struct fleet **ret)
{
        struct fleet *fleet = calloc(1, sizeof(*fleet));

        if (!fleet)
                return -ENOMEM;
        mutex_init(&fleet->lock);
        *ret = fleet;
        return 0;
}

void fleet_free(struct fleet *fleet)
{
        if (!fleet)
                return;
        mutex_release(&fleet->lock);
        free(fleet);
}

static void wake_locked(struct fleet *fleet) TSA_REQUIRES(fleet->lock)
{
        struct fleet_watcher *watcher;

        DL_FOREACH (fleet->watchers, watcher)
                rpc_call_wake(watcher->call);
}

static int copy_mount(const struct fleet_mount *from, struct fleet_mount *ret)
{
        *ret = *from;
        ret->path = strdup(from->path);
        return ret->path ? 0 : -ENOMEM;
}

struct fleet_member *fleet_join(struct fleet *fleet, const struct fleet_mount *mount)
{
        struct fleet_member *member = calloc(1, sizeof(*member));

        if (!member || copy_mount(mount, &member->mount) < 0) {
                free(member);
                return NULL;
        }
        member->mount.since_sec = (int64_t)time(NULL);
        mutex_lock(&fleet->lock);
        DL_APPEND(fleet->members, member);
        wake_locked(fleet);
        mutex_unlock(&fleet->lock);
        return member;
}

void fleet_show(struct fleet *fleet, struct fleet_member *member, const uint8_t digest[HASH_BYTES],
                uint64_t revision)
{
        mutex_lock(&fleet->lock);
        member->mount.shows = true;
        memcpy(member->mount.digest, digest, HASH_BYTES);
        member->mount.revision = revision;
        wake_locked(fleet);
        mutex_unlock(&fleet->lock);
}

void fleet_leave(struct fleet *fleet, struct fleet_member *member)
{
        if (!member)
                return;
        mutex_lock(&fleet->lock);
        DL_DELETE(fleet->members, member);
        wake_locked(fleet);
        mutex_unlock(&fleet->lock);
        free(member->mount.path);
        free(member);
}

/* ---- looking on ---- */

static bool is_of(const struct fleet_member *member, const char *spider)
{
        return !spider || strcmp(member->mount.spider, spider) == 0;
}

/* Appends to RET, which has room for MAX, how many there are. */
static int list_locked(struct fleet *fleet, const char *spider, size_t max, struct fleet_mount *ret,
                       size_t *ret_n) TSA_REQUIRES(fleet->lock)
{
        const struct fleet_member *member;

        DL_FOREACH (fleet->members, member) {
                if (*ret_n == max)
                        break;
                if (!is_of(member, spider))
                        continue;
                if (copy_mount(&member->mount, &ret[*ret_n]) < 0)
                        return -ENOMEM;
                (*ret_n)++;
        }
        return 0;
}

static size_t count_locked(struct fleet *fleet, const char *spider) TSA_REQUIRES(fleet->lock)
{
        const struct fleet_member *member;
        size_t n = 0;

        DL_FOREACH (fleet->members, member)
                n += is_of(member, spider);
        return n;
}

int fleet_list(struct fleet *fleet, const char *spider, size_t max, struct fleet_mount **ret, size_t *ret_all)
{
        struct fleet_mount *list;
        size_t all, n = 0;
        int r;

        mutex_lock(&fleet->lock);
        all = count_locked(fleet, spider);
        list = calloc(MIN(all, max) + 1, sizeof(*list));
        r = list ? list_locked(fleet, spider, MIN(all, max), list, &n) : -ENOMEM;
        mutex_unlock(&fleet->lock);
        if (r < 0) {
                fleet_list_free(list, n);
                return r;
        }
        *ret = list;
        if (ret_all)
                *ret_all = all;
        return (int)n;
}

void fleet_list_free(struct fleet_mount *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(list[i].path);
        free(list);
}

void fleet_watch(struct fleet *fleet, struct fleet_watcher *watcher)
{
        mutex_lock(&fleet->lock);
        DL_APPEND(fleet->watchers, watcher);
        mutex_unlock(&fleet->lock);
}

void fleet_unwatch(struct fleet *fleet, struct fleet_watcher *watcher)
{
        mutex_lock(&fleet->lock);
        DL_DELETE(fleet->watchers, watcher);
        mutex_unlock(&fleet->lock);
}

void fleet_wake(struct fleet *fleet)
{
        mutex_lock(&fleet->lock);
        wake_locked(fleet);
        mutex_unlock(&fleet->lock);
}
