#include "sync/syncer.h"

#include <malloc.h>
#include <stdatomic.h>
#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "sync/syncer_private.h"

#define TICK_MS      100
#define RETRY_MS     5000 /* after a sync failed that nobody will ask for again */
#define RETRY_MAX_MS 60000

#define LARGE_LISTING                                                                                        \
        10000 /* entries: what they took on their way, some megabytes, is given back to the system */

#define CHECK_MS                                                                                             \
        60000 /* where versions are pushed: so often about it is asked whether one was lost on the way */

bool syncer_turn_take(struct syncer *s)
{
        bool mine;

        mutex_lock(&s->lock);
        while (s->turn && !s->stopping)
                condition_wait(&s->outcome, &s->lock);
        mine = !s->stopping;
        s->turn = s->turn || mine;
        mutex_unlock(&s->lock);
        return mine;
}

void syncer_turn_give(struct syncer *s)
{
        mutex_lock(&s->lock);
        s->turn = false;
        condition_broadcast(&s->outcome);
        mutex_unlock(&s->lock);
}

void syncer_make_due(struct syncer *s, int64_t due_ns)
{
        mutex_lock(&s->lock);
        s->due_ns = MIN(s->due_ns, due_ns);
        condition_signal(&s->work);
        mutex_unlock(&s->lock);
}

static void count(struct syncer *s, const struct intake_result *result)
{
        const struct catalog_changes *c = &result->changes;

        atomic_fetch_add(&s->syncs, 1);
        atomic_fetch_add(&s->full_listings, result->entries > 0 && !result->difference);
        atomic_fetch_add(&s->delta_entries, c->added + c->removed + c->modified);
        atomic_fetch_add(&s->fetched_files, result->fetched_files);
        atomic_fetch_add(&s->fetched_bytes, result->fetched_bytes);
}

static const char *strategy_name(const struct intake_result *result)
{
        static const char *const names[] = { "listing", "changes", "batches", "snapshot" };

        return names[result->strategy];
}

void syncer_take_result(struct syncer *s, struct intake_result *result, const char *how)
{
        const struct catalog_changes *c = &result->changes;

        count(s, result);
        log_info("%s: new version (%s, %s of %lu entries): %lu added, %lu removed, %lu modified",
                 session_get_source(s->options.session)->text, how, strategy_name(result), result->entries,
                 c->added, c->removed, c->modified);
        s->options.on_changes(&result->changes, s->options.on_changes_arg);
        if (result->entries >= LARGE_LISTING)
                malloc_trim(0);
}

/* ---- which version to take ---- */

void syncer_note_origin(struct syncer *s, const char *master)
{
        struct catalog_version version;

        catalog_get_version(s->options.catalog, &version);
        if (!version.valid)
                return;
        if (s->n_had == 0 || memcmp(s->had[(s->n_had - 1) % HAD_MAX], version.digest, HASH_BYTES) != 0)
                memcpy(s->had[s->n_had++ % HAD_MAX], version.digest, HASH_BYTES);
        s->origin = master;
}

static bool was_here(const struct syncer *s, const uint8_t digest[HASH_BYTES])
{
        for (unsigned i = 0; i < MIN(s->n_had, (unsigned)HAD_MAX); i++)
                if (memcmp(s->had[i], digest, HASH_BYTES) == 0)
                        return true;
        return false;
}

/*
 * Revisions of different masters cannot be compared. One that stands in for the first may lag behind it: what it lists must not take the
 * mount back to a version that was here before. The first master's word is always taken, as is a way back that one and the same master went.
 */
static bool accepts(const uint8_t digest[HASH_BYTES], const char *master, void *arg)
{
        const struct syncer *s = arg;

        return !s->origin || s->origin == master || !session_is_stand_in(s->options.session, master) ||
               !was_here(s, digest);
}

/* ---- asking the master ---- */

/* A catalog that finds no room has some made: contents can be had again. Each time twice as much, as others take it too. */
static int scan_with_room(struct syncer *s, const struct scan_options *options, struct scan_result *ret,
                          struct failure *failure)
{
        uint64_t room = CATALOG_ROOM_BYTES;
        int r = scan_run(options, ret, failure);

        while (r == -ENOSPC && store_make_room(s->options.store, room) == 0) {
                scan_result_release(ret);
                *failure = (struct failure){ 0 };
                r = scan_run(options, ret, failure);
                room *= 2;
        }
        return r;
}

