#include "fs/mount.h"

#include <poll.h>
#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "base/terminal_line.h"
#include "cache/place.h"
#include "fs/ahead.h"
#include "fs/bindings.h"
#include "fs/blobs.h"
#include "fs/control.h"
#include "fs/metrics.h"
#include "fs/mount_private.h"
#include "fs/mountpoint.h"
#include "fs/notifier.h"
#include "fs/passthrough.h"
#include "fs/trace.h"
#include "sync/attend.h"
#include "sync/masters.h"

#define FETCH_THREADS  16 /* downloads at the same time; docs/performance.md */
#define BLOBS_MAX      512u
#define BLOB_UNUSED_NS NSEC_PER_SEC /* open without need, where the cache is full */

#define RETRY_MS                                                                                             \
        500 /* about so long before a master is asked again that was away at the mount; then twice as long each time */
#define RETRY_MAX_MS 8000

/* ---- bringing it up, in the order of struct filesystem ---- */

static int open_catalog(struct filesystem *fs)
{
        const struct catalog_claim claim = { .lock_fd = fs->takeover->lock_fd, .slot = fs->takeover->slot };
        const char *dir = fs->options.cache_dir;
        int r;

        if (!takeover_is_due(fs->takeover))
                return catalog_open(dir, fs->source.text, &fs->catalog);
        r = catalog_take_over(dir, fs->source.text, &claim, &fs->catalog);
        if (r == 0)
                catalog_set_forgotten(fs->catalog, atomic_load(&fs->takeover->page->forgotten));
        return r;
}

static int open_cache(struct filesystem *fs, struct failure *failure)
{
        const char *dir = fs->options.cache_dir, *kind;
        int r = fs->options.cache_anywhere ? 0 : place_check(dir, &kind);

        if (r == -EREMOTE)
                return failure_set(
                        failure, r,
                        "cache folder '%s' is on a file system of the network (%s), whose locks and mappings "
                        "cannot be relied on: choose a local one with cache=DIR, or say cache_anywhere",
                        dir, kind);
        r = store_open(dir, &fs->store);
        if (r < 0)
                return failure_set(failure, r,
                                   "cannot use cache folder '%s': %s; choose another with cache=DIR", dir,
                                   strerror(-r));
        r = store_limit(fs->store, &fs->options.limits);
        if (r < 0)
                return failure_set(failure, r, "cannot keep cache folder '%s' within its limits: %s", dir,
                                   strerror(-r));
        r = open_catalog(fs);
        /* Contents can be had again, and a catalog on a full disk is in the way of all of them. */
        while (r == -ENOSPC && store_make_room(fs->store, CATALOG_ROOM_BYTES) == 0)
                r = open_catalog(fs);
        if (r < 0)
                return failure_set(failure, r, "cannot open the catalog in cache folder '%s': %s", dir,
                                   strerror(-r));
        return 0;
}

static int open_session(struct filesystem *fs, struct failure *failure)
{
        struct session_options options = {
                .source = &fs->source,
                .token_file = fs->options.token_file,
                .node_name = fs->options.node_name,
                .tls = fs->options.tls,
                .tls_files = { .cert = fs->options.cert, .key = fs->options.key, .ca = fs->options.ca },
                .hash = fs->options.hash,
                .timeout_ms = (int)fs->options.timeout_sec * 1000,
                .tasks_early = fs->options.prefetch != PREFETCH_OFF,
                .connected = ahead_connected,
                .connected_arg = fs,
        };

        return session_new(&options, &fs->session, failure);
}

static int refresh_stale(void *arg)
{
        struct filesystem *fs = arg;
        struct failure failure = { 0 };

        return syncer_run(fs->syncer, false, &failure);
}

/* Before the mount the kernel knows nothing that it could forget. */
static void tell_kernel(struct catalog_changes *changes, void *arg)
{
        struct filesystem *fs = arg;
        struct catalog_version version;

        attend_changed(atomic_load(&fs->attend));
        if (!atomic_load(&fs->mounted))
                return;
        catalog_get_version(fs->catalog, &version);
        if (notifier_push(fs->notifier, changes, version.generation) < 0)
                log_error("out of memory: the kernel was not told what changed; remount '%s'", fs->target);
}

/* On a terminal: one line that is written over again and again. */
static void show_progress(const struct progress_view *view, void *arg)
{
        char line[160];

        progress_format(view, line, sizeof(line));
        terminal_line_show("%s: %s", ((struct filesystem *)arg)->source.text, line);
}

/* What was taken without hash= is not shown with it. */
static int check_hash(const struct filesystem *fs, const struct catalog_version *version,
                      struct failure *failure)
{
        if (!version->valid || fs->options.hash == HASH_NONE || version->hash == fs->options.hash)
                return 0;
        return failure_set(failure, -EACCES,
                           "what cache folder '%s' has of '%s' is not named by %s (hash=): mount it once "
                           "while its master is there",
                           fs->options.cache_dir, fs->source.text, hash_algorithm_name(fs->options.hash));
}

