#include "sync/prefetch_private.h"

/*
 * A large content, piece by piece: so it keeps to the rate and to the window as many small ones do, and holds up nobody.
 */

/* A file whose pieces are on their way. Freed by the last of them, or by who asks for them. */
struct coming {
        struct prefetch *prefetch;
        struct fetch_large *large; /* a reference */
        uint64_t ino, size;
        uint64_t left; /* pieces on their way, and one while they are asked for; guarded by prefetch->lock */
        int error;     /* the first piece's that did not come; guarded by prefetch->lock */
};

/* One piece on its way; freed by its `done`. */
struct coming_piece {
        struct fetch_waiter waiter; /* first: `done` gets its address */
        struct coming *file;
        size_t size;
        int64_t asked_ns;
};

/* One thing less is to be waited for. False: it was the last, and FILE is gone. P stays only as long as something is on its way: as it is for the caller. */
static void end_one(struct coming *file, int error)
{
        struct prefetch *p = file->prefetch;
        bool last;

        mutex_lock(&p->lock);
        if (file->error == 0)
                file->error = error;
        last = --file->left == 0;
        mutex_unlock(&p->lock);
        if (!last)
                return;
        prefetch_note(p, file->ino, file->error < 0 ? PREFETCH_FAILED : PREFETCH_HERE);
        mutex_lock(&p->lock);
        if (file->error < 0) {
                prefetch_note_failure(p, file->error);
        } else {
                p->view.files++;
                p->view.fetched_files++;
        }
        mutex_unlock(&p->lock);
        fetch_large_unref(file->large);
        free(file);
}

static void piece_done(struct fetch_waiter *waiter, int error)
{
        struct coming_piece *piece = (struct coming_piece *)waiter;
        struct prefetch *p = piece->file->prefetch;

        end_one(piece->file, error);
        mutex_lock(&p->lock);
        if (error == 0) {
                p->view.bytes += piece->size;
                p->view.fetched_bytes += piece->size;
                prefetch_adapt(p, piece->size, piece->asked_ns);
        }
        p->ahead--;
        p->ahead_bytes -= piece->size;
        condition_broadcast(&p->room);
        mutex_unlock(&p->lock);
        free(piece); /* P may be gone */
}

static int want_piece(struct coming *file, uint64_t index, size_t size)
{
        struct prefetch *p = file->prefetch;
        struct coming_piece *piece = calloc(1, sizeof(*piece));
        int r;

        if (!piece)
                return -ENOMEM;
        *piece = (struct coming_piece){
                .waiter = { .done = piece_done, .class = p->list.next ? FETCH_AHEAD : FETCH_PREFETCH },
                .file = file,
                .size = size,
                .asked_ns = clock_monotonic_ns(),
        };
        mutex_lock(&p->lock);
        file->left++;
        p->ahead++;
        p->ahead_bytes += size;
        mutex_unlock(&p->lock);
        r = fetch_want_piece(p->options.fetch, file->large, index, &piece->waiter);
        if (r == 0)
                return 0;
        mutex_lock(&p->lock);
        file->left--;
        p->ahead--;
        p->ahead_bytes -= size;
        mutex_unlock(&p->lock);
        free(piece);
        return r;
}

/* As prefetch_pieces; -errno: the rest was not asked for. */
static int want_all(struct coming *file)
{
        struct prefetch *p = file->prefetch;
        struct store_pieces *pieces = fetch_large_pieces(file->large);
        int r = 0;

        for (uint64_t i = 0; i < pieces_count(file->size) && r == 0; i++) {
                size_t size = piece_len(file->size, i);

                if (store_pieces_state(pieces, i) == PIECE_HERE) {
                        mutex_lock(&p->lock);
                        p->view.bytes += size;
                        mutex_unlock(&p->lock);
                        continue;
                }
                prefetch_keep_rate(p, size);
                r = prefetch_wait_for_room(p, size) ? want_piece(file, i, size) : 1;
        }
        return r;
}

int prefetch_pieces(struct prefetch *p, const struct catalog_entry *file)
{
        struct coming *coming;
        struct fetch_large *large;
        int r = fetch_large_open(p->options.fetch, file, &large);

        if (r == STORE_HAVE)
                return 0;
        coming = r == STORE_OK ? calloc(1, sizeof(*coming)) : NULL;
        if (!coming) {
                if (r == STORE_OK)
                        fetch_large_unref(large);
                mutex_lock(&p->lock);
                prefetch_note_failure(p, r < 0 ? r : r == STORE_OK ? -ENOMEM : -EHOSTUNREACH);
                mutex_unlock(&p->lock);
                return 0;
        }
        *coming = (struct coming){
                .prefetch = p, .large = large, .ino = file->ino, .size = file->size, .left = 1
        };
        prefetch_note(p, file->ino, PREFETCH_ASKED);
        r = want_all(coming);
        if (r == -EOPNOTSUPP) { /* it is asked for whole instead: no failure yet */
                mutex_lock(&p->lock);
                coming->error = -EBUSY;
                mutex_unlock(&p->lock);
        }
        end_one(coming, r == 1 ? -ECANCELED : MIN(r, 0));
        return r == 1 || r == -EOPNOTSUPP ? r : 0;
}
