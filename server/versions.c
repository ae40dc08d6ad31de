#include "server/versions.h"

#include <stddef.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/lock.h"
#include "base/log.h"
#include "server/metrics.h"

/*
 * One folder that somebody asked for. All fields but the names are guarded by versions->lock. Made by the first request, freed
 * by versions_expire when nothing runs and nobody has asked for a while.
 */
struct version {
        struct pool_job job; /* the pass's beginning; queued only while `running` */
        struct versions *versions;
        char *key;        /* owned; "SPIDER/PATH": a spider's name holds no slash */
        char *spider;     /* owned */
        const char *path; /* within key */

        struct listing *current; /* referenced; NULL before the first pass */
        int64_t begun_ns;        /* when the pass that `current` was last confirmed by began to read */
        int64_t pass_ns;         /* when the present pass began to read */
        int64_t asked_ns;
        bool running;                     /* a pass is queued or under way */
        bool reading;                     /* it has begun: who comes now has to wait for the next */
        struct versions_request *served;  /* by the present pass */
        struct versions_request *waiting; /* for the next */
        struct version *next_gone;        /* chains those that versions_expire frees outside the lock */
        UT_hash_handle hh;
};

struct versions {
        struct versions_options options;
        struct mutex lock; /* never held during I/O or callbacks */
        struct version *table TSA_GUARDED(&lock);
};

int versions_new(const struct versions_options *options, struct versions **ret)
{
        struct versions *versions = calloc(1, sizeof(*versions));

        if (!versions)
                return -ENOMEM;
        versions->options = *options;
        mutex_init(&versions->lock);
        *ret = versions;
        return 0;
}

static void version_free(struct version *v)
{
        listing_unref(v->current);
        free(v->key);
        free(v->spider);
        free(v);
}

void versions_free(struct versions *versions)
{
        struct version *v, *next;

        if (!versions)
                return;
        mutex_lock(&versions->lock);
        HASH_ITER (hh, versions->table, v, next) {
                HASH_DEL(versions->table, v);
                version_free(v);
        }
        mutex_unlock(&versions->lock);
        mutex_release(&versions->lock);
        free(versions);
}

static const char *label(const struct version *v)
{
        return v->path[0] ? v->key : v->spider;
}

static void answer(struct versions_request *requests, int error, struct listing *listing)
{
        while (requests) {
                struct versions_request *request = requests;
                requests = request->next; /* `done` may free it */
                request->done(request, error, listing ? listing_ref(listing) : NULL);
        }
}

/* ---- a pass ---- */

static void pass_run(struct pool_job *job);

static void queue_pass_locked(struct version *v)
{
        v->served = TAKE_PTR(v->waiting);
        v->running = v->served != NULL;
        v->reading = false;
        if (v->running)
                pool_submit(v->versions->options.pool, &v->job);
}

/* Takes over LISTING. */
static void pass_end(struct version *v, int error, struct listing *listing)
{
        struct versions *versions = v->versions;
        struct versions_request *served;
        struct listing *old = NULL;
        struct version *useless = NULL;

        mutex_lock(&versions->lock);
        served = TAKE_PTR(v->served);
        if (listing) {
                old = v->current;
                v->current = listing_ref(listing);
                v->begun_ns = v->pass_ns;
        }
        queue_pass_locked(v);
        if (!v->running &&
            !v->current) { /* no such folder, perhaps: a peer must not fill the table with names */
                HASH_DEL(versions->table, v);
                useless = v;
        }
        mutex_unlock(&versions->lock); /* from here on v belongs to others */
        if (useless)
                version_free(useless);
        listing_unref(old);
        answer(served, error, listing);
        listing_unref(listing);
}

static void log_version(const struct version *v, const struct listing *listing)
{
        log_info("%s: revision %llu: %llu files, %llu folders, %llu links, %llu bytes; %llu unknown, %llu "
                 "left out",
                 label(v), (unsigned long long)listing->revision, (unsigned long long)listing->files,
                 (unsigned long long)listing->folders, (unsigned long long)listing->symlinks,
                 (unsigned long long)listing->bytes, (unsigned long long)listing->unknown,
                 (unsigned long long)(listing->specials + listing->too_long));
}

static struct listing *get_current(struct version *v)
{
        struct listing *current;

        mutex_lock(&v->versions->lock);
        current = v->current ? listing_ref(v->current) : NULL;
        mutex_unlock(&v->versions->lock);
        return current;
}

