#include "sync/warm.h"

#include "sync/download.h"
#include "sync/incoming.h"

struct warm {
        struct session *session; /* borrowed */
        struct store *store;     /* borrowed */
        struct incoming *files;  /* owned: what to fetch */
        uint64_t noted_bytes, noted_files;
        uint64_t fetched_files, fetched_bytes;
};

int warm_new(struct session *session, struct store *store, struct warm **ret)
{
        struct warm *w = calloc(1, sizeof(*w));
        int r = w ? incoming_new(&w->files) : -ENOMEM;

        if (r < 0) {
                free(w);
                return r;
        }
        w->session = session;
        w->store = store;
        *ret = w;
        return 0;
}

void warm_free(struct warm *warm)
{
        if (!warm)
                return;
        incoming_free(warm->files);
        free(warm);
}

void warm_note(const struct content_id *old, const struct entry *now, void *arg)
{
        struct warm *w = arg;

        /* What comes by pieces can be read from its first piece on, and most of them may be here. */
        if (now->size == 0 || now->data || hash_by_pieces(now->content.algorithm))
                return;
        if (w->noted_files == WARM_FILES_MAX || now->size > WARM_BYTES_MAX - w->noted_bytes ||
            !store_has(w->store, old))
                return;
        /* Out of memory: then this one is fetched when it is read, as all others are. */
        if (incoming_add(w->files, now) < 0)
                return;
        w->noted_bytes += now->size;
        w->noted_files++;
}

static void count_bytes(size_t bytes, void *arg)
{
        struct warm *w = arg;

        w->fetched_bytes += bytes;
}

static int fetch_one(const struct entry *entry, void *arg)
{
        struct warm *w = arg;
        struct download_request request = {
                .path = entry->path,
                .path_len = entry->path_len,
                .content = entry->content,
                .size = entry->size,
                .progress = count_bytes,
                .progress_arg = w,
        };
        struct failure unused = { 0 };
        struct store_writer *writer;
        int r;

        if (store_has(w->store, &entry->content) ||
            store_write_try(w->store, &entry->content, entry->size, &writer) != STORE_OK)
                return 0;
        r = download_run(w->session, &request, writer, &unused);
        w->fetched_files += r == 0;
        /* From a stock master a replaced file shows as a wrong hash. */
        return r == -EBADMSG ? -ESTALE : r;
}

int warm_run(struct warm *warm, uint64_t *ret_files, uint64_t *ret_bytes)
{
        int r;

        warm->fetched_files = warm->fetched_bytes = 0;
        r = incoming_each(warm->files, fetch_one, warm);
        *ret_files += warm->fetched_files;
        *ret_bytes += warm->fetched_bytes;
        return r == -ESTALE ? r : 0;
}
