#include "sync/prefetch.h"

#include <string.h>

#include "base/log.h"
#include "sync/prefetch_private.h"
#include "sync/tree_cursor.h"

#define AHEAD_MAX       1024 /* contents on their way */
#define STOCK_AHEAD_MAX 4
#define WINDOW_FIRST    ((uint64_t)1 << 20) /* bytes on their way, beside one content that is larger */
#define LIST_FIRST      ((uint64_t)2 << 20) /* as WINDOW_FIRST, of a list: a task is about to wait for just that */
#define WINDOW_MIN      ((uint64_t)256 << 10)
#define WINDOW_MAX      ((uint64_t)8 << 20)
#define QUEUE_NS                                                                                             \
        (100 *                                                                                               \
         NSEC_PER_MSEC) /* so much later than the quickest: what is on its way waits for itself, and would have a read wait */
#define BATCH_FILES 64
#define BUSY_TRIES  5   /* walks over what another process was fetching */
#define BUSY_MS     500 /* between them */

/* One content on its way; freed by its `done`. */
struct wanted {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct prefetch *prefetch;
        uint64_t ino, size;
        int64_t asked_ns;
};

void prefetch_note(struct prefetch *p, uint64_t ino, enum prefetch_event event)
{
        if (p->list.note)
                p->list.note(ino, event, p->list.arg);
}

/* A full disk is nobody's momentary trouble, so it ends the whole. */
void prefetch_note_failure(struct prefetch *p, int error)
{
        if (error == -EBUSY) {
                p->busy++;
                return;
        }
        p->view.failed++;
        if (p->view.error == 0)
                p->view.error = error;
        if (error == -ENOSPC || error == -ECANCELED)
                p->stopping = true;
}

/*
 * A task's read goes before all that is not on its way yet, but on a slow line not before what is: so no more than the line carries in a moment
 * should be. It grows as long as contents come quickly, and shrinks once in each round when they do not.
 */
void prefetch_adapt(struct prefetch *p, uint64_t size, int64_t asked_ns)
{
        int64_t now = clock_monotonic_ns(), took = now - asked_ns;

        p->quickest_ns = MIN(p->quickest_ns, took);
        if (took <= p->quickest_ns + QUEUE_NS) {
                p->window = MIN(p->window + size, WINDOW_MAX);
        } else if (asked_ns > p->cut_ns) {
                p->window = MAX(p->window / 2, WINDOW_MIN);
                p->cut_ns = now;
        }
}

static void wanted_done(struct fetch_waiter *waiter, int error)
{
        struct wanted *w = (struct wanted *)waiter;
        struct prefetch *p = w->prefetch;

        prefetch_note(p, w->ino, error < 0 ? PREFETCH_FAILED : PREFETCH_HERE);
        mutex_lock(&p->lock);
        if (error < 0) {
                prefetch_note_failure(p, error);
        } else {
                p->view.files++;
                p->view.bytes += w->size;
                p->view.fetched_files++;
                p->view.fetched_bytes += w->size;
                prefetch_adapt(p, w->size, w->asked_ns);
        }
        p->ahead--;
        p->ahead_bytes -= w->size;
        condition_broadcast(&p->room);
        mutex_unlock(&p->lock);
        free(w); /* P may be gone */
}

bool prefetch_wait_for_room(struct prefetch *p, uint64_t size)
{
        bool stopping;

        mutex_lock(&p->lock);
        while (p->ahead > 0 && (p->ahead >= p->ahead_max || p->ahead_bytes + size > p->window) &&
               !p->stopping)
                condition_wait(&p->room, &p->lock);
        stopping = p->stopping;
        mutex_unlock(&p->lock);
        return !stopping;
}

/* Evenly, so that what shares the line is never held up for long. */
void prefetch_keep_rate(struct prefetch *p, uint64_t size)
{
        uint64_t rate = p->options.rate_bytes;
        int64_t now = clock_monotonic_ns();

        if (rate == 0)
                return;
        mutex_lock(&p->lock);
        while (p->free_ns > now && !p->stopping) {
                condition_wait_until(&p->room, &p->lock, p->free_ns);
                now = clock_monotonic_ns();
        }
        mutex_unlock(&p->lock);
        p->free_ns = MAX(p->free_ns, now) + (int64_t)((double)size / (double)rate * (double)NSEC_PER_SEC);
}

