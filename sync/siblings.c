#include "sync/siblings.h"

#include <string.h>

#include "base/lock.h"

#define FILE_MAX    (UINT64_C(256) << 10)
#define SHORTLY_NS  NSEC_PER_SEC
#define FOLDERS_MAX 32  /* remembered */
#define MISSES_MAX  64  /* waiting for the thread */
#define BRING_FILES 256 /* a folder with more small files is not brought: hardly anybody reads all of it */
#define BRING_BYTES (UINT64_C(4) << 20)
#define WINDOW_BYTES                                                                                         \
        ((uint64_t)512 << 10) /* on their way: on a slow line a read may have to wait for these */
#define SEEN_MAX   4096       /* entries looked at in a folder */
#define FEW_FILES  32         /* as many as read-ahead would bring soon anyway */
#define NEAR_FILES 8          /* so far ahead read-ahead expects a reader */

struct miss {
        uint64_t ino, folder;
        int64_t at_ns;
        bool tiny; /* none: its bytes came with its entry */
};

/* A folder of which a file had to come. */
struct folder {
        uint64_t ino;  /* 0: a free slot */
        uint64_t last; /* the file */
        int64_t at_ns;
        bool done; /* the others were asked for */
};

struct siblings {
        struct siblings_options options;
        struct mutex lock;
        struct condition work;
        struct miss misses[MISSES_MAX] TSA_GUARDED(lock);
        unsigned n_misses TSA_GUARDED(lock);
        bool stopping TSA_GUARDED(lock);
        uint64_t ahead_bytes TSA_GUARDED(lock); /* on their way */
        struct condition room;                  /* they have become fewer, or stopping */
        struct siblings_stats stats TSA_GUARDED(lock);
        struct folder folders[FOLDERS_MAX]; /* owned by the thread */
        pthread_t thread;
        bool runs; /* owned by who stops us */
};

/* A content on its way; freed by its `done`. */
struct wanted {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct siblings *siblings;
        uint64_t size;
};

/* ---- bringing ---- */

static void wanted_done(struct fetch_waiter *waiter, int error)
{
        struct wanted *w = (struct wanted *)waiter;
        struct siblings *s = w->siblings;

        mutex_lock(&s->lock);
        if (error == 0) {
                s->stats.files++;
                s->stats.bytes += w->size;
        }
        s->ahead_bytes -= w->size;
        condition_signal(&s->room);
        mutex_unlock(&s->lock);
        free(w);
}

/* Takes SIZE bytes of the window, as soon as they are free. False: stopping. */
static bool take_room(struct siblings *s, uint64_t size)
{
        bool stopping;

        mutex_lock(&s->lock);
        while (s->ahead_bytes > 0 && s->ahead_bytes + size > WINDOW_BYTES && !s->stopping)
                condition_wait(&s->room, &s->lock);
        stopping = s->stopping;
        s->ahead_bytes += stopping ? 0 : size;
        mutex_unlock(&s->lock);
        return !stopping;
}

static void give_room_back(struct siblings *s, uint64_t size)
{
        mutex_lock(&s->lock);
        s->ahead_bytes -= size;
        mutex_unlock(&s->lock);
}

static int want(struct siblings *s, const struct catalog_entry *file)
{
        struct wanted *w;
        int r;

        if (file->tiny || store_has(s->options.store, &file->content))
                return 0;
        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->waiter.done = wanted_done;
        w->waiter.class = FETCH_AHEAD;
        w->siblings = s;
        w->size = file->size;
        r = take_room(s, file->size) ? 0 : -ECANCELED;
        if (r == 0) {
                r = fetch_want(s->options.fetch, file, false, &w->waiter);
                if (r < 0)
                        give_room_back(s, file->size);
        }
        if (r < 0)
                free(w);
        return r;
}

/* The small files of a folder. */
struct search {
        uint64_t first, second;      /* the two that were read */
        struct catalog_entry *files; /* room for BRING_FILES */
        unsigned n, seen;
        int first_at, second_at; /* where among the files; -1: nowhere */
        uint64_t bytes;
        bool too_many;
};

static int take_entry(const struct catalog_entry *entry, uint64_t cookie, bool current, void *arg)
{
        struct search *search = arg;

        search->too_many = ++search->seen > SEEN_MAX;
        if (search->too_many || entry->kind != ENTRY_FILE || entry->size == 0 || entry->size > FILE_MAX ||
            entry->content.algorithm == HASH_NONE)
                return search->too_many;
        search->bytes += entry->size;
        search->too_many = search->n == BRING_FILES || search->bytes > BRING_BYTES;
        if (search->too_many)
                return 1;
        if (entry->ino == search->first)
                search->first_at = (int)search->n;
        if (entry->ino == search->second)
                search->second_at = (int)search->n;
        search->files[search->n++] = *entry;
        return 0;
}

