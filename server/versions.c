#include "server/versions.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "server/metrics.h"
#include "server/versions_private.h"

/* ---- the table ---- */

void version_free(struct version *v)
{
        if (!v)
                return;
        tree_close(v->tree);
        spots_clear(&v->spots);
        spots_clear(&v->pass_spots);
        free(v->spider);
        free(v);
}

static struct version *version_new(struct versions *versions, const char *spider)
{
        struct version *v = calloc(1, sizeof(*v));

        if (!v)
                return NULL;
        v->versions = versions;
        v->spider = strdup(spider);
        if (!v->spider) {
                version_free(v);
                return NULL;
        }
        return v;
}

struct version *version_find_locked(struct versions *versions, const char *spider)
{
        struct version *v;

        HASH_FIND_STR(versions->table, spider, v);
        return v;
}

struct version *version_find_or_make_locked(struct versions *versions, const char *spider)
{
        struct version *v = version_find_locked(versions, spider);

        if (v)
                return v;
        v = version_new(versions, spider);
        if (!v)
                return NULL;
        HASH_ADD_KEYPTR(hh, versions->table, v->spider, strlen(v->spider), v);
        if (!v->hh.tbl) { /* no memory for the table */
                version_free(v);
                return NULL;
        }
        return v;
}

/* A peer must not fill the table with names of what does not exist. */
struct version *version_drop_useless_locked(struct version *v)
{
        if (v->running || v->tree || v->pins > 0 || v->waiting || v->subscribers)
                return NULL;
        HASH_DEL(v->versions->table, v);
        return v;
}

/* ---- what the watcher tells ---- */

static void watcher_changed(void *arg, const char *spider, const char *path, const char *name)
{
        struct versions *versions = arg;
        struct version *v;

        metrics_add(METRIC_WATCH_EVENTS, 1);
        mutex_lock(&versions->lock);
        v = version_find_locked(versions, spider);
        if (v) {
                if (spots_add(&v->spots, path, name, false) < 0) {
                        v->synced = false; /* a walk over everything is the cheaper way now */
                        v->lost = true;
                }
                version_told_locked(v);
        }
        mutex_unlock(&versions->lock);
}

static void version_lost_locked(struct version *v)
{
        v->synced = false;
        v->lost = true;
        version_told_locked(v);
}

static void watcher_lost(void *arg, const char *spider)
{
        struct versions *versions = arg;
        struct version *v, *next;

        if (!spider)
                metrics_add(METRIC_WATCH_OVERFLOWS, 1);
        mutex_lock(&versions->lock);
        if (spider) {
                v = version_find_locked(versions, spider);
                if (v)
                        version_lost_locked(v);
        } else {
                HASH_ITER (hh, versions->table, v, next)
                        version_lost_locked(v);
        }
        mutex_unlock(&versions->lock);
}

/* ---- beginning and end ---- */

int versions_new(const struct versions_options *options, struct versions **ret)
{
        struct versions *versions = calloc(1, sizeof(*versions));
        struct watcher_options watch = {
                .root = workspace_root_path(options->root),
                .kind = options->watch,
                .drop_percent = options->watch_drop_percent,
                .changed = watcher_changed,
                .lost = watcher_lost,
                .arg = versions,
        };
        int r;

        if (!versions)
                return -ENOMEM;
        versions->options = *options;
        mutex_init(&versions->lock);
        condition_init(&versions->change);
        versions->dir = strdup(options->dir);
        versions->options.dir = versions->dir;
        r = versions->dir ? watcher_new(&watch, &versions->watcher) : -ENOMEM;
        if (r >= 0)
                r = versions_start_timer(versions);
        if (r < 0) {
                versions_free(versions);
                return r;
        }
        *ret = versions;
        return 0;
}

void versions_stop(struct versions *versions)
{
        versions_stop_timer(versions);
}

void versions_free(struct versions *versions)
{
        struct version *v, *next;

        if (!versions)
                return;
        versions_stop_timer(versions);
        watcher_free(versions->watcher); /* from here on nobody tells anything */
        mutex_lock(&versions->lock);
        HASH_ITER (hh, versions->table, v, next) {
                HASH_DEL(versions->table, v);
                version_free(v);
        }
        mutex_unlock(&versions->lock);
        condition_release(&versions->change);
        mutex_release(&versions->lock);
        free(versions->dir);
        free(versions);
}

/* ---- requests ---- */

static void note_asked_locked(struct version *v)
{
        bool first = v->asked_ns <= v->walked_ns;

        v->asked_ns = clock_monotonic_ns();
        if (first)
                condition_broadcast(&v->versions->change); /* a walk may be due */
}