static void want(struct prefetch *p, const struct catalog_entry *file)
{
        struct wanted *w = calloc(1, sizeof(*w));
        int r = w ? 0 : -ENOMEM;

        mutex_lock(&p->lock);
        p->ahead += w != NULL;
        p->ahead_bytes += w ? file->size : 0;
        mutex_unlock(&p->lock);
        if (w) {
                w->waiter.done = wanted_done;
                w->waiter.class = p->list.next ? FETCH_AHEAD : FETCH_PREFETCH;
                w->prefetch = p;
                w->ino = file->ino;
                w->size = file->size;
                w->asked_ns = clock_monotonic_ns();
                prefetch_note(p, file->ino, PREFETCH_ASKED);
                r = fetch_want(p->options.fetch, file, false, &w->waiter);
        }
        /* A stock master knows no order: few at a time, so that a read is never far behind. */
        if (r == -EOPNOTSUPP && !p->list.next) {
                p->ahead_max = STOCK_AHEAD_MAX;
                w->waiter.class = FETCH_READ;
                r = fetch_want(p->options.fetch, file, false, &w->waiter);
        }
        if (r == 0)
                return;
        prefetch_note(p, file->ino, PREFETCH_FAILED);
        mutex_lock(&p->lock);
        p->ahead -= w != NULL;
        p->ahead_bytes -= w ? file->size : 0;
        prefetch_note_failure(p, r);
        if (r == -EOPNOTSUPP)
                p->stopping = true;
        mutex_unlock(&p->lock);
        free(w);
}

/* ---- walks ---- */

static bool is_here(const struct prefetch *p, const struct catalog_entry *file)
{
        return file->size == 0 || file->tiny || store_has(p->options.store, &file->content);
}

/* FILE is one of those that there are. Non-zero: stopping. */
static int count(struct prefetch *p, const struct catalog_entry *file)
{
        bool here = is_here(p, file), stopping;

        mutex_lock(&p->lock);
        p->view.total_files++;
        p->view.total_bytes += file->size;
        p->view.files += here;
        p->view.bytes += here ? file->size : 0;
        stopping = p->stopping;
        mutex_unlock(&p->lock);
        return stopping;
}

/* Has FILE brought, if need be, as soon as it may be. Non-zero: stopping. */
static int bring(struct prefetch *p, const struct catalog_entry *file)
{
        if (is_here(p, file))
                return 0;
        if (p->options.bytes_max > 0 && file->size > p->options.bytes_max - p->asked_bytes)
                return 0;
        p->asked_bytes += file->size;
        if (hash_by_pieces(file->content.algorithm)) {
                int r = prefetch_pieces(p, file);

                if (r != -EOPNOTSUPP)
                        return r;
        }
        prefetch_keep_rate(p, file->size);
        if (!prefetch_wait_for_room(p, file->size))
                return 1;
        want(p, file);
        return 0;
}

static int walk_list(struct prefetch *p)
{
        struct catalog_entry file;
        int r;

        do
                r = p->list.next(&file, p->list.arg);
        while (r == 0 && (r = bring(p, &file)) == 0);
        return MIN(r, 0);
}

/* Files are taken from the catalog first and seen to afterwards: a look into it holds a snapshot, and what is waited for may take long. */
struct batch {
        struct catalog_entry files[BATCH_FILES];
        unsigned n;
};

static int take_file(const struct catalog_entry *file, void *arg)
{
        struct batch *batch = arg;

        batch->files[batch->n++] = *file;
        return batch->n == BATCH_FILES;
}

static int walk_all(struct prefetch *p, int (*visit)(struct prefetch *p, const struct catalog_entry *file))
{
        struct tree_cursor cursor = tree_cursor_at(&p->top);
        struct batch batch;
        int r = 0;

        cursor.top = p->top.ino;
        if (p->top.kind == ENTRY_FILE)
                visit(p, &p->top);
        while (p->top.kind == ENTRY_DIRECTORY && r == 0 && prefetch_wait_for_room(p, 0)) {
                bool stopping = false;

                batch.n = 0;
                r = tree_cursor_next(&cursor, p->options.catalog, take_file, &batch);
                for (unsigned i = 0; i < batch.n && r >= 0 && !stopping; i++)
                        stopping = visit(p, &batch.files[i]);
        }
        return MIN(r, 0);
}