static bool goes_in_order(const struct search *search)
{
        int ahead = search->second_at - search->first_at;

        return search->n > FEW_FILES && search->first_at >= 0 && ahead > 0 && ahead <= NEAR_FILES;
}

/* True: FOLDER needs no more looking at. */
static bool bring(struct siblings *s, uint64_t folder, uint64_t first, uint64_t second)
{
        _cleanup_free_ struct catalog_entry *files = calloc(BRING_FILES, sizeof(*files));
        struct search search = {
                .first = first, .second = second, .files = files, .first_at = -1, .second_at = -1
        };
        int r = files ? catalog_list(s->options.catalog, folder, 0, take_entry, &search) : -ENOMEM;

        if (r != 0 || search.too_many)
                return true;
        if (goes_in_order(&search))
                return false;
        for (unsigned i = 0; i < search.n && r == 0; i++)
                r = want(s, &search.files[i]);
        return true;
}

/* ---- the thread ---- */

/* The slot of folder INO, or the one that was not needed for longest. */
static struct folder *find_folder(struct siblings *s, uint64_t ino)
{
        struct folder *oldest = s->folders;

        for (struct folder *folder = s->folders; folder < s->folders + FOLDERS_MAX; folder++) {
                if (folder->ino == ino)
                        return folder;
                if (folder->at_ns < oldest->at_ns)
                        oldest = folder;
        }
        *oldest = (struct folder){ .ino = ino };
        return oldest;
}

static void take_miss(struct siblings *s, const struct miss *miss)
{
        struct folder *folder = find_folder(s, miss->folder);
        bool shortly = folder->at_ns > 0 && miss->at_ns - folder->at_ns <= SHORTLY_NS;

        if (!shortly)
                folder->done = false;
        else if (!folder->done && !miss->tiny && folder->last != miss->ino)
                folder->done = bring(s, miss->folder, folder->last, miss->ino);
        folder->last = miss->ino;
        folder->at_ns = miss->at_ns;
}

static void *siblings_main(void *arg)
{
        struct siblings *s = arg;

        thread_name("siblings");
        mutex_lock(&s->lock);
        while (!s->stopping) {
                struct miss miss;

                if (s->n_misses == 0) {
                        condition_wait(&s->work, &s->lock);
                        continue;
                }
                miss = s->misses[0];
                s->n_misses--;
                memmove(s->misses, s->misses + 1, s->n_misses * sizeof(miss));
                mutex_unlock(&s->lock);
                take_miss(s, &miss);
                mutex_lock(&s->lock);
        }
        mutex_unlock(&s->lock);
        return NULL;
}

static void note(struct siblings *siblings, const struct catalog_entry *entry, bool tiny)
{
        if (entry->size > FILE_MAX)
                return;
        mutex_lock(&siblings->lock);
        if (siblings->n_misses < MISSES_MAX) {
                siblings->misses[siblings->n_misses++] = (struct miss){ .ino = entry->ino,
                                                                        .folder = entry->parent,
                                                                        .at_ns = clock_monotonic_ns(),
                                                                        .tiny = tiny };
                condition_signal(&siblings->work);
        }
        mutex_unlock(&siblings->lock);
}

void siblings_note_miss(struct siblings *siblings, const struct catalog_entry *entry)
{
        note(siblings, entry, false);
}

void siblings_note_tiny(struct siblings *siblings, const struct catalog_entry *entry)
{
        note(siblings, entry, true);
}

void siblings_get_stats(struct siblings *siblings, struct siblings_stats *ret)
{
        mutex_lock(&siblings->lock);
        *ret = siblings->stats;
        mutex_unlock(&siblings->lock);
}

/* ---- life ---- */

int siblings_new(const struct siblings_options *options, struct siblings **ret)
{
        struct siblings *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->options = *options;
        mutex_init(&s->lock);
        condition_init(&s->work);
        condition_init(&s->room);
        r = -pthread_create(&s->thread, NULL, siblings_main, s);
        s->runs = r == 0;
        if (r < 0) {
                siblings_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void siblings_stop(struct siblings *siblings)
{
        if (!siblings || !siblings->runs)
                return;
        mutex_lock(&siblings->lock);
        siblings->stopping = true;
        condition_broadcast(&siblings->work);
        condition_broadcast(&siblings->room);
        mutex_unlock(&siblings->lock);
        pthread_join(siblings->thread, NULL);
        siblings->runs = false;
}

void siblings_free(struct siblings *siblings)
{
        if (!siblings)
                return;
        condition_release(&siblings->work);
        condition_release(&siblings->room);
        mutex_release(&siblings->lock);
        free(siblings);
}
