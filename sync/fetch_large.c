#include <string.h>
#include <unistd.h>

#include "sync/fetch_private.h"

/*
 * Contents that have pieces, as long as somebody has them open or a piece is on its way. Their list comes with the first piece that is asked for; until
 * then the others are gated. A piece that the file's last content had at the same place is taken over from there.
 */

/* ---- life ---- */

/* The content that the file had before this one, if it is here: a descriptor. -1: it is not. */
static int open_previous(struct fetch *f, const struct content_id *content)
{
        struct content_id previous;
        int fd;

        if (catalog_get_previous(f->options.catalog, content, &previous) != CATALOG_OK ||
            store_get_verified(f->options.store, &previous, &fd) != STORE_OK)
                return -1;
        return fd;
}

static void large_free(struct fetch_large *large)
{
        store_pieces_unref(large->pieces);
        if (large->previous_fd >= 0)
                close(large->previous_fd);
        mutex_release(&large->lock);
        free(large);
}

/* As fetch_large_open; what is returned is not among f->larges yet. */
static int large_new(struct fetch *f, const struct catalog_entry *entry, struct fetch_large **ret)
{
        struct store_pieces *pieces;
        struct fetch_large *large;
        int r = store_pieces_open(f->options.store, &entry->content, entry->size, !f->options.offline,
                                  &pieces);

        if (r != STORE_OK)
                return r;
        large = calloc(1, sizeof(*large));
        if (!large) {
                store_pieces_unref(pieces);
                return -ENOMEM;
        }
        large->fetch = f;
        large->content = entry->content;
        large->size = entry->size;
        large->ino = entry->ino;
        large->pieces = pieces;
        large->previous_fd = open_previous(f, &entry->content);
        large->refs = 1;
        mutex_init(&large->lock);
        *ret = large;
        return STORE_OK;
}

/* With one more reference; NULL: nobody has it open. */
static struct fetch_large *find_large(struct fetch *f, const struct content_id *content) TSA_REQUIRES(f->lock)
{
        struct fetch_large *large;

        HASH_FIND(hh, f->larges, content, sizeof(*content), large);
        if (large)
                large->refs++;
        return large;
}

int fetch_large_open(struct fetch *fetch, const struct catalog_entry *entry, struct fetch_large **ret)
{
        struct fetch_large *large, *other;
        int r;

        mutex_lock(&fetch->lock);
        large = find_large(fetch, &entry->content);
        mutex_unlock(&fetch->lock);
        if (!large) {
                r = large_new(fetch, entry, &large);
                if (r != STORE_OK)
                        return r;
                mutex_lock(&fetch->lock);
                other = find_large(fetch, &entry->content);
                if (!other) {
                        HASH_ADD(hh, fetch->larges, content, sizeof(large->content), large);
                        if (large->hh.tbl)
                                other = large;
                }
                mutex_unlock(&fetch->lock);
                if (other != large)
                        large_free(large);
                if (!other)
                        return -ENOMEM;
                large = other;
        }
        *ret = large;
        return STORE_OK;
}

struct fetch_large *fetch_large_ref(struct fetch_large *large)
{
        mutex_lock(&large->fetch->lock);
        large->refs++;
        mutex_unlock(&large->fetch->lock);
        return large;
}

void fetch_large_unref_locked(struct fetch *f, struct fetch_large *large)
{
        if (!large || --large->refs > 0)
                return;
        HASH_DEL(f->larges, large);
        large_free(large);
}

void fetch_large_unref(struct fetch_large *large)
{
        struct fetch *f;

        if (!large)
                return;
        f = large->fetch;
        mutex_lock(&f->lock);
        if (--large->refs > 0)
                large = NULL;
        else
                HASH_DEL(f->larges, large);
        mutex_unlock(&f->lock);
        if (large)
                large_free(large);
}

struct store_pieces *fetch_large_pieces(const struct fetch_large *large)
{
        return large->pieces;
}

uint64_t fetch_large_size(const struct fetch_large *large)
{
        return large->size;
}

bool fetch_large_ended(const struct fetch_large *large)
{
        return atomic_load(&large->ended);
}

/* ---- lists ---- */

void fetch_ungate(struct fetch *f)
{
        struct fetch_job *job, *next;

        f->ungated = false;
        DL_FOREACH_SAFE (f->gated, job, next) {
                if (job->large->lister && !store_pieces_listed(job->large->pieces))
                        continue;
                DL_DELETE(f->gated, job);
                fetch_place(f, job);
        }
}

/* ---- what the file had before ---- */

bool fetch_may_adopt(const struct fetch_job *job)
{
        return job->large->previous_fd >= 0 && !job->adopt_tried;
}

int fetch_adopt(struct fetch *f, struct fetch_job *job)
{
        int r = store_pieces_adopt(job->large->pieces, job->key.piece - 1, job->large->previous_fd);

        job->adopt_tried = true;
        if (r == STORE_OK)
                atomic_fetch_add(&f->adopted_bytes, job->size);
        if (r != STORE_MISS)
                job->claimed = false;
        return r;
}

/* ---- reading on and on ---- */

/* A piece that is wanted ahead; freed by its `done`. */
struct ahead {
        struct fetch_waiter waiter; /* first: `done` gets its address */
};

static void ahead_done(struct fetch_waiter *waiter, int error)
{
        free(waiter);
}

static void want_ahead(struct fetch *f, struct fetch_large *large, uint64_t index, enum fetch_class class)
{
        struct ahead *ahead;

        if (store_pieces_state(large->pieces, index) == PIECE_HERE)
                return;
        ahead = calloc(1, sizeof(*ahead));
        if (!ahead)
                return;
        ahead->waiter.done = ahead_done;
        ahead->waiter.class = class;
        if (fetch_want_piece(f, large, index, &ahead->waiter) < 0)
                free(ahead);
}

/* The largest window: what is wanted ahead must not push out what is in use. */
static unsigned window_limit(struct fetch *f)
{
        struct store_usage usage;

        store_get_usage(f->options.store, &usage);
        return usage.quota > 0 && usage.bytes + usage.reserved + WINDOW_MAX_PIECES * PIECE_BYTES > usage.quota
                       ? WINDOW_FIRST_PIECES
                       : WINDOW_MAX_PIECES;
}

void fetch_read_ahead(struct fetch *fetch, struct fetch_large *large, uint64_t offset, size_t len)
{
        unsigned limit = window_limit(fetch);
        struct window_range range;

        if (len == 0 || offset >= large->size)
                return;
        /* Reads ahead overtake each other, so only one of the beginning takes it back. */
        if (len >= large->size - offset)
                atomic_store(&large->ended, true);
        else if (offset == 0)
                atomic_store(&large->ended, false);
        mutex_lock(&large->lock);
        range = window_note(&large->window, offset, len, large->size, limit);
        mutex_unlock(&large->lock);
        for (uint64_t i = range.begin; i < range.end; i++)
                want_ahead(fetch, large, i, FETCH_AHEAD);
        for (uint64_t i = range.end; i < range.rest; i++)
                want_ahead(fetch, large, i, FETCH_PREFETCH);
}