/* *RET_NEW: there was a new version. */
static int sync_now(struct syncer *s, bool stat_pass, bool *ret_new, struct failure *failure)
{
        const struct scan_options options = {
                .session = s->options.session,
                .catalog = s->options.catalog,
                .store = s->synced ? s->options.store : NULL, /* before the mount nothing is in use */
                .progress = &s->progress,
                .accepts = accepts,
                .accepts_arg = s,
                .stat_pass = stat_pass,
        };
        struct scan_result result;
        int r = scan_with_room(s, &options, &result, failure);

        if (r == 0)
                syncer_note_origin(s, result.master);
        if (r == 0 && result.unchanged)
                atomic_fetch_add(&s->syncs, 1);
        else if (r == 0)
                syncer_take_result(s, &result.intake, "asked for");
        else
                log_limited(LOG_LEVEL_WARNING, "sync", "%s: no new version: %s%s",
                            session_get_source(s->options.session)->text, failure_text(failure, r),
                            s->synced ? "; the one mounted stays" : "");
        atomic_fetch_add(&s->full_scans, result.fell_back);
        atomic_fetch_add(&s->resumed, result.resumed);
        *ret_new = r == 0 && !result.unchanged;
        scan_result_release(&result);
        return r;
}

/* ---- the thread ---- */

/* A first version whose top folder is here can be shown; the rest comes while it is. */
static bool can_be_shown(struct syncer *s)
{
        struct catalog_version version;

        catalog_get_version(s->options.catalog, &version);
        return version.valid && version.loading;
}

/* Sleeps until a sync is due: true, or stopping: false. */
static bool wait_for_work(struct syncer *s) TSA_REQUIRES(s->lock)
{
        while (!s->stopping && s->wanted == s->ended) {
                int64_t next_ns = MIN(s->due_ns, s->check_ns);

                if (next_ns == INT64_MAX)
                        condition_wait(&s->work, &s->lock);
                else if (condition_wait_until(&s->work, &s->lock, next_ns) == -ETIMEDOUT)
                        break;
        }
        return !s->stopping;
}

/* Whether nobody has said that there is anything new. */
static bool is_check(const struct syncer *s) TSA_REQUIRES(s->lock)
{
        return s->wanted == s->ended && s->due_ns > clock_monotonic_ns();
}

/* When the next syncs come by themselves. */
static void plan_next(struct syncer *s) TSA_REQUIRES(s->lock)
{
        int64_t now = clock_monotonic_ns();

        if (s->options.refresh_sec > 0)
                s->due_ns = MIN(s->due_ns, now + s->options.refresh_sec * NSEC_PER_SEC);
        s->check_ns = INT64_MAX;
        if (s->options.push)
                s->check_ns = now + (CHECK_MS * 3 / 4 + random_below(CHECK_MS / 2)) * NSEC_PER_MSEC;
}

/* A sync has brought the version there is. NEW: nobody had said that there was one, though it is for the master to say. */
static void listen_on(struct syncer *s, bool new)
{
        syncer_begin_watching(s); /* before, it was not known what kind of master it is */
        if (!new || !s->options.push)
                return;
        log_limited(LOG_LEVEL_INFO, "watch", "%s: a new version was not pushed: listening anew",
                    session_get_source(s->options.session)->text);
        session_listen_anew(s->options.session);
}

/* Twice as long each time, to a minute. */
static int64_t retry_ns(unsigned *retries)
{
        int64_t ms = (int64_t)RETRY_MS << MIN(*retries, 4u);

        ++*retries;
        return MIN(ms, (int64_t)RETRY_MAX_MS) * NSEC_PER_MSEC;
}

static void *syncer_main(void *arg)
{
        struct syncer *s = arg;
        unsigned retries = 0;

        thread_name("sync");
        mutex_lock(&s->lock);
        while (wait_for_work(s)) {
                uint64_t tickets = s->wanted;
                bool stat_pass = s->stat_pass, check = is_check(s), new = false;
                struct failure failure = { 0 };
                int r = -ECANCELED;

                s->stat_pass = false;
                s->due_ns = INT64_MAX;
                s->begun_ns = clock_monotonic_ns();
                mutex_unlock(&s->lock);
                if (syncer_turn_take(s)) {
                        r = sync_now(s, stat_pass, &new, &failure);
                        syncer_turn_give(s);
                }
                if (r == 0) {
                        atomic_store(&s->synced, true);
                        listen_on(s, check && new);
                }
                /* A mount that stands must not stay behind for what may be over in a moment: nobody will push the same again. */
                if (r < 0 && r != -ECANCELED && (s->synced ? s->options.push : can_be_shown(s)))
                        syncer_make_due(s, clock_monotonic_ns() + retry_ns(&retries));
                if (r == 0)
                        retries = 0;
                mutex_lock(&s->lock);
                s->ended = tickets;
                s->result = r;
                s->failure = failure;
                plan_next(s);
                condition_broadcast(&s->outcome);
        }
        s->ended = s->wanted;
        s->result = -ECANCELED;
        condition_broadcast(&s->outcome);
        mutex_unlock(&s->lock);
        return NULL;
}

/* ---- who asks ---- */

static uint64_t take_ticket(struct syncer *s, bool stat_pass) TSA_REQUIRES(s->lock)
{
        s->stat_pass = s->stat_pass || stat_pass;
        condition_signal(&s->work);
        return ++s->wanted;
}

