#include "sync/learned.h"

#include <string.h>

#include "base/log.h"
#include "sync/learned_private.h"

#define BRING_BYTES_MAX (UINT64_C(256) << 20) /* contents brought */
#define LIST_MEMORY_MAX ((size_t)8 << 20)
#define SILENCE_NS      (60 * NSEC_PER_SEC)   /* no new file for so long: the task has started */
#define STOP_NS         (900 * NSEC_PER_MSEC) /* for the report, when the mount ends */
#define LOADING_MS      200 /* between looks whether all names are here: nobody tells, and it is no hurry */

/* ---- what is noted ---- */

static struct learned_file *find_file(struct learned *l, uint64_t ino) TSA_REQUIRES(l->lock)
{
        struct learned_file *file;

        HASH_FIND(hh, l->files, &ino, sizeof(ino), file);
        return file;
}

/* The file, made if need be. NULL: no memory. */
static struct learned_file *get_file(struct learned *l, uint64_t ino) TSA_REQUIRES(l->lock)
{
        struct learned_file *file = find_file(l, ino);

        if (file)
                return file;
        file = calloc(1, sizeof(*file));
        if (!file)
                return NULL;
        file->ino = ino;
        HASH_ADD(hh, l->files, ino, sizeof(file->ino), file);
        if (!file->hh.tbl) {
                free(file);
                return NULL;
        }
        return file;
}

/* INO is in the record from now on, if there is one. */
static void record(struct learned *l, uint64_t ino, bool pushed) TSA_REQUIRES(l->lock)
{
        struct learned_file *file = l->recording ? get_file(l, ino) : NULL;

        if (!file)
                return;
        if (!file->recorded) {
                file->pushed = pushed;
                file->recorded = true;
                l->order[l->n_order++] = file;
                l->last_ns = clock_monotonic_ns();
        }
        file->pushed = file->pushed && pushed;
        if (l->n_order == LEARNED_FILES_MAX) {
                l->recording = false;
                condition_broadcast(&l->change);
        }
}

static void note_use(struct learned *l, struct learned_file *file) TSA_REQUIRES(l->lock)
{
        if (file->read)
                return;
        file->read = true;
        l->stats.hits += file->here;
        l->stats.joined += file->asked && !file->here;
}

bool learned_note_read(struct learned *learned, uint64_t ino)
{
        struct learned_file *file;
        bool asked;

        mutex_lock(&learned->lock);
        record(learned, ino, false);
        file = find_file(learned, ino);
        if (file)
                note_use(learned, file);
        asked = file && file->asked;
        mutex_unlock(&learned->lock);
        return asked;
}

void learned_note_push(struct learned *learned, uint64_t ino)
{
        mutex_lock(&learned->lock);
        record(learned, ino, true);
        mutex_unlock(&learned->lock);
}

void learned_get_stats(struct learned *learned, struct learned_stats *ret)
{
        const struct learned_file *file;

        mutex_lock(&learned->lock);
        *ret = learned->stats;
        for (file = learned->files; file; file = file->hh.next)
                ret->wasted += file->here && !file->read && !file->recorded;
        mutex_unlock(&learned->lock);
}

/* ---- the list ---- */

/* For the prefetch: the list's next path that is a file of this tree. */
static int next_file(struct catalog_entry *ret, void *arg)
{
        struct learned *l = arg;

        while (l->next_path < l->n_paths) {
                const ProtobufCBinaryData *path = &l->paths[l->next_path++];
                struct learned_file *file;
                int r = catalog_find_path(l->options.catalog, (const char *)path->data, path->len, ret);

                if (r < 0)
                        return r;
                if (r != CATALOG_OK || ret->kind != ENTRY_FILE || ret->content.algorithm == HASH_NONE)
                        continue;
                mutex_lock(&l->lock);
                file = get_file(l, ret->ino);
                if (file && !file->listed)
                        l->stats.files++;
                if (file)
                        file->listed = true;
                mutex_unlock(&l->lock);
                if (file)
                        return 0;
        }
        return 1;
}

static void note_event(uint64_t ino, enum prefetch_event event, void *arg)
{
        struct learned *l = arg;
        struct learned_file *file;

        mutex_lock(&l->lock);
        file = find_file(l, ino);
        if (file && event == PREFETCH_ASKED && !file->read)
                file->asked = true;
        if (file && event == PREFETCH_FAILED)
                file->asked = false;
        if (file && event == PREFETCH_HERE && file->asked && !file->here) {
                file->here = true;
                l->stats.fetched++;
        }
        mutex_unlock(&l->lock);
}

/* So much that what comes first is not evicted for what comes last. */
static uint64_t bytes_to_bring(struct store *store)
{
        struct store_usage usage;

        store_get_usage(store, &usage);
        return usage.quota > 0 ? MIN(usage.quota / 2 + 1, BRING_BYTES_MAX) : BRING_BYTES_MAX;
}

/* False: there is none. */
static bool get_list(struct learned *l)
{
        struct failure failure = { 0 };
        int r = session_learns(l->options.session) ? learned_ask(l, &failure) : 0;

        mutex_lock(&l->lock);
        l->asking = false;
        mutex_unlock(&l->lock);
        if (r < 0 && r != -ECANCELED)
                log_info("no list of what will be read: %s", failure_text(&failure, r));
        return r == 0 && l->n_paths > 0;
}

