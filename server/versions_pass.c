#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "server/metrics.h"
#include "server/versions_private.h"

#define RETRY_NS (5 * NSEC_PER_SEC) /* after a pass that failed, if anybody subscribes */
#define REST     3 /* times as long as a walk took, until the watcher may cause the next one */

static void pass_run(struct pool_job *job);

void version_queue_pass_locked(struct version *v)
{
        if (v->running || (!v->waiting && !v->wanted))
                return;
        v->served = TAKE_PTR(v->waiting);
        v->pass_full = v->waiting_full || v->wanted_full;
        v->wanted = v->wanted_full = v->waiting_full = false;
        v->running = true;
        v->reading = false;
        v->job.run = pass_run;
        pool_submit(v->versions->options.pool, &v->job);
}

/* ---- the end ---- */

/* One after the other, none under the lock; who unsubscribes meanwhile is not called any more. */
static void notify(struct version *v)
{
        struct versions *versions = v->versions;

        mutex_lock(&versions->lock);
        v->next_called = v->subscribers;
        while (v->next_called) {
                v->called = v->next_called;
                v->next_called = v->called->next;
                mutex_unlock(&versions->lock);
                v->called->changed(v->called);
                mutex_lock(&versions->lock);
                v->called = NULL;
                condition_broadcast(&versions->change);
        }
        mutex_unlock(&versions->lock);
}

static void answer(struct versions_request *requests, int error)
{
        while (requests) {
                struct versions_request *request = requests;

                requests = request->next; /* `done` may free it */
                request->done(request, error);
        }
}

static void note_end_locked(struct version *v, int error)
{
        int64_t now = clock_monotonic_ns();

        if (error >= 0) {
                v->begun_ns = v->pass_ns;
                if (v->pass_walks)
                        v->synced = !v->lost;
        } else {
                v->synced = false;
                v->rest_until_ns = MAX(v->rest_until_ns, now + RETRY_NS);
                v->damaged = v->damaged || error == -EBADMSG;
                v->has_suspects = spots_keep_suspects(&v->spots, &v->pass_spots) || v->has_suspects;
                if (v->subscribers && v->first_told_ns == 0)
                        v->first_told_ns = v->last_told_ns = now + RETRY_NS;
        }
        if (v->pass_walks || error < 0)
                v->walked_ns = v->pass_ns;
        if (v->pass_walks)
                v->rest_until_ns = MAX(v->rest_until_ns, now + REST * (now - v->pass_ns));
        v->pass_full = false;
}

/* For who wants to know how far behind somebody is. */
static void note_moment(struct version *v, const struct scanner_result *result)
{
        struct version_moment *moment;

        mutex_lock(&v->versions->lock);
        if (result->changed || v->n_moments == 0) {
                moment = &v->moments[v->n_moments++ % VERSION_MOMENTS];
                moment->revision = result->version.revision;
                memcpy(moment->digest, result->version.digest, HASH_BYTES);
                moment->at_sec = result->changed ? (int64_t)time(NULL) : 0;
        }
        mutex_unlock(&v->versions->lock);
}

/* The whole round stays one pass, so that V is nobody else's until the answers are given. */
static void pass_end(struct version *v, int error, bool changed)
{
        struct versions *versions = v->versions;
        struct versions_request *served;
        struct version *useless;

        mutex_lock(&versions->lock);
        note_end_locked(v, error);
        served = TAKE_PTR(v->served);
        mutex_unlock(&versions->lock);
        spots_clear(&v->pass_spots);
        if (changed)
                notify(v);
        answer(served, error);
        mutex_lock(&versions->lock);
        v->running = false;
        version_queue_pass_locked(v);
        useless = version_drop_useless_locked(v);
        condition_broadcast(&versions->change);
        mutex_unlock(&versions->lock); /* from here on v belongs to others */
        version_free(useless);
}

static void log_version(const struct version *v, const struct scanner_result *result)
{
        const struct tree_version *version = &result->version;

        log_info("%s: revision %llu: %llu files, %llu folders, %llu links, %llu bytes; %llu unknown, %llu "
                 "left out",
                 v->spider, (unsigned long long)version->revision, (unsigned long long)version->files,
                 (unsigned long long)version->folders, (unsigned long long)version->symlinks,
                 (unsigned long long)version->bytes, (unsigned long long)version->unknown,
                 (unsigned long long)result->left_out);
}