int syncer_run(struct syncer *syncer, bool stat_pass, struct failure *failure)
{
        uint64_t ticket;
        int r;

        mutex_lock(&syncer->lock);
        ticket = take_ticket(syncer, stat_pass);
        while (syncer->ended < ticket && !syncer->stopping)
                condition_wait(&syncer->outcome, &syncer->lock);
        r = syncer->stopping ? -ECANCELED : syncer->result;
        *failure = syncer->failure;
        mutex_unlock(&syncer->lock);
        return r;
}

int syncer_first(struct syncer *syncer, const struct syncer_wait *wait, struct failure *failure)
{
        int64_t began_ns = clock_monotonic_ns();
        uint64_t ticket;
        int r = 1;

        mutex_lock(&syncer->lock);
        ticket = take_ticket(syncer, false);
        while (r > 0) {
                int64_t now = clock_monotonic_ns();

                if (syncer->ended >= ticket) {
                        r = syncer->result;
                        *failure = syncer->failure;
                        break;
                }
                if (syncer->stopping) {
                        r = -ECANCELED;
                        break;
                }
                condition_wait_until(&syncer->outcome, &syncer->lock, now + TICK_MS * NSEC_PER_MSEC);
                mutex_unlock(&syncer->lock);
                if (wait->tick) {
                        struct progress_view view;
                        progress_get(&syncer->progress, &view);
                        wait->tick(&view, wait->arg);
                }
                if (wait->lazy_ms >= 0 && clock_monotonic_ns() - began_ns >= wait->lazy_ms * NSEC_PER_MSEC &&
                    can_be_shown(syncer))
                        r = 0;
                mutex_lock(&syncer->lock);
        }
        mutex_unlock(&syncer->lock);
        return r;
}

void syncer_go_on(struct syncer *syncer)
{
        struct catalog_version version;

        catalog_get_version(syncer->options.catalog, &version);
        if (version.valid && !version.loading)
                atomic_store(&syncer->synced, true); /* by the thread, too, if somebody has asked already */
        if (!syncer->synced || syncer->options.push || syncer->options.refresh_sec > 0)
                syncer_make_due(syncer, clock_monotonic_ns());
}

int syncer_preview(struct syncer *syncer, const struct intake_preview *preview, struct failure *failure)
{
        struct progress unseen = { 0 };
        const struct scan_options options = {
                .session = syncer->options.session,
                .catalog = syncer->options.catalog,
                .progress = &unseen,
                .accepts = accepts,
                .accepts_arg = syncer,
                .preview = preview,
        };
        struct scan_result result = { 0 };
        struct catalog_version version;
        int r;

        if (!syncer_turn_take(syncer))
                return -ECANCELED;
        catalog_get_version(syncer->options.catalog, &version);
        r = version.valid && !version.loading
                    ? scan_run(&options, &result, failure)
                    : failure_set(failure, -EAGAIN,
                                  "the first version is still on its way: try again in a moment");
        scan_result_release(&result);
        syncer_turn_give(syncer);
        return r;
}

void syncer_get_stats(struct syncer *syncer, struct syncer_stats *ret)
{
        struct watch *watch = atomic_load(&syncer->watch);

        *ret = (struct syncer_stats){
                .syncs = atomic_load(&syncer->syncs),
                .pushes = atomic_load(&syncer->pushes),
                .full_scans = atomic_load(&syncer->full_scans),
                .full_listings = atomic_load(&syncer->full_listings),
                .delta_entries = atomic_load(&syncer->delta_entries),
                .resumed = atomic_load(&syncer->resumed),
                .fetched_files = atomic_load(&syncer->fetched_files),
                .fetched_bytes = atomic_load(&syncer->fetched_bytes),
                .watching = watch && watch_is_open(watch),
        };
        progress_get(&syncer->progress, &ret->progress);
}

/* ---- life ---- */

int syncer_new(const struct syncer_options *options, struct syncer **ret)
{
        struct syncer *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->options = *options;
        mutex_init(&s->lock);
        condition_init(&s->work);
        condition_init(&s->outcome);
        mutex_lock(&s->lock);
        s->due_ns = s->check_ns = INT64_MAX;
        mutex_unlock(&s->lock);
        r = -pthread_create(&s->thread, NULL, syncer_main, s);
        s->started = r == 0;
        if (r < 0) {
                syncer_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void syncer_stop(struct syncer *syncer)
{
        mutex_lock(&syncer->lock);
        syncer->stopping = true;
        condition_signal(&syncer->work);
        condition_broadcast(&syncer->outcome);
        mutex_unlock(&syncer->lock);
        if (syncer->started) {
                pthread_join(syncer->thread, NULL);
                watch_stop(atomic_load(&syncer->watch));
        }
        syncer->started = false;
}

void syncer_free(struct syncer *syncer)
{
        if (!syncer)
                return;
        syncer_stop(syncer);
        watch_free(atomic_load(&syncer->watch));
        condition_release(&syncer->work);
        condition_release(&syncer->outcome);
        mutex_release(&syncer->lock);
        free(syncer);
}
