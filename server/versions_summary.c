#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "server/versions_private.h"

/* The moments from the oldest that is still known on: the Nth. */
static const struct version_moment *moment_at(const struct version *v, unsigned n)
{
        unsigned first = v->n_moments > VERSION_MOMENTS ? v->n_moments - VERSION_MOMENTS : 0;

        return first + n < v->n_moments ? &v->moments[(first + n) % VERSION_MOMENTS] : NULL;
}

/* ---- all of them ---- */

static int compare_names(const void *a, const void *b)
{
        const struct version *const *x = a, *const *y = b;

        return strcmp((*x)->spider, (*y)->spider);
}

static void summarize_locked(const struct version *v, struct versions_summary *ret)
{
        const struct version_moment *last =
                v->n_moments > 0 ? &v->moments[(v->n_moments - 1) % VERSION_MOMENTS] : NULL;
        const struct versions_subscriber *subscriber;

        *ret = (struct versions_summary){ .changed_sec = last ? last->at_sec : 0 };
        snprintf(ret->spider, sizeof(ret->spider), "%s", v->spider);
        tree_get_version(v->tree, &ret->version);
        LL_COUNT(v->subscribers, subscriber, ret->subscribers);
}

/* Those that have a tree, as a list for free(3). */
static int collect_locked(struct versions *versions, struct version ***ret, size_t *ret_n)
        TSA_REQUIRES(versions->lock)
{
        struct version **list = calloc(HASH_COUNT(versions->table) + 1, sizeof(*list)), *v, *next;
        size_t n = 0;

        if (!list)
                return -ENOMEM;
        HASH_ITER (hh, versions->table, v, next)
                if (v->tree && !v->damaged) /* a damaged one is being closed */
                        list[n++] = v;
        qsort(list, n, sizeof(*list), compare_names);
        *ret = list;
        *ret_n = n;
        return 0;
}

int versions_list(struct versions *versions, struct versions_summary *ret, size_t max, size_t *ret_all)
{
        _cleanup_free_ struct version **list = NULL;
        size_t all = 0;
        int r;

        mutex_lock(&versions->lock);
        r = collect_locked(versions, &list, &all);
        for (size_t i = 0; r >= 0 && i < MIN(all, max); i++)
                summarize_locked(list[i], &ret[i]);
        mutex_unlock(&versions->lock);
        if (r < 0)
                return r;
        *ret_all = all;
        return (int)MIN(all, max);
}

/* ---- one of them ---- */

int64_t versions_outdated_sec(struct versions *versions, const char *spider, uint64_t revision)
{
        const struct version_moment *moment = NULL;
        const struct version *v;
        int64_t at_sec = 0;

        mutex_lock(&versions->lock);
        v = version_find_locked(versions, spider);
        for (unsigned i = 0; v && at_sec == 0 && (moment = moment_at(v, i)); i++)
                if (moment->revision > revision)
                        at_sec = moment->at_sec;
        mutex_unlock(&versions->lock);
        return at_sec;
}

bool versions_follows(struct versions *versions, const char *spider, const uint8_t base[HASH_BYTES],
                      const uint8_t digest[HASH_BYTES])
{
        bool passed = false, follows = memcmp(base, digest, HASH_BYTES) == 0;
        const struct version_moment *moment;
        const struct version *v;

        mutex_lock(&versions->lock);
        v = version_find_locked(versions, spider);
        for (unsigned i = 0; v && !follows && (moment = moment_at(v, i)); i++) {
                passed = passed || memcmp(moment->digest, base, HASH_BYTES) == 0;
                follows = passed && memcmp(moment->digest, digest, HASH_BYTES) == 0;
        }
        mutex_unlock(&versions->lock);
        return follows;
}
