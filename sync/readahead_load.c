#include <string.h>

#include "base/io.h"
#include "sync/readahead_private.h"

/*
 * The loading threads: each takes the next planned file, brings its content and pushes it. While the lock is released a file may leave its plan,
 * because its reader was quicker: so it is looked up again afterwards, by its number.
 */

/* What a loader took from the plan. */
struct load {
        uint64_t ino;
        struct content_id content;
        size_t size;
        bool push;                   /* otherwise it has only to be here */
        bool tiny;                   /* its bytes came with its entry */
        struct fetch_content *bytes; /* a reference; NULL: not in memory */
};

/* A content on its way from the master. */
struct bringing {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct readahead *ra;
        uint64_t ino;
};

static struct planned_file *find_file(struct readahead *ra, uint64_t ino) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file;

        HASH_FIND(hh, ra->files, &ino, sizeof(ino), file);
        return file;
}

/* ---- choosing ---- */

/* Whether there is something to do for FILE, which is planned; what is here and cannot be pushed yet is put aside. */
static bool choose(struct readahead *ra, struct planned_file *file, struct load *load) TSA_REQUIRES(ra->lock)
{
        struct planned_folder *folder = file->folder;
        bool may_push = !file->marker && (folder->state == FOLDER_UNTRIED || folder->state == FOLDER_KNOWN);

        if (file->present && !may_push) {
                file->state = file->marker ? ITEM_DONE : ITEM_HELD;
                return false;
        }
        if (may_push && folder->state == FOLDER_UNTRIED)
                folder->state = FOLDER_PROBING;
        *load = (struct load){
                .ino = file->ino,
                .content = file->content,
                .size = file->size,
                .push = may_push,
                .tiny = file->tiny,
                .bytes = file->bytes ? fetch_content_ref(file->bytes) : NULL,
        };
        file->state = ITEM_LOADING;
        return true;
}

static bool next_load(struct readahead *ra, struct load *load) TSA_REQUIRES(ra->lock)
{
        struct reader *reader;

        DL_FOREACH (ra->readers, reader) {
                while (reader->active && reader->next_load) {
                        struct planned_file *file = reader->next_load;

                        reader->next_load = file->next;
                        if (file->state == ITEM_PLANNED && choose(ra, file, load))
                                return true;
                }
        }
        return false;
}

/* ---- bringing ---- */

static void brought(struct fetch_waiter *waiter, int error)
{
        struct bringing *b = (struct bringing *)waiter;
        struct readahead *ra = b->ra;
        struct planned_file *file;

        mutex_lock(&ra->lock);
        file = find_file(ra, b->ino);
        if (file && error < 0) {
                file->state = ITEM_FAILED;
        } else if (file) {
                file->present = true;
                file->state = ITEM_PLANNED;
                if (waiter->content && !file->marker && ra->held_bytes < READAHEAD_HELD_MAX)
                        readahead_keep_bytes(ra, file, fetch_content_ref(waiter->content));
                readahead_look_at(ra, file);
        }
        mutex_unlock(&ra->lock);
        free(b);
}

/* Has the content of LOAD fetched, or verified if it is LOCAL. */
static int start_fetch(struct readahead *ra, const struct load *load, bool local)
{
        const struct catalog_entry entry = {
                .ino = load->ino, .kind = ENTRY_FILE, .size = load->size, .content = load->content
        };
        struct bringing *b;
        int r;

        if (!ra->options.fetch)
                return -EOPNOTSUPP;
        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        *b = (struct bringing){ .waiter = { .done = brought, .class = FETCH_AHEAD },
                                .ra = ra,
                                .ino = load->ino };
        r = fetch_want(ra->options.fetch, &entry, local, &b->waiter);
        if (r < 0)
                free(b);
        return r;
}

