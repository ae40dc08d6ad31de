#include "sync/prefetch.h"

#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "sync/tree_cursor.h"

#define AHEAD_MAX       256 /* contents on their way */
#define STOCK_AHEAD_MAX 4
#define WINDOW_FIRST    ((uint64_t)1 << 20) /* bytes on their way, beside one content that is larger */
#define WINDOW_MIN      ((uint64_t)256 << 10)
#define WINDOW_MAX      ((uint64_t)8 << 20)
#define QUEUE_NS                                                                                             \
        (100 *                                                                                               \
         NSEC_PER_MSEC) /* so much later than the quickest: what is on its way waits for itself, and would have a read wait */
#define BUSY_TRIES 5   /* walks over what another process was fetching */
#define BUSY_MS    500 /* between them */

struct prefetch {
        struct prefetch_options options;
        struct prefetch_list list; /* without `next`: a tree, TOP's */
        struct catalog_entry top;
        uint64_t asked_bytes; /* owned by the thread, as is the next */
        int64_t free_ns;      /* when the rate lets the next one go */
        struct mutex lock;
        struct condition room; /* a content has come, or stopping */
        struct prefetch_view view TSA_GUARDED(lock);
        unsigned ahead TSA_GUARDED(lock);
        uint64_t ahead_bytes TSA_GUARDED(lock), window TSA_GUARDED(lock); /* on their way, and at most */
        int64_t quickest_ns TSA_GUARDED(lock);                            /* from asking to having */
        int64_t cut_ns TSA_GUARDED(lock); /* when the window was made smaller last */
        unsigned busy TSA_GUARDED(lock);  /* contents that another process was fetching */
        unsigned ahead_max;               /* owned by the thread */
        bool stopping TSA_GUARDED(lock);
        int64_t began_ns;
        pthread_t thread;
};

/* One content on its way; freed by its `done`. */
struct wanted {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct prefetch *prefetch;
        uint64_t ino, size;
        int64_t asked_ns;
};

static void note(struct prefetch *p, uint64_t ino, enum prefetch_event event)
{
        if (p->list.note)
                p->list.note(ino, event, p->list.arg);
}

/* The first failure is what people are told; a full disk is nobody's momentary trouble, so it ends the whole. */
static void note_failure(struct prefetch *p, int error) TSA_REQUIRES(p->lock)
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
 * W has come. A task's read goes before all that is not on its way yet, but on a slow line not before what is: so no more than the line carries in a moment
 * should be. It grows as long as contents come quickly, and shrinks once in each round when they do not.
 */
static void adapt_window(struct prefetch *p, const struct wanted *w) TSA_REQUIRES(p->lock)
{
        int64_t now = clock_monotonic_ns(), took = now - w->asked_ns;

        p->quickest_ns = MIN(p->quickest_ns, took);
        if (took <= p->quickest_ns + QUEUE_NS) {
                p->window = MIN(p->window + w->size, WINDOW_MAX);
        } else if (w->asked_ns > p->cut_ns) {
                p->window = MAX(p->window / 2, WINDOW_MIN);
                p->cut_ns = now;
        }
}

static void wanted_done(struct fetch_waiter *waiter, int error)
{
        struct wanted *w = (struct wanted *)waiter;
        struct prefetch *p = w->prefetch;

        note(p, w->ino, error < 0 ? PREFETCH_FAILED : PREFETCH_HERE);
        mutex_lock(&p->lock);
        if (error < 0) {
                note_failure(p, error);
        } else {
                p->view.files++;
                p->view.bytes += w->size;
                p->view.fetched_files++;
                p->view.fetched_bytes += w->size;
                adapt_window(p, w);
        }
        p->ahead--;
        p->ahead_bytes -= w->size;
        condition_broadcast(&p->room);
        mutex_unlock(&p->lock);
        free(w); /* P may be gone */
}

/* For a content of SIZE bytes more. False: stopping. */
static bool wait_for_room(struct prefetch *p, uint64_t size)
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

/* Waits until the rate lets SIZE bytes more go: evenly, so that what shares the line is never held up for long. */
static void keep_rate(struct prefetch *p, uint64_t size)
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
                note(p, file->ino, PREFETCH_ASKED);
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
        note(p, file->ino, PREFETCH_FAILED);
        mutex_lock(&p->lock);
        p->ahead -= w != NULL;
        p->ahead_bytes -= w ? file->size : 0;
        note_failure(p, r);
        if (r == -EOPNOTSUPP)
                p->stopping = true;
        mutex_unlock(&p->lock);
        free(w);
}

/* ---- walks ---- */

struct walk {
        struct prefetch *prefetch;
        bool counting; /* only to know how much there is */
};

static int visit(const struct catalog_entry *file, void *arg)
{
        const struct walk *walk = arg;
        struct prefetch *p = walk->prefetch;
        bool stopping;

        if (walk->counting) {
                bool here = file->size == 0 || store_has(p->options.store, &file->content);
                mutex_lock(&p->lock);
                p->view.total_files++;
                p->view.total_bytes += file->size;
                p->view.files += here;
                p->view.bytes += here ? file->size : 0;
                stopping = p->stopping;
                mutex_unlock(&p->lock);
                return stopping;
        }
        if (file->size == 0 || store_has(p->options.store, &file->content))
                return 0;
        if (p->options.bytes_max > 0 && file->size > p->options.bytes_max - p->asked_bytes)
                return 0;
        keep_rate(p, file->size);
        if (!wait_for_room(p, file->size))
                return 1;
        p->asked_bytes += file->size;
        want(p, file);
        return 0;
}

static int walk_list(struct prefetch *p)
{
        struct walk walk = { .prefetch = p };
        struct catalog_entry file;
        int r;

        do
                r = p->list.next(&file, p->list.arg);
        while (r == 0 && (r = visit(&file, &walk)) == 0);
        return MIN(r, 0);
}

static int walk_all(struct prefetch *p, bool counting)
{
        struct walk walk = { .prefetch = p, .counting = counting };
        struct tree_cursor cursor = tree_cursor_at(&p->top);
        int r = 0;

        cursor.top = p->top.ino;
        if (p->top.kind == ENTRY_FILE)
                visit(&p->top, &walk);
        while (p->top.kind == ENTRY_DIRECTORY && r == 0 && wait_for_room(p, 0))
                r = tree_cursor_next(&cursor, p->options.catalog, visit, &walk);
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
        int r = walk_all(p, true);

        mutex_lock(&p->lock);
        p->view.counted = r == 0;
        mutex_unlock(&p->lock);
        for (int i = 0; r == 0 && i < BUSY_TRIES; i++) {
                r = walk_all(p, false);
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
