#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "proto/wire.h"
#include "sync/syncer_private.h"

/*
 * What the master pushes: applied as it is, or asked for.
 */

#define MESSAGE_MEMORY_MAX ((size_t)64 << 20)
#define PUSH_PAUSE_MS      300 /* between two times that pushes make a worker ask, whatever comes */

/* How long a worker waits, at most, before it asks for a large version that was announced: they must not all ask at once. */
#define SPREAD_MIN_MS 200
#define SPREAD_PER_MS 100 /* entries for which it waits a millisecond more */
#define SPREAD_MAX_MS 10000

/* A push is to be asked for in DELAY_NS. */
static void make_due_by_push(struct syncer *s, int64_t delay_ns)
{
        int64_t earliest;

        mutex_lock(&s->lock);
        earliest = s->begun_ns + PUSH_PAUSE_MS * NSEC_PER_MSEC;
        mutex_unlock(&s->lock);
        syncer_make_due(s, MAX(clock_monotonic_ns() + delay_ns, earliest));
}

static int feed(struct intake *intake, const struct watch_push *push, struct failure *failure)
{
        const uint8_t *at = (const uint8_t *)push->messages->data;
        struct wire_arena arena;
        int r = 0;

        wire_arena_init(&arena, MESSAGE_MEMORY_MAX);
        for (size_t i = 0; r == 0 && i < push->n; i++) {
                const Grpc__FileScanChunk *chunk;
                size_t len;

                memcpy(&len, at, sizeof(len));
                chunk = (const Grpc__FileScanChunk *)wire_unpack(&grpc__file_scan_chunk__descriptor,
                                                                 &arena.allocator, at + sizeof(len), len);
                r = chunk ? intake_take(intake, chunk, failure) : -EPROTO;
                wire_arena_clear(&arena);
                at += sizeof(len) + len;
        }
        wire_arena_release(&arena);
        return r;
}

/* Only the last message of a version can be a notice: it says how much has changed. */
static int64_t spread_ns(const struct progress *progress)
{
        uint64_t span_ms = SPREAD_MIN_MS + atomic_load(&progress->total_entries) / SPREAD_PER_MS;

        return random_below((uint32_t)MIN(span_ms, (uint64_t)SPREAD_MAX_MS)) * NSEC_PER_MSEC;
}

/* 0: the catalog has the version; 1: it has to be asked for, as when another master with numbers of its own pushes it. */
static int take_version(struct syncer *s, struct intake *intake, const struct catalog_version *version,
                        struct failure *failure)
{
        struct intake_result result = { 0 };
        uint8_t digest[HASH_BYTES];
        int r;

        intake_get_digest(intake, digest);
        if (memcmp(digest, version->digest, HASH_BYTES) == 0)
                return 0;
        if (intake_is_listed_in_full(intake) || intake_get_revision(intake) <= version->revision)
                return 1;
        r = intake_commit(intake, false, &result, failure);
        if (r == 0)
                syncer_take_result(s, &result, "pushed");
        atomic_fetch_add(&s->pushes, r == 0);
        catalog_changes_release(&result.changes);
        return r;
}

/* As take_version. The catalog may have taken a version since the stream was opened, and the answer then speaks of an older one. */
static int take_unchanged(struct syncer *s, struct intake *intake, const struct catalog_version *version)
{
        uint8_t digest[HASH_BYTES];

        intake_get_digest(intake, digest);
        if (memcmp(digest, version->digest, HASH_BYTES) != 0)
                return 1;
        return catalog_touch(s->options.catalog, intake_get_revision(intake));
}

/* As take_version, from the messages. */
static int apply(struct syncer *s, const struct watch_push *push, struct failure *failure)
{
        struct progress unseen = { 0 };
        struct intake_options options = {
                .session = s->options.session,
                .catalog = s->options.catalog,
                .store = s->options.store,
                .progress = &unseen,
        };
        struct catalog_version version;
        struct intake *intake;
        int r = intake_new(&options, &intake);

        if (r < 0)
                return r;
        r = feed(intake, push, failure);
        catalog_get_version(s->options.catalog, &version);
        if (r < 0 || intake_get_state(intake) == INTAKE_NOTICE) {
                if (r == 0)
                        make_due_by_push(s, spread_ns(&unseen));
        } else if (intake_get_state(intake) == INTAKE_UNCHANGED) {
                r = take_unchanged(s, intake, &version);
        } else {
                r = take_version(s, intake, &version, failure);
        }
        if (r == 0 && intake_get_state(intake) != INTAKE_NOTICE)
                syncer_note_origin(s, push->master);
        intake_free(intake);
        return r;
}

/* From the watch's thread. What cannot be applied is asked for: that way has all the care that is needed. */
static int take_push(const struct watch_push *push, void *arg)
{
        struct syncer *s = arg;
        struct failure failure = { 0 };
        int r;

        if (!syncer_turn_take(s))
                return -ECANCELED;
        r = apply(s, push, &failure);
        syncer_turn_give(s);
        if (r != 0) {
                log_limited(LOG_LEVEL_INFO, "push",
                            "%s: a pushed version cannot be taken as it is (%s): asking for it",
                            session_get_source(s->options.session)->text,
                            r > 0          ? "the trees differ"
                            : r == -ESTALE ? "it is old already"
                                           : failure_text(&failure, r));
                make_due_by_push(s, 0);
        }
        return 0;
}

void syncer_begin_watching(struct syncer *s)
{
        const struct watch_options options = {
                .session = s->options.session,
                .catalog = s->options.catalog,
                .deliver = take_push,
                .arg = s,
        };
        struct watch *watch;
        int r;

        if (!s->options.push || atomic_load(&s->watch))
                return;
        if (session_get_dialect(s->options.session) != SESSION_OWN) {
                log_info("%s: a stock master pushes nothing: use refresh=SECONDS, or fsyncfs refresh",
                         session_get_source(s->options.session)->text);
                s->options.push = false;
                return;
        }
        r = watch_new(&options, &watch);
        if (r < 0)
                log_limited(LOG_LEVEL_WARNING, "watch", "cannot listen to the master's pushes: %s",
                            strerror(-r));
        else
                atomic_store(&s->watch, watch);
}