static void pass_done(void *arg, int error, const struct scanner_result *result)
{
        struct version *v = arg;

        if (error >= 0)
                note_moment(v, result);
        if (error >= 0 && result->changed) {
                metrics_add(METRIC_SCANS, 1);
                log_version(v, result);
        }
        pass_end(v, error, error >= 0 && result->changed);
}

/* ---- the beginning ---- */

/* Whether the spider's folder is another one than at the last pass. */
static bool is_replaced(struct version *v, int fd)
{
        struct stat st;
        bool replaced;

        if (fstat(fd, &st) < 0)
                return true;
        replaced = st.st_dev != v->device || st.st_ino != v->inode;
        v->device = st.st_dev;
        v->inode = st.st_ino;
        return replaced;
}

struct racy_arg {
        struct version *v;
        struct tree_view *view;
        struct buffer path;
};

static int add_racy(uint64_t parent, const char *name, size_t name_len, void *arg)
{
        struct racy_arg *a = arg;
        char text[PATH_NAME_MAX + 1];
        int r;

        buffer_truncate(&a->path, 0);
        r = tree_view_path(a->view, parent, &a->path);
        if (r == TREE_NONE)
                return 0;
        if (r < 0)
                return r;
        memcpy(text, name, name_len);
        text[name_len] = '\0';
        return spots_add(&a->v->pass_spots, a->path.data ? a->path.data : "", text, false);
}

/* Files that were written so lately that their stamps prove nothing are looked at by every pass (T2). */
static int add_all_racy(struct version *v)
{
        struct racy_arg arg = { .v = v };
        int r = tree_view_take(v->tree, &arg.view);

        if (r < 0)
                return r;
        r = tree_view_racy(arg.view, add_racy, &arg);
        tree_view_put(arg.view);
        buffer_release(&arg.path);
        return r;
}

/* Decides what the pass looks at. The folder is open as FD: what the watcher tells from now on is for the next. */
static int choose(struct version *v, int fd)
{
        struct versions *versions = v->versions;
        bool covered = watcher_covers(versions->watcher, v->spider), replaced = is_replaced(v, fd);
        int r = 0;

        mutex_lock(&versions->lock);
        v->pass_walks = v->pass_full || !v->synced || !covered || replaced || v->spots.count >= SPOTS_MAX;
        v->pass_spots = v->spots;
        v->spots = (struct spots){ 0 };
        v->has_suspects = false;
        v->first_told_ns = v->last_told_ns = 0;
        v->lost = false;
        mutex_unlock(&versions->lock);
        if (!v->pass_walks)
                r = add_all_racy(v);
        if (r == -E2BIG) {
                v->pass_walks = true;
                r = 0;
        }
        return r;
}

static int pass_begin(struct version *v, int *fd)
{
        struct versions *versions = v->versions;
        struct scanner_pass pass;
        int r = workspace_open_folder(versions->options.root, v->spider, "", fd);

        if (r >= 0)
                r = version_open_tree(v);
        if (r >= 0)
                r = choose(v, *fd);
        if (r < 0)
                return r;
        if (!v->pass_walks && !v->pass_spots.root)
                return 0;
        metrics_add(v->pass_walks ? METRIC_STAT_PASSES : METRIC_PARTIAL_PASSES, 1);
        pass = (struct scanner_pass){
                .pool = versions->options.pool,
                .tree = v->tree,
                .watcher = versions->watcher,
                .spider = v->spider,
                .full = v->pass_walks,
                .spots = &v->pass_spots,
        };
        r = scanner_start(&pass, take_fd(fd), pass_done, v);
        return r < 0 ? r : 1;
}

static void pass_run(struct pool_job *job)
{
        struct version *v = (struct version *)((char *)job - offsetof(struct version, job));
        struct versions *versions = v->versions;
        _cleanup_close_ int fd = -1;
        int r;

        mutex_lock(&versions->lock);
        v->reading = true;
        v->pass_ns = clock_monotonic_ns();
        v->pass_walks = false;
        mutex_unlock(&versions->lock);
        watcher_drain(versions->watcher);
        r = pass_begin(v, &fd);
        if (r <= 0)
                pass_end(v, r, false);
}
