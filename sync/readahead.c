#include "sync/readahead.h"

#include <string.h>

#include "sync/readahead_private.h"

#define START_HITS   2  /* reads that were expected before anything is brought */
#define WATCH_FILES  8  /* how far ahead a reader is expected that is only watched */
#define WINDOW_FIRST 16 /* files */
#define WINDOW_MAX   1024
#define WINDOW_BYTES (UINT64_C(8) << 20)
#define PARTS        4    /* of the window: one marker in each, and it is filled up when one was read */
#define SEEN_MAX     4096 /* files that are empty or large between two small ones */
#define LEAD_FILES   16   /* a reader that is quicker than the loaders is let go by itself for so long */
#define ACTIVE_MAX   16   /* readers */
#define WATCHED_MAX  32

/* ---- plans ---- */

static struct planned_file *find_file(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file;

        HASH_FIND(hh, ra->files, &ino, sizeof(ino), file);
        return file;
}

static struct planned_folder *find_folder(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct planned_folder *folder;

        HASH_FIND(hh, ra->folders, &ino, sizeof(ino), folder);
        return folder;
}

/* The folder with one more user; NULL: out of memory. */
static struct planned_folder *use_folder(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct planned_folder *folder = find_folder(ra, ino);

        if (!folder) {
                folder = calloc(1, sizeof(*folder));
                if (!folder)
                        return NULL;
                folder->ino = ino;
                HASH_ADD(hh, ra->folders, ino, sizeof(folder->ino), folder);
                if (!folder->hh.tbl) {
                        free(folder);
                        return NULL;
                }
        }
        folder->users++;
        return folder;
}

static void leave_folder(struct readahead *ra, struct planned_folder *folder) TSA_REQUIRES(ra->lock)
{
        if (--folder->users > 0)
                return;
        HASH_DEL(ra->folders, folder);
        free(folder);
}

void readahead_keep_bytes(struct readahead *ra, struct planned_file *file, struct fetch_content *bytes)
{
        if (file->bytes) {
                ra->held_bytes -= file->bytes->len;
                fetch_content_unref(file->bytes);
        }
        file->bytes = bytes;
        if (bytes)
                ra->held_bytes += bytes->len;
}

static void drop_file(struct readahead *ra, struct planned_file *file) TSA_REQUIRES(ra->lock)
{
        struct reader *reader = file->reader;

        if (reader->next_load == file)
                reader->next_load = file->next;
        DL_DELETE(reader->files, file);
        reader->n_files--;
        reader->bytes -= file->size;
        HASH_DEL(ra->files, file);
        leave_folder(ra, file->folder);
        readahead_keep_bytes(ra, file, NULL);
        free(file);
}

void readahead_look_at(struct readahead *ra, struct planned_file *file)
{
        struct reader *reader = file->reader;

        if (!reader->next_load || reader->next_load->seq > file->seq)
                reader->next_load = file;
        if (reader->active)
                condition_signal(&ra->load);
}

void readahead_set_folder(struct readahead *ra, struct planned_folder *folder, enum folder_state state)
{
        struct reader *reader;
        struct planned_file *file;

        if (folder->state == state)
                return;
        folder->state = state;
        if (state != FOLDER_KNOWN)
                return;
        DL_FOREACH (ra->readers, reader) {
                DL_FOREACH (reader->files, file) {
                        if (file->folder != folder || file->state != ITEM_HELD)
                                continue;
                        file->state = ITEM_PLANNED;
                        readahead_look_at(ra, file);
                }
        }
        condition_broadcast(&ra->load);
}

static bool next_is_marker(struct reader *reader, uint64_t size)
{
        reader->since_marker++;
        reader->bytes_since_marker += size;
        if (!reader->active || (reader->since_marker < reader->window / PARTS &&
                                reader->bytes_since_marker < WINDOW_BYTES / PARTS))
                return false;
        reader->since_marker = 0;
        reader->bytes_since_marker = 0;
        return true;
}

/* FILE, one of those that tree_cursor_next found, comes next in READER's plan. */
static void plan_file(struct readahead *ra, struct reader *reader, struct planned_file *file, uint64_t folder)
        TSA_REQUIRES(ra->lock)
{
        struct planned_file *other = find_file(ra, file->ino);

        if (other && other->reader->active) {
                free(file); /* two that go the same way: whoever is ahead pushes for both */
                return;
        }
        if (other)
                drop_file(ra, other);
        file->folder = use_folder(ra, folder);
        if (!file->folder) {
                free(file);
                return;
        }
        file->reader = reader;
        file->seq = reader->next_seq++;
        file->marker = next_is_marker(reader, file->size);
        HASH_ADD(hh, ra->files, ino, sizeof(file->ino), file);
        if (!file->hh.tbl) {
                leave_folder(ra, file->folder);
                free(file);
                return;
        }
        DL_APPEND(reader->files, file);
        reader->n_files++;
        reader->bytes += file->size;
        readahead_look_at(ra, file);
}

/* ---- readers ---- */