/* When a machine starts, its network or the master may be up a moment later than the mount. Whoever refuses us will do so again. */
static int sync_first(struct filesystem *fs, const struct syncer_wait *wait, struct failure *failure)
{
        const int64_t until_ns = clock_monotonic_ns() + fs->options.retry_sec * NSEC_PER_SEC;
        unsigned pause_ms = RETRY_MS;

        for (;;) {
                int r = syncer_first(fs->syncer, wait, failure);
                int64_t again_ns = backoff_next_ns(&pause_ms, RETRY_MAX_MS);
                struct timespec again = clock_timespec(again_ns);

                if (!masters_is_away(r) || again_ns >= until_ns)
                        return r;
                /* Why was said already, as of any sync. */
                log_info("%s: not mounted yet, trying again for %u s", fs->source.text,
                         fs->options.retry_sec);
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &again, NULL);
        }
}

/* No master is there, and the version that was here last could be shown: whether the operator wants that decides. */
static int fall_back(struct filesystem *fs, int error, struct failure *failure)
{
        struct failure why = *failure;

        if (!fs->options.fallback)
                return failure_set(failure, error,
                                   "%s (with the option fallback: the version that was here last)",
                                   failure_text(&why, error));
        log_warning("%s: %s; the version that was here last is shown until it is back", fs->source.text,
                    failure_text(&why, error));
        syncer_go_on(fs->syncer);
        return 0;
}

static int first_version(struct filesystem *fs, struct failure *failure)
{
        bool terminal = isatty(STDERR_FILENO);
        struct syncer_wait wait = {
                .lazy_ms = fs->options.lazy_sec < 0 ? -1 : (int64_t)fs->options.lazy_sec * 1000,
                .tick = terminal ? show_progress : NULL,
                .arg = fs,
        };
        struct catalog_version version;
        int r = 0;

        if (takeover_is_due(fs->takeover))
                return 0;
        if (!fs->options.offline) {
                r = sync_first(fs, &wait, failure);
                if (terminal)
                        terminal_line_clear();
                catalog_get_version(fs->catalog, &version);
                if (masters_is_away(r) && version.valid && !version.loading)
                        r = fall_back(fs, r, failure);
                return r < 0 ? r : check_hash(fs, &version, failure);
        }
        catalog_get_version(fs->catalog, &version);
        r = check_hash(fs, &version, failure);
        if (!version.valid)
                r = failure_set(failure, -ENOENT,
                                "nothing of '%s' is in cache folder '%s': mount it once without 'offline'",
                                fs->source.text, fs->options.cache_dir);
        return r;
}

static int start_syncer(struct filesystem *fs)
{
        struct syncer_options syncer = {
                .session = fs->session,
                .catalog = fs->catalog,
                .store = fs->store,
                .refresh_sec = fs->options.offline ? 0 : fs->options.refresh_sec,
                .push = fs->options.push && !fs->options.offline,
                .on_changes = tell_kernel,
                .on_changes_arg = fs,
        };
        struct takeover *takeover = fs->takeover;
        int r = bindings_new(takeover->fixed_fd, takeover->moved_fd, &fs->bindings);

        if (r == 0)
                r = notifier_new(fs->fuse, fs->catalog, fs->bindings, takeover->page, &fs->notifier);
        return r < 0 ? r : syncer_new(&syncer, &fs->syncer);
}

/* The store has no room but for what is open, and some of that only in case it is read again. */
static void drop_unused_blobs(void *arg)
{
        blobs_drop_unused(arg, BLOB_UNUSED_NS);
}

static int start_reading(struct filesystem *fs)
{
        struct fetch_options fetch = {
                .session = fs->session,
                .catalog = fs->catalog,
                .store = fs->store,
                .timeout_ms = (int)fs->options.timeout_sec * 1000,
                .offline = fs->options.offline,
                .threads = FETCH_THREADS,
                .held_max = fs->open_files / 4,
                .refresh = refresh_stale,
                .refresh_arg = fs,
        };
        int r = trace_new(&fs->trace);

        if (r == 0)
                r = fetch_new(&fetch, &fs->fetch);
        if (r == 0)
                r = blobs_new(MIN(BLOBS_MAX, fs->open_files / 4), &fs->blobs);
        if (r == 0)
                store_on_pressure(fs->store, drop_unused_blobs, fs->blobs);
        return r == 0 ? ahead_start(fs) : r;
}

static int find_target(struct filesystem *fs, const char *target, struct failure *failure)
{
        if (!takeover_is_due(fs->takeover))
                return mountpoint_check(target, &fs->target, failure);
        fs->target = strdup(fs->takeover->target);
        return fs->target ? 0 : -ENOMEM;
}