/* The bytes of LOAD, from the catalog or the store, in BUFFER (READAHEAD_FILE_MAX long): STORE_OK, STORE_MISS, STORE_UNVERIFIED or negative errno. */
static int read_store(struct readahead *ra, const struct load *load, void *buffer)
{
        const struct catalog_entry entry = {
                .ino = load->ino, .kind = ENTRY_FILE, .size = load->size, .content = load->content
        };
        _cleanup_close_ int fd = -1;
        size_t len;
        ssize_t n;
        int r;

        if (load->tiny && catalog_get_tiny(ra->options.catalog, &entry, buffer, &len) == CATALOG_OK)
                return STORE_OK;
        if (!load->push)
                return store_has(ra->options.store, &load->content) ? STORE_OK : STORE_MISS;
        r = store_get_verified(ra->options.store, &load->content, &fd);
        if (r != STORE_OK)
                return r;
        n = io_pread_all(fd, buffer, load->size, 0);
        return n < 0 ? (int)n : (size_t)n == load->size ? STORE_OK : -EIO;
}

/* ---- one file ---- */

static void note_pushed(struct readahead *ra, struct planned_file *file, int result) TSA_REQUIRES(ra->lock)
{
        if (result == 0) {
                file->state = ITEM_DONE;
                file->pushed = true;
                readahead_set_folder(ra, file->folder, FOLDER_KNOWN);
        } else if (result == -ENOENT) {
                file->state = ITEM_HELD;
                readahead_set_folder(ra, file->folder, FOLDER_UNKNOWN);
        } else {
                file->state = ITEM_FAILED;
                if (file->folder->state == FOLDER_PROBING)
                        file->folder->state = FOLDER_UNTRIED;
        }
}

/* The content of LOAD is here, and RESULT is what came of pushing it, if it was to be. */
static void finish(struct readahead *ra, const struct load *load, int result) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file = find_file(ra, load->ino);

        if (load->push && result == 0) {
                ra->stats.files++;
                ra->stats.bytes += load->size;
        }
        if (!file || file->state != ITEM_LOADING) /* its reader was quicker */
                return;
        file->present = true;
        if (load->push) {
                note_pushed(ra, file, result);
                if (file->state != ITEM_HELD)
                        readahead_keep_bytes(ra, file, NULL);
        } else {
                file->state = ITEM_PLANNED; /* maybe its folder became known meanwhile */
                readahead_look_at(ra, file);
        }
}

/* The content of LOAD has to come first, and ERROR 0 says that it will. */
static void set_fetching(struct readahead *ra, const struct load *load) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file = find_file(ra, load->ino);

        if (!file || file->state != ITEM_LOADING)
                return;
        file->state = ITEM_FETCHING;
        if (load->push && file->folder->state == FOLDER_PROBING)
                file->folder->state = FOLDER_UNTRIED;
}

static void set_failed(struct readahead *ra, const struct load *load) TSA_REQUIRES(ra->lock)
{
        struct planned_file *file = find_file(ra, load->ino);

        if (!file)
                return;
        file->state = ITEM_FAILED;
        if (file->folder->state == FOLDER_PROBING)
                file->folder->state = FOLDER_UNTRIED;
}

/* Takes and releases the lock. */
static void run_load(struct readahead *ra, const struct load *load, void *buffer)
{
        const void *data = load->bytes ? load->bytes->data : buffer;
        int r = load->bytes ? STORE_OK : read_store(ra, load, buffer), pushed = 0;

        if (r == STORE_OK && load->push)
                pushed = ra->options.push(load->ino, data, load->size, ra->options.arg);
        if (r == STORE_MISS || r == STORE_UNVERIFIED) {
                mutex_lock(&ra->lock);
                set_fetching(ra, load); /* before it may come */
                mutex_unlock(&ra->lock);
                r = start_fetch(ra, load, r == STORE_UNVERIFIED);
                if (r == 0)
                        return;
        }
        mutex_lock(&ra->lock);
        if (r == STORE_OK)
                finish(ra, load, pushed);
        else
                set_failed(ra, load);
        mutex_unlock(&ra->lock);
}

void *readahead_loader_main(void *readahead)
{
        struct readahead *ra = readahead;
        _cleanup_free_ void *buffer = malloc(READAHEAD_FILE_MAX);

        thread_name("readahead-load");
        mutex_lock(&ra->lock);
        while (!ra->stopping && buffer) {
                struct load load;

                if (!next_load(ra, &load)) {
                        condition_wait(&ra->load, &ra->lock);
                        continue;
                }
                mutex_unlock(&ra->lock);
                run_load(ra, &load, buffer);
                fetch_content_unref(load.bytes);
                mutex_lock(&ra->lock);
        }
        mutex_unlock(&ra->lock);
        return NULL;
}