static void bring_list(struct learned *l)
{
        const struct prefetch_options options = {
                .catalog = l->options.catalog,
                .store = l->options.store,
                .fetch = l->options.fetch,
                .rate_bytes = l->options.rate_bytes,
                .bytes_max = bytes_to_bring(l->options.store),
        };
        const struct prefetch_list list = { .next = next_file, .note = note_event, .arg = l };
        int r = prefetch_new_list(&options, &list, &l->prefetch);

        if (r < 0)
                log_info("what is on the list is not brought: %s", strerror(-r));
}

/* ---- the thread ---- */

/* Until there is a master to be asked, or the mount stands without one. */
static void wait_for_master(struct learned *l)
{
        mutex_lock(&l->lock);
        while (!l->connected && !l->begun && !l->stopping)
                condition_wait(&l->change, &l->lock);
        mutex_unlock(&l->lock);
}

/* False: stopping. */
static bool wait_for_tree(struct learned *l)
{
        bool stopping;

        mutex_lock(&l->lock);
        while (!l->begun && !l->stopping)
                condition_wait(&l->change, &l->lock);
        stopping = l->stopping;
        mutex_unlock(&l->lock);
        return !stopping;
}

/* False: stopping. */
static bool wait_for_names(struct learned *l)
{
        struct catalog_version version;
        bool stopping = false;

        for (catalog_get_version(l->options.catalog, &version); version.loading && !stopping;
             catalog_get_version(l->options.catalog, &version)) {
                mutex_lock(&l->lock);
                if (!l->stopping)
                        condition_wait_until(&l->change, &l->lock,
                                             clock_monotonic_ns() + LOADING_MS * NSEC_PER_MSEC);
                stopping = l->stopping;
                mutex_unlock(&l->lock);
        }
        return !stopping;
}

/* Until the task has started, or the mount ends. */
static void wait_for_record(struct learned *l)
{
        mutex_lock(&l->lock);
        while (l->recording && !l->stopping) {
                if (l->last_ns == 0)
                        condition_wait_until(&l->change, &l->lock, clock_monotonic_ns() + SILENCE_NS);
                else if (condition_wait_until(&l->change, &l->lock, l->last_ns + SILENCE_NS) < 0 &&
                         clock_monotonic_ns() >= l->last_ns + SILENCE_NS)
                        l->recording = false;
        }
        mutex_unlock(&l->lock);
}

static void *learned_main(void *arg)
{
        struct learned *l = arg;
        struct failure failure = { 0 };
        bool listed;
        int r = 0;

        thread_name("learned");
        wait_for_master(l);
        listed = get_list(l);
        if (wait_for_tree(l) && listed && wait_for_names(l))
                bring_list(l);
        wait_for_record(l);
        if (session_learns(l->options.session) && session_is_online(l->options.session))
                r = learned_report(l, &failure);
        /* Others have reported as well: nothing is lost but one run of many. */
        if (r < 0 && r != -ECANCELED && r != -EBUSY)
                log_info("what was read first was not reported: %s", failure_text(&failure, r));
        mutex_lock(&l->lock);
        l->over = true;
        condition_broadcast(&l->change);
        mutex_unlock(&l->lock);
        return NULL;
}

/* ---- life ---- */

int learned_new(const struct learned_options *options, struct learned **ret)
{
        struct learned *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        l->options = *options;
        l->recording = l->asking = true;
        mutex_init(&l->lock);
        condition_init(&l->change);
        wire_arena_init(&l->list, LIST_MEMORY_MAX);
        r = -pthread_create(&l->thread, NULL, learned_main, l);
        if (r < 0) {
                l->joined = true;
                learned_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

static void set_flag(struct learned *l, bool *flag)
{
        mutex_lock(&l->lock);
        *flag = true;
        condition_broadcast(&l->change);
        mutex_unlock(&l->lock);
}

void learned_connected(struct learned *learned)
{
        if (learned)
                set_flag(learned, &learned->connected);
}

void learned_begin(struct learned *learned)
{
        if (learned)
                set_flag(learned, &learned->begun);
}

void learned_stop(struct learned *learned)
{
        int64_t deadline = clock_monotonic_ns() + STOP_NS;
        int r = 0;

        if (!learned || learned->joined)
                return;
        mutex_lock(&learned->lock);
        learned->stopping = true;
        condition_broadcast(&learned->change);
        if (learned->asking && learned->stream)
                rpc_stream_cancel(learned->stream);
        while (!learned->over && r == 0)
                r = condition_wait_until(&learned->change, &learned->lock, deadline);
        learned->late = true;
        if (learned->stream)
                rpc_stream_cancel(learned->stream);
        mutex_unlock(&learned->lock);
        pthread_join(learned->thread, NULL);
        learned->joined = true;
        if (learned->prefetch)
                prefetch_stop(learned->prefetch);
}

static void log_use(struct learned *l)
{
        struct learned_stats stats;

        learned_get_stats(l, &stats);
        if (stats.fetched > 0)
                log_info("learned list: %llu files, %llu fetched, %llu hits, %llu joined, %llu wasted",
                         (unsigned long long)stats.files, (unsigned long long)stats.fetched,
                         (unsigned long long)stats.hits, (unsigned long long)stats.joined,
                         (unsigned long long)stats.wasted);
}

void learned_free(struct learned *learned) TSA_NONE
{
        struct learned_file *file, *next;

        if (!learned)
                return;
        prefetch_free(learned->prefetch);
        log_use(learned);
        HASH_ITER (hh, learned->files, file, next) {
                HASH_DEL(learned->files, file);
                free(file);
        }
        wire_arena_release(&learned->list);
        condition_release(&learned->change);
        mutex_release(&learned->lock);
        free(learned);
}