/* How many another process was fetching; it has them by now, or gave up. */
static unsigned take_busy(struct prefetch *p)
{
        unsigned busy;

        mutex_lock(&p->lock);
        while (p->ahead > 0)
                condition_wait(&p->room, &p->lock);
        busy = p->stopping ? 0 : p->busy;
        p->busy = 0;
        if (busy > 0)
                condition_wait_until(&p->room, &p->lock, clock_monotonic_ns() + BUSY_MS * NSEC_PER_MSEC);
        mutex_unlock(&p->lock);
        return busy;
}

static int bring_tree(struct prefetch *p)
{
        int r = walk_all(p, count);

        mutex_lock(&p->lock);
        p->view.counted = r == 0;
        mutex_unlock(&p->lock);
        for (int i = 0; r == 0 && i < BUSY_TRIES; i++) {
                r = walk_all(p, bring);
                if (take_busy(p) == 0)
                        break;
        }
        return r;
}

static void *prefetch_main(void *arg)
{
        struct prefetch *p = arg;
        int r;

        thread_name("prefetch");
        r = p->list.next ? walk_list(p) : bring_tree(p);
        take_busy(p);
        mutex_lock(&p->lock);
        if (r < 0 && p->view.error == 0)
                p->view.error = r;
        /* What came otherwise between counting and fetching was not counted. */
        if (p->view.error == 0 && !p->stopping) {
                p->view.files = p->view.total_files;
                p->view.bytes = p->view.total_bytes;
        }
        p->view.elapsed_ns = clock_monotonic_ns() - p->began_ns;
        p->view.finished = true;
        mutex_unlock(&p->lock);
        return NULL;
}

static struct prefetch *make(const struct prefetch_options *options)
{
        struct prefetch *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->options = *options;
        p->ahead_max = AHEAD_MAX;
        p->window = WINDOW_FIRST;
        p->quickest_ns = INT64_MAX - QUEUE_NS;
        p->began_ns = clock_monotonic_ns();
        mutex_init(&p->lock);
        condition_init(&p->room);
        return p;
}

/* Begins, unless ERROR already says that it cannot. */
static int begin(struct prefetch *p, int error, struct prefetch **ret)
{
        int r = error < 0 ? error : -pthread_create(&p->thread, NULL, prefetch_main, p);

        if (r < 0) {
                condition_release(&p->room);
                mutex_release(&p->lock);
                free(p);
                return r;
        }
        *ret = p;
        return 0;
}

int prefetch_new(const struct prefetch_options *options, uint64_t ino, struct prefetch **ret)
{
        struct prefetch *p = make(options);
        int r;

        if (!p)
                return -ENOMEM;
        r = catalog_get(options->catalog, ino, &p->top);
        return begin(p, r > 0 ? -ENOENT : r, ret);
}

int prefetch_new_list(const struct prefetch_options *options, const struct prefetch_list *list,
                      struct prefetch **ret)
{
        struct prefetch *p = make(options);

        if (!p)
                return -ENOMEM;
        p->list = *list;
        p->window = LIST_FIRST;
        return begin(p, 0, ret);
}

void prefetch_get(struct prefetch *prefetch, struct prefetch_view *ret)
{
        mutex_lock(&prefetch->lock);
        *ret = prefetch->view;
        mutex_unlock(&prefetch->lock);
        if (!ret->finished)
                ret->elapsed_ns = clock_monotonic_ns() - prefetch->began_ns;
}

void prefetch_stop(struct prefetch *prefetch)
{
        mutex_lock(&prefetch->lock);
        prefetch->stopping = true;
        condition_broadcast(&prefetch->room);
        mutex_unlock(&prefetch->lock);
}

void prefetch_free(struct prefetch *prefetch)
{
        if (!prefetch)
                return;
        prefetch_stop(prefetch);
        pthread_join(prefetch->thread, NULL);
        condition_release(&prefetch->room);
        mutex_release(&prefetch->lock);
        free(prefetch);
}
