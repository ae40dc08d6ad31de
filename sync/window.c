#include "sync/window.h"

#include "base/pieces.h"

#define NEAR_BYTES ((uint64_t)1 << 20) /* the kernel's own read-ahead: its requests may overtake each other */
#define BULK_BYTES ((size_t)64 << 10)  /* requests of less are nobody's read-ahead */

/* Whether the read is READER's next one; of small ones only what begins exactly where the last one ended. */
static bool goes_on(const struct window_reader *reader, uint64_t offset, size_t len)
{
        if (reader->used == 0)
                return false;
        if (offset == reader->next)
                return true;
        return len >= BULK_BYTES && offset + NEAR_BYTES >= reader->next &&
               offset <= reader->next + NEAR_BYTES;
}

static struct window_reader *find_reader(struct window *w, uint64_t offset, size_t len)
{
        for (struct window_reader *r = w->readers; r < w->readers + WINDOW_READERS; r++)
                if (goes_on(r, offset, len))
                        return r;
        return NULL;
}

static struct window_reader *oldest_reader(struct window *w)
{
        struct window_reader *oldest = w->readers;

        for (struct window_reader *r = w->readers; r < w->readers + WINDOW_READERS; r++)
                if (r->used < oldest->used)
                        oldest = r;
        return oldest;
}

/* The window of a reader that has come to piece AT, grown if it is used up by half; where it ends. */
static uint64_t window_end(struct window_reader *r, uint64_t at, unsigned limit)
{
        if (r->pieces == 0) {
                r->pieces = MIN((unsigned)WINDOW_FIRST_PIECES, limit);
        } else if (r->ahead <= at + r->pieces / 2) {
                r->pieces = MIN(r->pieces * 2, limit);
        } else {
                return r->ahead;
        }
        return at + r->pieces;
}

/* Where what is wanted behind END, the end of READER's window, ends. Each file has that once: what is evicted since was not needed. */
static uint64_t rest_end(struct window *w, const struct window_reader *reader, uint64_t end, uint64_t count)
{
        if (w->rest || reader->pieces < WINDOW_SURE_PIECES || count - end > WINDOW_REST_PIECES)
                return end;
        w->rest = true;
        return count;
}

struct window_range window_note(struct window *window, uint64_t offset, size_t len, uint64_t size,
                                unsigned limit)
{
        struct window_reader *r = find_reader(window, offset, len);
        uint64_t at = (offset + len - 1) / PIECE_BYTES + 1, begin, end;

        window->reads++;
        if (pieces_count(size) <= WINDOW_WHOLE_PIECES) {
                begin = window->whole ? pieces_count(size) : 0;
                window->whole = true;
                return (struct window_range){ .begin = begin, .end = pieces_count(size) };
        }
        if (!r) {
                *oldest_reader(window) =
                        (struct window_reader){ .next = offset + len, .used = window->reads };
                return (struct window_range){ 0 };
        }
        r->used = window->reads;
        r->next = MAX(r->next, offset + len);
        begin = MAX(r->ahead, at);
        end = window_end(r, at, limit);
        end = MIN(end, pieces_count(size));
        r->ahead = MAX(r->ahead, end);
        end = MAX(begin, end);
        return (struct window_range){ .begin = begin,
                                      .end = end,
                                      .rest = rest_end(window, r, end, pieces_count(size)) };
}