static bool wants_more(const struct reader *reader)
{
        return reader->active && !reader->at_end && reader->bytes <= WINDOW_BYTES - WINDOW_BYTES / PARTS &&
               reader->n_files + reader->window / PARTS <= reader->window;
}

static void activate(struct reader *reader)
{
        reader->active = true;
        reader->window = WINDOW_FIRST;
}

/* The reader at FILE is where the loaders are: to push what it is about to read anyway would help nobody. So they go on a little further ahead. */
static void take_lead(struct reader *reader, struct planned_file *file)
{
        if (file->seq < reader->lead_seq)
                return;
        reader->lead_seq = file->seq + LEAD_FILES;
        for (file = file->next; file && file->seq < reader->lead_seq; file = file->next)
                file->marker = file->marker || file->state == ITEM_PLANNED;
}

/* FILE is being read: all before it are behind the reader. */
static void advance(struct readahead *ra, struct planned_file *file) TSA_REQUIRES(ra->lock)
{
        struct reader *reader = file->reader;
        bool last = false;

        readahead_set_folder(ra, file->folder, FOLDER_KNOWN);
        reader->used_ns = clock_monotonic_ns();
        reader->hits++;
        if (reader->active && !file->marker)
                take_lead(reader, file);
        while (!last) {
                struct planned_file *first = reader->files;

                last = first == file;
                ra->stats.hits += first->pushed;
                reader->passed++;
                drop_file(ra, first);
        }
        if (!reader->active && reader->hits >= START_HITS)
                activate(reader);
        else if (reader->active && reader->passed >= reader->window / PARTS) {
                reader->window = MIN(reader->window * 2, (unsigned)WINDOW_MAX);
                reader->passed = 0;
        }
        if (wants_more(reader) || !reader->active)
                condition_signal(&ra->plan);
        condition_broadcast(&ra->load);
}

void readahead_note_read(struct readahead *readahead, uint64_t ino)
{
        struct planned_file *file;

        mutex_lock(&readahead->lock);
        file = find_file(readahead, ino);
        if (file) {
                advance(readahead, file);
        } else if (readahead->n_unexpected < READAHEAD_UNEXPECTED) {
                readahead->unexpected[readahead->n_unexpected++] = ino;
                condition_signal(&readahead->plan);
        }
        mutex_unlock(&readahead->lock);
}

void readahead_note_listed(struct readahead *readahead, uint64_t folder)
{
        struct planned_folder *planned;

        mutex_lock(&readahead->lock);
        planned = find_folder(readahead, folder);
        if (planned)
                readahead_set_folder(readahead, planned, FOLDER_KNOWN);
        mutex_unlock(&readahead->lock);
}

static void free_reader(struct readahead *ra, struct reader *reader) TSA_REQUIRES(ra->lock)
{
        while (reader->files) {
                ra->stats.wasted += reader->files->pushed;
                drop_file(ra, reader->files);
        }
        DL_DELETE(ra->readers, reader);
        free(reader);
}

/* If there are more than MAX of the kind, the one that was not heard of for longest goes. */
static void evict_reader(struct readahead *ra, bool active, unsigned max) TSA_REQUIRES(ra->lock)
{
        struct reader *reader, *oldest = NULL;
        unsigned n = 0;

        DL_FOREACH (ra->readers, reader) {
                if (reader->active != active)
                        continue;
                n++;
                if (!oldest || reader->used_ns < oldest->used_ns)
                        oldest = reader;
        }
        if (n > max)
                free_reader(ra, oldest);
}

/* ---- the planning thread ---- */

struct found {
        struct planned_file *file; /* owned */
        uint64_t folder;
};

struct search {
        struct found *found; /* `wanted` of them */
        unsigned wanted, count, seen;
        uint64_t bytes, bytes_max;
};

static int take_found(const struct catalog_entry *entry, void *arg)
{
        struct search *search = arg;
        struct planned_file *file;

        if (entry->size == 0 || entry->size > READAHEAD_FILE_MAX || entry->content.algorithm == HASH_NONE)
                return ++search->seen == SEEN_MAX;
        file = calloc(1, sizeof(*file));
        if (!file)
                return 1;
        file->ino = entry->ino;
        file->size = entry->size;
        file->content = entry->content;
        file->tiny = entry->tiny;
        search->found[search->count++] = (struct found){ .file = file, .folder = entry->parent };
        search->bytes += entry->size;
        return search->count == search->wanted || search->bytes >= search->bytes_max;
}

/* Plans up to WANTED files more. Releases and takes the lock; READER stays, as only this thread frees readers. */
static void fill(struct readahead *ra, struct reader *reader, unsigned wanted) TSA_REQUIRES(ra->lock)
{
        struct found found[WINDOW_MAX];
        struct search search = { .found = found,
                                 .wanted = MIN(wanted, (unsigned)WINDOW_MAX),
                                 .bytes_max = WINDOW_BYTES - MIN(reader->bytes, WINDOW_BYTES) };
        struct tree_cursor cursor = reader->cursor;
        int r;

        mutex_unlock(&ra->lock);
        r = tree_cursor_next(&cursor, ra->options.catalog, take_found, &search);
        mutex_lock(&ra->lock);
        reader->cursor = cursor;
        reader->at_end = r != 0 || search.count == 0;
        for (unsigned i = 0; i < search.count; i++)
                plan_file(ra, reader, found[i].file, found[i].folder);
        condition_broadcast(&ra->load);
}