static bool is_recent_locked(const struct version *v, int64_t max_age_ms)
{
        return v->begun_ns > 0 && (v->asked_ns - v->begun_ns) / NSEC_PER_MSEC < max_age_ms;
}

static void enqueue_locked(struct version *v, bool full, struct versions_request *request)
{
        if (v->running && !v->reading) {
                request->next = v->served;
                v->served = request;
                v->pass_full = v->pass_full || full;
                return;
        }
        request->next = v->waiting;
        v->waiting = request;
        v->waiting_full = v->waiting_full || full;
        version_queue_pass_locked(v);
}

int versions_get(struct versions *versions, const char *spider, enum versions_freshness freshness,
                 int64_t max_age_ms, struct versions_request *request)
{
        struct version *v;
        bool recent;

        metrics_add(METRIC_SCAN_REQUESTS, 1);
        mutex_lock(&versions->lock);
        v = version_find_or_make_locked(versions, spider);
        if (!v) {
                mutex_unlock(&versions->lock);
                return -ENOMEM;
        }
        note_asked_locked(v);
        recent = freshness == VERSIONS_RECENT && is_recent_locked(v, max_age_ms) &&
                 version_is_usable_locked(v);
        if (!recent)
                enqueue_locked(v, freshness == VERSIONS_STAT_PASS, request);
        mutex_unlock(&versions->lock);
        if (recent)
                request->done(request, 0);
        return 0;
}

/* ---- subscribers ---- */

int versions_subscribe(struct versions *versions, const char *spider, struct versions_subscriber *subscriber)
{
        struct version *v;

        mutex_lock(&versions->lock);
        v = version_find_or_make_locked(versions, spider);
        if (v) {
                subscriber->next = v->subscribers;
                v->subscribers = subscriber;
                condition_broadcast(&versions->change);
        }
        mutex_unlock(&versions->lock);
        return v ? 0 : -ENOMEM;
}

static void remove_locked(struct versions *versions, struct version *v,
                          struct versions_subscriber *subscriber) TSA_REQUIRES(versions->lock)
{
        struct versions_subscriber **link = &v->subscribers;

        while (*link && *link != subscriber)
                link = &(*link)->next;
        if (*link)
                *link = subscriber->next;
        if (v->next_called == subscriber)
                v->next_called = subscriber->next;
        while (v->called == subscriber) /* it does not block: this is short */
                condition_wait(&versions->change, &versions->lock);
}

void versions_unsubscribe(struct versions *versions, const char *spider,
                          struct versions_subscriber *subscriber)
{
        struct version *v, *useless = NULL;

        mutex_lock(&versions->lock);
        v = version_find_locked(versions, spider);
        if (v) {
                v->pins++; /* stays while we wait */
                remove_locked(versions, v, subscriber);
                v->pins--;
                note_asked_locked(v);
                useless = version_drop_useless_locked(v);
        }
        mutex_unlock(&versions->lock);
        version_free(useless);
}

/* ---- forgetting ---- */

static bool is_idle_locked(const struct version *v, int64_t before_ns)
{
        return !v->running && v->pins == 0 && !v->subscribers && !v->has_suspects &&
               MAX(v->asked_ns, v->used_ns) <= before_ns && !(v->tree && tree_has_views(v->tree));
}

static struct version *take_idle(struct versions *versions, int64_t before_ns)
{
        struct version *v, *next;

        mutex_lock(&versions->lock);
        HASH_ITER (hh, versions->table, v, next)
                if (is_idle_locked(v, before_ns)) {
                        v->running = v->reading = true; /* who comes now waits, as for a pass */
                        v->damaged = true;              /* and nobody pins what is about to be closed */
                        break;
                }
        mutex_unlock(&versions->lock);
        return v;
}

void versions_expire(struct versions *versions, int64_t idle_ms)
{
        int64_t before_ns = clock_monotonic_ns() - idle_ms * NSEC_PER_MSEC;
        struct version *v;

        while ((v = take_idle(versions, before_ns))) {
                struct version *useless;

                watcher_remove(versions->watcher, v->spider);
                version_close_tree(v);
                mutex_lock(&versions->lock);
                spots_clear(&v->spots);
                v->asked_ns = clock_monotonic_ns(); /* one that is used again at once is not taken twice */
                v->running = false;
                version_queue_pass_locked(v);
                useless = version_drop_useless_locked(v);
                mutex_unlock(&versions->lock);
                version_free(useless);
        }
}