static void pass_done(void *arg, int error, struct listing *listing)
{
        struct version *v = arg;
        struct index *index = v->versions->options.index;
        struct listing *old;
        int r = index_flush(index);

        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "index",
                            "hashes could not be kept: %s; the files will be hashed again", strerror(-r));
        if (error < 0) {
                pass_end(v, error, NULL);
                return;
        }
        old = get_current(v);
        if (old && memcmp(old->root_digest, listing->root_digest, HASH_BYTES) == 0) {
                listing_unref(listing);
                pass_end(v, 0, old);
                return;
        }
        listing_unref(old);
        r = index_revision(index, v->spider, v->path, listing->root_digest, &listing->revision);
        if (r < 0) {
                listing_unref(listing);
                pass_end(v, r, NULL);
                return;
        }
        metrics_add(METRIC_SCANS, 1);
        log_version(v, listing);
        pass_end(v, 0, listing);
}

static void pass_run(struct pool_job *job)
{
        struct version *v = (struct version *)((char *)job - offsetof(struct version, job));
        struct versions *versions = v->versions;
        struct scanner scanner = {
                .pool = versions->options.pool,
                .index = versions->options.index,
        };
        int fd = -1, r;

        mutex_lock(&versions->lock);
        v->reading = true;
        v->pass_ns = clock_monotonic_ns();
        mutex_unlock(&versions->lock);
        r = workspace_open_folder(versions->options.root, v->spider, v->path, &fd);
        if (r >= 0) {
                metrics_add(METRIC_STAT_PASSES, 1);
                r = scanner_start(&scanner, fd, label(v), pass_done, v);
        }
        if (r < 0)
                pass_end(v, r, NULL);
}

/* ---- requests ---- */

static struct version *version_new(struct versions *versions, const char *key, const char *spider)
{
        struct version *v = calloc(1, sizeof(*v));

        if (!v)
                return NULL;
        v->job.run = pass_run;
        v->versions = versions;
        v->key = strdup(key);
        v->spider = strdup(spider);
        if (!v->key || !v->spider) {
                version_free(v);
                return NULL;
        }
        v->path = v->key + strlen(spider) + 1;
        return v;
}

static struct version *find_locked(struct versions *versions, const char *key, const char *spider)
        TSA_REQUIRES(versions->lock)
{
        struct version *v;

        HASH_FIND_STR(versions->table, key, v);
        if (v)
                return v;
        v = version_new(versions, key, spider);
        if (!v)
                return NULL;
        HASH_ADD_KEYPTR(hh, versions->table, v->key, strlen(v->key), v);
        if (!v->hh.tbl) { /* no memory for the table */
                version_free(v);
                return NULL;
        }
        return v;
}

int versions_get(struct versions *versions, const char *spider, const char *path, int64_t max_age_ms,
                 struct versions_request *request)
{
        _cleanup_free_ char *key = NULL;
        struct listing *recent = NULL;
        struct version *v;

        if (asprintf(&key, "%s/%s", spider, path) < 0) {
                key = NULL;
                return -ENOMEM;
        }
        metrics_add(METRIC_SCAN_REQUESTS, 1);
        mutex_lock(&versions->lock);
        v = find_locked(versions, key, spider);
        if (!v) {
                mutex_unlock(&versions->lock);
                return -ENOMEM;
        }
        v->asked_ns = clock_monotonic_ns();
        if (v->current && v->asked_ns - v->begun_ns < max_age_ms * NSEC_PER_MSEC) {
                recent = listing_ref(v->current);
        } else if (v->running && !v->reading) {
                request->next = v->served;
                v->served = request;
        } else {
                request->next = v->waiting;
                v->waiting = request;
                if (!v->running)
                        queue_pass_locked(v);
        }
        mutex_unlock(&versions->lock);
        if (recent)
                request->done(request, 0, recent);
        return 0;
}

void versions_expire(struct versions *versions, int64_t idle_ms)
{
        int64_t before_ns = clock_monotonic_ns() - idle_ms * NSEC_PER_MSEC;
        struct version *v, *next, *gone = NULL;

        mutex_lock(&versions->lock);
        HASH_ITER (hh, versions->table, v, next) {
                if (v->running || v->asked_ns > before_ns)
                        continue;
                HASH_DEL(versions->table, v);
                v->next_gone = gone;
                gone = v;
        }
        mutex_unlock(&versions->lock);
        while (gone) {
                v = gone;
                gone = v->next_gone;
                version_free(v);
        }
}