/* INO was read, and nobody expected it: from now on somebody is expected behind it. */
static void watch_reader(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct catalog_entry entry;
        struct reader *reader = NULL;
        int r;

        mutex_unlock(&ra->lock);
        r = catalog_get(ra->options.catalog, ino, &entry);
        if (r == CATALOG_OK && entry.kind == ENTRY_FILE && !entry.retired && entry.size <= READAHEAD_FILE_MAX)
                reader = calloc(1, sizeof(*reader));
        mutex_lock(&ra->lock);
        if (!reader)
                return;
        evict_reader(ra, false, WATCHED_MAX - 1);
        reader->cursor = tree_cursor_at(&entry);
        reader->used_ns = clock_monotonic_ns();
        DL_APPEND(ra->readers, reader);
        fill(ra, reader, WATCH_FILES);
        if (!reader->files)
                free_reader(ra, reader);
}

/* A reader that wants its plan filled up, and by how much; NULL: none. */
static struct reader *next_to_fill(struct readahead *ra, unsigned *ret_wanted) TSA_REQUIRES(ra->lock)
{
        struct reader *reader;

        DL_FOREACH (ra->readers, reader) {
                if (reader->at_end)
                        continue;
                *ret_wanted = (reader->active ? reader->window : WATCH_FILES) - reader->n_files;
                if (reader->active ? wants_more(reader) : reader->n_files <= WATCH_FILES / 2)
                        return reader;
        }
        return NULL;
}

static void drop_spent(struct readahead *ra) TSA_REQUIRES(ra->lock)
{
        struct reader *reader, *next;

        DL_FOREACH_SAFE (ra->readers, reader, next)
                if (reader->at_end && !reader->files)
                        free_reader(ra, reader);
}

/* INO was read, and was in no plan; now it may be. */
static void expect(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file = find_file(ra, ino);

        if (file) {
                advance(ra, file);
                return;
        }
        drop_spent(ra);
        evict_reader(ra, true, ACTIVE_MAX);
        watch_reader(ra, ino);
}

static void *planner_main(void *arg)
{
        struct readahead *ra = arg;

        thread_name("readahead");
        mutex_lock(&ra->lock);
        while (!ra->stopping) {
                unsigned wanted;
                struct reader *reader = next_to_fill(ra, &wanted);

                if (reader) {
                        fill(ra, reader, wanted);
                } else if (ra->n_unexpected > 0) {
                        uint64_t ino = ra->unexpected[0];

                        ra->n_unexpected--;
                        memmove(ra->unexpected, ra->unexpected + 1, ra->n_unexpected * sizeof(ino));
                        expect(ra, ino);
                } else {
                        condition_wait(&ra->plan, &ra->lock);
                }
        }
        mutex_unlock(&ra->lock);
        return NULL;
}

/* ---- life ---- */

void readahead_get_stats(struct readahead *readahead, struct readahead_stats *ret)
{
        mutex_lock(&readahead->lock);
        *ret = readahead->stats;
        mutex_unlock(&readahead->lock);
}

int readahead_new(const struct readahead_options *options, struct readahead **ret)
{
        struct readahead *ra = calloc(1, sizeof(*ra));
        int r;

        if (!ra)
                return -ENOMEM;
        ra->options = *options;
        mutex_init(&ra->lock);
        condition_init(&ra->plan);
        condition_init(&ra->load);
        r = -pthread_create(&ra->planner, NULL, planner_main, ra);
        ra->planner_runs = r == 0;
        for (; r == 0 && ra->n_loaders < READAHEAD_LOADERS; ra->n_loaders += r == 0)
                r = -pthread_create(&ra->loaders[ra->n_loaders], NULL, readahead_loader_main, ra);
        if (r < 0) {
                readahead_stop(ra);
                readahead_free(ra);
                return r;
        }
        *ret = ra;
        return 0;
}

void readahead_stop(struct readahead *readahead)
{
        if (!readahead)
                return;
        mutex_lock(&readahead->lock);
        readahead->stopping = true;
        condition_broadcast(&readahead->plan);
        condition_broadcast(&readahead->load);
        mutex_unlock(&readahead->lock);
        if (readahead->planner_runs)
                pthread_join(readahead->planner, NULL);
        readahead->planner_runs = false;
        for (; readahead->n_loaders > 0; readahead->n_loaders--)
                pthread_join(readahead->loaders[readahead->n_loaders - 1], NULL);
}

void readahead_free(struct readahead *readahead) TSA_NONE
{
        if (!readahead)
                return;
        while (readahead->readers)
                free_reader(readahead, readahead->readers);
        condition_release(&readahead->plan);
        condition_release(&readahead->load);
        mutex_release(&readahead->lock);
        free(readahead);
}