/* What the kernel was not told of a version, because the daemon died before it could. */
static int tell_what_was_missed(struct filesystem *fs)
{
        struct catalog_changes changes = { 0 };
        struct catalog_version version;
        int r;

        catalog_get_version(fs->catalog, &version);
        if (version.generation == atomic_load(&fs->takeover->page->told))
                return 0;
        log_info("the kernel may not know all of the present version of '%s': it is told to forget all",
                 fs->target);
        r = catalog_all_changed(fs->catalog, &changes);
        return r < 0 ? r : notifier_push(fs->notifier, &changes, version.generation);
}

/* All is ready to answer: the keeper gets what the next daemon needs, and the kernel repeats what the one before left unanswered. */
static int begin_serving(struct filesystem *fs, struct failure *failure)
{
        struct takeover leave = *fs->takeover;
        struct catalog_claim claim;
        bool again = takeover_is_due(fs->takeover);
        int r;

        catalog_get_claim(fs->catalog, &claim);
        leave.slot = claim.slot;
        leave.passthrough = fs->passthrough != NULL;
        leave.lock_fd = claim.lock_fd;
        leave.device_fd = channel_can_resend(fs->channel) ? fuse_session_fd(fs->fuse) : -1;
        channel_save(fs->channel, &leave.channel);
        snprintf(leave.target, sizeof(leave.target), "%s", fs->target);
        r = takeover_tell(&leave, TAKEOVER_SERVING);
        if (r == 0 && again)
                r = channel_resend(fs->channel);
        if (r == 0 && again)
                r = tell_what_was_missed(fs);
        if (r == 0 && again && !fs->options.offline)
                syncer_go_on(fs->syncer);
        return r < 0 ? failure_set(failure, r, "cannot begin to serve '%s': %s", fs->target, strerror(-r))
                     : 0;
}

/* Who looks on: the master, and who reads the metrics. */
static int show_ourselves(struct filesystem *fs)
{
        struct attend *attend = NULL;
        int r = fs->options.offline ? 0 : attend_new(fs->session, fs->catalog, &attend);

        atomic_store(&fs->attend, attend);
        attend_changed(attend); /* what came before it could be told */
        if (r == 0 && fs->options.metrics)
                r = metrics_new(fs, fs->options.metrics, &fs->metrics);
        return r;
}

int mount_bring_up(struct filesystem *fs, const char *target, struct failure *failure)
{
        int r = find_target(fs, target, failure);

        if (r == 0)
                r = open_cache(fs, failure);
        if (r == 0)
                r = open_session(fs, failure);
        if (r == 0)
                r = mount_fuse_open(fs, failure);
        if (r == 0)
                r = start_syncer(fs);
        if (r == 0)
                r = start_reading(fs);
        if (r == 0)
                r = first_version(fs, failure);
        if (r == 0)
                ahead_begin(fs);
        if (r == 0)
                r = mount_fuse_mount(fs, failure);
        if (r == 0)
                r = mount_fuse_greet(fs, failure);
        if (r == 0)
                r = control_new(fs, &fs->control, failure);
        if (r == 0)
                r = show_ourselves(fs);
        if (r == 0)
                r = begin_serving(fs, failure);
        return r;
}

/* ---- the end ---- */

/*
 * Ends the mount if it is still there, so that the kernel holds back no request and no notification any more. After umount(8) it is
 * not, and another mount may stand in its place already.
 */
static void abort_connection(struct filesystem *fs)
{
        struct pollfd connection = { .fd = fuse_session_fd(fs->fuse) };

        if (connection.fd < 0 || (poll(&connection, 1, 0) == 1 && (connection.revents & POLLERR)))
                return;
        /* The descriptor stays ours until nobody uses it any more. */
        mountpoint_end(fs->takeover->device);
}

/* Everything that can wait is told to stop waiting before anything is freed. */
void mount_take_down(struct filesystem *fs)
{
        if (fs->fuse)
                abort_connection(fs);
        ahead_report(fs);
        if (fs->session)
                session_interrupt(fs->session);
        if (fs->store)
                store_interrupt(fs->store);
        if (fs->syncer)
                syncer_stop(fs->syncer);
        fetch_stop(fs->fetch); /* whom the next wait for may be waiting for it */
        control_free(fs->control);
        metrics_free(fs->metrics);
        attend_free(atomic_load(&fs->attend)); /* nobody changes the catalog any more */
        ahead_stop(fs);
        if (fs->store)
                store_on_pressure(fs->store, NULL, NULL);
        blobs_free(fs->blobs); /* large ones are the fetch's */
        fetch_free(fs->fetch);
        trace_free(fs->trace);
        ahead_free(fs);
        syncer_free(fs->syncer);
        notifier_free(fs->notifier);
        bindings_free(fs->bindings);
        passthrough_free(fs->passthrough);
        if (fs->fuse) {
                fuse_session_unmount(fs->fuse); /* closes its descriptor: nobody may use it any more */
                fuse_session_destroy(fs->fuse);
        }
        channel_free(fs->channel);
        session_free(fs->session);
        catalog_free(fs->catalog);
        store_free(fs->store);
        source_release(&fs->source);
        mount_options_release(&fs->options);
        free(fs->target);
        cleanup_close(&fs->ready_fd);
}
